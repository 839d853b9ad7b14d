//! Tells other instances what was told here, and hears it from them.

use std::sync::Arc;

use prost::Message as _;
use switchboard_bus::{Bus, Heard, Parts, Subscription, Wanted};
use switchboard_chassis::Lifecycle;
use switchboard_proto::{
    notification::v1::{SubscribeResponse, subscribe_response::Event},
    part,
};

use crate::hub::Hub;

const SUBJECT: &str = "notification.events";

/// What goes over the bus. Instances of neighbouring versions must understand it: only add fields.
#[derive(Clone, PartialEq, prost::Message)]
struct Ring {
    /// Whose inbox.
    #[prost(string, tag = "1")]
    user_id: String,
    /// The event, without sessions and answer.
    #[prost(message, optional, tag = "2")]
    frame: Option<SubscribeResponse>,
}

/// This instance's place on the bus.
pub(crate) struct Doorbell {
    bus: Bus,
    parts: Parts,
}

impl Doorbell {
    /// Takes the place; what is heard is to be given to [`listen`].
    pub(crate) async fn take(bus: Bus) -> std::io::Result<(Self, Subscription)> {
        let subscription = bus.subscribe(SUBJECT).await?;
        let parts = subscription.parts().clone();
        Ok((Self { bus, parts }, subscription))
    }

    pub(crate) fn ring(&self, user_id: &str, event: &Event) {
        self.bus.publish((SUBJECT, part::of_user(user_id)), || {
            let frame = SubscribeResponse { sessions: Vec::new(), event: Some(event.clone()), answer: None };
            Ring { user_id: user_id.to_owned(), frame: Some(frame) }.encode_to_vec().into()
        });
    }

    /// Hears what other instances tell a user.
    pub(crate) fn want(&self, user_id: &str) -> Wanted {
        self.parts.want(part::of_user(user_id))
    }
}

/// Hears the others from now on.
pub(crate) fn listen(hub: Arc<Hub>, subscription: Subscription, lifecycle: &Lifecycle) {
    let stopping = lifecycle.clone();
    lifecycle.spawn_essential("notification doorbell", async move {
        tokio::select! {
            () = hear(&hub, subscription) => Err("the bus is gone"),
            () = stopping.stopped() => Ok(()),
        }
    });
}

async fn hear(hub: &Hub, mut subscription: Subscription) {
    while let Some(heard) = subscription.next().await {
        match heard {
            Heard::Missed(missed) => hub.look_again(&missed).await,
            Heard::Payload(payload) => match Ring::decode(payload) {
                Ok(Ring { user_id, frame: Some(SubscribeResponse { event: Some(event), .. }) }) => {
                    hub.overheard(&user_id, &event);
                }
                Ok(_) => tracing::debug!("a later version rang"),
                Err(error) => tracing::warn!(%error, "a ring that cannot be read"),
            },
        }
    }
}
