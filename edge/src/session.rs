//! One loop for every socket.

use std::{collections::VecDeque, pin::pin, time::Duration};

use futures_util::{FutureExt as _, SinkExt as _, StreamExt as _, future::BoxFuture};
use prost_types::Timestamp;
use switchboard_chassis::{Clock, clock, grpc::Peer};
use switchboard_proto::chat::v1::{
    Conversation, Join, ListMessagesRequest, ListMessagesResponse, RefusalReason, Refused, Send,
    chat_service_client::ChatServiceClient, converse_request::Action, converse_response::Event,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::mpsc,
    time::{Instant, sleep_until, timeout},
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{self, Message, Utf8Bytes},
};
use tonic::Status;

use crate::{
    closing,
    dialect::{self, Decoded, Dialect, Viewer},
    goodbye::{self, Goodbye},
    link::{Delivery, SessionHandle, Told},
    order::{Offer, Order},
    people::People,
};

/// Actions of a socket that wait for their answer. Beyond it, the socket is not read.
const WINDOW_ACTIONS_MAX: usize = 16;
/// Events written to a socket before it is flushed and read again.
const BURST_EVENTS_MAX: usize = 64;
/// Messages of the past that are fetched at a time.
const PAGE_MESSAGES: i32 = 100;
/// How long a socket may refuse to take what is written to it.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// Before a session that could not join again tries once more; more or less, so that not all come at once.
const JOIN_RETRY: Duration = Duration::from_secs(1);
/// Before the past is asked for again when the service did not answer.
const PAGE_RETRY: Duration = Duration::from_millis(250);

/// How often we ping, and when silence is the end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Heartbeat {
    pub(crate) ping_interval: Duration,
    pub(crate) idle_timeout: Duration,
}

/// A visitor who was let in: all that a session needs besides its socket.
pub(crate) struct Admission {
    pub(crate) dialect: &'static dyn Dialect,
    pub(crate) viewer: Viewer,
    pub(crate) join: Join,
    pub(crate) handle: SessionHandle,
    pub(crate) inbox: mpsc::Receiver<Delivery>,
    pub(crate) chat: ChatServiceClient<Peer>,
    pub(crate) people: People,
    /// The conversation when it joined.
    pub(crate) conversation: Conversation,
    /// Replay what came after this message first.
    pub(crate) after: Option<String>,
    /// When the credential ends.
    pub(crate) expires_at: Option<Instant>,
    pub(crate) clock: Clock,
}

/// How a session ended.
enum End {
    /// By the client, or its network.
    Gone,
    /// By us.
    Goodbye(Goodbye),
}

type Page = (u64, Result<ListMessagesResponse, Status>);

struct Pending {
    request: u64,
    action: Action,
}

struct Session<S> {
    socket: WebSocketStream<S>,
    dialect: &'static dyn Dialect,
    viewer: Viewer,
    join: Join,
    conversation_id: String,
    handle: SessionHandle,
    chat: ChatServiceClient<Peer>,
    people: People,
    order: Order,
    /// A page of the past that is being fetched, with the head at the time of asking.
    page: Option<BoxFuture<'static, Page>>,
    /// A pause before it joins again.
    rejoin: Option<BoxFuture<'static, ()>>,
    pending: VecDeque<Pending>,
    last_request: u64,
    /// What is said before anything else, while it waits for the answer to the first request.
    greeting: Option<Utf8Bytes>,
    first_request: Option<u64>,
    is_linked: bool,
    clock: Clock,
}

