//! The doorbell between instances of a service.
//!
//! **Guarantee**: a payload reaches each subscription of the other members at most once, and payloads of one member on
//! one subject keep their order. A member does not hear itself. Nothing more: a subscriber may miss any number of
//! payloads, and is told so with [`Heard::Missed`] when the bus knows. What must not be lost is in a database; the bus
//! only says that it is there.
//!
//! A subject is dot-separated tokens of `[a-z0-9-]`, as NATS has them; a subscription names one subject exactly.

use std::{
    collections::HashMap,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use tokio::sync::broadcast;

/// Payloads that wait for a slow subscriber before it misses the oldest.
const LOCAL_PAYLOADS_MAX: usize = 1024;

/// What a subscriber hears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// Somebody rang.
    Payload(Bytes),
    /// Some payloads did not arrive, or the connection was lost meanwhile: look at the database.
    Missed,
}

/// One member's way to the others. Clones are the same member.
#[derive(Clone, Debug)]
pub enum Bus {
    /// Between the services of one process.
    Local(LocalBus),
}

impl Bus {
    /// The first member of a new bus inside this process.
    #[must_use]
    pub fn local() -> Self {
        Self::Local(LocalBus { medium: Arc::default(), member: 0 })
    }

    /// Another member of the same bus.
    #[must_use]
    pub fn another(&self) -> Self {
        match self {
            Self::Local(bus) => {
                let member = bus.medium.members.fetch_add(1, Ordering::Relaxed) + 1;
                Self::Local(LocalBus { medium: bus.medium.clone(), member })
            }
        }
    }

    /// Rings. Never waits and never fails: see the guarantee. The payload is made only if it can be heard.
    pub fn publish(&self, subject: &'static str, payload: impl FnOnce() -> Bytes) {
        match self {
            Self::Local(bus) => bus.publish(subject, payload),
        }
    }

    /// Listens from now on, until the subscription is dropped.
    ///
    /// # Errors
    /// When the bus cannot be reached.
    #[expect(clippy::unused_async, reason = "a bus on a network answers over it")]
    pub async fn subscribe(&self, subject: &'static str) -> std::io::Result<Subscription> {
        match self {
            Self::Local(bus) => Ok(Subscription::Local(bus.subscribe(subject))),
        }
    }
}

/// See [`Bus::local`].
#[derive(Clone, Debug)]
pub struct LocalBus {
    medium: Arc<Medium>,
    member: u64,
}

#[derive(Debug, Default)]
struct Medium {
    members: AtomicU64,
    subjects: RwLock<HashMap<&'static str, Vec<Ear>>>,
}

#[derive(Debug)]
struct Ear {
    member: u64,
    sender: broadcast::Sender<Bytes>,
}

impl LocalBus {
    fn publish(&self, subject: &'static str, payload: impl FnOnce() -> Bytes) {
        let subjects = self.medium.subjects.read().unwrap_or_else(PoisonError::into_inner);
        let mut others = subjects
            .get(subject)
            .into_iter()
            .flatten()
            .filter(|ear| ear.member != self.member && ear.sender.receiver_count() > 0)
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

    fn subscribe(&self, subject: &'static str) -> broadcast::Receiver<Bytes> {
        let (sender, receiver) = broadcast::channel(LOCAL_PAYLOADS_MAX);
        let mut subjects = self.medium.subjects.write().unwrap_or_else(PoisonError::into_inner);
        let ears = subjects.entry(subject).or_default();
        ears.retain(|ear| ear.sender.receiver_count() > 0);
        ears.push(Ear { member: self.member, sender });
        receiver
    }
}

/// See [`Bus::subscribe`].
#[derive(Debug)]
pub enum Subscription {
    /// On a [`LocalBus`].
    Local(broadcast::Receiver<Bytes>),
}

impl Subscription {
    /// The next thing heard; `None` when the bus is gone for good. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Heard> {
        match self {
            Self::Local(receiver) => match receiver.recv().await {
                Ok(payload) => Some(Heard::Payload(payload)),
                Err(broadcast::error::RecvError::Lagged(_)) => Some(Heard::Missed),
                Err(broadcast::error::RecvError::Closed) => None,
            },
        }
    }
}
