//! Webhooks: tells other systems over HTTP what happened here.
//!
//! The service in which something happens writes an [`Event`] into its *outbox* (`webhook_deliveries`, in its own database),
//! in the transaction in which it happens ([`enqueue!`]). One task for each endpoint delivers what is due. An
//! instance *claims* a delivery for a while in the database, so of several instances one delivers it, and when that one dies,
//! another does later.
//!
//! **At least once, in no order.** A receiver that answered in time with 2xx is not told again, unless the process or the
//! database ended in that moment; it tells repeats by the header `webhook-id`. Signed as the Standard Webhooks specification
//! says. What cannot be delivered becomes a dead letter, which an operator lists and has tried again ([`service`]).

mod api;
mod client;
mod config;
mod deliver;
mod event;
mod outbox;
mod sign;

pub use api::{Webhooks, service};
pub use config::{EndpointConfig, EventType, OfflineKind, WebhooksConfig};
pub use event::{Event, Person};
pub use outbox::Outbox;
