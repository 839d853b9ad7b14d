//! Wakes watchers of the feed when something was stored, here or by another instance. It may be missed: watchers look by
//! themselves now and then.

use std::{convert::Infallible, time::Duration};

use bytes::Bytes;
use switchboard_bus::{Bus, Part, Parts, Subscription, Wanted};
use switchboard_chassis::Lifecycle;
use tokio::sync::watch;

const SUBJECT: &str = "chat.feed";
/// Only instances that have watchers hear it.
const PART: Part = 0;
/// Other instances are woken at most so often.
const RING_INTERVAL: Duration = Duration::from_millis(50);

/// Cheap to clone.
#[derive(Clone)]
pub(crate) struct Bell {
    /// Something was stored here.
    ours: watch::Sender<()>,
    /// Something was stored anywhere.
    all: watch::Sender<()>,
    parts: Parts,
}

/// A watcher's ear.
pub(crate) struct Ear {
    news: watch::Receiver<()>,
    _wanted: Wanted,
}

impl Bell {
    /// Hears the other instances from now on.
    pub(crate) async fn start(bus: Bus, lifecycle: &Lifecycle) -> std::io::Result<Self> {
        let mut subscription: Subscription = bus.subscribe(SUBJECT).await?;
        let bell =
            Self { ours: watch::Sender::new(()), all: watch::Sender::new(()), parts: subscription.parts().clone() };
        let (all, stopping) = (bell.all.clone(), lifecycle.clone());
        // While the process drains, the bus and the service go before these two do; else it is a failure to end.
        lifecycle.spawn_essential("chat feed's doorbell", async move {
            loop {
                tokio::select! {
                    heard = subscription.next() => if heard.is_none() {
                        return Ok::<_, Infallible>(());
                    },
                    () = stopping.stopped() => return Ok(()),
                }
                all.send_replace(());
            }
        });
        let (mut ours, stopping) = (bell.ours.subscribe(), lifecycle.clone());
        lifecycle.spawn_essential("chat feed's ringer", async move {
            loop {
                tokio::select! {
                    changed = ours.changed() => if changed.is_err() {
                        return Ok::<_, Infallible>(());
                    },
                    () = stopping.stopped() => return Ok(()),
                }
                bus.publish((SUBJECT, PART), || Bytes::from_static(b"1"));
                tokio::time::sleep(RING_INTERVAL).await;
            }
        });
        Ok(bell)
    }

    /// Something was stored.
    pub(crate) fn ring(&self) {
        self.ours.send_replace(());
        self.all.send_replace(());
    }

    pub(crate) fn ear(&self) -> Ear {
        Ear { news: self.all.subscribe(), _wanted: self.parts.want(PART) }
    }
}

impl Ear {
    /// Forgets what was rung up to now.
    pub(crate) fn clear(&mut self) {
        self.news.mark_unchanged();
    }

    /// Waits for the next ring.
    pub(crate) async fn rung(&mut self) {
        if self.news.changed().await.is_err() {
            // The end of the process.
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_rings_may_leave_before_the_end() -> anyhow::Result<()> {
        let lifecycle = Lifecycle::new();
        let bell = Bell::start(Bus::local(), &lifecycle).await?;
        lifecycle.drain();
        drop(bell);
        // The ringer notices it before it is told to stop.
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert_eq!(lifecycle.finish(Duration::ZERO).await, Ok(()));
        Ok(())
    }
}
