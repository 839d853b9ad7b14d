//! The bus over NATS: one connection for all members of a process. Core NATS only.

mod connect;
mod frame;
mod gaps;
mod inbox;
mod listener;
mod outbox;

use std::{
    fmt,
    io::{Error, ErrorKind},
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_nats::{Client, Event, PublishErrorKind, connection::State};
use bytes::Bytes;
use switchboard_chassis::{
    Clock,
    metrics::{Histogram, Metrics},
};
use tokio::{
    sync::Notify,
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, timeout},
};
use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;

pub use self::{connect::ConnectError, frame::HEAD_BYTES};
use self::{
    gaps::BEAT_EVERY,
    inbox::Inbox,
    listener::{Listener, Sender},
    outbox::{Outbox, Outgoing},
};
use crate::{
    BusConfig, Heard, Parts, Subject,
    metrics::{BusCounts, Counts},
};

/// How long the server may take to confirm a subscription.
const CONFIRM_MAX: Duration = Duration::from_secs(5);
/// How long the end of the process waits for what was published.
const FINISH_MAX: Duration = Duration::from_secs(1);

/// See [`Bus::connect`](crate::Bus::connect).
#[derive(Clone)]
pub struct NatsBus {
    connection: Arc<Connection>,
    member: Uuid,
}

struct Connection {
    client: Client,
    prefix: String,
    clock: Clock,
    outbox: Arc<Outbox>,
    ears: Arc<Ears>,
    counts: Arc<Counts>,
    /// They end with the connection.
    _tasks: JoinSet<()>,
}

/// The subscriptions of a connection.
#[derive(Default)]
struct Ears(Mutex<Vec<Weak<Ear>>>);

/// What the connection knows of a subscription.
struct Ear {
    id: Uuid,
    name: &'static str,
    parts: Parts,
    inbox: Inbox,
    began_at: Instant,
    round_trip: Option<Histogram>,
}

impl Ear {
    /// Its own time, in microseconds.
    fn now(&self) -> u64 {
        u64::try_from(self.began_at.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// It heard what it said then.
    fn echoed(&self, said_at: u64) {
        if let Some(round_trip) = &self.round_trip {
            round_trip.observe(Duration::from_micros(self.now().saturating_sub(said_at)).as_secs_f64());
        }
    }
}

impl NatsBus {
    pub(crate) async fn connect(config: &BusConfig, clock: &Clock) -> Result<Self, ConnectError> {
        let (ears, nudge) = (Arc::<Ears>::default(), Arc::<Notify>::default());
        let client = {
            let (ears, nudge) = (ears.clone(), nudge.clone());
            connect::connect(config, clock, move |event| heed(&event, &ears, &nudge)).await?
        };
        let (outbox, prefix) = (Arc::<Outbox>::default(), config.subject_prefix.clone());
        let mut tasks = JoinSet::new();
        let counts = Arc::<Counts>::default();
        tasks.spawn(send(outbox.clone(), client.clone(), prefix.clone(), counts.clone()));
        tasks.spawn(keep(outbox.clone(), client.clone(), ears.clone(), nudge));
        let connection = Connection { client, prefix, clock: clock.clone(), outbox, ears, counts, _tasks: tasks };
        Ok(Self { connection: Arc::new(connection), member: clock.new_id() })
    }

    pub(crate) fn observe(&self, metrics: &Metrics) {
        let mut is_first = false;
        self.connection.counts.get_or_init(|| {
            is_first = true;
            BusCounts::new(metrics)
        });
        if !is_first {
            return;
        }
        let (connection, seen) = (Arc::downgrade(&self.connection), AtomicU64::new(0));
        metrics.sample(move || {
            let Some(connection) = connection.upgrade() else { return };
            let Some(counts) = connection.counts.get() else { return };
            counts.connected.set(is_connected(&connection.client).into());
            let (bytes, dropped) = connection.outbox.depth();
            counts.outbox.set(i64::try_from(bytes).unwrap_or(i64::MAX));
            counts.overflow.inc_by(dropped.saturating_sub(seen.swap(dropped, Ordering::Relaxed)));
        });
    }

    pub(crate) fn counts(&self) -> Option<&BusCounts> {
        self.connection.counts.get()
    }

    pub(crate) fn another(&self) -> Self {
        Self { connection: self.connection.clone(), member: self.connection.clock.new_id() }
    }

    pub(crate) fn publish(&self, subject: Subject, payload: impl FnOnce() -> Bytes) {
        let payload = is_connected(&self.connection.client).then(payload);
        if let (None, Some(counts)) = (&payload, self.counts()) {
            counts.disconnected.inc();
        }
        self.connection.outbox.publish(self.member, subject, payload);
    }

    pub(crate) async fn subscribe(&self, name: &'static str) -> std::io::Result<NatsSubscription> {
        let Connection { client, prefix, clock, outbox, ears, .. } = &*self.connection;
        let ear = Arc::new(Ear {
            id: clock.new_id(),
            name,
            parts: Parts::default(),
            inbox: Inbox::default(),
            began_at: Instant::now(),
            round_trip: self.counts().map(|counts| counts.round_trip(name)),
        });
        let sender = Sender { client: client.clone(), prefix: prefix.clone(), outbox: outbox.clone() };
        let mut listener = Listener::new(ear.clone(), self.member, sender);
        let confirmed = timeout(CONFIRM_MAX, async {
            // The connection may break meanwhile: then it says hello again.
            ears.add(&ear);
            listener.begin().await?;
            listener.confirm().await
        });
        confirmed.await.unwrap_or_else(|_| {
            let why = format!("NATS does not confirm the subscription to {prefix}.{name}: is it there, is it allowed?");
            Err(Error::new(ErrorKind::TimedOut, why))
        })?;
        let task = AbortOnDropHandle::new(tokio::spawn(listener.run()));
        Ok(NatsSubscription { ear, _listener: task, _connection: self.connection.clone() })
    }

    pub(crate) async fn finish(&self) {
        let outbox = &self.connection.outbox;
        outbox.goodbye();
        if timeout(FINISH_MAX, outbox.mark()).await.is_err() {
            tracing::warn!("NATS did not take all that was published");
        }
    }
}

impl fmt::Debug for NatsBus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NatsBus").field("member", &self.member).finish_non_exhaustive()
    }
}

