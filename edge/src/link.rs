//! One gRPC stream to each instance of a service, and the many sessions on them.
//!
//! The link never stops reading: each session has a bounded inbox, and a session whose inbox is full is dropped. Where
//! only the newest matters, it takes the place of what has not been read yet. Each session is on the instance that its
//! part belongs to (`switchboard_proto::part`). When a stream breaks, or its instance says that it goes away, its sessions are told to join again,
//! by themselves, at another instance, or when there is one.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::StreamExt as _;
use switchboard_chassis::{
    Clock, Directory, Lifecycle,
    grpc::{Access, Peer, any_peer, remote_peer},
    metrics::{Counter, Gauge, Histogram},
};
use switchboard_proto::{
    part::Part,
    wire::{Answer, Open, Wire},
};
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tokio_tungstenite::tungstenite::Utf8Bytes;
use tokio_util::sync::CancellationToken;

use crate::{
    calls::{self, Tap},
    dialect::VIEWS,
    goodbye::Goodbye,
    metrics::LinkCounts,
};

/// Events that wait for one socket. A socket that lets more wait is reading too slowly.
pub(crate) const SESSION_EVENTS_MAX: usize = 256;
const REDIAL_FIRST: Duration = Duration::from_millis(50);
const REDIAL_MAX: Duration = Duration::from_secs(2);
/// A stream that was there for so long was a good one: if it breaks, the first pause is short again.
const LASTING: Duration = Duration::from_secs(10);
const SPREAD_STEP: Duration = Duration::from_millis(5);
/// Inboxes that are looked at for how much waits in them: the link stands still meanwhile.
const LOOK_AT_MAX: usize = 4_096;
/// Between two measurements of a link.
const PROBE_EVERY: Duration = Duration::from_secs(5);
/// No session has this number.
const NO_SESSION: u64 = 0;
/// Between two looks for sessions that have not ended yet.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// What a session finds in its inbox. When the inbox ends, the session was too slow.
#[derive(Debug)]
pub(crate) enum Delivery<W: Wire> {
    /// The service said something.
    Event(Arc<Told<W>>),
    /// What the service said last waits in [`Inbox::newest`]; it may be newer than what comes after this.
    Newest,
    /// The action of this number was done.
    Answered(u64),
    /// There is a stream again: join again.
    Up,
    /// The stream broke.
    Down,
    /// The edge ends this session.
    End(Goodbye),
}

/// What concerns a stream as a whole.
#[derive(Debug)]
pub(crate) enum Whole<W: Wire> {
    /// There is a stream.
    Up,
    /// An event that names no session.
    Event(W::Event),
}

/// An event, and how it looks to clients. All sessions that get it share one.
#[derive(Debug)]
pub(crate) struct Told<W: Wire> {
    pub(crate) event: W::Event,
    pub(crate) answer: Option<Answer>,
    encoded: [OnceLock<Utf8Bytes>; VIEWS],
}

impl<W: Wire> Told<W> {
    pub(crate) fn new(event: W::Event, answer: Option<Answer>) -> Self {
        Self { event, answer, encoded: [const { OnceLock::new() }; VIEWS] }
    }

    /// The event in one view, if it was encoded before.
    pub(crate) fn encoded(&self, view: usize) -> Option<Utf8Bytes> {
        self.encoded[view].get().cloned()
    }

    /// The event in one view, encoded at the first asking.
    pub(crate) fn encode(&self, view: usize, encode: impl FnOnce() -> Utf8Bytes) -> Utf8Bytes {
        self.encoded[view].get_or_init(encode).clone()
    }
}

type Slot<W> = Arc<Mutex<Option<Arc<Told<W>>>>>;

/// Where a session hears from its link.
#[derive(Debug)]
pub(crate) struct Inbox<W: Wire> {
    // Not tokio's, which takes room for 32 at once: most sessions mostly have none.
    queue: futures_channel::mpsc::Receiver<Delivery<W>>,
    waiting: Arc<AtomicUsize>,
    newest: Option<Slot<W>>,
    tap: Option<Arc<Tap>>,
}

impl<W: Wire> Inbox<W> {
    pub(crate) async fn recv(&mut self) -> Option<Delivery<W>> {
        let delivery = self.queue.next().await?;
        self.taken(&delivery);
        Some(delivery)
    }

    pub(crate) fn try_recv(&mut self) -> Option<Delivery<W>> {
        let delivery = self.queue.try_recv().ok()?;
        self.taken(&delivery);
        Some(delivery)
    }

