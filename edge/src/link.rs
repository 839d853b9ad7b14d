//! One gRPC stream to a service, and the many sessions on it.
//!
//! The link never stops reading: each session has a bounded inbox, and a session whose inbox is full is dropped. Where
//! only the newest matters, it takes the place of what has not been read yet. When the stream breaks, the link dials
//! again and tells its sessions, which join again by themselves.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use switchboard_chassis::{Clock, Lifecycle};
use switchboard_proto::wire::{Answer, Open, Wire};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tokio_tungstenite::tungstenite::Utf8Bytes;

use crate::{dialect::VIEWS, goodbye::Goodbye};

/// Events that wait for one socket. A socket that lets more wait is reading too slowly.
pub(crate) const SESSION_EVENTS_MAX: usize = 256;
const REDIAL_FIRST: Duration = Duration::from_millis(50);
const REDIAL_MAX: Duration = Duration::from_secs(2);
const SPREAD_STEP: Duration = Duration::from_millis(5);
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
    queue: mpsc::Receiver<Delivery<W>>,
    newest: Option<Slot<W>>,
}

impl<W: Wire> Inbox<W> {
    pub(crate) async fn recv(&mut self) -> Option<Delivery<W>> {
        self.queue.recv().await
    }

    pub(crate) fn try_recv(&mut self) -> Option<Delivery<W>> {
        self.queue.try_recv().ok()
    }

