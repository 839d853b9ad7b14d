//! Many who want the same at once are served together: one task takes all that wait, does it for all of them, and then
//! takes those who came meanwhile.
//!
//! Under light load nobody waits for anybody; under heavy load many share one commit ([`GroupCommit`]) or one statement
//! ([`Gather`]).

use std::{convert::Infallible, mem::take};

use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

use crate::{
    Error, Kind, Lifecycle,
    metrics::{Counter, Counters, Gauge, Gauges, Histogram, Histograms, ITEMS, Metrics, SECONDS},
    traces::{self, Span},
};

const BATCH: Histograms<1> = Histograms::new(
    "switchboard_store_commit_batch_items",
    "Items that one task stored together, or questions that it answered together",
    &["writer"],
    ITEMS,
);
const COMMIT: Histograms<1> = Histograms::new(
    "switchboard_store_commit_duration_seconds",
    "How long it took to store a batch and to tell it, tries again included",
    &["writer"],
    SECONDS,
);
const WAITING: Gauges<1> = Gauges::new(
    "switchboard_store_commit_queue_items",
    "Items that wait to be stored; beyond 8,192 callers are refused",
    &["writer"],
);
const FULL: Counters<1> = Counters::new(
    "switchboard_store_commit_refusals_total",
    "Items that were refused because too many waited",
    &["writer"],
);

/// Items that wait. Beyond it a caller is refused at once.
const WAITING_ITEMS_MAX: usize = 8192;
/// Items in one transaction.
const BATCH_ITEMS_MAX: usize = 512;
/// Questions in one statement.
const GATHERED_MAX: usize = 128;

/// The way to the task. Cheap to clone.
#[derive(Debug)]
pub struct GroupCommit<T> {
    name: &'static str,
    waiting: mpsc::Sender<Waiting<T>>,
    full: Counter,
}

/// An item, and its time in the queue and in the batch, if that is traced.
#[derive(Debug)]
struct Waiting<T> {
    item: T,
    span: Span,
}

impl<T> Clone for GroupCommit<T> {
    fn clone(&self) -> Self {
        Self { name: self.name, waiting: self.waiting.clone(), full: self.full.clone() }
    }
}

