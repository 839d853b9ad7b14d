//! Stores the newest positions, many at once, and deletes what is too old.

use std::{convert::Infallible, sync::Arc, time::Duration};

use switchboard_chassis::Lifecycle;

use crate::{hub::Hub, store::Store};

/// How often positions are looked through for those that are too old.
const EXPIRY_INTERVAL: Duration = Duration::from_secs(30);

pub(crate) fn start(store: Arc<Store>, hub: Arc<Hub>, interval: Duration, lifecycle: &Lifecycle) {
    let keeper = Keeper { store, hub };
    let stopping = lifecycle.clone();
    lifecycle.spawn_essential("location keeper", async move {
        let mut expire_at = tokio::time::Instant::now();
        loop {
            if tokio::time::Instant::now() >= expire_at {
                keeper.expire().await;
                expire_at = tokio::time::Instant::now() + EXPIRY_INTERVAL;
            }
            let is_last = tokio::select! {
                () = tokio::time::sleep(interval) => false,
                () = stopping.stopped() => true,
            };
            keeper.store().await;
            if is_last {
                return Ok::<_, Infallible>(());
            }
        }
    });
}

pub(crate) struct Keeper {
    pub(crate) store: Arc<Store>,
    pub(crate) hub: Arc<Hub>,
}

impl Keeper {
    pub(crate) async fn store(&self) {
        let _turn = self.store.turn().await;
        let positions = self.hub.unstored();
        // The database says why in the log, if it fails; then they are stored the next time.
        if self.store.put(&positions).await.is_ok() {
            self.hub.stored(&positions);
        }
    }

    pub(crate) async fn expire(&self) {
        match self.store.expire(self.hub.horizon()).await {
            Ok(expired) if expired > 0 => tracing::debug!(expired, "positions were too old"),
            // The database said why in the log; the next look comes soon.
            Ok(_) | Err(_) => {}
        }
    }
}
