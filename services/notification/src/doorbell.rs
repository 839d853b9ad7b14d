//! Tells other instances what was told here, and hears it from them.

use std::sync::Arc;

use prost::Message as _;
use switchboard_bus::{Bus, Heard, Subscription};
use switchboard_chassis::Lifecycle;
use switchboard_proto::notification::v1::{SubscribeResponse, subscribe_response::Event};

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

pub(crate) fn ring(bus: &Bus, user_id: &str, event: &Event) {
    bus.publish(SUBJECT, || {
        let frame = SubscribeResponse { sessions: Vec::new(), event: Some(event.clone()), answer: None };
        Ring { user_id: user_id.to_owned(), frame: Some(frame) }.encode_to_vec().into()
    });
}

/// Hears the others from now on.
pub(crate) async fn listen(hub: Arc<Hub>, lifecycle: &Lifecycle) -> std::io::Result<()> {
    let subscription = hub.bus().subscribe(SUBJECT).await?;
    let stopping = lifecycle.clone();
    lifecycle.spawn_essential("notification doorbell", async move {
        tokio::select! {
            () = hear(&hub, subscription) => Err("the bus is gone"),
            () = stopping.stopped() => Ok(()),
        }
    });
    Ok(())
}

async fn hear(hub: &Hub, mut subscription: Subscription) {
    while let Some(heard) = subscription.next().await {
        match heard {
            Heard::Missed => hub.look_again().await,
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
