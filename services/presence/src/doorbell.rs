//! Tells other instances whom this one has, and hears it from them.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message as _;
use switchboard_bus::{Bus, Heard};
use switchboard_chassis::Lifecycle;
use uuid::Uuid;

use crate::{
    hub::Hub,
    instances::Numbered,
    roster::{Change, Name, UserId},
};

const SUBJECT: &str = "presence.events";

/// What goes over the bus. Instances of neighbouring versions must understand it: only add fields.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Ring {
    /// Who says it: a UUID, 16 bytes.
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) instance: Vec<u8>,
    /// What it says.
    #[prost(oneof = "Said", tags = "2, 3, 4")]
    pub(crate) said: Option<Said>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(crate) enum Said {
    /// My users came and went.
    #[prost(message, tag = "2")]
    Delta(Delta),
    /// Whom do you have?
    #[prost(message, tag = "3")]
    Ask(Ask),
    /// A part of those whom I have.
    #[prost(message, tag = "4")]
    Snapshot(Snapshot),
}

/// Without changes it is a sign of life.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Delta {
    /// One more than before; without changes, the same as before.
    #[prost(uint64, tag = "1")]
    pub(crate) seq: u64,
    /// At most 1,000 with those who went.
    #[prost(message, repeated, tag = "2")]
    pub(crate) came: Vec<Person>,
    #[prost(string, repeated, tag = "3")]
    pub(crate) went: Vec<String>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Ask {
    /// Who is asked; empty asks everybody.
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) instance: Vec<u8>,
}

/// Those whom an instance has after the changes of number `seq`; their names may be newer. What came later is told by the
/// next changes.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Snapshot {
    #[prost(uint64, tag = "1")]
    pub(crate) seq: u64,
    /// From 0.
    #[prost(uint32, tag = "2")]
    pub(crate) part: u32,
    #[prost(bool, tag = "3")]
    pub(crate) is_last: bool,
    /// At most 1,000.
    #[prost(message, repeated, tag = "4")]
    pub(crate) users: Vec<Person>,
}

/// Somebody who is online.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Person {
    #[prost(string, tag = "1")]
    pub(crate) id: String,
    #[prost(string, tag = "2")]
    pub(crate) name: String,
    /// Since when that has been the name; microseconds since 1970.
    #[prost(int64, tag = "3")]
    pub(crate) since: i64,
}

impl Delta {
    pub(crate) fn new(numbered: &Numbered) -> Self {
        let mut delta = Self { seq: numbered.seq, came: Vec::new(), went: Vec::new() };
        for (user_id, name) in &numbered.changes {
            match name {
                Some(name) => delta.came.push(Person::new(user_id, name)),
                None => delta.went.push(user_id.as_ref().to_owned()),
            }
        }
        delta
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.came.is_empty() && self.went.is_empty()
    }

    pub(crate) fn into_changes(self) -> Vec<Change<Name>> {
        let came = self.came.into_iter().map(Person::into_user).map(|(user_id, name)| (user_id, Some(name)));
        came.chain(self.went.into_iter().map(|user_id| (Arc::from(user_id), None))).collect()
    }
}

impl Person {
    pub(crate) fn new(user_id: &UserId, name: &Name) -> Self {
        Self { id: user_id.as_ref().to_owned(), name: name.text.as_ref().to_owned(), since: name.since }
    }

    pub(crate) fn into_user(self) -> (UserId, Name) {
        let id: UserId = Arc::from(self.id);
        let text = if *id == *self.name { id.clone() } else { Arc::from(self.name) };
        (id, Name { since: self.since, text })
    }
}

/// Says something to the others. It is made only if it can be heard.
pub(crate) fn ring(bus: &Bus, instance: Uuid, said: impl FnOnce() -> Said) {
    bus.publish(SUBJECT, || {
        Bytes::from(Ring { instance: instance.as_bytes().to_vec(), said: Some(said()) }.encode_to_vec())
    });
}

/// Hears the others from now on.
pub(crate) async fn listen(hub: Arc<Hub>, lifecycle: &Lifecycle) -> std::io::Result<()> {
    let mut subscription = hub.bus().subscribe(SUBJECT).await?;
    let stopping = lifecycle.clone();
    lifecycle.spawn_essential("presence doorbell", async move {
        loop {
            let heard = tokio::select! {
                heard = subscription.next() => heard.ok_or("the bus is gone")?,
                () = stopping.stopped() => return Ok::<_, &'static str>(()),
            };
            match heard {
                Heard::Missed(_) => hub.ask_all(),
                Heard::Payload(payload) => match Ring::decode(payload) {
                    Ok(ring) => hub.overheard(ring),
                    Err(error) => tracing::warn!(%error, "a ring that cannot be read"),
                },
            }
        }
    });
    Ok(())
}
