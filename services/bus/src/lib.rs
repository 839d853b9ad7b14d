//! The doorbell between instances of a service.
//!
//! **Guarantee**: a payload reaches each subscription of the other members at most once, and payloads of one member on
//! one subject keep their order. A member does not hear itself. Nothing more: a subscriber may miss any number of
//! payloads, and is told so with [`Heard::Missed`] when the bus knows. What must not be lost is in a database; the bus
//! only says that it is there.
//!
//! On NATS the bus knows within seconds:
//!
//! - Each payload carries its member and a number. A gap in the numbers is a miss, and a payload that was too large, or
//!   waited too long, still takes its number.
//! - A member repeats its last number every two seconds on each subject on which it has published. So the loss of a
//!   last payload is noticed, too, and however long the network was parted.
//! - A member that falls silent without a goodbye may have died before it could ring: a miss.
//! - While the connection is lost, `Missed` comes every two seconds, so that subscribers live on the database. It comes
//!   once more when they can hear again.
//! - What was said before a subscription began cannot be told from what was lost in its first moments: if there may
//!   have been a loss, `Missed` comes once, five seconds after.
//!
//! `Missed` may be heard without a loss, and before payloads that came earlier. Several become one while they wait.
//!
//! A subject is dot-separated tokens of `[a-z0-9-]`, as NATS has them. It is told to all of its subscriptions, or in a
//! [`Part`], to those that want that part: so an instance hears only what it needs. On NATS a part is a subject of its own
//! below it (`chat.events.137`), order and numbers are those of the part, and a member repeats its number in each part in
//! which it has published; a few hundred parts are meant, not millions. A payload is at most what the NATS server takes (`max_payload`, 1 MiB unless told) less [`HEAD_BYTES`].

mod config;
mod local;
mod metrics;
mod nats;
mod parts;
#[cfg(feature = "testing")]
pub mod testing;

use std::collections::BTreeSet;

use bytes::Bytes;
use metrics::{BusCounts, SubjectCounts};
use switchboard_chassis::{Clock, metrics::Metrics};

pub use config::BusConfig;
pub use local::LocalBus;
use local::LocalSubscription;
use nats::NatsSubscription;
pub use nats::{ConnectError, HEAD_BYTES, NatsBus};
pub use parts::{Part, Parts, Subject, Wanted};

/// What a subscriber hears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// Somebody rang.
    Payload(Bytes),
    /// Some payloads did not arrive, or the connection was lost meanwhile: look at the database.
    Missed(Missed),
}

/// What may not have arrived.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Missed {
    everything: bool,
    /// What was told to all.
    whole: bool,
    parts: BTreeSet<Part>,
}

/// One member's way to the others. Clones are the same member.
#[derive(Clone, Debug)]
pub enum Bus {
    /// Between the services of one process.
    Local(LocalBus),
    /// Between processes, by a NATS server.
    Nats(NatsBus),
}

impl Bus {
    /// The first member of a new bus inside this process.
    #[must_use]
    pub fn local() -> Self {
        Self::Local(LocalBus::new())
    }

    /// The first member of this process on the configured bus. It makes the connection that its others share, and that
    /// is made again for as long as one of them lives. `clock` gives members their ids.
    ///
    /// # Errors
    /// When no server answers within seconds, or it refuses, or the configuration is wrong.
    pub async fn connect(config: &BusConfig, clock: &Clock) -> Result<Self, ConnectError> {
        if config.is_local() { Ok(Self::local()) } else { NatsBus::connect(config, clock).await.map(Self::Nats) }
    }

    /// Counts what goes over it. To be called before anybody subscribes.
    pub fn observe(&self, metrics: &Metrics) {
        match self {
            Self::Local(bus) => bus.observe(metrics),
            Self::Nats(bus) => bus.observe(metrics),
        }
    }

    fn counts(&self) -> Option<&BusCounts> {
        match self {
            Self::Local(bus) => bus.counts(),
            Self::Nats(bus) => bus.counts(),
        }
    }

    /// Another member of the same bus.
    #[must_use]
    pub fn another(&self) -> Self {
        match self {
            Self::Local(bus) => Self::Local(bus.another()),
            Self::Nats(bus) => Self::Nats(bus.another()),
        }
    }

    /// Rings. Never waits and never fails: see the guarantee. The payload is made only if it can be heard.
    pub fn publish(&self, subject: impl Into<Subject>, payload: impl FnOnce() -> Bytes) {
        let subject = subject.into();
        if let Some(counts) = self.counts() {
            counts.published.inc();
        }
        match self {
            Self::Local(bus) => bus.publish(subject, payload),
            Self::Nats(bus) => bus.publish(subject, payload),
        }
    }

    /// Listens from now on, until the subscription is dropped. On NATS, the server knows of it. Parts of the subject are
    /// heard as far as [`Subscription::parts`] are wanted.
    ///
    /// # Errors
    /// When the bus cannot be reached, or does not allow the subject.
    pub async fn subscribe(&self, subject: &'static str) -> std::io::Result<Subscription> {
        let counts = self.counts().map(|counts| counts.subject(subject));
        let by = match self {
            Self::Local(bus) => By::Local(bus.subscribe(subject)),
            Self::Nats(bus) => By::Nats(bus.subscribe(subject).await?),
        };
        Ok(Subscription { by, counts })
    }

    /// The end of the process: what was published goes out, and all members of this connection say goodbye, so that the
    /// others need not take them for dead. Waits a second at most. Nothing shall be published after it.
    pub async fn finish(&self) {
        match self {
            Self::Local(_) => {}
            Self::Nats(bus) => bus.finish().await,
        }
    }
}

/// See [`Bus::subscribe`].
#[derive(Debug)]
pub struct Subscription {
    by: By,
    counts: Option<SubjectCounts>,
}

#[derive(Debug)]
enum By {
    Local(LocalSubscription),
    Nats(NatsSubscription),
}

impl Subscription {
    /// Says which parts are heard, besides what is told to all.
    #[must_use]
    pub fn parts(&self) -> &Parts {
        match &self.by {
            By::Local(subscription) => subscription.parts(),
            By::Nats(subscription) => subscription.parts(),
        }
    }

    /// The next thing heard; `None` when the bus is gone for good. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Heard> {
        let heard = match &mut self.by {
            By::Local(subscription) => subscription.next().await,
            By::Nats(subscription) => subscription.next().await,
        };
        if let Some(counts) = &self.counts {
            match &heard {
                Some(Heard::Payload(_)) => _ = counts.received.inc(),
                Some(Heard::Missed(_)) => _ = counts.missed.inc(),
                None => {}
            }
        }
        heard
    }
}
