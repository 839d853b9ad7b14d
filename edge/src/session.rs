//! One loop for every socket.

use std::{
    collections::VecDeque,
    future::poll_fn,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_util::{FutureExt as _, SinkExt as _, StreamExt as _, future::BoxFuture};
use switchboard_chassis::{
    Clock,
    traces::{Span, Traces},
};
use switchboard_proto::wire::Wire;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{Instant, sleep, sleep_until},
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{self, Message, Utf8Bytes},
};

use crate::{
    closing,
    connections::{Connection, Counted},
    dialect::{Decoded, Ends},
    goodbye::{self, Goodbye},
    link::{Carried, Delivery, Inbox, SessionHandle, Told},
    metrics::OpenSocket,
    rate::Meter,
    room::Place,
    standing::{Credential, Farewell, Refreshed},
};

/// Actions of a socket that wait for their answer. Beyond it, the socket is not read.
const WINDOW_ACTIONS_MAX: usize = 16;
/// Events written to a socket before it is flushed and read again.
const BURST_EVENTS_MAX: usize = 64;
/// How long a socket may refuse to take what is written to it.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// Before a session that could not join again tries once more; more or less, so that not all come at once.
const JOIN_RETRY: Duration = Duration::from_secs(1);

/// How often we ping, and when silence is the end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Heartbeat {
    pub(crate) ping_interval: Duration,
    pub(crate) idle_timeout: Duration,
}

/// How a session ended.
#[derive(Debug)]
pub(crate) enum End {
    /// By the client, or its network.
    Gone,
    /// By us.
    Goodbye(Goodbye),
    /// By an operator.
    Dismissed(Arc<Farewell>),
}

/// What becomes of a client's action while there is no stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Care {
    /// It waits, and is asked again.
    Kept,
    /// The newest of its kind waits.
    Newest,
    /// It is dropped: it was of the moment.
    Dropped,
}

/// What a handler made of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// All is well.
    Fine,
    /// The session could not join again just now: it tries later.
    JoinLater,
}

/// What one kind of socket does. The loop around it is the same for all.
pub(crate) trait Handler: Send {
    /// The stream that its session is on.
    type Wire: Carried;
    /// What its own work comes to: see [`Handler::own`].
    type Own: Send;

    /// Its close codes.
    fn ends(&self) -> Ends;
    /// What brings the session back when there is a stream again.
    fn join_again(&self) -> <Self::Wire as Wire>::Join;
    /// Says what is said first.
    fn begin<S: Io>(
        &mut self,
        asking: &mut Asking<Self::Wire>,
        out: &mut Out<'_, S>,
    ) -> impl Future<Output = Result<(), End>> + Send;
    /// Whether everything has been said that is said first: before that, the client is not read.
    fn is_ready(&self) -> bool {
        true
    }
    /// Reads a text frame.
    fn decode(&mut self, text: &str) -> Decoded<<Self::Wire as Wire>::Action>;
    /// What a binary frame is told.
    fn binary(&self) -> Utf8Bytes;
    /// What a frame beyond the rate limit is told.
    fn rate_limited(&self, retry_after_s: u64) -> Utf8Bytes;
    /// What is told of an action for which there is no room.
    fn overloaded(&self, action: &<Self::Wire as Wire>::Action) -> Utf8Bytes;
    /// What becomes of an action while there is no stream.
    fn care(action: &<Self::Wire as Wire>::Action) -> Care;
    /// An action as it is asked again.
    fn again(action: <Self::Wire as Wire>::Action) -> <Self::Wire as Wire>::Action {
        action
    }
    /// Hears an event, and which of the client's actions it answers.
    fn hear<S: Io>(
        &mut self,
        told: &Told<Self::Wire>,
        answered: Option<&Pending<Self::Wire>>,
        out: &mut Out<'_, S>,
    ) -> impl Future<Output = Result<Heard, End>> + Send;
    /// The stream broke.
    fn down<S: Io>(&mut self, _out: &mut Out<'_, S>) -> impl Future<Output = Result<(), End>> + Send {
        std::future::ready(Ok(()))
    }
    /// Work besides hearing: completes when there is something to do. Dropping the future loses nothing.
    fn own(&mut self) -> impl Future<Output = Self::Own> + Send;
    /// Does it.
    fn owned<S: Io>(&mut self, own: Self::Own, out: &mut Out<'_, S>) -> impl Future<Output = Result<(), End>> + Send;
}

/// What a socket runs over.
pub(crate) trait Io: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Io for S {}

/// The client's side. What is fed goes out with the next flush.
pub(crate) struct Out<'a, S>(&'a mut Counted<S>);

