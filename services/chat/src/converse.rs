//! One caller's stream: its sessions, and what they do.

use std::{
    collections::{HashMap, hash_map::Entry},
    pin::pin,
    sync::Arc,
    time::Duration,
};

use futures_util::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use switchboard_chassis::{Clock, Lifecycle};
use switchboard_proto::chat::v1::{
    Accepted, ConverseRequest, ConverseResponse, GoAway, Join, Receipt, Receipts, RefusalReason, Send, Typing,
    converse_request::Action, converse_response::Event, join,
};
use tonic::Streaming;
use uuid::Uuid;

use crate::{
    convert,
    hub::{Admitted, Entrant, Hub},
    link::{Asker, Link},
    model::{Draft, Kind, Reading, Refusal},
    rules::{self, RECEIPT_MESSAGES_MAX},
    store::{Marked, Store},
    writer::{self, Sender, Writer},
};

/// Actions of a session that wait for its join.
const EARLY_ACTIONS_MAX: usize = 64;
/// Joins and receipts of a stream that wait for the database.
const PENDING_MAX: usize = 16_384;

/// How long an ended stream waits for the answers to what it asked.
const LAST_ANSWERS_TIMEOUT: Duration = Duration::from_secs(10);

enum Session {
    /// What it did meanwhile waits. The number tells this join from another of the same session.
    Joining(u64, Vec<(u64, Action)>),
    In(Admitted),
}

enum Done {
    Joined { session: u64, join: u64, result: Result<Admitted, Refusal> },
    Told,
}

/// What a part of a receipt moved.
pub(crate) struct Read {
    /// What to tell, if anything moved.
    pub(crate) event: Option<Event>,
    /// Where the next part begins, if there may be one.
    pub(crate) next: Option<u64>,
}

/// What a stream needs of the service.
#[derive(Clone)]
pub(crate) struct Rooms {
    pub(crate) hub: Arc<Hub>,
    pub(crate) store: Arc<Store>,
    pub(crate) writer: Writer,
    pub(crate) clock: Clock,
    pub(crate) lifecycle: Lifecycle,
}

/// Serves a stream until it ends.
pub(crate) async fn converse(rooms: Rooms, mut requests: Streaming<ConverseRequest>, link: Link) {
    let mut stream = Stream {
        rooms: rooms.clone(),
        link: link.clone(),
        sessions: HashMap::new(),
        joins: 0,
        pending: FuturesUnordered::new(),
    };
    let mut drained = pin!(rooms.lifecycle.drained().fuse());
    loop {
        tokio::select! {
            request = requests.message() => match request {
                Ok(Some(request)) => stream.act(request),
                // Half-closed, cancelled and dead look alike here: the sessions leave in each case.
                Ok(None) | Err(_) => break,
            },
            Some(done) = stream.pending.next() => stream.done(done),
            () = link.overflown() => {
                tracing::warn!("a caller stopped reading its stream");
                break;
            }
            () = &mut drained => {
                link.push(ConverseResponse { sessions: Vec::new(), event: Some(Event::GoAway(GoAway {})), answer: None });
            }
            () = rooms.lifecycle.stopped() => break,
        }
    }
    // What was asked is finished: nobody joins after the leave, and who only half-closed hears every answer.
    while let Some(done) = stream.pending.next().await {
        stream.done(done);
    }
    if tokio::time::timeout(LAST_ANSWERS_TIMEOUT, link.all_answered()).await.is_err() {
        tracing::warn!("a stream ended with unanswered actions");
    }
    for (session, state) in stream.sessions {
        if let Session::In(admitted) = state {
            rooms.hub.leave(&link, session, &admitted);
        }
    }
}

struct Stream {
    rooms: Rooms,
    link: Link,
    sessions: HashMap<u64, Session>,
    joins: u64,
    pending: FuturesUnordered<BoxFuture<'static, Done>>,
}