    fn taken(&self, delivery: &Delivery<W>) {
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        if let Delivery::Event(told) = delivery {
            self.heard(told);
        }
    }

    fn heard(&self, told: &Told<W>) {
        if let Some(tap) = &self.tap {
            tap.heard::<W>(&told.event, told.answer);
        }
    }

    /// Takes what was said last.
    pub(crate) fn newest(&self) -> Option<Arc<Told<W>>> {
        let newest = self.newest.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        self.heard(&newest);
        Some(newest)
    }
}

struct Place<W: Wire> {
    queue: futures_channel::mpsc::Sender<Delivery<W>>,
    /// Deliveries in the queue.
    waiting: Arc<AtomicUsize>,
    newest: Option<Slot<W>>,
    /// What decides to which instance it belongs.
    part: Part,
    /// The instance that it is on, if it is on one.
    at: Option<u64>,
}

impl<W: Wire> Place<W> {
    /// False when the queue is full, or the session gone.
    fn push(&mut self, delivery: Delivery<W>) -> bool {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let is_in = self.queue.try_send(delivery).is_ok();
        if !is_in {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
        }
        is_in
    }

    /// False when the session is too slow.
    fn deliver(&mut self, told: &Arc<Told<W>>, is_conflated: bool, conflated: &Counter) -> bool {
        let Some(newest) = self.newest.as_ref().filter(|_| is_conflated) else {
            return self.push(Delivery::Event(told.clone()));
        };
        let before = newest.lock().unwrap_or_else(PoisonError::into_inner).replace(told.clone());
        if before.is_some() {
            conflated.inc();
        }
        // What was not taken yet has been announced already.
        before.is_some() || self.push(Delivery::Newest)
    }
}

/// A stream, and what this edge needs to know of it.
pub(crate) trait Carried: Wire {
    /// Whether of such events a session needs only the newest.
    fn is_conflated(_event: &Self::Event) -> bool {
        false
    }
    /// Whether there are such events.
    const CONFLATES: bool = false;
}

/// The streams to all instances of a service. Cheap to clone.
pub(crate) struct Link<W: Wire> {
    state: Arc<Mutex<State<W>>>,
    is_up: watch::Receiver<bool>,
}

impl<W: Wire> Clone for Link<W> {
    fn clone(&self) -> Self {
        Self { state: self.state.clone(), is_up: self.is_up.clone() }
    }
}

struct State<W: Wire> {
    /// Those to which there is a stream.
    instances: Vec<Instance<W>>,
    sessions: HashMap<u64, Place<W>>,
    last_session: u64,
    last_instance: u64,
    counts: LinkCounts,
}

struct Instance<W: Wire> {
    id: u64,
    /// The same for all edges, so that they make the same choice.
    url: String,
    /// Unbounded, because bounded by construction: each session has a window of unanswered actions.
    requests: mpsc::UnboundedSender<W::Request>,
    /// It said that it goes away.
    is_leaving: bool,
}

impl<W: Wire> State<W> {
    fn new() -> Self {
        let counts = LinkCounts::default();
        Self { instances: Vec::new(), sessions: HashMap::new(), last_session: 0, last_instance: 0, counts }
    }

    /// The instance that a part belongs to: the one with the highest hash of both (rendezvous hashing, Thaler and
    /// Ravishankar 1996), so that one that comes or goes moves only its own share.
    fn choose(&self, part: Part) -> Option<u64> {
        let weight = |instance: &&Instance<W>| {
            let mut hasher = DefaultHasher::new();
            (part, &instance.url).hash(&mut hasher);
            (!instance.is_leaving, hasher.finish())
        };
        self.instances.iter().max_by_key(weight).map(|instance| instance.id)
    }

    /// Counts what is there.
    fn look(&self) {
        let gauge = |of: &Gauge, count: usize| _ = of.set(i64::try_from(count).unwrap_or(i64::MAX));
        gauge(&self.counts.streams, self.instances.len());
        gauge(&self.counts.sessions, self.sessions.len());
        let waiting = |place: &Place<W>| place.waiting.load(Ordering::Relaxed);
        gauge(&self.counts.inbox_max, self.sessions.values().take(LOOK_AT_MAX).map(waiting).max().unwrap_or(0));
    }

    fn instance(&self, id: Option<u64>) -> Option<&Instance<W>> {
        self.instances.iter().find(|instance| Some(instance.id) == id)
    }

    fn ask(&self, session: u64, at: Option<u64>, request: u64, action: W::Action) -> Result<(), IsDown> {
        self.send(at, W::request(session, request, action))
    }

