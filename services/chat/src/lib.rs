//! Conversations, messages, receipts, typing and joins: everything behind the five chat sockets.
//!
//! Those who are not there are notified by `absence`.
//!
//! A send goes `converse` (or `api`) → `rules` → `writer` → `store` → `hub` → the sessions of this instance, and by
//! `doorbell` to the other instances. `model` holds the words; `rules` and
//! `order` decide and touch nothing; only `store` knows
//! SQL; only `convert` and the two doors know protobuf.

mod absence;
mod api;
mod converse;
mod convert;
mod doorbell;
mod hub;
mod import;
mod metrics;
mod model;
mod order;
mod retention;
mod rules;
mod store;
mod writer;

use std::sync::Arc;

use sqlx::migrate::Migrator;
use switchboard_bus::Bus;
use switchboard_chassis::{Clock, Lifecycle, db::Db};
use switchboard_proto::{chat::v1::chat_service_server::ChatServiceServer, wire};

pub use absence::{Absences, ChatConfig, NotifyKind};
pub use api::Chat;
pub use retention::{Kept, Retention};

type Link = switchboard_sessions::Link<wire::Chat>;
type Asker = switchboard_sessions::Asker<wire::Chat>;

/// The tables of this service.
pub static MIGRATIONS: Migrator = sqlx::migrate!();

/// Starts one instance over its database and its place on the bus. Besides the service, what is left to start when the
/// notification service can be reached.
///
/// # Errors
/// When the bus cannot be reached.
pub async fn service(
    db: Db,
    bus: Bus,
    config: &ChatConfig,
    clock: Clock,
    lifecycle: &Lifecycle,
) -> std::io::Result<(ChatServiceServer<Chat>, Absences)> {
    let store = Arc::new(store::Store::new(db, config.burst(), lifecycle));
    let arrivals = absence::arrivals(store.clone(), lifecycle);
    let (doorbell, subscription) = doorbell::Doorbell::take(bus).await?;
    let hub = Arc::new(hub::Hub::new(store.clone(), doorbell, clock.clone(), config.clone(), arrivals));
    doorbell::listen(hub.clone(), subscription, lifecycle);
    retention::start(store.clone(), config, clock.clone(), lifecycle);
    let writer = writer::start(store.clone(), hub.clone(), clock.clone(), lifecycle);
    let (rooms, open) = (Arc::downgrade(&hub), lifecycle.metrics().gauge(&metrics::ROOMS, []));
    lifecycle.metrics().sample_while(move || rooms.upgrade().map(|hub| open.set(hub.rooms())).is_some());
    let absences = Absences { config: config.clone(), store: store.clone(), hub: hub.clone(), clock: clock.clone() };
    let rooms = converse::Rooms { hub, store, writer, clock, lifecycle: lifecycle.clone() };
    Ok((ChatServiceServer::new(Chat { rooms }), absences))
}
