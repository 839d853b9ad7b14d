//! What happens in a conversation, for an operator who looks on.
//!
//! A session that is unseen (`chat.v1.Join.unseen`), on the link that all sessions share: so it goes on at another
//! instance when one goes away, and reads from the archive what it missed.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use switchboard_chassis::{Error, Kind};
use switchboard_proto::{
    chat::v1::{
        Conversation, Join, ListMessagesRequest, Message, RefusalReason, Refused, converse_response::Event as Chat,
        join,
    },
    edge::v1::{TailConversationResponse, TailStarted, tail_conversation_response::Event},
    part,
    wire::{self, Wire},
};
use tokio::{sync::OwnedSemaphorePermit, time::timeout};
use tokio_stream::Stream;
use tonic::{Code, Status};
use uuid::Uuid;

use crate::{
    Edge,
    handlers::patiently,
    link::{Delivery, Inbox, SessionHandle},
};

/// Operators who look on at a time, at one edge.
pub(crate) const TAILS_MAX: usize = 64;
/// How long is waited for a link, and for the answer to a join.
const LINK_WAIT: Duration = Duration::from_secs(3);
const JOIN_WAIT: Duration = Duration::from_secs(10);
/// Before it is tried again to come in after the link broke.
const JOIN_AGAIN: Duration = Duration::from_secs(1);
/// Messages that are fetched at a time.
const PAGE_MESSAGES: i32 = 100;

/// Begins to look on.
pub(crate) async fn tail(
    edge: Arc<Edge>,
    id: Uuid,
    include_text: bool,
    caller: String,
) -> Result<impl Stream<Item = Result<TailConversationResponse, Status>> + Send + 'static, Error> {
    let Ok(place) = edge.tails.clone().try_acquire_owned() else {
        let message = format!("{TAILS_MAX} look on already");
        return Err(Error::new(Kind::Overloaded, "OVERLOADED", message));
    };
    let link = &edge.links.chat;
    let away = || Error::new(Kind::Unavailable, "UNAVAILABLE", "the chat service does not answer");
    timeout(LINK_WAIT, link.up()).await.map_err(|_| away())?;
    let join = Join {
        conversation: Some(join::Conversation::ConversationId(id.to_string())),
        unseen: true,
        ..Join::default()
    };
    let (handle, inbox) = link.session(part::of_join(&join));
    let watch = Watch { caller, conversation_id: id, messages: 0 };
    let mut tail = Tail {
        edge,
        handle,
        inbox,
        join,
        include_text,
        told: 0,
        head: 0,
        ready: VecDeque::new(),
        watch,
        _place: place,
    };
    tail.ask();
    let conversation = timeout(JOIN_WAIT, tail.begin()).await.map_err(|_| away())??;
    tracing::info!(
        target: "audit", caller = tail.watch.caller, action = "TailConversation", conversation_id = %id, include_text,
        "an operator looks on"
    );
    (tail.told, tail.head) = (conversation.last_seq, conversation.last_seq);
    let conversation = Some(Conversation { subject: String::new(), ..conversation });
    tail.ready.push_back(Event::Started(TailStarted { conversation }));
    Ok(futures_util::stream::unfold(Some(tail), |tail| async {
        let mut tail = tail?;
        match tail.next().await {
            Ok(event) => Some((Ok(TailConversationResponse { event: Some(event) }), Some(tail))),
            Err(error) => Some((Err(error.into()), None)),
        }
    }))
}

struct Tail {
    edge: Arc<Edge>,
    handle: SessionHandle<wire::Chat>,
    inbox: Inbox<wire::Chat>,
    join: Join,
    include_text: bool,
    /// The last message that was told, and the newest that is known.
    told: u64,
    head: u64,
    ready: VecDeque<Event>,
    watch: Watch,
    _place: OwnedSemaphorePermit,
}

impl Tail {
    fn ask(&self) {
        // Without a stream there will be one.
        let _ = self.handle.ask(1, wire::Chat::join(self.join.clone()), String::new());
    }

    /// What the first join is answered.
    async fn begin(&mut self) -> Result<Conversation, Error> {
        loop {
            match self.inbox.recv().await {
                Some(Delivery::Event(told)) => match &told.event {
                    Chat::Joined(joined) => return Ok(joined.conversation.clone().unwrap_or_default()),
                    Chat::Refused(refused) => return Err(refusal(refused)),
                    _ => {}
                },
                Some(Delivery::Up) => self.ask(),
                Some(Delivery::End(_)) => return Err(leaving()),
                Some(_) => {}
                None => return Err(too_slow()),
            }
        }
    }