    fn send(&self, at: Option<u64>, request: W::Request) -> Result<(), IsDown> {
        let instance = self.instance(at).ok_or(IsDown)?;
        self.counts.sent.inc();
        instance.requests.send(request).map_err(|_| IsDown)
    }

    /// Brings sessions to the instances that they belong to: those of one that is gone, and those of which there is a
    /// better one now.
    fn settle(&mut self) {
        let mut sessions = std::mem::take(&mut self.sessions);
        sessions.retain(|session, place| {
            let best = self.choose(place.part);
            if best == place.at {
                return true;
            }
            let was_linked = place.at.is_some();
            // If it is gone, there is nothing to leave.
            let _ = self.ask(*session, place.at, 0, W::leave(best.is_some()));
            place.at = best;
            (!was_linked || place.push(Delivery::Down)) && (best.is_none() || place.push(Delivery::Up))
        });
        self.sessions = sessions;
    }
}

/// There is no stream just now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IsDown;

/// Where a service is.
#[derive(Clone)]
pub enum Upstream {
    /// In this process.
    Here(Peer),
    /// In others, which let those in who have the access.
    There(Directory, Access),
}

impl Upstream {
    /// For unary calls, which any instance answers.
    #[must_use]
    pub fn peer(&self) -> Peer {
        match self {
            Self::Here(peer) => peer.clone(),
            Self::There(directory, access) => any_peer(directory.clone(), access),
        }
    }
}

/// Makes a client of what reaches an instance.
type Connect<C> = fn(Peer) -> C;

impl<W: Carried> Link<W> {
    /// Dials all instances, and keeps dialling until the process stops. What concerns a whole stream goes to `whole`, in
    /// order with what goes to its sessions.
    pub(crate) fn start<C: Open<W>>(
        upstream: Upstream,
        connect: Connect<C>,
        clock: Clock,
        lifecycle: &Lifecycle,
        whole: impl Fn(Whole<W>) + Send + Sync + 'static,
    ) -> Self {
        let counts = LinkCounts::new(lifecycle.metrics(), W::NAME);
        let state = Arc::new(Mutex::new(State { counts: counts.clone(), ..State::new() }));
        let (up, is_up) = watch::channel(false);
        let keeper = Keeper { clock, state: state.clone(), up: Arc::new(up), whole: Arc::new(whole), counts };
        let seen = state.clone();
        lifecycle.metrics().sample(move || lock(&seen).look());
        lifecycle.spawn_essential(W::NAME, keeper.keep_all(upstream, connect, lifecycle.clone()));
        Self { state, is_up }
    }

    /// A new session, which has not joined anything. Sessions of the same part are on the same instance, while that is
    /// there.
    pub(crate) fn session(&self, part: Part) -> (SessionHandle<W>, Inbox<W>) {
        let (sender, queue) = futures_channel::mpsc::channel(SESSION_EVENTS_MAX);
        let newest = W::CONFLATES.then(Slot::default);
        let mut state = lock(&self.state);
        state.last_session += 1;
        let session = state.last_session;
        let at = state.choose(part);
        let waiting = Arc::<AtomicUsize>::default();
        let place = Place { queue: sender, waiting: waiting.clone(), newest: newest.clone(), part, at };
        state.sessions.insert(session, place);
        let tap = calls::of_session(session);
        (SessionHandle { state: self.state.clone(), session, tap: tap.clone() }, Inbox { queue, waiting, newest, tap })
    }

    /// How much waits for a session to take it.
    pub(crate) fn queued(&self, session: u64) -> usize {
        let state = lock(&self.state);
        state.sessions.get(&session).map_or(0, |place| place.waiting.load(Ordering::Relaxed))
    }

    /// Whether there is a stream just now.
    pub(crate) fn is_up(&self) -> bool {
        *self.is_up.borrow()
    }

    /// Completes when there is a stream.
    pub(crate) async fn up(&self) {
        // The keeper lives as long as the process.
        let _ = self.is_up.clone().wait_for(|up| *up).await;
    }

