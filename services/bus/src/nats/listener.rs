//! Hears a subject for one subscription.

use std::{io::Error, sync::Arc, time::Duration};

use async_nats::Subscriber;
use bytes::Bytes;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_stream::StreamExt as _;
use uuid::Uuid;

use super::{
    Ear,
    frame::{Frame, Kind, Strange},
    gaps::{Gaps, Place, Said},
};

/// How often it is asked whether somebody fell silent.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// It always reads, so that what waits for a slow subscriber waits in the inbox.
pub(crate) struct Listener {
    ear: Arc<Ear>,
    member: Uuid,
    subscriber: Subscriber,
    gaps: Gaps,
}

impl Listener {
    pub(crate) fn new(ear: Arc<Ear>, member: Uuid, subscriber: Subscriber) -> Self {
        Self { ear, member, subscriber, gaps: Gaps::new(Instant::now()) }
    }

    /// Completes when the server knows the subscription: it has heard itself.
    pub(crate) async fn confirm(&mut self) -> std::io::Result<()> {
        loop {
            let message =
                self.subscriber.next().await.ok_or_else(|| Error::other("the connection to NATS is closed"))?;
            if self.hears_itself(message.payload) {
                return Ok(());
            }
        }
    }

    /// Hears until the connection is closed for good.
    pub(crate) async fn run(mut self) {
        let mut look = interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                message = self.subscriber.next() => match message {
                    Some(message) => {
                        if self.hears_itself(message.payload) {
                            // The connection was lost, and is there again.
                            self.gaps.restart(Instant::now());
                            self.ear.inbox.missed();
                        }
                    }
                    None => return self.ear.inbox.close(),
                },
                now = look.tick() => if self.gaps.look(now) {
                    self.ear.inbox.missed();
                },
            }
        }
    }

    /// Takes a message; true when it was the subscription's own hello.
    fn hears_itself(&mut self, message: Bytes) -> bool {
        let Frame { kind, member, number, payload } = match Frame::decode(message) {
            Ok(frame) => frame,
            Err(error @ Strange::Kind(_)) => {
                tracing::debug!(%error, "a later version rang");
                return false;
            }
            Err(error) => {
                tracing::warn!(subject = self.ear.subject, %error, "a message that is not the bus's");
                return false;
            }
        };
        let said = match kind {
            Kind::Hello => return member == self.ear.id,
            _ if member == self.member => return false,
            Kind::Payload => Said::Payload(number),
            Kind::Beat => Said::Beat(number),
            Kind::Goodbye => Said::Goodbye(number),
        };
        let place = self.gaps.hear(member, said, Instant::now());
        if place == Place::AfterGap {
            self.ear.inbox.missed();
        }
        if kind == Kind::Payload && place != Place::Behind {
            self.ear.inbox.push(payload);
        }
        false
    }
}