impl<'a, S: Io> Out<'a, S> {
    pub(crate) fn new(socket: &'a mut Counted<S>) -> Self {
        Self(socket)
    }

    pub(crate) fn feed(&mut self, text: Utf8Bytes) -> impl Future<Output = Result<(), End>> + Send {
        self.0.gave(text.len());
        self.give(Message::Text(text))
    }

    fn give(&mut self, message: Message) -> impl Future<Output = Result<(), End>> + Send {
        let mut message = Some(message);
        written(move |cx| {
            ready!(self.0.poll_ready_unpin(cx))?;
            Poll::Ready(message.take().map_or(Ok(()), |message| self.0.start_send_unpin(message)))
        })
    }

    pub(crate) fn flush(&mut self) -> impl Future<Output = Result<(), End>> + Send {
        written(|cx| self.0.poll_flush_unpin(cx))
    }
}

/// An action that was asked and not answered.
pub(crate) struct Pending<W: Wire> {
    pub(crate) request: u64,
    pub(crate) action: W::Action,
    /// Its way to the service and back, and the client's frame that it comes of, if they are traced.
    way: Span,
    frame: Span,
}

/// The session's side of its link.
pub(crate) struct Asking<W: Wire> {
    handle: SessionHandle<W>,
    pending: VecDeque<Pending<W>>,
    last_request: u64,
    is_linked: bool,
}

impl<W: Wire> Asking<W> {
    pub(crate) fn new(handle: SessionHandle<W>) -> Self {
        Self { handle, pending: VecDeque::new(), last_request: 0, is_linked: true }
    }

    /// Asks now, or when there is a stream. Gives the number of the request.
    pub(crate) fn ask(&mut self, action: W::Action) -> u64 {
        self.ask_for(Span::default(), action)
    }

    /// The same for a client's frame.
    fn ask_for(&mut self, frame: Span, action: W::Action) -> u64 {
        self.last_request += 1;
        let request = self.last_request;
        let way = frame.asking(|| format!("link to {}", W::NAME));
        if self.is_linked {
            // If the stream broke just now, `Down` is in the inbox, and then `Up`: it will be asked again.
            let _ = self.handle.ask(request, action.clone(), way.traceparent());
        }
        // Mostly there is one, and what it takes is held by every socket that ever asked.
        if self.pending.capacity() == 0 {
            self.pending.reserve_exact(1);
        }
        self.pending.push_back(Pending { request, action, way, frame });
        request
    }

    /// Keeps an action until there is a stream, as it deserves; gives it back when there is no room.
    fn keep(
        &mut self,
        frame: Span,
        action: W::Action,
        care: impl Fn(&W::Action) -> Care,
    ) -> Result<(), (Span, W::Action)> {
        match care(&action) {
            Care::Dropped => return Ok(()),
            Care::Newest => self.pending.retain(|pending| care(&pending.action) != Care::Newest),
            Care::Kept if self.is_full() => return Err((frame, action)),
            Care::Kept => {}
        }
        self.last_request += 1;
        self.pending.push_back(Pending { request: self.last_request, action, way: Span::default(), frame });
        Ok(())
    }

    /// There is no stream to ask on, or the session is not in: what was not answered is kept as it deserves.
    fn unlink(&mut self, care: impl Fn(&W::Action) -> Care) {
        self.is_linked = false;
        for Pending { action, frame, .. } in std::mem::take(&mut self.pending) {
            // Joining again is the session's own affair; for the rest there was room before.
            if !W::is_join(&action) {
                let _ = self.keep(frame, action, &care);
            }
        }
    }

    fn answered(&mut self, request: u64) -> Option<Pending<W>> {
        let place = self.pending.iter().position(|pending| pending.request == request)?;
        self.pending.remove(place)
    }

