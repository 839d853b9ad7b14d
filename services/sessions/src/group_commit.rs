//! Group commit: one task takes all that wait, stores them in one transaction, then answers.
//!
//! Under light load nobody waits for anybody; under heavy load many share one commit.

use std::convert::Infallible;

use switchboard_chassis::Lifecycle;
use tokio::sync::mpsc;

/// Items that wait to be stored. Beyond it a caller is refused at once.
const WAITING_ITEMS_MAX: usize = 8192;
/// Items in one transaction.
const BATCH_ITEMS_MAX: usize = 512;

/// The way to the task. Cheap to clone.
#[derive(Debug)]
pub struct GroupCommit<T> {
    waiting: mpsc::Sender<T>,
}

impl<T> Clone for GroupCommit<T> {
    fn clone(&self) -> Self {
        Self { waiting: self.waiting.clone() }
    }
}

impl<T> GroupCommit<T> {
    /// Hands an item over. Never waits.
    ///
    /// # Errors
    /// Gives the item back when too much waits already.
    pub fn push(&self, item: T) -> Result<(), T> {
        self.waiting.try_send(item).map_err(mpsc::error::TrySendError::into_inner)
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
            store(batch).await;
        }
        Ok::<_, Infallible>(())
    });
    GroupCommit { waiting }
}