/// A [`Subscription`](crate::Subscription) to a [`NatsBus`].
pub(crate) struct NatsSubscription {
    ear: Arc<Ear>,
    _listener: AbortOnDropHandle<()>,
    _connection: Arc<Connection>,
}

impl NatsSubscription {
    pub(crate) fn parts(&self) -> &Parts {
        &self.ear.parts
    }

    pub(crate) async fn next(&mut self) -> Option<Heard> {
        self.ear.inbox.next().await
    }
}

impl fmt::Debug for NatsSubscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NatsSubscription").field("subject", &self.ear.name).finish_non_exhaustive()
    }
}

impl Ears {
    fn add(&self, ear: &Arc<Ear>) {
        let mut ears = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ears.retain(|ear| ear.strong_count() > 0);
        ears.push(Arc::downgrade(ear));
    }

    fn each(&self, tell: impl FnMut(Arc<Ear>)) {
        let ears = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ears.iter().filter_map(Weak::upgrade).for_each(tell);
    }

    fn missed(&self) {
        self.each(|ear| ear.inbox.missed_everything());
    }
}

/// What NATS' client tells of the connection. It may leave something out, so nothing depends on it alone.
fn heed(event: &Event, ears: &Ears, nudge: &Notify) {
    match event {
        Event::Connected => {
            tracing::info!("connected to NATS");
            nudge.notify_one();
        }
        Event::Disconnected => {
            tracing::warn!("the connection to NATS is lost");
            nudge.notify_one();
        }
        Event::SlowConsumer(_) => ears.missed(),
        Event::ServerError(error) => tracing::error!(%error, "the NATS server complains"),
        Event::ClientError(_) | Event::LameDuckMode | Event::Draining | Event::Closed => {
            tracing::debug!(%event, "NATS")
        }
    }
}

/// Sends what waits. What cannot be sent is dropped: its number was taken, so it will be missed.
async fn send(outbox: Arc<Outbox>, client: Client, prefix: String, counts: Arc<Counts>) {
    loop {
        let (subject, frame) = match outbox.next().await {
            Outgoing::Frame(subject, frame) => (subject, frame),
            Outgoing::Mark(done) => {
                // Nobody may wait for it any more, and a connection that is closed has nothing to flush.
                let _ = client.flush().await;
                let _ = done.send(());
                continue;
            }
        };
        if !is_connected(&client) {
            continue;
        }
        let bytes = frame.payload.len();
        match client.publish(subject.after(&prefix), frame.encode()).await {
            Ok(()) => {}
            Err(error) if error.kind() == PublishErrorKind::MaxPayloadExceeded => {
                counts.get().into_iter().for_each(|counts| _ = counts.too_large.inc());
                let bytes_max = client.max_payload().saturating_sub(HEAD_BYTES);
                let subject = subject.after(&prefix);
                tracing::error!(subject, bytes, bytes_max, "a payload is larger than NATS takes: the others miss it");
            }
            Err(error) => tracing::debug!(subject = subject.name, %error, "not published"),
        }
    }
}

/// Says the numbers, and tells the subscriptions what becomes of the connection.
async fn keep(outbox: Arc<Outbox>, client: Client, ears: Arc<Ears>, nudge: Arc<Notify>) {
    let statistics = client.statistics();
    let mut connects = 1;
    let mut beat = interval(BEAT_EVERY);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = beat.tick() => {
                outbox.beat();
                // Without a connection they would wait, and tell of the wait.
                if is_connected(&client) {
                    let asks = |ear: &Arc<Ear>| ear.round_trip.is_some();
                    ears.each(|ear| if asks(&ear) { outbox.echo(ear.id, ear.name.into(), ear.now()) });
                }
            }
            () = nudge.notified() => {}
        }
        if !is_connected(&client) {
            ears.missed();
        }
        let connects_now = statistics.connects.load(Ordering::Relaxed);
        if connects != connects_now {
            connects = connects_now;
            // The client has subscribed again before it sends this. Who hears itself can hear the others.
            ears.each(|ear| outbox.hello(ear.id, ear.name.into()));
        }
    }
}

fn is_connected(client: &Client) -> bool {
    client.connection_state() == State::Connected
}
