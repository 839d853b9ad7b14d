//! One caller's stream: its sessions, and what they do.

use std::{
    collections::{HashMap, hash_map::Entry},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use futures_util::{
    FutureExt as _, StreamExt as _,
    future::{BoxFuture, FusedFuture as _},
    stream::FuturesUnordered,
};
use switchboard_chassis::{
    Lifecycle,
    metrics::Gauge,
    traces::{self, Traces},
};
use switchboard_proto::wire::{Kind, Misuse, Wire};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use crate::{Asker, Frame, Link, link::Traced, metrics::StreamCounts};

/// Actions of a session that wait for its join.
const EARLY_ACTIONS_MAX: usize = 64;
/// Actions of a stream that wait, for the database or whatever it is.
pub const PENDING_MAX: usize = 16_384;
/// How long an ended stream waits for the answers to what it asked.
const LAST_ANSWERS_TIMEOUT: Duration = Duration::from_secs(10);

/// What the sessions of a service's streams do. Cheap to clone.
pub trait Rooms: Clone + Send + Sync + 'static {
    /// The service's stream.
    type Wire: Wire;
    /// A session that is in.
    type Admitted: Send + 'static;

    /// Lets a session in and tells it so; `None` when it was refused, and told so.
    fn join(
        &self,
        asker: Asker<Self::Wire>,
        join: <Self::Wire as Wire>::Join,
    ) -> impl Future<Output = Option<Self::Admitted>> + Send;

    /// Does at once what needs no waiting, and gives back the rest; `pending` such rests of this stream wait already,
    /// and beyond [`PENDING_MAX`] it must not be more. Every asker is answered once.
    fn act(
        &self,
        asker: Asker<Self::Wire>,
        admitted: &Self::Admitted,
        action: <Self::Wire as Wire>::Action,
        pending: usize,
    ) -> Option<BoxFuture<'static, ()>>;

    /// Lets a session go; when it `moves`, it goes on at another instance, and nobody shall be told that it left.
    fn leave(&self, link: &Link<Self::Wire>, session: u64, admitted: &Self::Admitted, moves: bool);
}

/// The response side of a stream.
pub type Stream<W> = ReceiverStream<Frame<W>>;

/// Serves a stream until it ends: gives back its response side.
pub fn open<R: Rooms>(
    rooms: R,
    requests: Streaming<<R::Wire as Wire>::Request>,
    lifecycle: Lifecycle,
) -> Stream<R::Wire> {
    let counts = Arc::new(StreamCounts::new(lifecycle.metrics(), R::Wire::NAME));
    let (link, frames) = Link::new(counts.clone());
    watch(link.depth(), counts.queue.clone(), &lifecycle);
    tokio::spawn(serve(rooms, requests, link, counts, lifecycle));
    ReceiverStream::new(frames)
}

/// Adds what waits on a stream to what waits on all, while it is there.
fn watch(depth: impl Fn() -> Option<usize> + Send + Sync + 'static, queue: Gauge, lifecycle: &Lifecycle) {
    let before = AtomicI64::new(0);
    lifecycle.metrics().sample_while(move || {
        let depth = depth();
        let now = depth.map_or(0, |depth| i64::try_from(depth).unwrap_or(i64::MAX));
        queue.inc_by(now - before.swap(now, Ordering::Relaxed));
        depth.is_some()
    });
}

enum Session<R: Rooms> {
    /// What it did meanwhile waits. The number tells this join from another of the same session.
    Joining(u64, Vec<Early<R>>),
    In(R::Admitted),
}

/// A request's number, and what is to be done.
type Early<R> = (u64, <<R as Rooms>::Wire as Wire>::Action, Traced);

enum Done<R: Rooms> {
    Joined { session: u64, join: u64, admitted: Option<R::Admitted> },
    Told,
}

async fn serve<R: Rooms>(
    rooms: R,
    mut requests: Streaming<<R::Wire as Wire>::Request>,
    link: Link<R::Wire>,
    counts: Arc<StreamCounts>,
    lifecycle: Lifecycle,
) {
    counts.streams.inc();
    let mut present = 0;
    let mut stream = Sessions {
        rooms: rooms.clone(),
        link: link.clone(),
        sessions: HashMap::new(),
        joins: 0,
        pending: FuturesUnordered::new(),
        traces: lifecycle.traces(),
    };
    let mut reason = "drained";
    let mut drained = pin!(lifecycle.drained().fuse());
    // An instance that drains ends its streams when their sessions have gone to others.
    while !(drained.is_terminated() && stream.sessions.is_empty()) {
        tokio::select! {
            request = requests.message() => match request {
                Ok(Some(mut request)) => {
                    counts.received.inc();
                    let traceparent = std::mem::take(R::Wire::traceparent(&mut request));
                    let (session, number, action) = R::Wire::split_request(request);
                    let traced = stream.traced(&traceparent, action.as_ref());
                    stream.act((session, number, action), traced);
                }
                // Half-closed, cancelled and dead look alike here: the sessions leave in each case.
                Ok(None) | Err(_) => {
                    reason = "caller";
                    break;
                }
            },
            Some(done) = stream.pending.next() => stream.done(done),
            () = link.overflown() => {
                tracing::warn!(service = R::Wire::NAME, "a caller stopped reading its stream");
                reason = "overflown";
                break;
            }
            () = &mut drained => link.tell(Vec::new(), R::Wire::go_away(), None),
            () = lifecycle.stopped() => {
                reason = "stopped";
                break;
            }
        }
        let now = i64::try_from(stream.sessions.len()).unwrap_or(i64::MAX);
        if now != present {
            counts.sessions.inc_by(now - std::mem::replace(&mut present, now));
        }
    }
    counts.streams.dec();
    counts.sessions.dec_by(present);
    counts.ended(reason);
    // What was asked is finished: nobody joins after the leave, and who only half-closed hears every answer.
    while let Some(done) = stream.pending.next().await {
        stream.done(done);
    }
    if tokio::time::timeout(LAST_ANSWERS_TIMEOUT, link.all_answered()).await.is_err() {
        tracing::warn!(service = R::Wire::NAME, "a stream ended with unanswered actions");
    }
    for (session, state) in stream.sessions {
        if let Session::In(admitted) = state {
            rooms.leave(&link, session, &admitted, false);
        }
    }
}

