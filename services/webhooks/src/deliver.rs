//! Delivers what is due: one task for each endpoint, so that a slow one delays no other.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use switchboard_chassis::{
    Lifecycle,
    clock::micros,
    metrics::{Counter, Counters, Metrics},
};
use tokio::task::JoinSet;

use crate::{
    Outbox,
    client::{Client, Outcome, Signed},
    config::Endpoint,
    outbox::Claimed,
    sign,
};

/// How often is looked for what other instances noted, or what is due again.
const POLL: Duration = Duration::from_secs(1);
/// How long is waited after the database did not answer.
const AFTER_FAILURE: Duration = Duration::from_secs(5);
/// What a claim lasts longer than a try: a process that ended in the middle is replaced after it.
const CLAIM_MARGIN: Duration = Duration::from_secs(5);
const SWEEP_INTERVAL: Duration = Duration::from_secs(3600);
/// Deliveries whose endpoint is not configured wait so long for it: an instance with newer settings may know it.
const ORPHANED_AFTER: Duration = Duration::from_secs(24 * 3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

const TRIES: Counters<2> = Counters::new(
    "switchboard_webhook_tries_total",
    "Tries to tell another system of something: delivered, failed (to be tried again), given_up (a dead letter)",
    &["outbox", "result"],
);

/// What became of tries, over all endpoints of an outbox.
#[derive(Clone)]
pub(crate) struct Tries {
    delivered: Counter,
    failed: Counter,
    given_up: Counter,
}

impl Tries {
    pub(crate) fn new(outbox: &Outbox, metrics: &Metrics) -> Self {
        let of = |result| metrics.counter(&TRIES, [outbox.0.name, result]);
        Self { delivered: of("delivered"), failed: of("failed"), given_up: of("given_up") }
    }
}

/// One endpoint, for its deliveries.
struct Receiver {
    outbox: Outbox,
    tries: Tries,
    endpoint: Endpoint,
    client: Client,
    pauses: Vec<Duration>,
    given_up: AtomicU64,
}

/// Delivers to an endpoint until the process drains; then finishes what is on its way.
pub(crate) fn start(outbox: Outbox, endpoint: Endpoint, client: Client, tries: Tries, lifecycle: &Lifecycle) {
    let pauses = outbox.0.config.pauses().unwrap_or_default();
    let concurrency = usize::try_from(outbox.0.config.concurrency).unwrap_or(1).max(1);
    let lease = micros(outbox.0.config.timeout() + CLAIM_MARGIN);
    let mut rung = outbox.rung();
    let receiver = Arc::new(Receiver { outbox, tries, endpoint, client, pauses, given_up: AtomicU64::new(0) });
    let draining = lifecycle.clone();
    lifecycle.spawn(async move {
        let mut running = JoinSet::new();
        loop {
            rung.mark_unchanged();
            let mut pause = POLL;
            let free = concurrency - running.len();
            if free > 0 {
                let now = receiver.outbox.0.clock.now();
                match receiver.outbox.claim(&receiver.endpoint.name, now, now + lease, free).await {
                    Ok(claimed) => {
                        for claimed in claimed {
                            running.spawn(receiver.clone().deliver(claimed));
                        }
                    }
                    // The database said why in the log.
                    Err(_) => pause = AFTER_FAILURE,
                }
            }
            let is_full = running.len() >= concurrency;
            tokio::select! {
                () = draining.drained() => break,
                _ = running.join_next(), if !running.is_empty() => {}
                _ = rung.changed(), if !is_full => {}
                () = tokio::time::sleep(pause), if !is_full => {}
            }
        }
        while running.join_next().await.is_some() {}
    });
}

/// Forgets old dead letters, now and then.
pub(crate) fn sweep(outbox: Outbox, lifecycle: &Lifecycle) {
    let draining = lifecycle.clone();
    lifecycle.spawn(async move {
        loop {
            let now = outbox.0.clock.now();
            let kept = micros(DAY * outbox.0.config.dead_letter_days);
            // The database said why in the log, if it failed.
            let _ = outbox.sweep(now - kept, now - micros(ORPHANED_AFTER)).await;
            if !draining.rest(outbox.0.clock.jittered(SWEEP_INTERVAL)).await {
                return;
            }
        }
    });
}

impl Receiver {
    async fn deliver(self: Arc<Self>, claimed: Claimed) {
        let now = self.outbox.0.clock.now();
        let timestamp = now / 1_000_000;
        let signatures = sign::signatures(&self.endpoint.keys, &claimed.id, timestamp, &claimed.payload);
        let signed = Signed { id: &claimed.id, timestamp, signatures, body: claimed.payload.clone() };
        let noted = match self.client.send(signed, now).await {
            Outcome::Delivered => {
                self.tries.delivered.inc();
                self.outbox.delivered(&claimed.id, &self.endpoint.name).await
            }
            Outcome::Refused(error) => self.give_up(&claimed, &error).await,
            Outcome::Later(error, after) => {
                let tries = usize::try_from(claimed.attempts).unwrap_or(usize::MAX);
                match self.pauses.get(tries.saturating_sub(1)) {
                    Some(pause) => {
                        self.tries.failed.inc();
                        let pause = self.outbox.0.clock.jittered(*pause).max(after.unwrap_or_default());
                        let again_at = self.outbox.0.clock.now() + micros(pause);
                        tracing::debug!(endpoint = self.endpoint.name, id = claimed.id, error, "webhook not delivered");
                        self.outbox.failed(&claimed, &self.endpoint.name, &error, Some(again_at)).await
                    }
                    None => self.give_up(&claimed, &error).await,
                }
            }
        };
        if noted.is_err() {
            // It is delivered once more when the claim has lapsed.
            tracing::warn!(endpoint = self.endpoint.name, id = claimed.id, "what became of a webhook was not noted");
        }
    }

    async fn give_up(&self, claimed: &Claimed, error: &str) -> switchboard_chassis::db::Result<()> {
        self.tries.given_up.inc();
        self.outbox.failed(claimed, &self.endpoint.name, error, None).await?;
        let dead_letters = self.given_up.fetch_add(1, Ordering::Relaxed) + 1;
        tracing::warn!(
            outbox = self.outbox.0.name,
            endpoint = self.endpoint.name,
            event_type = claimed.event_type,
            id = claimed.id,
            attempts = claimed.attempts,
            error,
            dead_letters,
            "webhook given up"
        );
        Ok(())
    }
}
