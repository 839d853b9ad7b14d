//! How a process ends: first softly, then hard.

use std::{
    fmt,
    future::Future,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{metrics::Metrics, traces::Traces};

/// How long essential tasks have to finish after the hard end.
const LAST_MOMENT: Duration = Duration::from_secs(2);

/// Shared by everything that runs in a process.
///
/// *Draining*: refuse new work, send clients elsewhere, finish what waits. *Stopping*: end now.
#[derive(Clone, Debug, Default)]
pub struct Lifecycle {
    draining: CancellationToken,
    stopping: CancellationToken,
    tasks: TaskTracker,
    essentials: TaskTracker,
    failure: Arc<OnceLock<String>>,
    health: Arc<Health>,
    metrics: Metrics,
    traces: Arc<OnceLock<Traces>>,
}

#[derive(Default)]
struct Health {
    has_started: AtomicBool,
    checks: Mutex<Vec<Box<dyn Fn() -> Readiness + Send + Sync>>>,
}

impl fmt::Debug for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Health").field("has_started", &self.has_started).finish_non_exhaustive()
    }
}

/// Whether a process should get work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// Yes.
    Ready,
    /// Yes, but something is missing.
    Partly(String),
    /// No, and why.
    NotReady(String),
}

impl fmt::Display for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ready => writeln!(f, "ready"),
            Self::Partly(missing) => writeln!(f, "ready, but {missing}"),
            Self::NotReady(why) => writeln!(f, "{why}"),
        }
    }
}

impl Lifecycle {
    /// A process that has just begun.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What this process counts.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Where its traces begin: nowhere, unless [`Lifecycle::trace`] has said so.
    #[must_use]
    pub fn traces(&self) -> Traces {
        self.traces.get().cloned().unwrap_or_default()
    }

    /// Says where its traces begin, before anything else does; the first to say so counts.
    pub fn trace(&self, traces: Traces) {
        let _ = self.traces.set(traces);
    }

    /// Everything runs that shall run.
    pub fn started(&self) {
        self.health.has_started.store(true, Ordering::Relaxed);
    }

    /// Asks this, too, whenever somebody asks whether the process is ready. Quick, and without waiting.
    pub fn check(&self, check: impl Fn() -> Readiness + Send + Sync + 'static) {
        self.health.checks.lock().unwrap_or_else(PoisonError::into_inner).push(Box::new(check));
    }