    /// Ends all sessions, spread over a time, and then those that were missed or came meanwhile.
    pub(crate) async fn end_all(&self, goodbye: Goodbye, over: Duration) {
        let mut over = over;
        loop {
            let sessions: Vec<u64> = lock(&self.state).sessions.keys().copied().collect();
            if sessions.is_empty() {
                return;
            }
            let pause = over.checked_div(u32::try_from(sessions.len()).unwrap_or(u32::MAX)).unwrap_or_default();
            // Sleeps are whole milliseconds: many sessions end together after each.
            let mut ahead = Duration::ZERO;
            for session in sessions {
                if let Some(place) = lock(&self.state).sessions.get_mut(&session) {
                    // An inbox that is full will be looked at again.
                    let _ = place.push(Delivery::End(goodbye));
                }
                ahead += pause;
                if ahead >= SPREAD_STEP {
                    tokio::time::sleep(std::mem::take(&mut ahead)).await;
                }
            }
            over = Duration::ZERO;
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }
}

/// A session's place on the link. Dropping it leaves.
pub(crate) struct SessionHandle<W: Wire> {
    state: Arc<Mutex<State<W>>>,
    session: u64,
    tap: Option<Arc<Tap>>,
}

impl<W: Wire> SessionHandle<W> {
    /// The session's number on its link.
    pub(crate) fn number(&self) -> u64 {
        self.session
    }

    /// Asks the service, as a part of a trace if there is a `traceparent`. Never waits.
    pub(crate) fn ask(&self, request: u64, action: W::Action, traceparent: String) -> Result<(), IsDown> {
        let mut request = W::request(self.session, request, action);
        *W::traceparent(&mut request) = traceparent;
        self.asks(&request);
        let state = lock(&self.state);
        let at = state.sessions.get(&self.session).and_then(|place| place.at);
        state.send(at, request)
    }

    fn asks(&self, request: &W::Request) {
        if let Some(tap) = &self.tap {
            tap.asked::<W>(request);
        }
    }

    /// The number of this session's action that an event answers, if it does.
    pub(crate) fn answered(&self, told: &Told<W>) -> Option<u64> {
        told.answer.filter(|answer| answer.session == self.session).map(|answer| answer.request)
    }
}

impl<W: Wire> Drop for SessionHandle<W> {
    fn drop(&mut self) {
        let leave = W::request(self.session, 0, W::leave(false));
        self.asks(&leave);
        let mut state = lock(&self.state);
        let at = state.sessions.remove(&self.session).and_then(|place| place.at);
        // Without a stream there is nothing to leave.
        let _ = state.send(at, leave);
    }
}

struct Keeper<W: Wire> {
    clock: Clock,
    state: Arc<Mutex<State<W>>>,
    up: Arc<watch::Sender<bool>>,
    whole: Arc<dyn Fn(Whole<W>) + Send + Sync>,
    counts: LinkCounts,
}

impl<W: Wire> Clone for Keeper<W> {
    fn clone(&self) -> Self {
        let Self { clock, state, up, whole, counts } = self;
        let (clock, state, up, whole) = (clock.clone(), state.clone(), up.clone(), whole.clone());
        Self { clock, state, up, whole, counts: counts.clone() }
    }
}

impl<W: Carried> Keeper<W> {
    /// Keeps a stream to each instance that there is.
    async fn keep_all<C: Open<W>>(
        self,
        upstream: Upstream,
        connect: Connect<C>,
        lifecycle: Lifecycle,
    ) -> Result<(), std::convert::Infallible> {
        let (mut directory, access) = match upstream {
            Upstream::Here(peer) => {
                self.keep(connect(peer), "here".to_owned(), lifecycle).await;
                return Ok(());
            }
            Upstream::There(directory, access) => (directory, access),
        };
        let mut kept: HashMap<String, CancellationToken> = HashMap::new();
        let mut urls = directory.now();
        loop {
            kept.retain(|url, gone| {
                let stays = urls.contains(url);
                if !stays {
                    gone.cancel();
                }
                stays
            });
            for url in urls {
                if kept.contains_key(&url) {
                    continue;
                }
                match remote_peer(&url, &access) {
                    Ok(peer) => {
                        let gone = CancellationToken::new();
                        let (keeper, instance, ending) = (self.clone(), url.clone(), lifecycle.clone());
                        let until = gone.clone();
                        // The soft end does not wait for it: sessions that end need their stream to the last.
                        tokio::spawn(async move {
                            tokio::select! {
                                () = keeper.keep(connect(peer), instance.clone(), ending) => {}
                                () = until.cancelled() => keeper.lost(&instance),
                            }
                        });
                        kept.insert(url, gone);
                    }
                    Err(error) => tracing::error!(service = W::NAME, url, %error, "not the URL of a service"),
                }
            }
            tokio::select! {
                now = directory.changed() => urls = now,
                () = lifecycle.stopped() => return Ok(()),
            }
        }
    }

