//! `switchboard export` and `switchboard import`.

use std::{
    fs::{self, File},
    io::{self, BufReader, BufWriter, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use prost_types::Timestamp;
use switchboard_chassis::grpc::Peer;

use super::{export, import};

/// `switchboard export`.
#[derive(clap::Args)]
pub struct Export {
    /// The file, which must not exist; "-" for standard output.
    file: PathBuf,
    /// Only messages that were written, and conversations that changed, at this time or later: 2024-05-01T10:00:00Z.
    #[arg(long, value_name = "TIME", value_parser = time)]
    since: Option<Timestamp>,
}

/// `switchboard import`.
#[derive(clap::Args)]
pub struct Import {
    /// The file; "-" for standard input.
    file: PathBuf,
    /// Store nothing: compare the file with what is there, and fail unless it is the same.
    #[arg(long)]
    verify: bool,
}

fn time(text: &str) -> Result<Timestamp, String> {
    text.parse().map_err(|_| "a time is wanted, as 2024-05-01T10:00:00Z".to_owned())
}

fn is_standard(file: &Path) -> bool {
    file.as_os_str() == "-"
}

impl Export {
    /// Runs it.
    ///
    /// # Errors
    /// When a service refuses, or the file cannot be written; a half of a file is not left.
    pub async fn run(self, identity: Peer, chat: Peer) -> anyhow::Result<()> {
        if is_standard(&self.file) {
            // What standard output is locked by cannot wait in a future.
            let tally = export::export(&mut BufWriter::new(io::stdout()), identity, chat, self.since).await?;
            let _ = writeln!(io::stderr(), "{tally}");
            return Ok(());
        }
        let (file, half) = (&self.file, self.file.with_added_extension("part"));
        anyhow::ensure!(!file.exists(), "{} exists: give another name, or remove it", file.display());
        let wrong = || format!("cannot write {}", half.display());
        // What people wrote is for this user alone.
        let opened = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&half);
        let mut out = BufWriter::new(opened.with_context(wrong)?);
        let tally = export::export(&mut out, identity, chat, self.since).await?;
        out.into_inner().map_err(io::IntoInnerError::into_error).and_then(|out| out.sync_all()).with_context(wrong)?;
        fs::rename(&half, file).with_context(wrong)?;
        let _ = writeln!(io::stdout(), "{tally}");
        Ok(())
    }
}

impl Import {
    /// Runs it. A file is read to its end before anything is stored.
    ///
    /// # Errors
    /// Lines that cannot be read, the first line that a service refused, or, with `--verify`, that it is not the same.
    pub async fn run(self, identity: Peer, chat: Peer) -> anyhow::Result<()> {
        let open = || {
            let opened = File::open(&self.file).with_context(|| format!("cannot read {}", self.file.display()));
            opened.map(|file| BufReader::with_capacity(1 << 16, file))
        };
        let input = || BufReader::new(io::stdin());
        if self.verify {
            let verified = if is_standard(&self.file) {
                import::verify(input(), identity, chat).await?
            } else {
                import::verify(open()?, identity, chat).await?
            };
            let _ = writeln!(io::stdout(), "{verified}");
            anyhow::ensure!(verified.differing == 0, "{} lines are not there as they say", verified.differing);
            return Ok(());
        }
        let imported = if is_standard(&self.file) {
            import::import(input(), identity, chat).await?
        } else {
            import::check(open()?)?;
            import::import(open()?, identity, chat).await?
        };
        let _ = writeln!(io::stdout(), "{imported}");
        Ok(())
    }
}
