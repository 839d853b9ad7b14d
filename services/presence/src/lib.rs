//! Who is online.
//!
//! `roster` says who is online and what was told of it, `instances` what other instances said, `listeners` how far each
//! stream was told; `state` puts the three together. All four are pure. `hub` keeps the state of one instance, and is
//! the only one that tells: streams frames, and other instances the messages of `doorbell`. `last_seen` writes, late
//! and together, when users came and went; only `store` knows SQL. `api` and `track` are the doors.

mod api;
mod doorbell;
mod hub;
mod instances;
mod last_seen;
mod listeners;
mod roster;
mod state;
mod store;
#[cfg(test)]
mod tests;
mod track;
mod vital;

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use sqlx::migrate::Migrator;
use switchboard_bus::Bus;
use switchboard_chassis::{
    Clock, Lifecycle,
    db::Db,
    metrics::{Gauges, Metrics},
};
use switchboard_proto::presence::v1::presence_service_server::PresenceServiceServer;

pub use api::Presence;

use crate::{hub::Hub, last_seen::LastSeen, state::Terms, store::Store};

/// The tables of this service.
pub static MIGRATIONS: Migrator = sqlx::migrate!();

const GRACE_MAX_MS: u64 = 3_600_000;
const LEASE_MIN_S: u64 = 3;
const LEASE_MAX_S: u64 = 3600;
const FLUSH_INTERVAL_MAX_MS: u64 = 1000;

/// `[presence]`: when somebody counts as online.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PresenceConfig {
    /// How long after the last session a user is still online, so that a page can be loaded anew; in milliseconds.
    pub grace_ms: u64,
    /// An instance that the others do not hear of for so long takes its users offline; in seconds.
    pub lease_s: u64,
    /// Comings and goings are told together, at most so often; in milliseconds.
    pub flush_interval_ms: u64,
}

impl Default for PresenceConfig {
    fn default() -> Self {
        Self { grace_ms: 2000, lease_s: 15, flush_interval_ms: 50 }
    }
}

impl PresenceConfig {
    /// What is wrong with it.
    #[must_use]
    pub fn mistakes(&self) -> Vec<String> {
        let mut mistakes = Vec::new();
        if self.grace_ms > GRACE_MAX_MS {
            mistakes.push(format!("presence.grace_ms: must be at most {GRACE_MAX_MS}"));
        }
        if !(LEASE_MIN_S..=LEASE_MAX_S).contains(&self.lease_s) {
            mistakes.push(format!("presence.lease_s: must be {LEASE_MIN_S} to {LEASE_MAX_S}"));
        }
        if !(1..=FLUSH_INTERVAL_MAX_MS).contains(&self.flush_interval_ms) {
            mistakes.push(format!("presence.flush_interval_ms: must be 1 to {FLUSH_INTERVAL_MAX_MS}"));
        }
        mistakes
    }

    fn terms(&self) -> Terms {
        Terms {
            grace: Duration::from_millis(self.grace_ms),
            lease: Duration::from_secs(self.lease_s),
            part_users_max: state::PART_USERS_MAX,
        }
    }
}

const USERS: Gauges<1> = Gauges::new(
    "switchboard_presence_users",
    "Users who are online: here (over this instance) and everywhere",
    &["where"],
);
const INSTANCES: Gauges<0> =
    Gauges::new("switchboard_presence_instances", "Instances of presence that this one hears, itself included", &[]);

fn observe(hub: &Arc<Hub>, metrics: &Metrics) {
    let users = |whereabouts| metrics.gauge(&USERS, [whereabouts]);
    let (here, everywhere, instances) = (users("here"), users("everywhere"), metrics.gauge(&INSTANCES, []));
    let hub = Arc::downgrade(hub);
    metrics.sample_while(move || {
        let Some(hub) = hub.upgrade() else { return false };
        let count = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        let state = hub.state();
        here.set(count(state.roster.count_here()));
        everywhere.set(count(state.roster.count()));
        instances.set(count(state.instances()));
        true
    });
}

/// Starts one instance over its database and its place on the bus.
///
/// # Errors
/// When the bus cannot be reached.
pub async fn service(
    db: Db,
    bus: Bus,
    config: &PresenceConfig,
    clock: Clock,
    lifecycle: &Lifecycle,
) -> std::io::Result<PresenceServiceServer<Presence>> {
    let store = Arc::new(Store::new(db));
    let last_seen = Arc::new(LastSeen::new(store.clone()));
    let hub = Arc::new(Hub::new(config.terms(), bus, clock.clone(), last_seen.clone()));
    // First the ears, then the question who else is there.
    doorbell::listen(hub.clone(), lifecycle).await?;
    hub::start(hub.clone(), Duration::from_millis(config.flush_interval_ms), lifecycle);
    last_seen::start(last_seen.clone(), lifecycle);
    observe(&hub, lifecycle.metrics());
    vital::start(store, hub.clone(), config.terms().lease, clock.clone(), lifecycle);
    Ok(PresenceServiceServer::new(Presence { hub, last_seen, clock, lifecycle: lifecycle.clone() }))
}
