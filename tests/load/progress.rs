//! What is said while a run goes on, on standard error.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

const EVERY: Duration = Duration::from_secs(2);

#[expect(clippy::print_stderr, reason = "the progress of a command")]
pub(crate) fn say(line: &str) {
    eprintln!("load: {line}");
}

/// Counts, and tells of it now and then until it is dropped.
#[derive(Clone)]
pub(crate) struct Progress(Arc<Counter>);

struct Counter {
    count: AtomicU64,
    telling: tokio::task::AbortHandle,
}

impl Drop for Counter {
    fn drop(&mut self) {
        self.telling.abort();
    }
}

impl Progress {
    /// Of things in the plural: "messages heard". `most` is 0 when it is not known.
    pub(crate) fn of(things: &'static str, most: u64) -> Self {
        Self(Arc::new_cyclic(|counter: &std::sync::Weak<Counter>| {
            let counter = counter.clone();
            let begun = Instant::now();
            let telling = tokio::spawn(async move {
                loop {
                    tokio::time::sleep(EVERY).await;
                    let Some(counter) = counter.upgrade() else { return };
                    let (count, seconds) = (counter.count.load(Relaxed), begun.elapsed().as_secs());
                    match most {
                        0 => say(&format!("{seconds:3} s: {count} {things}")),
                        most => say(&format!("{seconds:3} s: {count} of {most} {things}")),
                    }
                }
            });
            Counter { count: AtomicU64::new(0), telling: telling.abort_handle() }
        }))
    }

    pub(crate) fn add(&self, more: u64) {
        self.0.count.fetch_add(more, Relaxed);
    }

    pub(crate) fn count(&self) -> u64 {
        self.0.count.load(Relaxed)
    }
}
