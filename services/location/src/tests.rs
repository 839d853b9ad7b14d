//! The whole service over a database of its own, at a time that the test sets.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use switchboard_bus::Bus;
use switchboard_chassis::{
    Clock,
    audit::Asked,
    secret::sha256_hex,
    testing::{Backend, database},
};

use crate::{
    MIGRATIONS,
    hub::Hub,
    keeper::Keeper,
    model::{Pair, Position},
    store::Store,
};

const SECOND: i64 = 1_000_000;

fn pair(customer_id: &str) -> Pair {
    Pair { customer_id: customer_id.to_owned(), therapist_id: "t".to_owned() }
}

fn position(latitude: f64, at: i64) -> Position {
    Position { latitude, longitude: 0.0, accuracy_m: None, heading_deg: Some(0.0), at }
}

#[tokio::test]
async fn positions_expire_on_sqlite() {
    positions_are_stored_late_and_together_and_expire(Backend::Sqlite).await;
}

#[tokio::test]
async fn positions_expire_on_postgres() {
    positions_are_stored_late_and_together_and_expire(Backend::Postgres).await;
}

async fn positions_are_stored_late_and_together_and_expire(backend: Backend) {
    let (db, _directory) = database(backend, "location", &MIGRATIONS).await.expect("a database");
    let now = Arc::new(AtomicI64::new(1_000 * SECOND));
    let clock = Clock::Manual(now.clone());
    let (hub, _) = Hub::new(Bus::local(), clock, Duration::from_secs(60)).await.expect("a bus");
    let (hub, store) = (Arc::new(hub), Arc::new(Store::new(db)));
    let keeper = Keeper { store: store.clone(), hub: hub.clone() };
    let stored = async |customer: &str| store.last(&pair(customer), hub.horizon()).await.expect("an answer");

    let first = position(1.5, 1_000 * SECOND);
    for (customer, position) in [("a", position(1.0, 999 * SECOND)), ("a", first), ("b", position(2.0, 1_000 * SECOND))]
    {
        hub.moved(&pair(customer), position, None);
    }
    assert_eq!((stored("a").await, hub.last(&pair("a"))), (None, Some(first)), "remembered, and not stored yet");
    keeper.store().await;
    assert_eq!((stored("a").await, hub.last(&pair("a"))), (Some(first), None), "stored, and nobody is there");
    // Another instance's older position does not take its place.
    store.put(&[(pair("a"), position(0.0, 999 * SECOND))]).await.expect("stored");
    assert_eq!(stored("a").await, Some(first));

    now.store(1_060 * SECOND, Ordering::Relaxed);
    assert_eq!(stored("a").await, Some(first), "just recent enough");
    now.store(1_061 * SECOND, Ordering::Relaxed);
    assert_eq!(stored("a").await, None, "told to nobody");
    keeper.expire().await;
    assert_eq!(store.last(&pair("a"), 0).await.expect("an answer"), None, "and gone");

    hub.moved(&pair("a"), position(3.0, 1_061 * SECOND), None);
    hub.forget("t", hub.now());
    keeper.store().await;
    assert_eq!(stored("a").await, None, "what was erased is not stored");

    // Another instance erased, and this one has not heard of it yet.
    hub.moved(&pair("a"), position(3.0, 1_061 * SECOND), None);
    let asked = Asked { caller: "a test".to_owned(), at: 1_061 * SECOND, subject_sha256: sha256_hex("t") };
    store.erase("t", &asked).await.expect("erased");
    keeper.store().await;
    assert_eq!(stored("a").await, None, "nobody stores again what was erased");
    // Whoever is erased may come back.
    let again = position(4.0, 1_061 * SECOND + 1);
    hub.moved(&pair("a"), again, None);
    keeper.store().await;
    assert_eq!(stored("a").await, Some(again));
    assert_eq!(store.erasures(hub.horizon()).await.expect("an answer"), [(sha256_hex("t"), 1_061 * SECOND)]);
    now.store(1_122 * SECOND, Ordering::Relaxed);
    keeper.expire().await;
    assert_eq!(store.erasures(0).await.expect("an answer"), [], "there is nothing left to keep from being stored");
}
