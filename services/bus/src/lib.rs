//! The doorbell between instances of a service.
//!
//! **Guarantee**: a payload reaches each subscriber of its subject at most once, and payloads of one publisher on one
//! subject keep their order. Nothing more: a subscriber may miss any number of payloads, and is told so with
//! [`Heard::Missed`] when the bus knows. What must not be lost is in a database; the bus only says that it is there.
//!
//! A subject is dot-separated tokens of `[a-z0-9-]`, as NATS has them; a subscription names one subject exactly.

use bytes::Bytes;
use tokio::sync::broadcast;

/// Payloads that wait for a slow subscriber before it misses the oldest.
const LOCAL_PAYLOADS_MAX: usize = 8192;

/// What a subscriber hears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// Somebody rang.
    Payload(Bytes),
    /// Some payloads did not arrive, or the connection was lost meanwhile: look at the database.
    Missed,
}

/// A bus. Cheap to clone.
#[derive(Clone, Debug)]
pub enum Bus {
    /// Between the services of one process.
    Local(LocalBus),
}

impl Bus {
    /// A bus for one process.
    #[must_use]
    pub fn local() -> Self {
        Self::Local(LocalBus(broadcast::Sender::new(LOCAL_PAYLOADS_MAX)))
    }

    /// Rings. Never waits and never fails: see the guarantee.
    pub fn publish(&self, subject: &'static str, payload: Bytes) {
        match self {
            // No subscriber is no error.
            Self::Local(LocalBus(sender)) => _ = sender.send((subject, payload)),
        }
    }

    /// Listens from now on, until the subscription is dropped.
    ///
    /// # Errors
    /// When the bus cannot be reached.
    #[expect(clippy::unused_async, reason = "a bus on a network answers over it")]
    pub async fn subscribe(&self, subject: &'static str) -> std::io::Result<Subscription> {
        match self {
            Self::Local(LocalBus(sender)) => Ok(Subscription::Local { subject, receiver: sender.subscribe() }),
        }
    }
}

/// See [`Bus::local`].
#[derive(Clone, Debug)]
pub struct LocalBus(broadcast::Sender<(&'static str, Bytes)>);

/// See [`Bus::subscribe`].
#[derive(Debug)]
pub enum Subscription {
    /// On a [`LocalBus`].
    Local {
        /// What it listens to.
        subject: &'static str,
        /// Where from.
        receiver: broadcast::Receiver<(&'static str, Bytes)>,
    },
}

impl Subscription {
    /// The next thing heard; `None` when the bus is gone for good. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Heard> {
        match self {
            Self::Local { subject, receiver } => loop {
                match receiver.recv().await {
                    Ok((theirs, payload)) if theirs == *subject => return Some(Heard::Payload(payload)),
                    Ok(_) => {}
                    Err(broadcast::error::RecvError::Lagged(_)) => return Some(Heard::Missed),
                    Err(broadcast::error::RecvError::Closed) => return None,
                }
            },
        }
    }
}
