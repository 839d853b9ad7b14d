//! The bus inside one process.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use switchboard_chassis::metrics::Metrics;
use tokio::sync::broadcast;

use crate::{
    Heard, Missed, Parts, Subject,
    metrics::{BusCounts, Counts},
};

/// Payloads that wait for a slow subscriber before it misses the oldest.
const LOCAL_PAYLOADS_MAX: usize = 1024;

/// See [`Bus::local`](crate::Bus::local).
#[derive(Clone)]
pub struct LocalBus {
    medium: Arc<Medium>,
    member: u64,
}

#[derive(Default)]
struct Medium {
    members: AtomicU64,
    subjects: RwLock<HashMap<&'static str, Vec<Ear>>>,
    counts: Counts,
}

#[derive(Debug)]
struct Ear {
    member: u64,
    parts: Parts,
    sender: broadcast::Sender<Bytes>,
}

impl fmt::Debug for LocalBus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalBus").field("member", &self.member).finish_non_exhaustive()
    }
}

impl LocalBus {
    pub(crate) fn new() -> Self {
        Self { medium: Arc::default(), member: 0 }
    }

    pub(crate) fn observe(&self, metrics: &Metrics) {
        self.medium.counts.get_or_init(|| BusCounts::new(metrics)).connected.set(1);
    }

    pub(crate) fn counts(&self) -> Option<&BusCounts> {
        self.medium.counts.get()
    }

    pub(crate) fn another(&self) -> Self {
        let member = self.medium.members.fetch_add(1, Ordering::Relaxed) + 1;
        Self { medium: self.medium.clone(), member }
    }

    pub(crate) fn publish(&self, Subject { name, part }: Subject, payload: impl FnOnce() -> Bytes) {
        let subjects = self.medium.subjects.read().unwrap_or_else(PoisonError::into_inner);
        let mut others = subjects
            .get(name)
            .into_iter()
            .flatten()
            .filter(|ear| ear.member != self.member && ear.sender.receiver_count() > 0)
            .filter(|ear| part.is_none_or(|part| ear.parts.has(part)))
            .peekable();
        if others.peek().is_none() {
            return;
        }
        let payload = payload();
        for ear in others {
            // Its subscription may have been dropped just now.
            let _ = ear.sender.send(payload.clone());
        }
    }

    pub(crate) fn subscribe(&self, subject: &'static str) -> LocalSubscription {
        let (sender, receiver) = broadcast::channel(LOCAL_PAYLOADS_MAX);
        let parts = Parts::prompt();
        let mut subjects = self.medium.subjects.write().unwrap_or_else(PoisonError::into_inner);
        let ears = subjects.entry(subject).or_default();
        ears.retain(|ear| ear.sender.receiver_count() > 0);
        ears.push(Ear { member: self.member, parts: parts.clone(), sender });
        LocalSubscription { receiver, parts }
    }
}

/// A [`Subscription`](crate::Subscription) to a [`LocalBus`].
#[derive(Debug)]
pub(crate) struct LocalSubscription {
    receiver: broadcast::Receiver<Bytes>,
    parts: Parts,
}

impl LocalSubscription {
    pub(crate) fn parts(&self) -> &Parts {
        &self.parts
    }

    pub(crate) async fn next(&mut self) -> Option<Heard> {
        match self.receiver.recv().await {
            Ok(payload) => Some(Heard::Payload(payload)),
            Err(broadcast::error::RecvError::Lagged(_)) => Some(Heard::Missed(Missed::everything())),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}
