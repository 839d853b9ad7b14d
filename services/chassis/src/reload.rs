//! What is made of files, and made anew when they change.

use std::{
    fs::{self, File},
    io::Read as _,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::sync::watch;

use crate::Lifecycle;

/// How often files are looked at.
const POLL: Duration = Duration::from_secs(2);

/// Something made of files; always the newest that could be made. Cheap to clone.
pub struct Reloaded<T> {
    current: watch::Receiver<Arc<T>>,
}

impl<T> Clone for Reloaded<T> {
    fn clone(&self) -> Self {
        Self { current: self.current.clone() }
    }
}

impl<T: Send + Sync + 'static> Reloaded<T> {
    /// Makes it, and makes it again whenever one of the files that `make` read has changed, until the process drains.
    /// What cannot be made leaves the old one in force and is logged, once, as `what`.
    ///
    /// # Errors
    /// When it cannot be made the first time.
    pub fn new<F>(what: &'static str, make: F, lifecycle: &Lifecycle) -> Result<Self, String>
    where
        F: Fn(&mut Files) -> Result<T, String> + Send + 'static,
    {
        let mut files = Files::default();
        let (sender, current) = watch::channel(Arc::new(make(&mut files)?));
        let stopping = lifecycle.clone();
        lifecycle.spawn(async move {
            let mut maker = (files, make);
            loop {
                tokio::select! {
                    () = tokio::time::sleep(POLL) => {}
                    () = sender.closed() => return,
                    () = stopping.drained() => return,
                }
                // A file may be on a disk that does not answer.
                let making = tokio::task::spawn_blocking(move || {
                    let made = maker.0.changed().then(|| {
                        maker.0 = Files::default();
                        maker.1(&mut maker.0)
                    });
                    (maker, made)
                });
                let Ok((back, made)) = making.await else { return };
                maker = back;
                match made {
                    None => {}
                    Some(Ok(made)) => {
                        tracing::info!(what, "read again");
                        sender.send_replace(Arc::new(made));
                    }
                    Some(Err(error)) => tracing::error!(what, error, "cannot be used; the old one stays in force"),
                }
            }
        });
        Ok(Self { current })
    }

    /// The newest.
    #[must_use]
    pub fn now(&self) -> Arc<T> {
        self.current.borrow().clone()
    }
}

/// Reads files and remembers which.
#[derive(Default)]
pub struct Files {
    seen: Vec<(PathBuf, Option<Stamp>)>,
}

/// What differs when a file is written or replaced.
#[derive(PartialEq, Eq)]
struct Stamp {
    inode: u64,
    size: u64,
    changed: (i64, i64),
}

impl Stamp {
    fn of(file: &Path) -> Option<Self> {
        let data = fs::metadata(file).ok()?;
        Some(Self { inode: data.ino(), size: data.size(), changed: (data.ctime(), data.ctime_nsec()) })
    }
}

impl Files {
    /// Reads a file.
    ///
    /// # Errors
    /// With the file's name.
    pub fn read(&mut self, file: &Path) -> Result<Vec<u8>, String> {
        self.read_up_to(file, u64::MAX)
    }

    /// Reads a file of at most so many bytes.
    ///
    /// # Errors
    /// With the file's name, also when it is larger.
    pub fn read_up_to(&mut self, file: &Path, bytes_max: u64) -> Result<Vec<u8>, String> {
        // What changes while it is read has changed since.
        self.seen.push((file.to_owned(), Stamp::of(file)));
        let mut bytes = Vec::new();
        let read = File::open(file).and_then(|file| file.take(bytes_max.saturating_add(1)).read_to_end(&mut bytes));
        match read {
            Ok(read) if u64::try_from(read).unwrap_or(u64::MAX) > bytes_max => {
                Err(format!("{}: it is larger than {} KiB", file.display(), bytes_max >> 10))
            }
            Ok(_) => Ok(bytes),
            Err(error) => Err(format!("{}: {error}", file.display())),
        }
    }

    fn changed(&self) -> bool {
        self.seen.iter().any(|(file, stamp)| Stamp::of(file) != *stamp)
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_changed_is_made_anew_and_what_cannot_be_made_is_not() -> io::Result<()> {
        let directory = tempfile::tempdir()?;
        let file = directory.path().join("number");
        fs::write(&file, "1")?;
        let lifecycle = Lifecycle::new();
        let theirs = file.clone();
        let make = move |files: &mut Files| {
            let text = String::from_utf8(files.read(&theirs)?).map_err(|error| error.to_string())?;
            text.parse::<u32>().map_err(|error| error.to_string())
        };
        let number = Reloaded::new("a number", make, &lifecycle).expect("a number");
        assert_eq!(*number.now(), 1);
        for (text, expected) in [("2", 2), ("x", 2), ("3", 3)] {
            fs::write(&file, text)?;
            tokio::time::sleep(POLL * 2).await;
            assert_eq!(*number.now(), expected, "{text}");
        }
        fs::remove_file(&file)?;
        tokio::time::sleep(POLL * 2).await;
        assert_eq!(*number.now(), 3);
        // As Kubernetes does it.
        fs::write(directory.path().join("other"), "4")?;
        std::os::unix::fs::symlink("other", &file)?;
        tokio::time::sleep(POLL * 2).await;
        assert_eq!(*number.now(), 4);
        lifecycle.drain();
        Ok(())
    }

    #[test]
    fn what_cannot_be_made_at_first_is_told_with_the_file() {
        let make = |files: &mut Files| files.read(Path::new("/does/not/exist"));
        let told = Reloaded::new("a file", make, &Lifecycle::new()).err().expect("no such file");
        assert!(told.contains("/does/not/exist"), "{told}");
    }
}
