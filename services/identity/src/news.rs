//! Tells edges, and the other instances, of whom credentials ended before their time.

use std::sync::Arc;

use prost::Message as _;
use switchboard_bus::{Bus, Heard};
use switchboard_chassis::Lifecycle;
use switchboard_proto::identity::v1::{Everybody, WatchRevocationsResponse, watch_revocations_response::Subject};
use tokio::{
    sync::broadcast,
    time::{Duration, Instant, sleep_until},
};

const SUBJECT: &str = "identity.revocations";
/// News that wait for a slow watcher, before it must check everybody.
const NEWS_MAX: usize = 1_024;
/// Everybody is checked at most so often because news may have been missed: edges may have very many.
const EVERYBODY_EVERY: Duration = Duration::from_secs(4);

/// Where news go and come from. Cheap to clone.
#[derive(Clone)]
pub(crate) struct News {
    bus: Arc<Bus>,
    watchers: broadcast::Sender<Subject>,
}

impl News {
    /// Hears the other instances from now on.
    pub(crate) async fn start(bus: Bus, lifecycle: &Lifecycle) -> std::io::Result<Self> {
        let mut subscription = bus.subscribe(SUBJECT).await?;
        let news = Self { bus: Arc::new(bus), watchers: broadcast::Sender::new(NEWS_MAX) };
        let (ours, stopping) = (news.clone(), lifecycle.clone());
        lifecycle.spawn_essential("identity doorbell", async move {
            let (mut due, mut told_at) = (None, None::<Instant>);
            loop {
                let heard = tokio::select! {
                    heard = subscription.next() => heard.ok_or("the bus is gone")?,
                    () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                        (due, told_at) = (None, Some(Instant::now()));
                        ours.tell_here(everybody());
                        continue;
                    }
                    () = stopping.stopped() => return Ok::<_, &'static str>(()),
                };
                match heard {
                    // While the bus is away, it says so again and again.
                    Heard::Missed(_) if due.is_some() => {}
                    Heard::Missed(_) => {
                        let now = Instant::now();
                        due = Some(told_at.map_or(now, |told_at| now.max(told_at + EVERYBODY_EVERY)));
                    }
                    Heard::Payload(payload) => match WatchRevocationsResponse::decode(payload) {
                        Ok(WatchRevocationsResponse { subject }) => ours.tell_here(subject.unwrap_or_else(everybody)),
                        Err(error) => tracing::warn!(%error, "a ring that cannot be read"),
                    },
                }
            }
        });
        Ok(news)
    }

    /// Somebody's credential ended, or may have.
    pub(crate) fn tell(&self, subject: Subject) {
        let news = WatchRevocationsResponse { subject: Some(subject.clone()) };
        self.bus.publish(SUBJECT, || news.encode_to_vec().into());
        self.tell_here(subject);
    }

    fn tell_here(&self, subject: Subject) {
        // Nobody may be watching.
        let _ = self.watchers.send(subject);
    }

    pub(crate) fn watch(&self) -> broadcast::Receiver<Subject> {
        self.watchers.subscribe()
    }
}

/// Whoever has a credential.
pub(crate) fn everybody() -> Subject {
    Subject::Everybody(Everybody {})
}
