//! Removes messages that are old, if that is wanted.

use std::{sync::Arc, time::Duration};

use switchboard_chassis::{Clock, Lifecycle, Micros, db::Result};

use crate::store::Store;

/// The longest pause between two sweeps.
const SWEEP_INTERVAL: Duration = Duration::from_secs(6 * 3600);
/// Between two parts of a sweep, so that others come to write.
const PAUSE: Duration = Duration::from_millis(10);
const DAY: Micros = 24 * 3600 * 1_000_000;

/// Sweeps now and then until the end begins; never when messages are kept for ever.
pub(crate) fn start(store: Arc<Store>, retention_days: u32, clock: Clock, lifecycle: &Lifecycle) {
    if retention_days == 0 {
        return;
    }
    let ending = lifecycle.clone();
    lifecycle.spawn(async move {
        while !ending.is_draining() {
            let before = clock.now().saturating_sub(DAY.saturating_mul(i64::from(retention_days)));
            match sweep(&store, before, &ending).await {
                Ok(0) => {}
                Ok(removed) => tracing::info!(removed, "old messages were removed"),
                // The database said why in the log.
                Err(_) => tracing::warn!("old messages were not all removed; the next sweep tries again"),
            }
            tokio::select! {
                () = tokio::time::sleep(clock.jittered(SWEEP_INTERVAL)) => {}
                () = ending.drained() => {}
            }
        }
    });
}

/// Removes what was written before a time, part by part; says how much went. Ends early when the process does.
async fn sweep(store: &Store, before: Micros, ending: &Lifecycle) -> Result<u64> {
    let (mut removed, mut after) = (0, None);
    while !ending.is_draining() {
        let page = store.with_messages_before(before, after).await?;
        for conversation_id in page.old {
            loop {
                let part = store.forget_before(conversation_id, before).await?;
                removed += part.removed;
                if !part.more || ending.is_draining() {
                    break;
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
        after = page.last;
        if after.is_none() {
            break;
        }
        tokio::time::sleep(PAUSE).await;
    }
    if removed > 0 {
        store.scrub().await?;
    }
    Ok(removed)
}