    fn is_full(&self) -> bool {
        self.pending.len() >= WINDOW_ACTIONS_MAX
    }
}

/// A visitor who was let in: all that a session needs besides its socket.
pub(crate) struct Seat<H: Handler> {
    pub(crate) handler: H,
    pub(crate) asking: Asking<H::Wire>,
    pub(crate) inbox: Inbox<H::Wire>,
    pub(crate) credential: Credential,
    pub(crate) meter: Meter,
    /// Of the user's sockets, one.
    pub(crate) place: Place<String>,
    pub(crate) open: OpenSocket,
    pub(crate) clock: Clock,
    /// What an operator can know of it.
    pub(crate) connection: Arc<Connection>,
    pub(crate) traces: Traces,
}

/// A visitor on a socket.
///
/// All of it is in one place on the heap from the beginning: a future has room for every place that something is moved to,
/// and an idle socket would hold it.
pub(crate) struct Session<S, H: Handler> {
    socket: Counted<S>,
    seat: Box<Seat<H>>,
    heartbeat: Heartbeat,
    /// Another token is being checked.
    refreshing: Option<BoxFuture<'static, Refreshed>>,
    /// A pause before it joins again.
    rejoin: Option<BoxFuture<'static, ()>>,
    /// The answer that is being written, and the client's frame that it is for, if they are traced.
    answering: (Span, Span),
}

impl<S: Io, H: Handler> Session<S, H> {
    pub(crate) fn new(socket: WebSocketStream<S>, seat: Box<Seat<H>>, heartbeat: Heartbeat) -> Box<Self> {
        let socket = Counted::new(socket, seat.connection.clone(), seat.open.0.sent.clone());
        let answering = <(Span, Span)>::default();
        Box::new(Self { socket, seat, heartbeat, refreshing: None, rejoin: None, answering })
    }

    /// Serves it until it ends.
    pub(crate) async fn serve(mut self: Box<Self>) {
        // Boxed, as it comes once.
        let end = match Box::pin(self.begin()).await {
            Ok(()) => self.talk().await,
            Err(end) => end,
        };
        Box::pin(self.end(end)).await;
    }

    async fn begin(&mut self) -> Result<(), End> {
        let Seat { handler, asking, .. } = &mut *self.seat;
        handler.begin(asking, &mut Out::new(&mut self.socket)).await?;
        self.flush().await
    }

    async fn end(self: Box<Self>, end: End) {
        let Self { socket, seat, .. } = *self;
        let Seat { handler, asking, inbox, place: _place, open, credential, .. } = *seat;
        open.closed(&end);
        // It leaves before the closing handshake, which may take its time.
        drop((asking, inbox, handler, credential));
        let socket = socket.into_socket();
        match end {
            End::Gone => closing::hang_up(socket).await,
            End::Goodbye(goodbye) => closing::say_goodbye(socket, None, goodbye).await,
            End::Dismissed(farewell) => closing::dismiss(socket, &farewell).await,
        }
    }

    async fn talk(&mut self) -> End {
        let Heartbeat { ping_interval, idle_timeout } = self.heartbeat;
        let mut heard_at = Instant::now();
        let never = heard_at + Duration::from_secs(365 * 24 * 3600);
        let mut expiry = self.seat.credential.expires_at.unwrap_or(never);
        let mut ping_at = heard_at + ping_interval;
        let mut tick = pin!(sleep_until(ping_at.min(expiry)));
        loop {
            let is_reading =
                self.seat.handler.is_ready() && (!self.seat.asking.is_full() || !self.seat.asking.is_linked);
            let step = tokio::select! {
                delivery = self.seat.inbox.recv() => match delivery {
                    Some(delivery) => self.hear_burst(delivery).await,
                    None => Err(End::Goodbye(goodbye::TOO_SLOW)),
                },
                own = self.seat.handler.own() => self.do_own(own).await,
                () = OptionFuture(self.rejoin.as_mut()) => {
                    self.join_again();
                    Ok(())
                },
                frame = self.socket.next(), if is_reading => {
                    heard_at = Instant::now();
                    self.socket.connection.heard(heard_at);
                    self.read(frame).await
                },
                ended = self.seat.credential.ended() => Err(match ended {
                    None => End::Goodbye(self.seat.handler.ends().unauthenticated),
                    Some(farewell) => End::Dismissed(farewell),
                }),
                refreshed = OptionFuture(self.refreshing.as_mut()) => {
                    self.refreshing = None;
                    let told = self.refreshed(refreshed).await;
                    expiry = self.seat.credential.expires_at.unwrap_or(never);
                    tick.as_mut().reset(ping_at.min(expiry));
                    told
                }
                () = &mut tick => {
                    let now = Instant::now();
                    if now >= expiry {
                        Err(End::Goodbye(self.seat.handler.ends().unauthenticated))
                    } else if is_reading && now >= heard_at + idle_timeout {
                        Err(End::Goodbye(goodbye::IDLE))
                    } else {
                        let is_due = now >= ping_at;
                        if is_due {
                            ping_at = now + ping_interval;
                        }
                        let idle_at = heard_at + idle_timeout;
                        tick.as_mut().reset(ping_at.min(expiry).min(idle_at.max(now + Duration::from_millis(100))));
                        if is_due { self.ping().await } else { Ok(()) }
                    }
                }
            };
            if let Err(end) = step {
                return end;
            }
        }
    }