    /// Keeps a stream to one instance until the process stops.
    async fn keep<C: Open<W>>(&self, mut client: C, url: String, lifecycle: Lifecycle) {
        let service = W::NAME;
        let mut redial = Redial::default();
        loop {
            let (requests, outgoing) = mpsc::unbounded_channel();
            let end = tokio::select! {
                dialled = client.open(UnboundedReceiverStream::new(outgoing)) => match dialled {
                    Ok(stream) => {
                        let since = Instant::now();
                        match redial.is_up_news() {
                            true => tracing::info!(service, url, "the link is up"),
                            false => tracing::debug!(service, url, "the link is up"),
                        }
                        self.counts.dialled.inc();
                        let probe = Probe::new(requests.clone(), self.counts.round_trip.clone());
                        let id = self.found(url.clone(), requests);
                        let why = tokio::select! {
                            never = probe.run::<W>() => match never {},
                            why = self.read(id, stream.into_inner(), &probe) => why,
                            () = lifecycle.stopped() => return,
                        };
                        self.counts.lost.inc();
                        self.lost(&url);
                        let end = if since.elapsed() >= LASTING { End::Lasting } else { End::Brief };
                        match redial.is_end_news(end) {
                            true => tracing::warn!(service, url, end = why, "the link broke"),
                            false => tracing::debug!(service, url, end = why, "the link broke"),
                        }
                        end
                    }
                    Err(status) => {
                        let (code, message) = (status.code(), status.message());
                        match redial.is_end_news(End::NoLink) {
                            true => tracing::warn!(service, url, ?code, message, "no link"),
                            false => tracing::debug!(service, url, ?code, message, "no link"),
                        }
                        self.counts.not_dialled.inc();
                        End::NoLink
                    }
                },
                () = lifecycle.stopped() => return,
            };
            let pause = self.clock.jittered(redial.pause_after(end));
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = lifecycle.stopped() => return,
            }
        }
    }

    /// There is a stream to an instance: its share of the sessions moves there.
    fn found(&self, url: String, requests: mpsc::UnboundedSender<W::Request>) -> u64 {
        (self.whole)(Whole::Up);
        let mut state = lock(&self.state);
        state.last_instance += 1;
        let id = state.last_instance;
        state.instances.push(Instance { id, url, requests, is_leaving: false });
        state.settle();
        self.up.send_replace(true);
        id
    }

    /// There is none any more: its sessions move to others, or wait.
    fn lost(&self, url: &str) {
        let mut state = lock(&self.state);
        state.instances.retain(|instance| instance.url != url);
        state.settle();
        self.up.send_replace(!state.instances.is_empty());
    }

    /// An instance goes away soon: its sessions move to others at once, if there are any.
    fn leaves(&self, id: u64) {
        let mut state = lock(&self.state);
        if let Some(instance) = state.instances.iter_mut().find(|instance| instance.id == id) {
            tracing::info!(service = W::NAME, url = instance.url, "the instance is leaving");
            instance.is_leaving = true;
            state.settle();
        }
    }

    async fn read(&self, id: u64, mut stream: tonic::Streaming<W::Response>, probe: &Probe<W::Request>) -> String {
        loop {
            match stream.message().await {
                Ok(Some(frame)) => {
                    self.counts.received.inc();
                    match W::split_response(frame) {
                        (_, _, Some(answer)) if answer.session == NO_SESSION => probe.answered(answer.request),
                        (_, Some(event), _) if W::is_go_away(&event) => self.leaves(id),
                        (sessions, Some(event), answer) => self.deliver(id, &sessions, event, answer),
                        // An event of a later version: whoever asked waits all the same.
                        (_, None, Some(answer)) => self.answered(id, answer),
                        (_, None, None) => {}
                    }
                    // Lets the sessions run between the frames of a busy stream, before their inboxes are full.
                    tokio::task::consume_budget().await;
                }
                Ok(None) => return "the service ended it".to_owned(),
                Err(status) => return status.message().to_owned(),
            }
        }
    }

    fn deliver(&self, id: u64, sessions: &[u64], event: W::Event, answer: Option<Answer>) {
        if sessions.is_empty() {
            (self.whole)(Whole::Event(event));
            return;
        }
        let is_conflated = W::is_conflated(&event);
        let told = Arc::new(Told::new(event, answer));
        let mut state = lock(&self.state);
        for session in sessions {
            // One that has moved hears the same from its new instance.
            let Some(place) = state.sessions.get_mut(session).filter(|place| place.at == Some(id)) else { continue };
            if !place.deliver(&told, is_conflated, &self.counts.conflated) {
                // Its inbox ends, and with it the session.
                state.sessions.remove(session);
                self.counts.slow.inc();
            }
        }
        drop(state);
        // What the newest takes the place of may have been an answer.
        if let Some(answer) = told.answer.filter(|_| is_conflated) {
            self.answered(id, answer);
        }
    }

