//! Conversations, messages, receipts, typing and joins: everything behind the five chat sockets.
//!
//! Those who are not there are notified by `absence`.
//!
//! A send goes `converse` (or `api`) → `rules` → `writer` → `store` → `hub` → the sessions of this instance, and by
//! `doorbell` to the other instances. `model` holds the words; `rules` and
//! `order` decide and touch nothing; only `store` knows
//! SQL; only `convert` and the doors know protobuf. Other services are told everything that was stored by `watch`, and of some
//! of it by webhook (`hooks`).

mod absence;
mod api;
mod bell;
mod converse;
mod convert;
mod doorbell;
mod hooks;
mod hub;
mod import;
mod metrics;
mod model;
mod order;
mod retention;
mod rules;
mod store;
mod watch;
mod writer;

use std::{sync::Arc, time::Duration};

use sqlx::migrate::Migrator;
use switchboard_bus::Bus;
use switchboard_chassis::{Clock, Lifecycle, clock::micros, db::Db};
use switchboard_proto::{chat::v1::chat_service_server::ChatServiceServer, wire};

use switchboard_webhooks::{Outbox, WebhooksConfig};

pub use absence::{Absences, ChatConfig, NotifyKind};
pub use api::Chat;
pub use retention::{Kept, Retention};
pub use watch::WatchStream;

type Link = switchboard_sessions::Link<wire::Chat>;
type Asker = switchboard_sessions::Asker<wire::Chat>;

/// The tables of this service.
pub static MIGRATIONS: Migrator = sqlx::migrate!();

/// How long the feed tells of receipts. The messages themselves say how far they got.
const RECEIPTS_KEPT: Duration = Duration::from_secs(30 * 24 * 3600);
const FORGET_RECEIPTS_INTERVAL: Duration = Duration::from_secs(3600);

/// Starts one instance over its database and its place on the bus. Besides the service, what is left to start when the
/// notification service can be reached, and what other systems are told by webhook.
///
/// # Errors
/// When the bus cannot be reached, the database not be prepared, or webhooks not be delivered as they are configured.
pub async fn service(
    db: Db,
    bus: Bus,
    config: &ChatConfig,
    webhooks: &WebhooksConfig,
    clock: Clock,
    lifecycle: &Lifecycle,
) -> std::io::Result<(ChatServiceServer<Chat>, Absences, Outbox)> {
    let outbox = Outbox::new("chat", &db, webhooks, clock.clone())?;
    let store = Arc::new(store::Store::new(db, config.burst(), outbox.clone(), lifecycle));
    store.prepare_feed().await.map_err(std::io::Error::other)?;
    outbox.deliver(lifecycle)?;
    forget_receipts(store.clone(), clock.clone(), lifecycle);
    let bell = bell::Bell::start(bus.another(), lifecycle).await?;
    let feed = watch::Feed::new(store.clone(), bell.clone(), lifecycle.clone());
    let arrivals = absence::Arrivals::start(store.clone(), lifecycle);
    let noted = absence::Noted { config: config.clone(), webhooks: webhooks.clone() };
    let (doorbell, subscription) = doorbell::Doorbell::take(bus, bell).await?;
    let hub = Arc::new(hub::Hub::new(store.clone(), doorbell, clock.clone(), noted.clone(), arrivals));
    doorbell::listen(hub.clone(), subscription, lifecycle);
    retention::start(store.clone(), config, clock.clone(), lifecycle);
    let writer = writer::start(store.clone(), hub.clone(), clock.clone(), lifecycle);
    let (rooms, open) = (Arc::downgrade(&hub), lifecycle.metrics().gauge(&metrics::ROOMS, []));
    lifecycle.metrics().sample_while(move || rooms.upgrade().map(|hub| open.set(hub.rooms())).is_some());
    let absences = Absences { noted, store: store.clone(), hub: hub.clone(), clock: clock.clone() };
    let rooms = converse::Rooms { hub, store, writer, clock, lifecycle: lifecycle.clone() };
    Ok((ChatServiceServer::new(Chat { rooms, feed }), absences, outbox))
}

fn forget_receipts(store: Arc<store::Store>, clock: Clock, lifecycle: &Lifecycle) {
    let draining = lifecycle.clone();
    lifecycle.spawn(async move {
        let kept = micros(RECEIPTS_KEPT);
        loop {
            // The database said why in the log, if it failed.
            while !draining.is_draining() && store.forget_receipts(clock.now() - kept).await.unwrap_or(false) {}
            if !draining.rest(clock.jittered(FORGET_RECEIPTS_INTERVAL)).await {
                return;
            }
        }
    });
}