    async fn ping(&mut self) -> Result<(), End> {
        let mut out = Out::new(&mut self.socket);
        out.give(Message::Ping(tungstenite::Bytes::new())).await?;
        out.flush().await
    }

    async fn do_own(&mut self, own: H::Own) -> Result<(), End> {
        // Boxed, as it is rare: each idle socket would hold room for it.
        Box::pin(self.seat.handler.owned(own, &mut Out::new(&mut self.socket))).await?;
        self.flush().await
    }

    /// Takes what waits, and flushes once.
    async fn hear_burst(&mut self, first: Delivery<H::Wire>) -> Result<(), End> {
        self.hear(first).await?;
        for _ in 1..BURST_EVENTS_MAX {
            match self.seat.inbox.try_recv() {
                Some(delivery) => self.hear(delivery).await?,
                None => break,
            }
        }
        self.flush().await
    }

    async fn hear(&mut self, delivery: Delivery<H::Wire>) -> Result<(), End> {
        match delivery {
            Delivery::Event(told) => self.hear_event(&told).await,
            Delivery::Newest => match self.seat.inbox.newest() {
                Some(told) => self.hear_event(&told).await,
                None => Ok(()),
            },
            Delivery::Answered(request) => {
                self.seat.asking.answered(request);
                Ok(())
            }
            Delivery::Down => {
                self.seat.asking.unlink(H::care);
                self.rejoin = None;
                self.seat.handler.down(&mut Out::new(&mut self.socket)).await
            }
            Delivery::Up => {
                self.join_again();
                Ok(())
            }
            Delivery::End(goodbye) => Err(End::Goodbye(goodbye)),
        }
    }

    async fn hear_event(&mut self, told: &Arc<Told<H::Wire>>) -> Result<(), End> {
        let mut answered =
            self.seat.asking.handle.answered(told).and_then(|request| self.seat.asking.answered(request));
        let frame = answered.as_mut().map(|pending| {
            pending.way = Span::default();
            std::mem::take(&mut pending.frame)
        });
        if let Some(pending) = &answered
            && H::Wire::is_not_joined(&told.event)
        {
            // It was asked behind a join that was refused: it waits for the next one.
            // There was room for it before.
            let _ = self.seat.asking.keep(frame.unwrap_or_default(), pending.action.clone(), H::care);
            self.join_later();
            return Ok(());
        }
        if let Some(mut frame) = frame.filter(Span::is_recorded) {
            frame.set("switchboard.outcome", || H::Wire::refusal(&told.event).unwrap_or_else(|| "answered".to_owned()));
            self.answering = (frame.child("answer"), frame);
        }
        match self.seat.handler.hear(told, answered.as_ref(), &mut Out::new(&mut self.socket)).await? {
            Heard::Fine => {}
            Heard::JoinLater => self.join_later(),
        }
        Ok(())
    }

    fn join_later(&mut self) {
        if self.rejoin.is_none() {
            self.seat.asking.unlink(H::care);
            let pause = self.seat.clock.jittered(JOIN_RETRY);
            self.rejoin = Some(tokio::time::sleep(pause).boxed());
        }
    }