    fn answered(&self, id: u64, answer: Answer) {
        let mut state = lock(&self.state);
        let Some(place) = state.sessions.get_mut(&answer.session).filter(|place| place.at == Some(id)) else { return };
        if !place.push(Delivery::Answered(answer.request)) {
            state.sessions.remove(&answer.session);
            self.counts.slow.inc();
        }
    }
}

/// What came of dialling an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// There was no stream.
    NoLink,
    /// There was one that broke soon: so does that to an instance which drains, for as long as that takes.
    Brief,
    /// It broke after [`LASTING`] or later.
    Lasting,
}

/// How an instance is dialled again and again: after longer and longer pauses, and with fewer and fewer words.
#[derive(Debug, Default)]
struct Redial {
    /// Ends since the last lasting stream.
    tries: u32,
    last: Option<End>,
    /// How many ends in a row were like the last.
    alike: u32,
}

impl Redial {
    fn pause_after(&mut self, end: End) -> Duration {
        self.alike = if self.last == Some(end) { self.alike.saturating_add(1) } else { 1 };
        self.last = Some(end);
        self.tries = if end == End::Lasting { 0 } else { self.tries.saturating_add(1) };
        let doublings = self.tries.saturating_sub(1).min(16);
        REDIAL_MAX.min(REDIAL_FIRST * (1 << doublings))
    }

    /// Whether an end is worth a word: the first of its kind, the second, the fourth, the eighth...
    fn is_end_news(&self, end: End) -> bool {
        end == End::Lasting || self.last != Some(end) || self.alike.saturating_add(1).is_power_of_two()
    }

    /// Whether a stream is worth a word: always, but when the one before broke soon.
    fn is_up_news(&self) -> bool {
        self.is_end_news(End::Brief)
    }
}

/// Asks now and then for nothing, to see how long an answer takes. No session has the number 0, so a service refuses.
struct Probe<R> {
    requests: mpsc::UnboundedSender<R>,
    asked: Mutex<(u64, Instant)>,
    round_trip: Histogram,
}

impl<R> Probe<R> {
    fn new(requests: mpsc::UnboundedSender<R>, round_trip: Histogram) -> Self {
        Self { requests, asked: Mutex::new((0, Instant::now())), round_trip }
    }

    async fn run<W: Wire<Request = R>>(&self) -> std::convert::Infallible {
        loop {
            let request = {
                let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
                *asked = (asked.0 + 1, Instant::now());
                asked.0
            };
            // If the stream has ended, there will be another, with a probe of its own.
            let _ = self.requests.send(W::request(NO_SESSION, request, W::join(W::Join::default())));
            tokio::time::sleep(PROBE_EVERY).await;
        }
    }

    fn answered(&self, request: u64) {
        let asked = *self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        if asked.0 == request {
            self.round_trip.observe(asked.1.elapsed().as_secs_f64());
        }
    }
}

fn lock<W: Wire>(state: &Mutex<State<W>>) -> MutexGuard<'_, State<W>> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
pub(crate) mod tests {
    use switchboard_proto::{
        location::v1::{Moved, Position, ShareRequest, ShareResponse, share_request::Action, share_response::Event},
        wire,
    };

    use super::*;

    fn keeper() -> Keeper<wire::Location> {
        let state = Arc::new(Mutex::new(State::new()));
        Keeper {
            clock: Clock::System,
            state,
            up: Arc::new(watch::channel(false).0),
            whole: Arc::new(|_| {}),
            counts: LinkCounts::default(),
        }
    }

    fn link(keeper: &Keeper<wire::Location>) -> Link<wire::Location> {
        Link { state: keeper.state.clone(), is_up: keeper.up.subscribe() }
    }

    /// A session without a service.
    pub(crate) fn unlinked() -> (SessionHandle<wire::Location>, Inbox<wire::Location>) {
        link(&keeper()).session(0)
    }

