//! Removes what is old.

use std::time::Duration;

use switchboard_chassis::{Clock, Lifecycle, Micros, db::Result};

use crate::rooms::Inboxes;

/// The longest pause between two sweeps.
const SWEEP_INTERVAL: Duration = Duration::from_secs(3600);
const DAY: Micros = 24 * 3600 * 1_000_000;

/// Sweeps now and then until the end begins; never when notifications are kept for ever.
pub(crate) fn start(inboxes: Inboxes, retention_days: u32, clock: Clock, lifecycle: &Lifecycle) {
    if retention_days == 0 {
        return;
    }
    let ending = lifecycle.clone();
    lifecycle.spawn(async move {
        while !ending.is_draining() {
            match sweep(&inboxes, retention_days, &clock, &ending).await {
                Ok(0) => {}
                Ok(removed) => tracing::info!(removed, "old notifications were removed"),
                // The database said why in the log.
                Err(_) => tracing::warn!("old notifications were not all removed; the next sweep tries again"),
            }
            ending.rest(clock.jittered(SWEEP_INTERVAL)).await;
        }
    });
}

/// Removes all that is older than `retention_days`, part by part, and tells whose unread count that changed. Says how
/// many went. Ends early when the process does.
pub(crate) async fn sweep(inboxes: &Inboxes, retention_days: u32, clock: &Clock, lifecycle: &Lifecycle) -> Result<u64> {
    let before = clock.now().saturating_sub(DAY.saturating_mul(i64::from(retention_days)));
    let mut removed = 0;
    loop {
        let part = inboxes.store.expire(before).await?;
        removed += part.removed;
        for (user_id, inbox) in part.changed {
            inboxes.hub.changed(&user_id, inbox, None);
        }
        if !part.more || lifecycle.is_draining() {
            return Ok(removed);
        }
    }
}