struct Sessions<R: Rooms> {
    rooms: R,
    link: Link<R::Wire>,
    sessions: HashMap<u64, Session<R>>,
    joins: u64,
    pending: FuturesUnordered<BoxFuture<'static, Done<R>>>,
    traces: Traces,
}

impl<R: Rooms> Sessions<R> {
    /// The caller's trace goes on here, if the action is in one.
    fn traced(&self, traceparent: &str, action: Option<&<R::Wire as Wire>::Action>) -> Traced {
        let name = || format!("{} {}", R::Wire::NAME, action.map_or("nothing", R::Wire::name));
        let span = self.traces.continued(traceparent, name);
        span.is_recorded().then(|| Arc::new(span))
    }

    fn act(&mut self, (session, request, action): (u64, u64, Option<<R::Wire as Wire>::Action>), traced: Traced) {
        let asker = self.link.asker(session, request, traced.clone());
        let refuse = |misuse| asker.tell(R::Wire::misused(misuse));
        let Some(action) = action else { return refuse(Misuse::NoAction) };
        match (R::Wire::kind(action), self.sessions.entry(session)) {
            (Kind::Join(_), Entry::Occupied(_)) => refuse(Misuse::AlreadyJoined),
            (Kind::Join(_), _) if session == 0 => refuse(Misuse::NoSession),
            (Kind::Join(_), _) if self.pending.len() >= PENDING_MAX => refuse(Misuse::Overloaded),
            (Kind::Join(join), Entry::Vacant(place)) => {
                self.joins += 1;
                let number = self.joins;
                place.insert(Session::Joining(number, Vec::new()));
                let rooms = self.rooms.clone();
                let context = asker.context();
                let joining =
                    async move { Done::Joined { session, join: number, admitted: rooms.join(asker, join).await } };
                self.pending.push(boxed(context, joining));
            }
            (Kind::Leave { moves }, Entry::Occupied(state)) => {
                // One that is still joining leaves when it is in: see `done`.
                if let Session::In(admitted) = state.get() {
                    self.rooms.leave(&self.link, session, admitted, moves);
                }
                state.remove();
            }
            (Kind::Leave { .. }, Entry::Vacant(_)) => {}
            (Kind::Other(_), Entry::Vacant(_)) => refuse(Misuse::NotJoined),
            (Kind::Other(action), Entry::Occupied(mut state)) => match state.get_mut() {
                Session::Joining(_, early) if early.len() < EARLY_ACTIONS_MAX => early.push((request, action, traced)),
                Session::Joining(..) => refuse(Misuse::Overloaded),
                Session::In(admitted) => {
                    let (context, waiting) = (asker.context(), self.pending.len());
                    let acted = || self.rooms.act(asker, admitted, action, waiting);
                    if let Some(pending) = traces::enter(context.as_ref(), acted) {
                        self.pending.push(boxed(context, pending.map(|()| Done::Told)));
                    }
                }
            },
        }
    }

    fn done(&mut self, done: Done<R>) {
        let Done::Joined { session, join, admitted } = done else { return };
        let is_awaited = |state: &Session<R>| matches!(state, Session::Joining(number, _) if *number == join);
        let early = match self.sessions.entry(session) {
            Entry::Occupied(state) if is_awaited(state.get()) => match state.remove() {
                Session::Joining(_, early) => Some(early),
                Session::In(_) => None,
            },
            _ => None,
        };
        match (admitted, early) {
            (Some(admitted), Some(early)) => {
                self.sessions.insert(session, Session::In(admitted));
                for (request, action, traced) in early {
                    self.act((session, request, Some(action)), traced);
                }
            }
            // It left before it was in.
            (Some(admitted), None) => self.rooms.leave(&self.link, session, &admitted, false),
            (None, early) => {
                for (request, _, traced) in early.into_iter().flatten() {
                    self.link.asker(session, request, traced).tell(R::Wire::misused(Misuse::NotJoined));
                }
            }
        }
    }
}

/// What waits, within its trace if it is in one.
fn boxed<R: Rooms>(
    context: Option<traces::Context>,
    waiting: impl Future<Output = Done<R>> + Send + 'static,
) -> BoxFuture<'static, Done<R>> {
    match context {
        None => waiting.boxed(),
        context => traces::scope(context, waiting).boxed(),
    }
}