    /// Whether the process should get work.
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        if self.is_draining() {
            return Readiness::NotReady("draining".to_owned());
        }
        if !self.health.has_started.load(Ordering::Relaxed) {
            return Readiness::NotReady("starting".to_owned());
        }
        let checks = self.health.checks.lock().unwrap_or_else(PoisonError::into_inner);
        checks.iter().map(|check| check()).fold(Readiness::Ready, |so_far, next| match (so_far, next) {
            (worst @ Readiness::NotReady(_), _) | (_, worst @ Readiness::NotReady(_)) => worst,
            (Readiness::Ready, other) | (other, Readiness::Ready) => other,
            (Readiness::Partly(one), Readiness::Partly(other)) => Readiness::Partly(format!("{one}; {other}")),
        })
    }

    /// Begins the soft end.
    pub fn drain(&self) {
        self.draining.cancel();
    }

    /// Ends now.
    pub fn stop(&self) {
        self.draining.cancel();
        self.stopping.cancel();
        self.metrics.forget_samplers();
    }

    /// Whether the soft end has begun.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.draining.is_cancelled()
    }

    /// Completes when the soft end begins.
    pub async fn drained(&self) {
        self.draining.cancelled().await;
    }

    /// Waits, but not beyond the soft end's begin; false then.
    pub async fn rest(&self, pause: Duration) -> bool {
        tokio::select! {
            () = tokio::time::sleep(pause) => true,
            () = self.drained() => false,
        }
    }

    /// Completes when it must end now.
    pub async fn stopped(&self) {
        self.stopping.cancelled().await;
    }

    /// Runs a task that the end of the process waits for.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(task);
    }

    /// Runs a task without which the process is of no use: if it fails, panics, or returns before the end has begun,
    /// the process ends with the reason. It goes on to the hard end, and then has a moment to finish.
    pub fn spawn_essential<E: std::fmt::Display + Send + 'static>(
        &self,
        name: &'static str,
        task: impl Future<Output = Result<(), E>> + Send + 'static,
    ) {
        self.essentials.spawn(self.clone().supervise(name, task));
    }

    /// The same for a task that ends by itself once the soft end has begun: the end waits for it.
    pub fn spawn_server<E: std::fmt::Display + Send + 'static>(
        &self,
        name: &'static str,
        task: impl Future<Output = Result<(), E>> + Send + 'static,
    ) {
        self.tasks.spawn(self.clone().supervise(name, task));
    }

    async fn supervise<E: std::fmt::Display + Send + 'static>(
        self,
        name: &'static str,
        task: impl Future<Output = Result<(), E>> + Send + 'static,
    ) {
        let failure = match tokio::spawn(task).await {
            Ok(Ok(())) if self.is_draining() => return,
            Ok(Ok(())) => format!("{name} ended by itself"),
            Ok(Err(error)) => format!("{name} failed: {error}"),
            Err(panic) => format!("{name} panicked: {panic}"),
        };
        tracing::error!(failure, "essential task");
        let _ = self.failure.set(failure);
        self.stop();
    }

    /// Ends hard at `stopping`, or when `drain_time` after the soft end's begin is over, or when nothing runs any more.
    ///
    /// # Errors
    /// The reason, when an essential task failed.
    pub async fn finish(&self, drain_time: Duration) -> Result<(), String> {
        self.drained().await;
        self.tasks.close();
        tokio::select! {
            () = self.tasks.wait() => {}
            () = self.stopped() => {}
            () = tokio::time::sleep(drain_time) => tracing::warn!("drain time is over"),
        }
        self.stop();
        self.essentials.close();
        if tokio::time::timeout(LAST_MOMENT, self.essentials.wait()).await.is_err() {
            tracing::warn!("something did not stop in time");
        }
        self.traces().finish().await;
        match self.failure.get() {
            Some(failure) => Err(failure.clone()),
            None => Ok(()),
        }
    }

    /// Tells the service manager (systemd, by `NOTIFY_SOCKET`) that the process serves, and later that it drains.
    pub fn tell_service_manager(&self) {
        tell(NotifyState::Ready);
        let lifecycle = self.clone();
        self.spawn(async move {
            lifecycle.drained().await;
            tell(NotifyState::Stopping);
        });
    }

    /// Drains at the first SIGTERM or SIGINT, stops at the second.
    ///
    /// # Errors
    /// When signals cannot be listened for.
    pub fn obey_signals(&self) -> std::io::Result<()> {
        #[expect(clippy::disallowed_methods, reason = "the one place that listens for signals")]
        let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let lifecycle = self.clone();
        tokio::spawn(async move {
            next(&mut terminate, &mut interrupt).await;
            tracing::info!("draining; a second signal ends at once");
            lifecycle.drain();
            next(&mut terminate, &mut interrupt).await;
            lifecycle.stop();
        });
        Ok(())
    }
}

async fn next(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

fn tell(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(false, &[state]) {
        tracing::warn!(%error, "the service manager cannot be told");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(3600);

    #[test]
    fn a_process_is_ready_when_it_has_started_and_everything_says_so() {
        let lifecycle = Lifecycle::new();
        assert_eq!(lifecycle.readiness(), Readiness::NotReady("starting".to_owned()));
        lifecycle.started();
        assert_eq!(lifecycle.readiness(), Readiness::Ready);
        lifecycle.check(|| Readiness::Partly("no link to: presence".to_owned()));
        lifecycle.check(|| Readiness::Ready);
        assert_eq!(lifecycle.readiness().to_string(), "ready, but no link to: presence\n");
        lifecycle.check(|| Readiness::NotReady("no link to: chat".to_owned()));
        lifecycle.check(|| Readiness::Ready);
        assert_eq!(lifecycle.readiness(), Readiness::NotReady("no link to: chat".to_owned()));
        lifecycle.drain();
        assert_eq!(lifecycle.readiness(), Readiness::NotReady("draining".to_owned()));
    }

    #[tokio::test]
    async fn a_task_that_fails_ends_the_process_with_its_reason() {
        let lifecycle = Lifecycle::new();
        lifecycle.spawn_essential("writer", async { Err("disk full") });
        assert_eq!(lifecycle.finish(LONG).await, Err("writer failed: disk full".to_owned()));
    }

    #[tokio::test]
    async fn a_task_that_leaves_early_is_a_failure() {
        let lifecycle = Lifecycle::new();
        lifecycle.spawn_essential("writer", async { Ok::<_, String>(()) });
        assert_eq!(lifecycle.finish(LONG).await, Err("writer ended by itself".to_owned()));
    }

    #[tokio::test]
    async fn the_end_waits_for_tasks_that_finish_their_work() {
        let lifecycle = Lifecycle::new();
        let theirs = lifecycle.clone();
        lifecycle.spawn(async move { theirs.drained().await });
        lifecycle.drain();
        assert_eq!(lifecycle.finish(LONG).await, Ok(()));
    }
}
