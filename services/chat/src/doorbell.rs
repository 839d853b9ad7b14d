//! Tells other instances what was stored or said here, and hears it from them.

use std::sync::Arc;

use prost::Message as _;
use switchboard_bus::{Bus, Heard, Part, Parts, Subscription, Wanted};
use switchboard_chassis::Lifecycle;
use switchboard_proto::{
    chat::v1::{ConverseResponse, converse_response::Event},
    part,
};
use uuid::Uuid;

use crate::{bell::Bell, hub::Hub, model::Conversation};

const SUBJECT: &str = "chat.events";

/// What goes over the bus. Instances of neighbouring versions must understand it: only add fields.
#[derive(Clone, PartialEq, prost::Message)]
struct Ring {
    /// The conversation's UUID, 16 bytes.
    #[prost(bytes = "vec", tag = "1")]
    conversation_id: Vec<u8>,
    /// The event, without sessions and answer.
    #[prost(message, optional, tag = "2")]
    frame: Option<ConverseResponse>,
}

/// This instance's place on the bus.
pub(crate) struct Doorbell {
    bus: Bus,
    parts: Parts,
    feed: Bell,
}

/// The part of the subject in which a conversation's events are told.
pub(crate) fn part_of(conversation: &Conversation) -> Part {
    part::of_conversation(conversation.kind, conversation.id, conversation.number)
}

impl Doorbell {
    /// Takes the place; what is heard is to be given to [`listen`].
    pub(crate) async fn take(bus: Bus, feed: Bell) -> std::io::Result<(Self, Subscription)> {
        let subscription = bus.subscribe(SUBJECT).await?;
        let parts = subscription.parts().clone();
        Ok((Self { bus, parts, feed }, subscription))
    }

    /// Tells other instances what was stored or said.
    pub(crate) fn ring(&self, part: Part, conversation_id: Uuid, event: &Event) {
        if !matches!(event, Event::Typing(_) | Event::ParticipantJoined(_) | Event::ParticipantLeft(_)) {
            self.feed.ring();
        }
        self.bus.publish((SUBJECT, part), || {
            let frame = ConverseResponse { sessions: Vec::new(), event: Some(event.clone()), answer: None };
            Ring { conversation_id: conversation_id.as_bytes().to_vec(), frame: Some(frame) }.encode_to_vec().into()
        });
    }

    /// Hears what other instances tell in a part.
    pub(crate) fn want(&self, part: Part) -> Wanted {
        self.parts.want(part)
    }
}

/// Hears the others from now on.
pub(crate) fn listen(hub: Arc<Hub>, mut subscription: Subscription, lifecycle: &Lifecycle) {
    let stopping = lifecycle.clone();
    lifecycle.spawn_essential("chat doorbell", async move {
        loop {
            let heard = tokio::select! {
                heard = subscription.next() => heard.ok_or("the bus is gone")?,
                () = stopping.stopped() => return Ok::<_, &'static str>(()),
            };
            match heard {
                Heard::Missed(missed) => hub.look_again(&missed).await,
                Heard::Payload(payload) => match Ring::decode(payload) {
                    Ok(Ring { conversation_id, frame: Some(ConverseResponse { event: Some(event), .. }) }) => {
                        if let Ok(id) = Uuid::from_slice(&conversation_id) {
                            hub.overheard(id, event);
                        }
                    }
                    Ok(_) => tracing::debug!("a later version rang"),
                    Err(error) => tracing::warn!(%error, "a ring that cannot be read"),
                },
            }
        }
    });
}
