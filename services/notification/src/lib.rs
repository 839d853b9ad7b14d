//! Each user's notifications, and how many of them are unread.
//!
//! A notification goes `api` → `rules` → `writer` → `store` → `hub` → the user's sessions of this instance, and
//! by `doorbell` to the other instances. `rooms` is what the sessions do; `retention` removes what is old. `model`
//! holds the words; `rules` and `order` decide and touch nothing; only `store` knows SQL; only `convert` and the doors
//! know protobuf.

mod api;
mod convert;
mod doorbell;
mod hub;
mod model;
mod order;
mod retention;
mod rooms;
mod rules;
mod store;
#[cfg(test)]
mod tests;
mod writer;

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sqlx::migrate::Migrator;
use switchboard_bus::Bus;
use switchboard_chassis::{Clock, Lifecycle, db::Db};
use switchboard_proto::notification::v1::notification_service_server::NotificationServiceServer;

pub use api::Notifications;

use doorbell::Doorbell;
use hub::Hub;
use rooms::Inboxes;
use store::Store;

/// The tables of this service.
pub static MIGRATIONS: Migrator = sqlx::migrate!();

/// `[notification]`: what is kept.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NotificationConfig {
    /// How many days a notification is kept, read or not; 0 keeps it for ever.
    pub retention_days: u32,
}

impl Default for NotificationConfig {
    fn default() -> Self {
        Self { retention_days: 90 }
    }
}

/// Starts one instance over its database and its place on the bus.
///
/// # Errors
/// When the bus cannot be reached.
pub async fn service(
    db: Db,
    bus: Bus,
    config: &NotificationConfig,
    clock: Clock,
    lifecycle: &Lifecycle,
) -> std::io::Result<NotificationServiceServer<Notifications>> {
    let store = Arc::new(Store::new(db));
    let (doorbell, subscription) = Doorbell::take(bus).await?;
    let hub = Arc::new(Hub::new(store.clone(), doorbell));
    doorbell::listen(hub.clone(), subscription, lifecycle);
    Ok(NotificationServiceServer::new(start(Inboxes { store, hub }, config, clock, lifecycle)))
}

fn start(inboxes: Inboxes, config: &NotificationConfig, clock: Clock, lifecycle: &Lifecycle) -> Notifications {
    retention::start(inboxes.clone(), config.retention_days, clock.clone(), lifecycle);
    let writer = writer::start(inboxes.clone(), clock.clone(), lifecycle);
    Notifications { inboxes, writer, clock, lifecycle: lifecycle.clone() }
}