    /// Joins again, and asks again what was not answered.
    fn join_again(&mut self) {
        self.rejoin = None;
        self.seat.asking.is_linked = true;
        self.seat.open.0.resumed.inc();
        let earlier = std::mem::take(&mut self.seat.asking.pending);
        self.seat.asking.ask(H::Wire::join(self.seat.handler.join_again()));
        for pending in earlier {
            self.seat.asking.ask_for(pending.frame, H::again(pending.action));
        }
    }

    async fn read(&mut self, frame: Option<Result<Message, tungstenite::Error>>) -> Result<(), End> {
        let reply = match frame {
            Some(Ok(message @ (Message::Text(_) | Message::Binary(_)))) => {
                self.socket.connection.took(message.len());
                self.seat.open.0.received.inc();
                let mut frame = self.seat.traces.root("frame");
                self.seat.open.describe(&mut frame);
                match self.seat.meter.take(Instant::now()) {
                    Ok(()) => self.react(&message, frame),
                    Err(limited) => {
                        frame.set("switchboard.outcome", || "rate_limited");
                        self.seat.open.0.rate_limited.inc();
                        Some(self.seat.handler.rate_limited(limited.retry_after_s))
                    }
                }
            }
            Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => None,
            Some(Ok(Message::Close(_))) | None => return Err(End::Gone),
            Some(Err(error)) => return Err(closing::blame(&error).map_or(End::Gone, End::Goodbye)),
        };
        match reply {
            Some(reply) => {
                Out::new(&mut self.socket).feed(reply).await?;
                self.flush().await
            }
            None => Ok(()),
        }
    }

    /// What the client is told at once of its frame.
    fn react(&mut self, message: &Message, mut frame: Span) -> Option<Utf8Bytes> {
        let Message::Text(text) = message else {
            frame.set("switchboard.outcome", || "binary");
            self.seat.open.0.binary.inc();
            return Some(self.seat.handler.binary());
        };
        // One at a time: the last one counts.
        if let Some(refreshing) = self.seat.credential.refresh(text) {
            frame.set("switchboard.outcome", || "refresh");
            self.refreshing = Some(refreshing);
            return None;
        }
        match self.seat.handler.decode(text) {
            Decoded::Act(action) => self.act(frame, action),
            Decoded::Reply(reply) => {
                frame.set("switchboard.outcome", || "reply");
                Some(reply)
            }
            Decoded::Ignore => {
                frame.set("switchboard.outcome", || "ignored");
                None
            }
        }
    }

    async fn refreshed(&mut self, refreshed: Refreshed) -> Result<(), End> {
        let told = match refreshed {
            Ok(proof) => self.seat.credential.renew(proof),
            Err(refused) => refused,
        };
        Out::new(&mut self.socket).feed(told).await?;
        self.flush().await
    }

    /// Asks the service; the reply if that cannot be done.
    fn act(&mut self, mut frame: Span, action: <H::Wire as Wire>::Action) -> Option<Utf8Bytes> {
        frame.rename(|| self.seat.open.named(H::Wire::name(&action)));
        if self.seat.asking.is_linked {
            self.seat.asking.ask_for(frame, action);
            return None;
        }
        if H::care(&action) == Care::Dropped {
            self.seat.open.0.of_the_moment.inc();
        }
        if let Err((mut frame, refused)) = self.seat.asking.keep(frame, action, H::care) {
            frame.set("switchboard.outcome", || "overloaded");
            self.seat.open.0.overloaded.inc();
            return Some(self.seat.handler.overloaded(&refused));
        }
        None
    }

    async fn flush(&mut self) -> Result<(), End> {
        Out::new(&mut self.socket).flush().await?;
        self.answering = Default::default();
        Ok(())
    }
}