impl Stream {
    fn act(&mut self, ConverseRequest { session, action, request }: ConverseRequest) {
        let asker = self.link.asker(session, request);
        match (action, self.sessions.entry(session)) {
            (None, _) => refuse(&asker, Refusal::invalid("action", "is required")),
            (Some(Action::Join(_)), Entry::Occupied(_)) => {
                refuse(&asker, Refusal::new(RefusalReason::AlreadyJoined, "this session is in a conversation already"));
            }
            (Some(Action::Join(_)), _) if session == 0 => {
                refuse(&asker, Refusal::invalid("session", "must not be 0"));
            }
            (Some(Action::Join(join)), Entry::Vacant(place)) => {
                if self.pending.len() >= PENDING_MAX {
                    return refuse(&asker, Refusal::overloaded());
                }
                self.joins += 1;
                let number = self.joins;
                place.insert(Session::Joining(number, Vec::new()));
                let rooms = self.rooms.clone();
                let joining =
                    async move { Done::Joined { session, join: number, result: enter(&rooms, &asker, join).await } };
                self.pending.push(joining.boxed());
            }
            (Some(Action::Leave(_)), Entry::Occupied(state)) => {
                // One that is still joining leaves when it is in: see `done`.
                if let Session::In(admitted) = state.get() {
                    self.rooms.hub.leave(&self.link, session, admitted);
                }
                state.remove();
            }
            (Some(Action::Leave(_)), Entry::Vacant(_)) => {}
            (Some(_), Entry::Vacant(_)) => refuse(&asker, not_joined()),
            (Some(action), Entry::Occupied(mut state)) => match state.get_mut() {
                Session::Joining(_, early) if early.len() < EARLY_ACTIONS_MAX => early.push((request, action)),
                Session::Joining(..) => refuse(&asker, Refusal::overloaded()),
                Session::In(admitted) => {
                    if let Some(pending) = self.rooms.act(asker, admitted, action, self.pending.len()) {
                        self.pending.push(pending);
                    }
                }
            },
        }
    }

    fn done(&mut self, done: Done) {
        let Done::Joined { session, join, result } = done else { return };
        let is_awaited = |state: &Session| matches!(state, Session::Joining(number, _) if *number == join);
        let early = match self.sessions.entry(session) {
            Entry::Occupied(state) if is_awaited(state.get()) => match state.remove() {
                Session::Joining(_, early) => Some(early),
                Session::In(_) => None,
            },
            _ => None,
        };
        match (result, early) {
            (Ok(admitted), Some(early)) => {
                self.sessions.insert(session, Session::In(admitted));
                for (request, action) in early {
                    self.act(ConverseRequest { session, request, action: Some(action) });
                }
            }
            // It left before it was in.
            (Ok(admitted), None) => self.rooms.hub.leave(&self.link, session, &admitted),
            (Err(_), early) => {
                for (request, _) in early.into_iter().flatten() {
                    refuse(&self.link.asker(session, request), not_joined());
                }
            }
        }
    }
}

/// Joins; a refusal has been told already when this returns it.
async fn enter(rooms: &Rooms, asker: &Asker, join: Join) -> Result<Admitted, Refusal> {
    let entered = async {
        let id = match join.conversation {
            Some(join::Conversation::ConversationId(id)) => {
                Uuid::try_parse(&id).map_err(|_| Refusal::no_conversation())?
            }
            Some(join::Conversation::ConversationNumber(named)) => {
                let found = rooms.store.conversation_by_number(named.kind(), named.number).await?;
                found.ok_or_else(Refusal::no_conversation)?.id
            }
            None => return Err(Refusal::invalid("conversation", "is required")),
        };
        let kinds = join.kinds.iter().filter_map(|kind| Kind::try_from(*kind).ok()).collect();
        let entrant = Entrant { user_id: join.user_id, role: join.role, kinds, again: join.again };
        rooms.hub.join(asker, id, entrant).await
    };
    let entered = entered.await;
    if let Err(refusal) = &entered {
        refuse(asker, refusal.clone());
    }
    entered
}