    #[tokio::test]
    async fn a_slow_reader_gets_the_newest_position_and_every_answer() {
        let keeper = keeper();
        let id = keeper.found("http://one:1".to_owned(), mpsc::unbounded_channel().0);
        let (_handle, mut inbox) = link(&keeper).session(7);
        for number in 0..10_000_u32 {
            let position = Some(Position { latitude: f64::from(number), ..Position::default() });
            let event = Event::Moved(Moved { pair: None, position });
            let answer = (number % 1_000 == 7).then_some(Answer { session: 1, request: u64::from(number) });
            keeper.deliver(id, &[1, 2], event, answer);
        }
        assert!(matches!(inbox.try_recv(), Some(Delivery::Newest)));
        let newest = inbox.newest().expect("a position");
        assert!(matches!(&newest.event, Event::Moved(Moved { position: Some(at), .. }) if at.latitude == 9_999.0));
        for answered in (7..10_000).step_by(1_000) {
            assert!(matches!(inbox.try_recv(), Some(Delivery::Answered(request)) if request == answered));
        }
        assert!(inbox.newest().is_none() && inbox.try_recv().is_none(), "no backlog");
    }

    /// What an instance is asked: sessions that leave, and whether they move.
    fn left(requests: &mut mpsc::UnboundedReceiver<ShareRequest>) -> Vec<(u64, bool)> {
        let mut left = Vec::new();
        while let Ok(request) = requests.try_recv() {
            if let Some(Action::Leave(leave)) = request.action {
                left.push((request.session, leave.moves));
            }
        }
        left
    }

