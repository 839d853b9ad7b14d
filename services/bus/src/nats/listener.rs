//! Hears a subject for one subscription, and those of its parts that are wanted.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Error,
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use async_nats::Client;
use bytes::Bytes;
use futures_util::stream::{SelectAll, Stream, StreamExt as _};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::{CancellationToken, DropGuard};
use uuid::Uuid;

use super::{
    Ear,
    frame::{Frame, Kind, Strange},
    gaps::{Gaps, Place, Said},
    is_connected,
    outbox::Outbox,
};
use crate::{
    Subject,
    parts::{PATIENCE, Part},
};

/// How often it is asked whether somebody fell silent.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// It always reads, so that what waits for a slow subscriber waits in the inbox.
pub(crate) struct Listener {
    ear: Arc<Ear>,
    member: Uuid,
    sender: Sender,
    messages: SelectAll<Messages>,
    heard: BTreeMap<Option<Part>, Heard>,
}

/// How a subscription is made.
pub(crate) struct Sender {
    pub(crate) client: Client,
    pub(crate) prefix: String,
    pub(crate) outbox: Arc<Outbox>,
}

type Messages = Pin<Box<dyn Stream<Item = (Option<Part>, Bytes)> + Send>>;

/// A subject that the server shall tell us of.
struct Heard {
    gaps: Gaps,
    began_at: Instant,
    is_confirmed: bool,
    /// Its stream ends with it.
    _end: DropGuard,
}

impl Listener {
    pub(crate) fn new(ear: Arc<Ear>, member: Uuid, sender: Sender) -> Self {
        Self { ear, member, sender, messages: SelectAll::new(), heard: BTreeMap::new() }
    }

    /// Subscribes to what is told to all.
    pub(crate) async fn begin(&mut self) -> std::io::Result<()> {
        self.add(None).await
    }

    /// Completes when the server knows the subscription: it has heard itself.
    pub(crate) async fn confirm(&mut self) -> std::io::Result<()> {
        loop {
            let (part, message) =
                self.messages.next().await.ok_or_else(|| Error::other("the connection to NATS is closed"))?;
            if self.hears_itself(part, message) {
                return Ok(());
            }
        }
    }

    /// Hears until the connection is closed for good.
    pub(crate) async fn run(mut self) {
        let ear = self.ear.clone();
        let mut look = interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                message = self.messages.next() => match message {
                    Some((part, message)) => {
                        if self.hears_itself(part, message) {
                            self.heard_itself(part);
                        }
                    }
                    None => return ear.inbox.close(),
                },
                () = ear.parts.changed() => if let Err(error) = self.follow().await {
                    tracing::error!(subject = ear.name, %error, "NATS takes no more subscriptions");
                    return ear.inbox.close();
                },
                now = look.tick() => self.look(now),
            }
        }
    }

    /// Subscribes to what is wanted, and to nothing else.
    async fn follow(&mut self) -> std::io::Result<()> {
        let wanted = self.ear.parts.all();
        self.heard.retain(|part, _| part.is_none_or(|part| wanted.contains(&part)));
        let heard: BTreeSet<Part> = self.heard.keys().copied().flatten().collect();
        for part in wanted.difference(&heard) {
            self.add(Some(*part)).await?;
            if !is_connected(&self.sender.client) {
                // It will be, and then it is missed.
                self.ear.parts.settle(*part);
            }
        }
        Ok(())
    }

    async fn add(&mut self, part: Option<Part>) -> std::io::Result<()> {
        let Sender { client, prefix, outbox } = &self.sender;
        let subject = Subject { name: self.ear.name, part };
        let subscriber = client.subscribe(subject.after(prefix)).await.map_err(Error::other)?;
        outbox.hello(self.ear.id, subject);
        let end = CancellationToken::new();
        let messages = subscriber.map(move |message| (part, message.payload)).take_until(end.clone().cancelled_owned());
        self.messages.push(Box::pin(messages));
        let began_at = Instant::now();
        let heard = Heard { gaps: Gaps::new(began_at), began_at, is_confirmed: false, _end: end.drop_guard() };
        self.heard.insert(part, heard);
        Ok(())
    }

    /// The server told us of ourselves.
    fn heard_itself(&mut self, part: Option<Part>) {
        let now = Instant::now();
        match part {
            // The connection was lost, and is there again, with all that was subscribed to.
            None => {
                for (part, heard) in &mut self.heard {
                    heard.gaps.restart(now);
                    heard.is_confirmed = true;
                    part.iter().for_each(|part| self.ear.parts.settle(*part));
                }
                self.ear.inbox.missed_everything();
            }
            Some(part) => {
                let Some(heard) = self.heard.get_mut(&Some(part)) else { return };
                let was_slow = now.saturating_duration_since(heard.began_at) >= PATIENCE;
                if !std::mem::replace(&mut heard.is_confirmed, true) && was_slow {
                    // Nobody may have waited for it.
                    self.ear.inbox.missed(Some(part));
                }
                self.ear.parts.settle(part);
            }
        }
    }

    fn look(&mut self, now: Instant) {
        for (part, heard) in &mut self.heard {
            if heard.gaps.look(now) {
                self.ear.inbox.missed(*part);
            }
        }
    }

    /// Takes a message; true when it was the subscription's own hello.
    fn hears_itself(&mut self, part: Option<Part>, message: Bytes) -> bool {
        let Frame { kind, member, number, payload } = match Frame::decode(message) {
            Ok(frame) => frame,
            Err(error @ Strange::Kind(_)) => {
                tracing::debug!(%error, "a later version rang");
                return false;
            }
            Err(error) => {
                tracing::warn!(subject = self.ear.name, %error, "a message that is not the bus's");
                return false;
            }
        };
        let said = match kind {
            Kind::Hello => return member == self.ear.id,
            Kind::Echo => {
                if member == self.ear.id {
                    self.ear.echoed(number);
                }
                return false;
            }
            _ if member == self.member => return false,
            Kind::Payload => Said::Payload(number),
            Kind::Beat => Said::Beat(number),
            Kind::Goodbye => Said::Goodbye(number),
        };
        // It was still on its way when nobody wanted it any more.
        let Some(heard) = self.heard.get_mut(&part) else { return false };
        let place = heard.gaps.hear(member, said, Instant::now());
        if place == Place::AfterGap {
            self.ear.inbox.missed(part);
        }
        if kind == Kind::Payload && place != Place::Behind {
            self.ear.inbox.push(payload);
        }
        false
    }
}