/// Serves a socket until it ends.
pub(crate) async fn run<S>(socket: WebSocketStream<S>, admission: Admission, heartbeat: Heartbeat)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let Admission { dialect, viewer, join, handle, mut inbox, chat, people, conversation, .. } = admission;
    let mut session = Session {
        socket,
        dialect,
        viewer,
        join,
        conversation_id: conversation.id.clone(),
        handle,
        chat,
        people,
        order: Order::live(conversation.last_seq),
        page: None,
        rejoin: None,
        pending: VecDeque::new(),
        last_request: 0,
        greeting: None,
        first_request: None,
        is_linked: true,
        clock: admission.clock,
    };
    if let Some(after) = admission.after {
        session.order = Order::replaying(conversation.last_seq);
        session.fetch(0, after);
    }
    let greeted = session.greet(&conversation).await;
    // An idle socket needs no more of it than its id.
    drop(conversation);
    let end = match greeted {
        Ok(()) => session.talk(&mut inbox, heartbeat, admission.expires_at).await,
        Err(end) => end,
    };
    // It leaves the conversation before the closing handshake, which may take its time.
    let Session { socket, handle, .. } = session;
    drop((handle, inbox));
    match end {
        End::Gone => Box::pin(closing::hang_up(socket)).await,
        End::Goodbye(goodbye) => Box::pin(closing::say_goodbye(socket, None, goodbye)).await,
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Session<S> {
    async fn greet(&mut self, conversation: &Conversation) -> Result<(), End> {
        let (seconds, nanos) = clock::split(self.clock.now());
        let now = dialect::iso(Some(Timestamp { seconds, nanos }));
        self.greeting = self.dialect.greeting(conversation, &self.viewer, &now);
        match self.dialect.on_join() {
            // The greeting follows its answer.
            Some(action) => {
                self.ask(action);
                self.first_request = Some(self.last_request);
                Ok(())
            }
            None => {
                self.say_greeting().await?;
                self.flush().await
            }
        }
    }

    /// Says the greeting, if it has not been said: before anything else.
    async fn say_greeting(&mut self) -> Result<(), End> {
        match self.greeting.take() {
            Some(greeting) => self.feed(greeting).await,
            None => Ok(()),
        }
    }

    async fn talk(
        &mut self,
        inbox: &mut mpsc::Receiver<Delivery>,
        heartbeat: Heartbeat,
        expires_at: Option<Instant>,
    ) -> End {
        let mut heard_at = Instant::now();
        let expiry = expires_at.unwrap_or_else(|| heard_at + Duration::from_secs(365 * 24 * 3600));
        let mut ping_at = heard_at + heartbeat.ping_interval;
        let mut tick = pin!(sleep_until(ping_at.min(expiry)));
        loop {
            let is_reading = self.pending.len() < WINDOW_ACTIONS_MAX || !self.is_linked;
            let step = tokio::select! {
                delivery = inbox.recv() => match delivery {
                    Some(delivery) => self.hear_burst(delivery, inbox).await,
                    None => Err(End::Goodbye(goodbye::TOO_SLOW)),
                },
                page = OptionFuture(self.page.as_mut()) => {
                    self.page = None;
                    // Boxed, as it is rare: each idle socket would hold room for it.
                    Box::pin(self.replay(page)).await
                },
                () = OptionFuture(self.rejoin.as_mut()) => {
                    self.rejoin = None;
                    self.join_again();
                    Ok(())
                },
                frame = self.socket.next(), if is_reading => {
                    heard_at = Instant::now();
                    self.read(frame).await
                },
                () = &mut tick => {
                    let now = Instant::now();
                    if now >= expiry {
                        Err(End::Goodbye(self.dialect.ends().unauthenticated))
                    } else if is_reading && now >= heard_at + heartbeat.idle_timeout {
                        Err(End::Goodbye(goodbye::IDLE))
                    } else {
                        if now >= ping_at {
                            ping_at = now + heartbeat.ping_interval;
                        }
                        let idle_at = heard_at + heartbeat.idle_timeout;
                        tick.as_mut().reset(ping_at.min(expiry).min(idle_at.max(now + Duration::from_millis(100))));
                        self.ping(now, ping_at, heartbeat).await
                    }
                }
            };
            if let Err(end) = step {
                return end;
            }
        }
    }

    async fn ping(&mut self, now: Instant, ping_at: Instant, heartbeat: Heartbeat) -> Result<(), End> {
        if ping_at == now + heartbeat.ping_interval {
            written(self.socket.send(Message::Ping(tungstenite::Bytes::new()))).await?;
        }
        Ok(())
    }

    /// Takes what waits, and flushes once.
    async fn hear_burst(&mut self, first: Delivery, inbox: &mut mpsc::Receiver<Delivery>) -> Result<(), End> {
        self.hear(first).await?;
        for _ in 1..BURST_EVENTS_MAX {
            match inbox.try_recv() {
                Ok(delivery) => self.hear(delivery).await?,
                Err(_) => break,
            }
        }
        self.flush().await
    }

    async fn hear(&mut self, delivery: Delivery) -> Result<(), End> {
        match delivery {
            Delivery::Event(told) => self.hear_event(&told).await,
            Delivery::Down => {
                self.say_greeting().await?;
                self.is_linked = false;
                // Typing is of the moment: it is not asked again.
                self.pending.retain(|pending| !matches!(pending.action, Action::Typing(_) | Action::Join(_)));
                Ok(())
            }
            Delivery::Up => {
                self.is_linked = true;
                self.join_again();
                Ok(())
            }
            Delivery::End(goodbye) => Err(End::Goodbye(goodbye)),
        }
    }

    async fn hear_event(&mut self, told: &Told) -> Result<(), End> {
        let answered = told.answer.as_ref().filter(|answer| self.handle.is(answer)).and_then(|answer| {
            let place = self.pending.iter().position(|pending| pending.request == answer.request)?;
            self.pending.remove(place)
        });
        self.say_greeting().await?;
        let is_first = answered.as_ref().is_some_and(|pending| Some(pending.request) == self.first_request);
        let answered = answered.map(|pending| pending.action);
        match &told.event {
            Event::Message(message) => match self.order.offer(message.seq) {
                Offer::Next => self.show(told).await,
                // The client repeated a message, and this is the first one: it has another id than the repeat.
                Offer::Behind if answered.is_some_and(|action| is_other_send(&action, &message.id)) => {
                    self.show(told).await
                }
                Offer::Behind => Ok(()),
                Offer::Gap => {
                    self.catch_up();
                    Ok(())
                }
            },
            Event::Joined(joined) => {
                let head = joined.conversation.as_ref().map_or(0, |conversation| conversation.last_seq);
                self.order.raise(head);
                self.catch_up();
                Ok(())
            }
            Event::Refused(refused) => match answered {
                Some(Action::Join(_)) => self.unseated(refused),
                // The client did not ask for it.
                Some(_) if is_first => Ok(()),
                Some(action) => self.feed(self.dialect.refused(refused, Some(&action))).await,
                // It was asked again meanwhile, on another stream.
                None => Ok(()),
            },
            _ => self.show(told).await,
        }
    }

    /// A session that was in is not let in again: for good, or just now.
    fn unseated(&mut self, refused: &Refused) -> Result<(), End> {
        match refused.reason() {
            RefusalReason::ConversationNotFound => Err(End::Goodbye(self.dialect.ends().not_found)),
            RefusalReason::NotAParticipant | RefusalReason::WrongRole => {
                Err(End::Goodbye(self.dialect.ends().forbidden))
            }
            // It joined twice while the link came and went.
            RefusalReason::AlreadyJoined => Ok(()),
            _ => {
                let pause = self.clock.jittered(JOIN_RETRY);
                self.rejoin = Some(tokio::time::sleep(pause).boxed());
                Ok(())
            }
        }
    }

    /// Joins again, and asks again what was not answered.
    fn join_again(&mut self) {
        let earlier = std::mem::take(&mut self.pending);
        self.ask(Action::Join(Join { again: true, ..self.join.clone() }));
        for pending in earlier {
            match pending.action {
                Action::Send(send) => self.ask(Action::Send(Send { retry: true, ..send })),
                Action::Join(_) => {}
                other => self.ask(other),
            }
        }
    }

    async fn show(&mut self, told: &Told) -> Result<(), End> {
        match self.dialect.view(&told.event, &self.viewer) {
            Some(view) => {
                let text = told.encoded(self.dialect, view, &self.people).await;
                self.feed(text).await
            }
            None => Ok(()),
        }
    }

    /// Fetches what is missing, unless that is happening already.
    fn catch_up(&mut self) {
        if self.page.is_none() && self.order.is_behind() {
            self.fetch(self.order.told(), String::new());
        }
    }

    fn fetch(&mut self, from_seq: u64, from_message: String) {
        let request = ListMessagesRequest {
            conversation_id: self.conversation_id.clone(),
            from_seq,
            from_message,
            page_size: PAGE_MESSAGES,
            user_id: self.join.user_id.clone(),
            role: self.join.role.clone(),
            ..ListMessagesRequest::default()
        };
        let (mut chat, head) = (self.chat.clone(), self.order.head());
        self.page = Some(
            async move {
                loop {
                    match chat.list_messages(request.clone()).await {
                        Ok(page) => return (head, Ok(page.into_inner())),
                        Err(status) if is_transient(&status) => tokio::time::sleep(PAGE_RETRY).await,
                        Err(status) => return (head, Err(status)),
                    }
                }
            }
            .boxed(),
        );
    }

    async fn replay(&mut self, (head, page): Page) -> Result<(), End> {
        match page {
            Ok(page) => {
                let mut seqs = page.messages.iter().map(|message| message.seq);
                self.order.fetched(seqs.next_back(), head);
                for message in page.messages {
                    let event = Event::Message(message);
                    if let Some(view) = self.dialect.view(&event, &self.viewer) {
                        let person = self.people.of(self.dialect, &event).await;
                        self.feed(self.dialect.encode(&event, view, &person)).await?;
                    }
                }
            }
            Err(status) if status.code() == tonic::Code::NotFound => {
                // What came meanwhile is still to be shown.
                let newest = self.order.head();
                self.order = Order::live(head);
                self.order.raise(newest);
                self.feed(self.dialect.unknown_after()).await?;
            }
            Err(status) => {
                tracing::error!(code = ?status.code(), message = status.message(), "the past cannot be read");
                return Err(End::Goodbye(goodbye::INTERNAL));
            }
        }
        self.catch_up();
        self.flush().await
    }

    async fn read(&mut self, frame: Option<Result<Message, tungstenite::Error>>) -> Result<(), End> {
        let reply = match frame {
            Some(Ok(Message::Text(text))) => match self.dialect.decode(&text, &self.viewer) {
                Decoded::Act(action) => self.act(action),
                Decoded::Reply(reply) => Some(reply),
                Decoded::Ignore => None,
            },
            Some(Ok(Message::Binary(_))) => Some(self.dialect.binary()),
            Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => None,
            Some(Ok(Message::Close(_))) | None => return Err(End::Gone),
            Some(Err(error)) => return Err(closing::blame(&error).map_or(End::Gone, End::Goodbye)),
        };
        match reply {
            Some(reply) => {
                self.feed(reply).await?;
                self.flush().await
            }
            None => Ok(()),
        }
    }

    /// Asks the service; the reply if that cannot be done.
    fn act(&mut self, mut action: Action) -> Option<Utf8Bytes> {
        if self.pending.len() >= WINDOW_ACTIONS_MAX {
            let refused = Refused {
                reason: RefusalReason::Unavailable.into(),
                message: "temporarily unavailable; nothing was stored, send it again".to_owned(),
            };
            return Some(self.dialect.refused(&refused, Some(&action)));
        }
        if let Action::Send(send) = &mut action {
            send.id = self.clock.new_id().to_string();
        }
        if self.is_linked || !matches!(action, Action::Typing(_)) {
            self.ask(action);
        }
        None
    }

    fn ask(&mut self, action: Action) {
        self.last_request += 1;
        let request = self.last_request;
        if self.is_linked {
            // If the stream broke just now, `Down` is in the inbox, and then `Up`: it will be asked again.
            let _ = self.handle.ask(request, action.clone());
        }
        self.pending.push_back(Pending { request, action });
    }

    async fn feed(&mut self, text: Utf8Bytes) -> Result<(), End> {
        written(self.socket.feed(Message::Text(text))).await
    }

    async fn flush(&mut self) -> Result<(), End> {
        written(self.socket.flush()).await
    }
}

/// A socket that does not take what is written to it for so long reads too slowly.
async fn written(write: impl Future<Output = Result<(), tungstenite::Error>>) -> Result<(), End> {
    match timeout(WRITE_TIMEOUT, write).await {
        Ok(done) => done.map_err(|_| End::Gone),
        Err(_) => Err(End::Goodbye(goodbye::TOO_SLOW)),
    }
}

/// Whether an action sent a message of another id.
fn is_other_send(action: &Action, id: &str) -> bool {
    matches!(action, Action::Send(send) if send.id != id)
}

fn is_transient(status: &Status) -> bool {
    use tonic::Code;
    // A connection that breaks shows as Unknown: tonic has no other code for it.
    matches!(
        status.code(),
        Code::Unavailable | Code::ResourceExhausted | Code::DeadlineExceeded | Code::Cancelled | Code::Unknown
    )
}

/// A future that may not be there; then it never completes.
struct OptionFuture<'a, T>(Option<&'a mut BoxFuture<'static, T>>);

impl<T> Future for OptionFuture<'_, T> {
    type Output = T;

    fn poll(mut self: std::pin::Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> std::task::Poll<T> {
        match &mut self.0 {
            Some(future) => future.poll_unpin(cx),
            None => std::task::Poll::Pending,
        }
    }
}
