//! One gRPC stream to the chat service, and the many sessions on it.
//!
//! The link never stops reading: each session has a bounded inbox, and a session whose inbox is full is dropped. When
//! the stream breaks, the link dials again and tells its sessions, which join again by themselves.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use switchboard_chassis::{Clock, Lifecycle, grpc::Peer};
use switchboard_proto::chat::v1::{
    Answer, ConverseRequest, ConverseResponse, Leave, chat_service_client::ChatServiceClient, converse_request::Action,
    converse_response::Event,
};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tokio_tungstenite::tungstenite::Utf8Bytes;

use crate::{
    dialect::{Dialect, VIEWS},
    goodbye::Goodbye,
    people::People,
};

/// Events that wait for one socket. A socket that lets more wait is reading too slowly.
pub(crate) const SESSION_EVENTS_MAX: usize = 256;
const REDIAL_FIRST: Duration = Duration::from_millis(50);
const REDIAL_MAX: Duration = Duration::from_secs(2);
const SPREAD_STEP: Duration = Duration::from_millis(5);
/// Between two looks for sessions that have not ended yet.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// What a session finds in its inbox. When the inbox ends, the session was too slow.
#[derive(Clone, Debug)]
pub(crate) enum Delivery {
    /// The service said something.
    Event(Arc<Told>),
    /// There is a stream again: join again.
    Up,
    /// The stream broke.
    Down,
    /// The edge ends this session.
    End(Goodbye),
}

/// An event, and how it looks to clients. All sessions that get it share one.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) event: Event,
    pub(crate) answer: Option<Answer>,
    encoded: [OnceLock<Utf8Bytes>; VIEWS],
}

impl Told {
    /// The event in a dialect and one of its views, encoded at the first asking. All sessions of a conversation speak
    /// the same dialect.
    pub(crate) async fn encoded(&self, dialect: &dyn Dialect, view: usize, people: &People) -> Utf8Bytes {
        if let Some(encoded) = self.encoded[view].get() {
            return encoded.clone();
        }
        let person = people.of(dialect, &self.event).await;
        self.encoded[view].get_or_init(|| dialect.encode(&self.event, view, &person)).clone()
    }
}

/// Cheap to clone.
#[derive(Clone)]
pub(crate) struct Link {
    state: Arc<Mutex<State>>,
    is_up: watch::Receiver<bool>,
}

struct State {
    /// Unbounded, because bounded by construction: each session has a window of unanswered actions.
    requests: Option<mpsc::UnboundedSender<ConverseRequest>>,
    sessions: HashMap<u64, mpsc::Sender<Delivery>>,
    last_session: u64,
}

/// There is no stream just now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IsDown;

impl Link {
    /// Dials, and keeps dialling until the process stops.
    pub(crate) fn start(client: ChatServiceClient<Peer>, clock: Clock, lifecycle: &Lifecycle) -> Self {
        let state = Arc::new(Mutex::new(State { requests: None, sessions: HashMap::new(), last_session: 0 }));
        let (up, is_up) = watch::channel(false);
        let keeper = Keeper { client, clock, state: state.clone(), up };
        lifecycle.spawn_essential("chat link", keeper.keep(lifecycle.clone()));
        Self { state, is_up }
    }

    /// A new session, which has not joined anything.
    pub(crate) fn session(&self) -> (SessionHandle, mpsc::Receiver<Delivery>) {
        let (inbox, deliveries) = mpsc::channel(SESSION_EVENTS_MAX);
        let mut state = lock(&self.state);
        state.last_session += 1;
        let session = state.last_session;
        state.sessions.insert(session, inbox);
        (SessionHandle { state: self.state.clone(), session }, deliveries)
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
            let sessions: Vec<_> = lock(&self.state).sessions.values().cloned().collect();
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
pub(crate) struct SessionHandle {
    state: Arc<Mutex<State>>,
    session: u64,
}

impl SessionHandle {
    /// Asks the service. Never waits.
    pub(crate) fn ask(&self, request: u64, action: Action) -> Result<(), IsDown> {
        let frame = ConverseRequest { session: self.session, action: Some(action), request };
        match &lock(&self.state).requests {
            Some(requests) => requests.send(frame).map_err(|_| IsDown),
            None => Err(IsDown),
        }
    }

    /// Whether this is the session that an answer is for.
    pub(crate) fn is(&self, answer: &Answer) -> bool {
        answer.session == self.session
    }
}

impl Drop for SessionHandle {
    fn drop(&mut self) {
        lock(&self.state).sessions.remove(&self.session);
        // Without a stream there is nothing to leave.
        let _ = self.ask(0, Action::Leave(Leave {}));
    }
}

struct Keeper {
    client: ChatServiceClient<Peer>,
    clock: Clock,
    state: Arc<Mutex<State>>,
    up: watch::Sender<bool>,
}

impl Keeper {
    async fn keep(mut self, lifecycle: Lifecycle) -> Result<(), std::convert::Infallible> {
        let mut pause = REDIAL_FIRST;
        loop {
            let (requests, outgoing) = mpsc::unbounded_channel();
            tokio::select! {
                dialled = self.client.converse(UnboundedReceiverStream::new(outgoing)) => match dialled {
                    Ok(stream) => {
                        tracing::info!("the chat link is up");
                        pause = REDIAL_FIRST;
                        self.set_stream(Some(requests));
                        tokio::select! {
                            end = self.read(stream.into_inner()) => tracing::warn!(end, "the chat link broke"),
                            () = lifecycle.stopped() => return Ok(()),
                        }
                        self.set_stream(None);
                    }
                    Err(status) => tracing::warn!(code = ?status.code(), message = status.message(), "no chat link"),
                },
                () = lifecycle.stopped() => return Ok(()),
            }
            tokio::time::sleep(self.clock.jittered(pause)).await;
            pause = REDIAL_MAX.min(pause * 2);
        }
    }

    fn set_stream(&self, requests: Option<mpsc::UnboundedSender<ConverseRequest>>) {
        let mut state = lock(&self.state);
        let delivery = if requests.is_some() { Delivery::Up } else { Delivery::Down };
        state.requests = requests;
        state.sessions.retain(|_, inbox| inbox.try_send(delivery.clone()).is_ok());
        self.up.send_replace(state.requests.is_some());
    }

    async fn read(&self, mut stream: tonic::Streaming<ConverseResponse>) -> String {
        loop {
            match stream.message().await {
                Ok(Some(frame)) => {
                    self.deliver(frame);
                    // Lets the sessions run between the frames of a busy stream, before their inboxes are full.
                    tokio::task::consume_budget().await;
                }
                Ok(None) => return "the service ended it".to_owned(),
                Err(status) => return status.message().to_owned(),
            }
        }
    }

    fn deliver(&self, frame: ConverseResponse) {
        let Some(event) = frame.event else { return };
        if matches!(event, Event::GoAway(_)) {
            tracing::info!("the chat service is leaving");
            return;
        }
        let told = Arc::new(Told { event, answer: frame.answer, encoded: [const { OnceLock::new() }; VIEWS] });
        let mut state = lock(&self.state);
        for session in frame.sessions {
            if let Some(inbox) = state.sessions.get(&session)
                && inbox.try_send(Delivery::Event(told.clone())).is_err()
            {
                // Its inbox ends, and with it the session.
                state.sessions.remove(&session);
            }
        }
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