impl Rooms {
    /// Does what needs no waiting at once, and gives back the rest.
    fn act(
        &self,
        asker: Asker,
        admitted: &Admitted,
        action: Action,
        pending: usize,
    ) -> Option<BoxFuture<'static, Done>> {
        match action {
            Action::Send(send) => {
                if let Err((refusal, asker)) = self.send(asker, admitted, send) {
                    refuse(&asker, refusal);
                }
                None
            }
            Action::Typing(typing) => {
                let event = Event::Typing(Typing {
                    user_id: admitted.user_id.clone(),
                    role: admitted.role.as_str().to_owned(),
                    is_typing: typing.is_typing,
                    at: Some(convert::timestamp(self.clock.now())),
                });
                self.hub.tell(admitted.conversation.id, event, Some(&asker));
                None
            }
            Action::Receipt(_) if pending >= PENDING_MAX => {
                refuse(&asker, Refusal::overloaded());
                None
            }
            Action::Receipt(receipt) => {
                let (rooms, admitted) = (self.clone(), admitted.clone());
                let read = async move {
                    if let Err(refusal) = rooms.read_all(&admitted, receipt, &asker).await {
                        refuse(&asker, refusal);
                    }
                    Done::Told
                };
                Some(read.boxed())
            }
            Action::Join(_) | Action::Leave(_) => None,
        }
    }

    fn send(&self, asker: Asker, admitted: &Admitted, send: Send) -> Result<(), (Refusal, Asker)> {
        match self.draft(admitted, send) {
            Err(refusal) => Err((refusal, asker)),
            Ok(draft) => {
                if let Err(sender) = self.writer.write(draft, Sender::Session(asker)) {
                    writer::refuse(sender, Refusal::overloaded());
                }
                Ok(())
            }
        }
    }

    /// A message that passed the rules.
    pub(crate) fn draft(&self, admitted: &Admitted, mut send: Send) -> Result<Draft, Refusal> {
        if !self.hub.still_sits(admitted) {
            return Err(Refusal::new(RefusalReason::NotAParticipant, "the user no longer sits in this conversation"));
        }
        let conversation = &admitted.conversation;
        let role = std::mem::take(&mut send.role);
        let sender_role = rules::write_as(conversation, &admitted.user_id, admitted.role, &role)?;
        let retry = send.retry;
        let (body, id, client_message_id) = rules::body(conversation.kind, send)?;
        Ok(Draft {
            conversation_id: conversation.id,
            id: id.unwrap_or_else(|| self.clock.new_id()),
            retry,
            sender_id: admitted.user_id.clone(),
            sender_role,
            body,
            client_message_id,
        })
    }

    /// Moves receipts part by part and tells each; the answer rides on the last.
    async fn read_all(&self, admitted: &Admitted, receipt: Receipt, asker: &Asker) -> Result<(), Refusal> {
        let reading = rules::reading(receipt)?;
        let mut after = 0;
        loop {
            let part = self.read(admitted, &reading, after).await?;
            let asker = part.next.is_none().then_some(asker);
            match (part.event, asker) {
                (Some(event), asker) => self.hub.tell(admitted.conversation.id, event, asker),
                (None, Some(asker)) => asker.tell(Event::Accepted(Accepted {})),
                (None, None) => {}
            }
            match part.next {
                Some(next) => after = next,
                None => return Ok(()),
            }
        }
    }

    /// Moves a part of the receipts, of messages above `after`.
    pub(crate) async fn read(&self, admitted: &Admitted, reading: &Reading, after: u64) -> Result<Read, Refusal> {
        let Admitted { conversation, user_id, role } = admitted;
        let Marked { changed, up_to } = self.store.mark(conversation, user_id, *role, reading, after).await??;
        let next = changed.last().filter(|_| changed.len() >= RECEIPT_MESSAGES_MAX).map(|last| last.seq);
        // A consultation's reader is always told of; the other protocols tell only what changed.
        let is_told = conversation.kind == Kind::Consultation && up_to.is_some();
        let event = (!changed.is_empty() || is_told).then(|| {
            Event::Receipts(Receipts {
                user_id: admitted.user_id.clone(),
                role: admitted.role.as_str().to_owned(),
                status: reading.status.into(),
                messages: changed.iter().map(convert::named).collect(),
                at: Some(convert::timestamp(self.clock.now())),
                is_status_update: reading.is_status_update,
                up_to: up_to.as_ref().map(convert::named),
            })
        });
        Ok(Read { event, next })
    }
}

fn refuse(asker: &Asker, refusal: Refusal) {
    asker.tell(Event::Refused(convert::refused(refusal)));
}

fn not_joined() -> Refusal {
    Refusal::new(RefusalReason::NotJoined, "this session is in no conversation: join first")
}