    /// Takes what was said last.
    pub(crate) fn newest(&self) -> Option<Arc<Told<W>>> {
        self.newest.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

struct Place<W: Wire> {
    queue: mpsc::Sender<Delivery<W>>,
    newest: Option<Slot<W>>,
}

impl<W: Wire> Place<W> {
    /// False when the session is too slow.
    fn deliver(&self, told: &Arc<Told<W>>, is_conflated: bool) -> bool {
        let Some(newest) = self.newest.as_ref().filter(|_| is_conflated) else {
            return self.queue.try_send(Delivery::Event(told.clone())).is_ok();
        };
        let before = newest.lock().unwrap_or_else(PoisonError::into_inner).replace(told.clone());
        // What was not taken yet has been announced already.
        before.is_some() || self.queue.try_send(Delivery::Newest).is_ok()
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

/// Cheap to clone.
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
    /// Unbounded, because bounded by construction: each session has a window of unanswered actions.
    requests: Option<mpsc::UnboundedSender<W::Request>>,
    sessions: HashMap<u64, Place<W>>,
    last_session: u64,
}

/// There is no stream just now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IsDown;

impl<W: Carried> Link<W> {
    /// Dials, and keeps dialling until the process stops. What concerns the whole stream goes to `whole`, in order with
    /// what goes to the sessions.
    pub(crate) fn start(
        client: impl Open<W>,
        clock: Clock,
        lifecycle: &Lifecycle,
        whole: impl FnMut(Whole<W>) + Send + 'static,
    ) -> Self {
        let state = Arc::new(Mutex::new(State { requests: None, sessions: HashMap::new(), last_session: 0 }));
        let (up, is_up) = watch::channel(false);
        let keeper = Keeper { client, clock, state: state.clone(), up, whole };
        lifecycle.spawn_essential(W::NAME, keeper.keep(lifecycle.clone()));
        Self { state, is_up }
    }

    /// A new session, which has not joined anything.
    pub(crate) fn session(&self) -> (SessionHandle<W>, Inbox<W>) {
        let (sender, queue) = mpsc::channel(SESSION_EVENTS_MAX);
        let newest = W::CONFLATES.then(Slot::default);
        let mut state = lock(&self.state);
        state.last_session += 1;
        let session = state.last_session;
        state.sessions.insert(session, Place { queue: sender, newest: newest.clone() });
        (SessionHandle { state: self.state.clone(), session }, Inbox { queue, newest })
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
            let sessions: Vec<_> = lock(&self.state).sessions.values().map(|place| place.queue.clone()).collect();
            if sessions.is_empty() {
                return;
            }
            let pause = over.checked_div(u32::try_from(sessions.len()).unwrap_or(u32::MAX)).unwrap_or_default();
            // Sleeps are whole milliseconds: many sessions end together after each.
            let mut ahead = Duration::ZERO;
            for session in sessions {
                // An inbox that is full will be looked at again.
                let _ = session.try_send(Delivery::End(goodbye));
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
}

impl<W: Wire> SessionHandle<W> {
    /// Asks the service. Never waits.
    pub(crate) fn ask(&self, request: u64, action: W::Action) -> Result<(), IsDown> {
        match &lock(&self.state).requests {
            Some(requests) => requests.send(W::request(self.session, request, action)).map_err(|_| IsDown),
            None => Err(IsDown),
        }
    }

    /// The number of this session's action that an event answers, if it does.
    pub(crate) fn answered(&self, told: &Told<W>) -> Option<u64> {
        told.answer.filter(|answer| answer.session == self.session).map(|answer| answer.request)
    }
}

impl<W: Wire> Drop for SessionHandle<W> {
    fn drop(&mut self) {
        lock(&self.state).sessions.remove(&self.session);
        // Without a stream there is nothing to leave.
        let _ = self.ask(0, W::leave());
    }
}

struct Keeper<W: Wire, C, F> {
    client: C,
    clock: Clock,
    state: Arc<Mutex<State<W>>>,
    up: watch::Sender<bool>,
    whole: F,
}

impl<W: Carried, C: Open<W>, F: FnMut(Whole<W>) + Send> Keeper<W, C, F> {
    async fn keep(mut self, lifecycle: Lifecycle) -> Result<(), std::convert::Infallible> {
        let service = W::NAME;
        let mut pause = REDIAL_FIRST;
        loop {
            let (requests, outgoing) = mpsc::unbounded_channel();
            tokio::select! {
                dialled = self.client.open(UnboundedReceiverStream::new(outgoing)) => match dialled {
                    Ok(stream) => {
                        tracing::info!(service, "the link is up");
                        pause = REDIAL_FIRST;
                        (self.whole)(Whole::Up);
                        self.set_stream(Some(requests));
                        tokio::select! {
                            end = self.read(stream.into_inner()) => tracing::warn!(service, end, "the link broke"),
                            () = lifecycle.stopped() => return Ok(()),
                        }
                        self.set_stream(None);
                    }
                    Err(status) => {
                        tracing::warn!(service, code = ?status.code(), message = status.message(), "no link");
                    }
                },
                () = lifecycle.stopped() => return Ok(()),
            }
            tokio::time::sleep(self.clock.jittered(pause)).await;
            pause = REDIAL_MAX.min(pause * 2);
        }
    }

    fn set_stream(&self, requests: Option<mpsc::UnboundedSender<W::Request>>) {
        let mut state = lock(&self.state);
        let is_up = requests.is_some();
        state.requests = requests;
        let delivery = || if is_up { Delivery::Up } else { Delivery::Down };
        state.sessions.retain(|_, place| place.queue.try_send(delivery()).is_ok());
        self.up.send_replace(is_up);
    }

    async fn read(&mut self, mut stream: tonic::Streaming<W::Response>) -> String {
        loop {
            match stream.message().await {
                Ok(Some(frame)) => {
                    match W::split_response(frame) {
                        (sessions, Some(event), answer) => self.deliver(&sessions, event, answer),
                        // An event of a later version: whoever asked waits all the same.
                        (_, None, Some(answer)) => self.answered(answer),
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
}

impl<W: Carried, C, F: FnMut(Whole<W>)> Keeper<W, C, F> {
    fn deliver(&mut self, sessions: &[u64], event: W::Event, answer: Option<Answer>) {
        if W::is_go_away(&event) {
            tracing::info!(service = W::NAME, "the service is leaving");
            return;
        }
        if sessions.is_empty() {
            (self.whole)(Whole::Event(event));
            return;
        }
        let is_conflated = W::is_conflated(&event);
        let told = Arc::new(Told::new(event, answer));
        let mut state = lock(&self.state);
        for session in sessions {
            let Some(place) = state.sessions.get(session) else { continue };
            if !place.deliver(&told, is_conflated) {
                // Its inbox ends, and with it the session.
                state.sessions.remove(session);
            }
        }
        drop(state);
        // What the newest takes the place of may have been an answer.
        if let Some(answer) = told.answer.filter(|_| is_conflated) {
            self.answered(answer);
        }
    }

    fn answered(&self, answer: Answer) {
        let mut state = lock(&self.state);
        let Some(place) = state.sessions.get(&answer.session) else { return };
        if place.queue.try_send(Delivery::Answered(answer.request)).is_err() {
            state.sessions.remove(&answer.session);
        }
    }
}

fn lock<W: Wire>(state: &Mutex<State<W>>) -> MutexGuard<'_, State<W>> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
pub(crate) mod tests {
    use switchboard_proto::{
        location::v1::{Moved, Position, share_response::Event},
        wire,
    };

    use super::*;

    fn state() -> Arc<Mutex<State<wire::Location>>> {
        Arc::new(Mutex::new(State { requests: None, sessions: HashMap::new(), last_session: 0 }))
    }

    /// A session without a service.
    pub(crate) fn unlinked() -> (SessionHandle<wire::Location>, Inbox<wire::Location>) {
        let state = state();
        let (queue, receiver) = mpsc::channel(SESSION_EVENTS_MAX);
        let newest = Some(Slot::default());
        lock(&state).sessions.insert(1, Place { queue, newest: newest.clone() });
        (SessionHandle { state, session: 1 }, Inbox { queue: receiver, newest })
    }

    #[tokio::test]
    async fn a_slow_reader_gets_the_newest_position_and_every_answer() {
        let (handle, mut inbox) = unlinked();
        let mut keeper = Keeper {
            client: (),
            clock: Clock::System,
            state: handle.state.clone(),
            up: watch::channel(true).0,
            whole: |_: Whole<wire::Location>| {},
        };
        for number in 0..10_000_u32 {
            let position = Some(Position { latitude: f64::from(number), ..Position::default() });
            let event = Event::Moved(Moved { pair: None, position });
            let answer = (number % 1_000 == 7).then_some(Answer { session: 1, request: u64::from(number) });
            keeper.deliver(&[1, 2], event, answer);
        }
        assert!(matches!(inbox.try_recv(), Some(Delivery::Newest)));
        let newest = inbox.newest().expect("a position");
        assert!(matches!(&newest.event, Event::Moved(Moved { position: Some(at), .. }) if at.latitude == 9_999.0));
        for answered in (7..10_000).step_by(1_000) {
            assert!(matches!(inbox.try_recv(), Some(Delivery::Answered(request)) if request == answered));
        }
        assert!(inbox.newest().is_none() && inbox.try_recv().is_none(), "no backlog");
    }
}
