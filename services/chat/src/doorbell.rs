//! Tells other instances what was stored or said here, and hears it from them.

use std::sync::Arc;

use prost::Message as _;
use switchboard_bus::{Bus, Heard};
use switchboard_chassis::Lifecycle;
use switchboard_proto::chat::v1::{ConverseResponse, converse_response::Event};
use uuid::Uuid;

use crate::hub::Hub;

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

pub(crate) fn ring(bus: &Bus, conversation_id: Uuid, event: &Event) {
    bus.publish(SUBJECT, || {
        let frame = ConverseResponse { sessions: Vec::new(), event: Some(event.clone()), answer: None };
        Ring { conversation_id: conversation_id.as_bytes().to_vec(), frame: Some(frame) }.encode_to_vec().into()
    });
}

/// Hears the others from now on.
pub(crate) async fn listen(hub: Arc<Hub>, lifecycle: &Lifecycle) -> std::io::Result<()> {
    let mut subscription = hub.bus().subscribe(SUBJECT).await?;
    let stopping = lifecycle.clone();
    lifecycle.spawn_essential("chat doorbell", async move {
        loop {
            let heard = tokio::select! {
                heard = subscription.next() => heard.ok_or("the bus is gone")?,
                () = stopping.stopped() => return Ok::<_, &'static str>(()),
            };
            match heard {
                Heard::Missed => hub.look_again().await,
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
    Ok(())
}