    async fn next(&mut self) -> Result<Event, Error> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                self.watch.messages += u64::from(matches!(event, Event::Message(_)));
                return Ok(event);
            }
            if self.head > self.told {
                self.catch_up().await?;
                continue;
            }
            match self.inbox.recv().await {
                Some(Delivery::Event(told)) => self.hear(&told.event).await?,
                Some(Delivery::Up) => self.ask(),
                Some(Delivery::End(_)) => return Err(leaving()),
                Some(Delivery::Down | Delivery::Answered(_) | Delivery::Newest) => {}
                None => return Err(too_slow()),
            }
        }
    }

    async fn hear(&mut self, event: &Chat) -> Result<(), Error> {
        let event = match event {
            Chat::Message(message) if message.seq == self.told + 1 => {
                self.told = message.seq;
                self.head = self.head.max(message.seq);
                Event::Message(self.shown(message.clone()))
            }
            // What is missing is read from the archive, and what was told already is not told again.
            Chat::Message(message) => {
                self.head = self.head.max(message.seq);
                return Ok(());
            }
            // It came back.
            Chat::Joined(joined) => {
                self.head = self.head.max(joined.conversation.as_ref().map_or(0, |found| found.last_seq));
                return Ok(());
            }
            Chat::Refused(refused) if refused.reason() == RefusalReason::AlreadyJoined => return Ok(()),
            Chat::Refused(refused) if refused.reason() == RefusalReason::ConversationNotFound => {
                return Err(refusal(refused));
            }
            Chat::Refused(_) => {
                tokio::time::sleep(JOIN_AGAIN).await;
                self.ask();
                return Ok(());
            }
            Chat::Typing(typing) => Event::Typing(typing.clone()),
            Chat::Receipts(receipts) => Event::Receipts(receipts.clone()),
            Chat::ParticipantJoined(joined) => Event::ParticipantJoined(joined.clone()),
            Chat::ParticipantLeft(left) => Event::ParticipantLeft(left.clone()),
            Chat::ConversationClosed(closed) => Event::ConversationClosed(*closed),
            Chat::Accepted(_) | Chat::GoAway(_) => return Ok(()),
        };
        self.ready.push_back(event);
        Ok(())
    }

    async fn catch_up(&mut self) -> Result<(), Error> {
        let request = ListMessagesRequest {
            conversation_id: self.watch.conversation_id.to_string(),
            from_seq: self.told,
            page_size: PAGE_MESSAGES,
            ..ListMessagesRequest::default()
        };
        let head = self.head;
        let list = || {
            let (mut chat, request) = (self.edge.chat.clone(), request.clone());
            async move { chat.list_messages(request).await }
        };
        let page = patiently(list).await.map_err(|status| match status.code() {
            Code::NotFound => Error::new(Kind::NotFound, "CONVERSATION_NOT_FOUND", "no such conversation"),
            _ => {
                tracing::error!(code = ?status.code(), message = status.message(), "a conversation cannot be read");
                Error::new(Kind::Internal, "INTERNAL", "internal error")
            }
        })?;
        match page.messages.last() {
            Some(last) => self.told = last.seq,
            // What was announced has been erased since.
            None => self.told = head,
        }
        self.head = self.head.max(self.told);
        for message in page.messages {
            let event = Event::Message(self.shown(message));
            self.ready.push_back(event);
        }
        Ok(())
    }

    /// A message as the operator may see it.
    fn shown(&self, message: Message) -> Message {
        if self.include_text {
            return message;
        }
        let (content, media_url, metadata_json) = (String::new(), String::new(), String::new());
        Message { content, media_url, metadata_json, ..message }
    }
}

/// Says in the log when the looking ends, however it does.
struct Watch {
    caller: String,
    conversation_id: Uuid,
    messages: u64,
}

impl Drop for Watch {
    fn drop(&mut self) {
        let Self { caller, conversation_id, messages } = self;
        tracing::info!(
            target: "audit", caller, action = "TailConversation", %conversation_id, messages, "no operator looks on any more"
        );
    }
}

fn refusal(refused: &Refused) -> Error {
    match refused.reason() {
        RefusalReason::ConversationNotFound => {
            Error::new(Kind::NotFound, "CONVERSATION_NOT_FOUND", "no such conversation")
        }
        RefusalReason::Overloaded => Error::new(Kind::Overloaded, "OVERLOADED", refused.message.clone()),
        RefusalReason::Unavailable => Error::new(Kind::Unavailable, "UNAVAILABLE", refused.message.clone()),
        _ => {
            tracing::error!(reason = refused.reason().as_str_name(), "an operator was not let in to look on");
            Error::new(Kind::Internal, "INTERNAL", "internal error")
        }
    }
}

fn leaving() -> Error {
    Error::new(Kind::Unavailable, "DRAINING", "the edge drains: look on by another one")
}

fn too_slow() -> Error {
    Error::new(Kind::Overloaded, "TOO_SLOW", "the stream was read too slowly; what was missed is in the archive")
}