impl<T: Send + 'static> GroupCommit<T> {
    /// Starts the task of one instance: `store` is given each batch, and the next waits until it is done.
    pub fn start<F>(name: &'static str, lifecycle: &Lifecycle, store: impl FnMut(Vec<T>) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send,
    {
        Self::of(name, lifecycle, BATCH_ITEMS_MAX, store)
    }

    fn of<F>(
        name: &'static str,
        lifecycle: &Lifecycle,
        batch_max: usize,
        mut work: impl FnMut(Vec<T>) -> F + Send + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + Send,
    {
        let (waiting, mut items) = mpsc::channel(WAITING_ITEMS_MAX);
        let stopping = lifecycle.clone();
        let CommitCounts { batch: sizes, seconds, waiting: depth, full } = CommitCounts::new(lifecycle.metrics(), name);
        let queue = waiting.downgrade();
        lifecycle.metrics().sample_while(move || {
            let waiting =
                queue.upgrade().map(|queue: mpsc::Sender<Waiting<T>>| queue.max_capacity() - queue.capacity());
            depth.set(i64::try_from(waiting.unwrap_or(0)).unwrap_or(i64::MAX));
            waiting.is_some()
        });
        lifecycle.spawn_essential(name, async move {
            loop {
                let mut batch = Vec::new();
                tokio::select! {
                    // What waits is done before the end.
                    biased;
                    taken = items.recv_many(&mut batch, batch_max) => if taken == 0 {
                        break;
                    },
                    () = stopping.stopped() => break,
                }
                sizes.observe(f64::from(u32::try_from(batch.len()).unwrap_or(u32::MAX)));
                let traced: Vec<Span> = batch
                    .iter_mut()
                    .filter(|waiting| waiting.span.is_recorded())
                    .map(|waiting| take(&mut waiting.span))
                    .collect();
                let batch: Vec<T> = batch.into_iter().map(|waiting| waiting.item).collect();
                let (_waiting, commit) = shared(name, batch.len(), traced);
                let began = Instant::now();
                traces::scope(commit.context(), work(batch)).await;
                seconds.observe(began.elapsed().as_secs_f64());
            }
            Ok::<_, Infallible>(())
        });
        Self { name, waiting, full }
    }

    /// Hands an item over. Never waits.
    ///
    /// # Errors
    /// Gives the item back when too much waits already.
    pub fn push(&self, item: T) -> Result<(), T> {
        self.waiting.try_send(Waiting { item, span: traces::here(self.name) }).map_err(|refused| {
            self.full.inc();
            refused.into_inner().item
        })
    }
}

/// What all items of a batch have in common: a part of the first one that is traced, to which the others are linked.
fn shared(name: &str, items: usize, mut traced: Vec<Span>) -> (Vec<Span>, Span) {
    let Some((first, others)) = traced.split_first_mut() else { return (traced, Span::default()) };
    let mut commit = first.child(format!("{name} batch"));
    commit.set("switchboard.batch.items", || i64::try_from(items).unwrap_or(i64::MAX));
    for other in others {
        other.link(&commit);
    }
    (traced, commit)
}

/// Questions that are asked together: those that come while one statement runs are in the next one. Cheap to clone.
#[derive(Debug)]
pub struct Gather<K, V> {
    questions: GroupCommit<(K, oneshot::Sender<Result<V, Error>>)>,
}

impl<K, V> Clone for Gather<K, V> {
    fn clone(&self) -> Self {
        Self { questions: self.questions.clone() }
    }
}

impl<K: Send + 'static, V: Send + 'static> Gather<K, V> {
    /// Starts the task of one instance: `look_up` answers each question, in their order.
    pub fn start<F>(
        name: &'static str,
        lifecycle: &Lifecycle,
        look_up: impl Fn(Vec<K>) -> F + Clone + Send + 'static,
    ) -> Self
    where
        F: Future<Output = Result<Vec<V>, Error>> + Send,
    {
        let questions = GroupCommit::of(name, lifecycle, GATHERED_MAX, move |batch: Vec<(K, oneshot::Sender<_>)>| {
            let look_up = look_up.clone();
            async move {
                let (keys, askers): (Vec<K>, Vec<_>) = batch.into_iter().unzip();
                // Who asked may have gone.
                match look_up(keys).await {
                    Ok(values) => askers.into_iter().zip(values).for_each(|(asker, value)| _ = asker.send(Ok(value))),
                    Err(error) => askers.into_iter().for_each(|asker| _ = asker.send(Err(error.clone()))),
                }
            }
        });
        Self { questions }
    }

    /// The answer to one question.
    ///
    /// # Errors
    /// That of the statement; or when too many wait already, or the process is ending.
    pub async fn get(&self, key: K) -> Result<V, Error> {
        let (asker, answer) = oneshot::channel();
        if self.questions.push((key, asker)).is_err() {
            return Err(Error::new(Kind::Overloaded, "OVERLOADED", "too many wait already; try again later"));
        }
        match answer.await {
            Ok(answer) => answer,
            Err(_) => Err(Error::new(Kind::Unavailable, "ENDING", "this instance is ending; try again")),
        }
    }
}

/// What one task counts that stores.
#[derive(Clone, Debug)]
struct CommitCounts {
    batch: Histogram,
    seconds: Histogram,
    waiting: Gauge,
    full: Counter,
}

impl CommitCounts {
    fn new(metrics: &Metrics, name: &str) -> Self {
        let writer = [name];
        Self {
            batch: metrics.histogram(&BATCH, writer),
            seconds: metrics.histogram(&COMMIT, writer),
            waiting: metrics.gauge(&WAITING, writer),
            full: metrics.counter(&FULL, writer),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tokio::sync::Notify;

    use super::*;

    #[tokio::test]
    async fn those_who_come_while_one_is_answered_are_answered_together() {
        let (batches, go_on): (Arc<Mutex<Vec<usize>>>, Arc<Notify>) = Default::default();
        let (seen, held) = (batches.clone(), go_on.clone());
        let doubled = Gather::start("doubled", &Lifecycle::new(), move |keys: Vec<u32>| {
            seen.lock().expect("a lock").push(keys.len());
            let held = held.clone();
            async move {
                held.notified().await;
                if keys.contains(&13) {
                    return Err(Error::new(Kind::Unavailable, "NO", "not that one"));
                }
                Ok(keys.into_iter().map(|key| key * 2).collect())
            }
        });
        let ask = |key| {
            let doubled = doubled.clone();
            tokio::spawn(async move { doubled.get(key).await.map_err(|error| error.reason) })
        };
        let first = ask(1);
        while batches.lock().expect("a lock").is_empty() {
            tokio::task::yield_now().await;
        }
        let rest: Vec<_> = (2..=9).map(ask).collect();
        tokio::task::yield_now().await;
        go_on.notify_one();
        assert_eq!(first.await.expect("an answer"), Ok(2));
        go_on.notify_one();
        for (key, answer) in (2..).zip(rest) {
            assert_eq!(answer.await.expect("an answer"), Ok(key * 2));
        }
        assert_eq!(*batches.lock().expect("a lock"), [1, 8]);
        go_on.notify_one();
        assert_eq!(ask(13).await.expect("an answer"), Err("NO"));
    }
}