    fn heard(inbox: &mut Inbox<wire::Location>) -> Vec<&'static str> {
        let mut heard = Vec::new();
        while let Some(delivery) = inbox.try_recv() {
            heard.push(match delivery {
                Delivery::Up => "up",
                Delivery::Down => "down",
                _ => "something",
            });
        }
        heard
    }

    #[tokio::test]
    async fn an_instance_that_comes_or_goes_moves_only_its_share() {
        const SESSIONS: usize = 300;
        let keeper = keeper();
        let link = link(&keeper);
        let mut sessions: Vec<_> = (0..300).map(|part| link.session(part)).collect();
        let urls = ["http://one:1", "http://two:2", "http://three:3"];
        let mut instances: Vec<_> = Vec::new();
        for (number, url) in urls.into_iter().enumerate() {
            let (sender, receiver) = mpsc::unbounded_channel();
            let id = keeper.found(url.to_owned(), sender);
            instances.push((id, receiver));
            let moved = sessions.iter_mut().filter_map(|(_, inbox)| (!heard(inbox).is_empty()).then_some(())).count();
            let share = SESSIONS / (number + 1);
            assert!(moved > share * 2 / 3 && moved < share * 4 / 3 || number == 0, "{moved} of {share}");
            let gone: usize = instances.iter_mut().map(|(_, requests)| left(requests).len()).sum();
            assert_eq!(gone, if number == 0 { 0 } else { moved });
        }
        let at = |link: &Link<wire::Location>, id: u64| {
            lock(&link.state).sessions.values().filter(|place| place.at == Some(id)).count()
        };
        let shares: Vec<usize> = instances.iter().map(|(id, _)| at(&link, *id)).collect();
        assert_eq!(shares.iter().sum::<usize>(), SESSIONS);

        // One says that it leaves: its sessions go on elsewhere, and say so.
        keeper.leaves(instances[0].0);
        let moved: Vec<_> = left(&mut instances[0].1);
        assert!(moved.len() == shares[0] && moved.iter().all(|(_, moves)| *moves));
        assert_eq!(at(&link, instances[0].0), 0);
        // Another breaks.
        for (_, inbox) in &mut sessions {
            heard(inbox);
        }
        let broken = at(&link, instances[1].0);
        keeper.lost(urls[1]);
        let told: Vec<_> = sessions.iter_mut().map(|(_, inbox)| heard(inbox)).filter(|told| !told.is_empty()).collect();
        assert!(told.len() == broken && told.iter().all(|told| *told == ["down", "up"]), "{told:?}");
        // The last but one that is left is better than none, even if it is leaving.
        keeper.lost(urls[2]);
        assert_eq!(at(&link, instances[0].0), SESSIONS);
        keeper.lost(urls[0]);
        for (_, inbox) in &mut sessions {
            assert_eq!(heard(inbox).last(), Some(&"down"));
        }
        assert!(!link.is_up());
    }

    #[test]
    fn an_instance_is_dialled_less_and_less_often_until_a_stream_lasts() {
        let pauses = |redial: &mut Redial, end, count: usize| -> Vec<u128> {
            (0..count).map(|_| redial.pause_after(end).as_millis()).collect()
        };
        let rising = [50, 100, 200, 400, 800, 1_600, 2_000, 2_000];
        for end in [End::NoLink, End::Brief] {
            assert_eq!(pauses(&mut Redial::default(), end, 8), rising, "{end:?}");
        }
        // A stream that breaks at once is no better than none, and the other way round.
        let mut redial = Redial::default();
        assert_eq!(pauses(&mut redial, End::NoLink, 3), rising[..3]);
        assert_eq!(pauses(&mut redial, End::Brief, 3), rising[3..6]);
        assert_eq!(pauses(&mut redial, End::Lasting, 1), [50]);
        assert_eq!(pauses(&mut redial, End::NoLink, 2), rising[..2]);
        redial.tries = u32::MAX;
        assert_eq!(redial.pause_after(End::NoLink), REDIAL_MAX);
    }

    /// An instance that drains: a stream to it ends at once; or one that is not there.
    #[derive(Clone)]
    struct Leaving {
        is_there: bool,
        dials: Arc<AtomicUsize>,
    }

    struct Nothing;

    impl tonic::codec::Decoder for Nothing {
        type Item = ShareResponse;
        type Error = tonic::Status;

        fn decode(&mut self, _: &mut tonic::codec::DecodeBuf<'_>) -> Result<Option<ShareResponse>, tonic::Status> {
            Ok(None)
        }
    }

    impl Open<wire::Location> for Leaving {
        async fn open(
            &mut self,
            _: impl tokio_stream::Stream<Item = ShareRequest> + Send + 'static,
        ) -> Result<tonic::Response<tonic::Streaming<ShareResponse>>, tonic::Status> {
            self.dials.fetch_add(1, Ordering::Relaxed);
            match self.is_there {
                true => Ok(tonic::Response::new(tonic::Streaming::new_empty(Nothing, tonic::body::Body::empty()))),
                false => Err(tonic::Status::unavailable("nobody is there")),
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn while_one_leaves_it_is_seldom_dialled_and_another_serves() {
        const DRAINING: Duration = Duration::from_secs(20);
        for is_there in [true, false] {
            let keeper = keeper();
            let (_handle, mut inbox) = link(&keeper).session(7);
            let other = keeper.found("http://two:2".to_owned(), mpsc::unbounded_channel().0);
            let leaving = Leaving { is_there, dials: Arc::default() };
            let dials = leaving.dials.clone();
            let lifecycle = Lifecycle::new();
            let keeping = keeper.keep(leaving, "http://one:1".to_owned(), lifecycle);
            assert!(tokio::time::timeout(DRAINING, keeping).await.is_err(), "it is kept until the end");
            // 50, 100, 200, 400, 800, 1600 ms, and 2 s from then on; or half of each.
            let dials = dials.load(Ordering::Relaxed);
            assert!((14..=25).contains(&dials), "{dials}");
            assert_eq!(lock(&keeper.state).sessions.values().next().and_then(|place| place.at), Some(other));
            assert_eq!(heard(&mut inbox).last(), Some(&"up"));
        }
    }

    #[test]
    fn what_happens_again_and_again_is_told_less_and_less_often() {
        let mut redial = Redial::default();
        let mut told = Vec::new();
        for n in 1..=1_000 {
            assert!(redial.is_up_news(), "after no link, one is news");
            if redial.is_end_news(End::NoLink) {
                told.push(n);
            }
            redial.pause_after(End::NoLink);
        }
        assert_eq!(told, [1, 2, 4, 8, 16, 32, 64, 128, 256, 512]);
        let mut told = 0;
        for _ in 0..100 {
            let is_up_news = redial.is_up_news();
            assert_eq!(is_up_news, redial.is_end_news(End::Brief), "both or neither");
            told += u32::from(is_up_news);
            redial.pause_after(End::Brief);
        }
        assert_eq!(told, 7);
        for _ in 0..3 {
            assert!(redial.is_end_news(End::Lasting));
            redial.pause_after(End::Lasting);
            assert!(redial.is_up_news());
        }
    }

    #[tokio::test]
    async fn what_an_instance_still_says_to_a_session_that_moved_is_not_heard() {
        let keeper = keeper();
        let (handle, mut inbox) = link(&keeper).session(7);
        let one = keeper.found("http://one:1".to_owned(), mpsc::unbounded_channel().0);
        keeper.leaves(one);
        let two = keeper.found("http://two:2".to_owned(), mpsc::unbounded_channel().0);
        assert_eq!(heard(&mut inbox), ["up", "down", "up"]);
        for (id, is_heard) in [(one, false), (two, true)] {
            keeper.deliver(id, &[handle.session], Event::GoAway(Default::default()), None);
            assert_eq!(!heard(&mut inbox).is_empty(), is_heard);
        }
    }
}
