//! Signs of life by the database that the instances share: while the bus is gone, an instance that is well elsewhere keeps
//! its users.

use std::{collections::HashMap, convert::Infallible, sync::Arc, time::Duration};

use switchboard_chassis::{Clock, Lifecycle, Micros, clock::micros};
use uuid::Uuid;

use crate::{hub::Hub, store::Store};

/// The sign of an instance that ended so long ago is deleted.
const LONG_AGO: Duration = Duration::from_secs(24 * 3600);

/// Gives and reads signs of life until the process stops.
pub(crate) fn start(store: Arc<Store>, hub: Arc<Hub>, lease: Duration, clock: Clock, lifecycle: &Lifecycle) {
    if !store.is_shared() {
        return;
    }
    let stopping = lifecycle.clone();
    lifecycle.spawn_essential("presence signs of life", async move {
        let mut known: HashMap<Uuid, Micros> = HashMap::new();
        loop {
            let now = clock.now();
            let long_ago = now.saturating_sub(micros(LONG_AGO));
            // The database says why in the log, if it fails; the bus may be well.
            if let Ok(signs) = store.beat(hub.instance(), now, long_ago).await {
                // Another machine's clock may be wrong; that it moves is what counts.
                let moved = signs.iter().filter(|(id, at)| known.get(id) != Some(at)).map(|(id, _)| *id);
                hub.alive(&moved.collect::<Vec<_>>());
                known = signs.into_iter().collect();
            }
            tokio::select! {
                () = tokio::time::sleep(lease / 3) => {}
                () = stopping.stopped() => return Ok::<_, Infallible>(()),
            }
        }
    });
}