/// A socket that does not take what is written to it for so long reads too slowly. Mostly it takes it at once: then no timer
/// is made, and an idle one holds no room for it.
fn written(
    mut write: impl FnMut(&mut Context<'_>) -> Poll<Result<(), tungstenite::Error>> + Send,
) -> impl Future<Output = Result<(), End>> + Send {
    let mut limit = None;
    poll_fn(move |cx| match write(cx) {
        Poll::Ready(done) => Poll::Ready(done.map_err(|_| End::Gone)),
        Poll::Pending => {
            let limit = limit.get_or_insert_with(|| Box::pin(sleep(WRITE_TIMEOUT)));
            limit.poll_unpin(cx).map(|()| Err(End::Goodbye(goodbye::TOO_SLOW)))
        }
    })
}

/// A future that may not be there; then it never completes.
pub(crate) struct OptionFuture<'a, T>(pub(crate) Option<&'a mut BoxFuture<'static, T>>);

impl<T> Future for OptionFuture<'_, T> {
    type Output = T;

    fn poll(mut self: std::pin::Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> std::task::Poll<T> {
        match &mut self.0 {
            Some(future) => future.poll_unpin(cx),
            None => std::task::Poll::Pending,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use switchboard_chassis::metrics::Metrics;
    use switchboard_proto::{location::v1::Join, wire};
    use tokio::io::{AsyncReadExt as _, DuplexStream};
    use tokio_tungstenite::tungstenite::protocol::Role;

    use super::*;
    use crate::{
        EdgeConfig,
        dialect::therapy,
        link::tests::unlinked,
        metrics::{EdgeCounts, Who},
        rate::{Limit, RateLimits, Rates},
        room::Room,
        standing::tests::free,
        upgrade,
    };

    const HEARTBEAT: Heartbeat =
        Heartbeat { ping_interval: Duration::from_secs(25), idle_timeout: Duration::from_secs(60) };

    /// Answers what it is sent.
    struct Parrot;

    impl Handler for Parrot {
        type Wire = wire::Location;
        type Own = std::convert::Infallible;

        fn ends(&self) -> Ends {
            therapy::ENDS
        }
        fn join_again(&self) -> Join {
            Join::default()
        }
        async fn begin<S: Io>(&mut self, _: &mut Asking<wire::Location>, out: &mut Out<'_, S>) -> Result<(), End> {
            out.feed("welcome".into()).await
        }
        fn decode(&mut self, text: &str) -> Decoded<<wire::Location as Wire>::Action> {
            Decoded::Reply(text.into())
        }
        fn binary(&self) -> Utf8Bytes {
            "binary".into()
        }
        fn rate_limited(&self, retry_after_s: u64) -> Utf8Bytes {
            format!("limited {retry_after_s}").into()
        }
        fn overloaded(&self, _: &<wire::Location as Wire>::Action) -> Utf8Bytes {
            "overloaded".into()
        }
        fn care(_: &<wire::Location as Wire>::Action) -> Care {
            Care::Kept
        }
        async fn hear<S: Io>(
            &mut self,
            _: &Told<wire::Location>,
            _: Option<&Pending<wire::Location>>,
            _: &mut Out<'_, S>,
        ) -> Result<Heard, End> {
            Ok(Heard::Fine)
        }
        async fn own(&mut self) -> Self::Own {
            std::future::pending().await
        }
        async fn owned<S: Io>(&mut self, own: Self::Own, _: &mut Out<'_, S>) -> Result<(), End> {
            match own {}
        }
    }

    /// Two ends of a socket over memory: ours and a client's.
    pub(crate) async fn pair() -> (WebSocketStream<DuplexStream>, WebSocketStream<DuplexStream>) {
        let (ours, theirs) = tokio::io::duplex(1 << 20);
        (
            WebSocketStream::from_raw_socket(ours, Role::Server, Some(upgrade::config())).await,
            WebSocketStream::from_raw_socket(theirs, Role::Client, None).await,
        )
    }

    /// A session over memory, with the limits of every socket; the client's side of it.
    async fn session(frames_a_minute: u32, expires_in: Option<Duration>) -> DuplexStream {
        let (ours, theirs) = tokio::io::duplex(1 << 20);
        let rates = Rates::new(RateLimits { therapy: frames_a_minute, ..RateLimits::default() });
        let (handle, inbox) = unlinked();
        let seat = Seat {
            handler: Parrot,
            asking: Asking::new(handle),
            inbox,
            credential: free(expires_in.map(|left| Instant::now() + left)),
            meter: rates.meter(Limit::Therapy, "1", Instant::now()),
            place: Room::new(&EdgeConfig::default(), &Metrics::default()).of_user("1").expect("room"),
            open: EdgeCounts::new(&Metrics::default()).socket(Limit::Therapy, "location", Who::default()),
            clock: Clock::System,
            connection: Arc::new(crate::connections::tests::any()),
            traces: Traces::default(),
        };
        let socket = WebSocketStream::from_raw_socket(ours, Role::Server, Some(upgrade::config())).await;
        tokio::spawn(Session::new(socket, Box::new(seat), HEARTBEAT).serve());
        theirs
    }

    async fn client(theirs: DuplexStream) -> WebSocketStream<DuplexStream> {
        let mut client = WebSocketStream::from_raw_socket(theirs, Role::Client, None).await;
        assert_eq!(next(&mut client).await, Message::Text("welcome".into()));
        client
    }

    async fn next(client: &mut WebSocketStream<DuplexStream>) -> Message {
        client.next().await.expect("open").expect("a frame")
    }

    fn closed(message: Message) -> Option<u16> {
        match message {
            Message::Close(Some(close)) => Some(close.code.into()),
            _ => None,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_answers_pings_stays_for_hours() {
        let started = Instant::now();
        let mut client = client(session(0, None).await).await;
        for _ in 0..400 {
            // Reading it answers it.
            assert!(matches!(next(&mut client).await, Message::Ping(_)));
        }
        assert!(started.elapsed() >= Duration::from_secs(400 * 25));
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_silent_for_sixty_seconds_is_told_so_and_cut_off() {
        let started = Instant::now();
        let mut dead = session(0, None).await;
        // Past the library, which would answer the pings.
        let mut bytes = Vec::new();
        loop {
            let mut chunk = [0; 256];
            let read = dead.read(&mut chunk).await.expect("bytes");
            bytes.extend_from_slice(&chunk[..read]);
            if let Some(place) = bytes.windows(2).position(|pair| pair == [0x88, 6]) {
                assert_eq!(bytes[place + 2..place + 4], 1001u16.to_be_bytes());
                break;
            }
        }
        let after = started.elapsed();
        assert!(after >= Duration::from_secs(60) && after < Duration::from_secs(61), "{after:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_credential_ends_its_socket() {
        let started = Instant::now();
        let mut client = client(session(0, Some(Duration::from_secs(100))).await).await;
        let code = loop {
            if let Some(code) = closed(next(&mut client).await) {
                break code;
            }
        };
        assert_eq!(code, 4001);
        assert!(started.elapsed() < Duration::from_secs(105));
    }

    #[tokio::test(start_paused = true)]
    async fn sixty_four_kibibytes_are_read_and_one_more_is_not() {
        let most = upgrade::MESSAGE_BYTES_MAX;
        let mut client = client(session(0, None).await).await;
        client.send(Message::Text("x".repeat(most).into())).await.expect("sent");
        assert_eq!(next(&mut client).await.len(), most);
        client.send(Message::Text("x".repeat(most + 1).into())).await.expect("sent");
        assert_eq!(closed(next(&mut client).await), Some(1009));
    }

    #[tokio::test(start_paused = true)]
    async fn frames_beyond_the_rate_are_dropped_and_the_socket_stays() {
        let mut client = client(session(2, None).await).await;
        for (frame, answer) in [
            (Message::Text("one".into()), "one"),
            (Message::Binary(vec![0].into()), "binary"),
            (Message::Text("three".into()), "limited 60"),
        ] {
            client.send(frame).await.expect("sent");
            assert_eq!(next(&mut client).await, Message::Text(answer.into()));
        }
        tokio::time::sleep(Duration::from_secs(20)).await;
        client.send(Message::Ping(tungstenite::Bytes::new())).await.expect("sent");
        assert!(matches!(next(&mut client).await, Message::Pong(_)), "pings are not counted");
        client.send(Message::Text("four".into())).await.expect("sent");
        assert_eq!(next(&mut client).await, Message::Text("limited 40".into()));
        tokio::time::sleep(Duration::from_secs(40)).await;
        while client.send(Message::Text("five".into())).await.is_ok() {
            match next(&mut client).await {
                Message::Ping(_) => {}
                answer => {
                    assert_eq!(answer, Message::Text("five".into()));
                    return;
                }
            }
        }
    }
}
