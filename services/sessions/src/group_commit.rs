//! Group commit: one task takes all that wait, stores them in one transaction, then answers.
//!
//! Under light load nobody waits for anybody; under heavy load many share one commit.

use std::convert::Infallible;

use switchboard_chassis::{Lifecycle, metrics::Counter};
use tokio::{sync::mpsc, time::Instant};

use crate::metrics::CommitCounts;

/// Items that wait to be stored. Beyond it a caller is refused at once.
const WAITING_ITEMS_MAX: usize = 8192;
/// Items in one transaction.
const BATCH_ITEMS_MAX: usize = 512;

/// The way to the task. Cheap to clone.
#[derive(Debug)]
pub struct GroupCommit<T> {
    waiting: mpsc::Sender<T>,
    full: Counter,
}

impl<T> Clone for GroupCommit<T> {
    fn clone(&self) -> Self {
        Self { waiting: self.waiting.clone(), full: self.full.clone() }
    }
}

impl<T> GroupCommit<T> {
    /// Hands an item over. Never waits.
    ///
    /// # Errors
    /// Gives the item back when too much waits already.
    pub fn push(&self, item: T) -> Result<(), T> {
        self.waiting.try_send(item).map_err(|refused| {
            self.full.inc();
            refused.into_inner()
        })
    }
}

/// Starts the task of one instance: `store` is given each batch, and the next waits until it is done.
pub fn start<T, F>(
    name: &'static str,
    lifecycle: &Lifecycle,
    mut store: impl FnMut(Vec<T>) -> F + Send + 'static,
) -> GroupCommit<T>
where
    T: Send + 'static,
    F: Future<Output = ()> + Send,
{
    let (waiting, mut items) = mpsc::channel(WAITING_ITEMS_MAX);
    let stopping = lifecycle.clone();
    let CommitCounts { batch: sizes, seconds, waiting: depth, full } = CommitCounts::new(lifecycle.metrics(), name);
    let queue = waiting.downgrade();
    lifecycle.metrics().sample_while(move || {
        let waiting = queue.upgrade().map(|queue: mpsc::Sender<T>| queue.max_capacity() - queue.capacity());
        depth.set(i64::try_from(waiting.unwrap_or(0)).unwrap_or(i64::MAX));
        waiting.is_some()
    });
    lifecycle.spawn_essential(name, async move {
        loop {
            let mut batch = Vec::new();
            tokio::select! {
                // What waits is stored before the end.
                biased;
                taken = items.recv_many(&mut batch, BATCH_ITEMS_MAX) => if taken == 0 {
                    break;
                },
                () = stopping.stopped() => break,
            }
            sizes.observe(f64::from(u32::try_from(batch.len()).unwrap_or(u32::MAX)));
            let began = Instant::now();
            store(batch).await;
            seconds.observe(began.elapsed().as_secs_f64());
        }
        Ok::<_, Infallible>(())
    });
    GroupCommit { waiting, full }
}
