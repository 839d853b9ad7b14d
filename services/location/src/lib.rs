//! Where therapists are, shared with one customer at a time.
//!
//! A position goes `rooms` (or `api`) → `rules` → `hub` → the sessions of this instance, and by the bus to the other
//! instances; `keeper` stores the newest of each share a moment later, and forgets what is too old. `model` and `rules`
//! touch nothing; only `store` knows SQL.

mod api;
mod hub;
mod keeper;
mod model;
mod rooms;
mod rules;
mod store;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use sqlx::migrate::Migrator;
use switchboard_bus::Bus;
use switchboard_chassis::{Clock, Lifecycle, db::Db, metrics::Gauges};
use switchboard_proto::location::v1::location_service_server::LocationServiceServer;

pub use api::Locations;

/// The tables of this service.
pub static MIGRATIONS: Migrator = sqlx::migrate!();

/// `[location]`: how long positions are kept.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LocationConfig {
    /// A position that is older is told to nobody and deleted, in seconds.
    pub expire_after_s: u64,
    /// How often the newest positions are stored, in milliseconds.
    pub store_interval_ms: u64,
}

impl Default for LocationConfig {
    fn default() -> Self {
        Self { expire_after_s: 600, store_interval_ms: 1_000 }
    }
}

impl LocationConfig {
    /// What is wrong with it.
    #[must_use]
    pub fn mistakes(&self) -> Vec<String> {
        let mut mistakes = Vec::new();
        if self.expire_after_s == 0 || self.store_interval_ms == 0 {
            mistakes.push("location.expire_after_s, location.store_interval_ms: must not be 0".to_owned());
        }
        mistakes
    }

    fn expire_after(&self) -> Duration {
        Duration::from_secs(self.expire_after_s)
    }

    fn store_interval(&self) -> Duration {
        Duration::from_millis(self.store_interval_ms)
    }
}

const SHARES: Gauges<0> =
    Gauges::new("switchboard_location_shares", "Shares of which this instance knows a position or a session", &[]);

/// Starts one instance over its database and its place on the bus.
///
/// # Errors
/// When the bus cannot be reached.
pub async fn service(
    db: Db,
    bus: Bus,
    config: &LocationConfig,
    clock: Clock,
    lifecycle: &Lifecycle,
) -> std::io::Result<LocationServiceServer<Locations>> {
    let store = Arc::new(store::Store::new(db));
    let (hub, subscription) = hub::Hub::new(bus, clock, config.expire_after()).await?;
    let hub = Arc::new(hub);
    hub::listen(hub.clone(), store.clone(), subscription, lifecycle);
    keeper::start(store.clone(), hub.clone(), config.store_interval(), lifecycle);
    let (shares, known) = (Arc::downgrade(&hub), lifecycle.metrics().gauge(&SHARES, []));
    lifecycle.metrics().sample_while(move || shares.upgrade().map(|hub| known.set(hub.shares())).is_some());
    let rooms = rooms::Rooms { hub, store };
    Ok(LocationServiceServer::new(Locations { rooms, lifecycle: lifecycle.clone() }))
}
