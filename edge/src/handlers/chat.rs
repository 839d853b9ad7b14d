//! A socket in a conversation, in any of the five protocols.

use std::sync::Arc;

use futures_util::{FutureExt as _, future::BoxFuture};
use switchboard_chassis::{Clock, clock::timestamp, grpc::Peer};
use switchboard_proto::{
    chat::v1::{
        Conversation, Join, ListMessagesRequest, ListMessagesResponse, RefusalReason, Refused, Send,
        chat_service_client::ChatServiceClient, converse_request::Action, converse_response::Event,
    },
    wire,
};
use tokio_tungstenite::tungstenite::Utf8Bytes;
use tonic::Status;

use super::patiently;
use crate::{
    dialect::{self, Decoded, Dialect, Ends, Viewer},
    goodbye,
    link::{Carried, Told},
    order::{Offer, Order},
    people::People,
    session::{Asking, Care, End, Handler, Heard, Io, OptionFuture, Out, Pending},
};

/// When a message may be sent again that could not be stored just now.
const RETRY_AFTER_S: u64 = 1;
/// Messages of the past that are fetched at a time.
const PAGE_MESSAGES: i32 = 100;

impl Carried for wire::Chat {}

/// A page of the past, with the head at the time of asking.
pub(crate) type Page = (u64, Result<ListMessagesResponse, Status>);

/// See the module.
pub(crate) struct ChatHandler {
    dialect: &'static dyn Dialect,
    viewer: Viewer,
    join: Join,
    conversation_id: String,
    backstage: Arc<Backstage>,
    order: Order,
    /// A page of the past that is being fetched.
    page: Option<BoxFuture<'static, Page>>,
    /// What is said before anything else, while it waits for the answer to the first request.
    greeting: Option<Utf8Bytes>,
    /// Where the conversation is, for who asked for it: said after the greeting.
    place: Option<Utf8Bytes>,
    first_request: Option<u64>,
}

/// What a chat socket needs besides its conversation.
pub(crate) struct Entered {
    pub(crate) dialect: &'static dyn Dialect,
    pub(crate) viewer: Viewer,
    pub(crate) join: Join,
    pub(crate) backstage: Arc<Backstage>,
}

/// What all chat sockets of an edge share.
pub(crate) struct Backstage {
    pub(crate) chat: ChatServiceClient<Peer>,
    pub(crate) people: People,
    pub(crate) clock: Clock,
}

impl ChatHandler {
    /// For somebody who entered a conversation; `after` replays what came after this message, or after a place that was
    /// told before, first. `@` asks for the place, and replays nothing.
    pub(crate) fn new(entered: Entered, conversation: &Conversation, after: Option<String>) -> Self {
        let Entered { dialect, viewer, join, backstage } = entered;
        let now = dialect::iso(Some(timestamp(backstage.clock.now())));
        let mut handler = Self {
            greeting: dialect.greeting(conversation, &viewer, &now),
            dialect,
            viewer,
            join,
            conversation_id: conversation.id.clone(),
            backstage,
            order: Order::live(conversation.last_seq),
            place: None,
            page: None,
            first_request: None,
        };
        match after.as_deref().map(After::read) {
            None => {}
            Some(After::AskedFor) => handler.place = Some(dialect::place(conversation.last_seq)),
            Some(After::Place(seq)) => {
                handler.order = Order::live(seq.min(conversation.last_seq));
                handler.order.raise(conversation.last_seq);
                handler.catch_up();
            }
            Some(After::Message(id)) => {
                handler.order = Order::replaying(conversation.last_seq);
                handler.fetch(0, id.to_owned());
            }
        }
        handler
    }

    /// Says the greeting, if it has not been said: before anything else.
    async fn say_greeting<S: Io>(&mut self, out: &mut Out<'_, S>) -> Result<(), End> {
        for said in [self.greeting.take(), self.place.take()].into_iter().flatten() {
            out.feed(said).await?;
        }
        Ok(())
    }

    async fn show<S: Io>(&mut self, told: &Told<wire::Chat>, out: &mut Out<'_, S>) -> Result<(), End> {
        let Some(view) = self.dialect.view(&told.event, &self.viewer) else { return Ok(()) };
        let text = match told.encoded(view) {
            Some(text) => text,
            None => {
                let person = self.backstage.people.of(self.dialect, &told.event).await;
                told.encode(view, || self.dialect.encode(&told.event, view, &person))
            }
        };
        out.feed(self.named(text, &told.event)).await
    }

    /// Names a message to its sender as the sender named it.
    fn named(&self, text: Utf8Bytes, event: &Event) -> Utf8Bytes {
        match event {
            Event::Message(message) if message.sender_id == self.viewer.user_id => {
                dialect::about(text, &message.client_message_id, None)
            }
            _ => text,
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
        let (chat, head) = (self.backstage.chat.clone(), self.order.head());
        let fetching = async move {
            let list = || {
                let (mut chat, request) = (chat.clone(), request.clone());
                async move { chat.list_messages(request).await }
            };
            (head, patiently(list).await)
        };
        self.page = Some(fetching.boxed());
    }

    /// What the client is told whose action was refused: which message it was, and whether to send it again.
    fn refused(&self, refused: &Refused, action: &Action) -> Utf8Bytes {
        let text = self.dialect.refused(refused, Some(action));
        let Action::Send(send) = action else { return text };
        let is_passing = matches!(refused.reason(), RefusalReason::Overloaded | RefusalReason::Unavailable);
        dialect::about(text, &send.client_message_id, is_passing.then_some(RETRY_AFTER_S))
    }

    /// A session that was in is not let in again: for good, or just now.
    fn unseated(&self, refused: &Refused) -> Result<Heard, End> {
        match refused.reason() {
            RefusalReason::ConversationNotFound => Err(End::Goodbye(self.dialect.ends().not_found)),
            RefusalReason::NotAParticipant | RefusalReason::WrongRole => {
                Err(End::Goodbye(self.dialect.ends().forbidden))
            }
            // It joined twice while the link came and went.
            RefusalReason::AlreadyJoined => Ok(Heard::Fine),
            _ => Ok(Heard::JoinLater),
        }
    }
}

impl Handler for ChatHandler {
    type Wire = wire::Chat;
    type Own = Page;

    fn ends(&self) -> Ends {
        self.dialect.ends()
    }

    fn join_again(&self) -> Join {
        Join { again: true, ..self.join.clone() }
    }

    async fn begin<S: Io>(&mut self, asking: &mut Asking<wire::Chat>, out: &mut Out<'_, S>) -> Result<(), End> {
        match self.dialect.on_join() {
            // The greeting follows its answer.
            Some(action) => {
                self.first_request = Some(asking.ask(action));
                Ok(())
            }
            None => self.say_greeting(out).await,
        }
    }

    fn is_ready(&self) -> bool {
        self.greeting.is_none()
    }

    fn decode(&mut self, text: &str) -> Decoded<Action> {
        match self.dialect.decode(text, &self.viewer) {
            // The id is ours, so that a repeat over another stream is known.
            Decoded::Act(Action::Send(send)) => {
                Decoded::Act(Action::Send(Send { id: self.backstage.clock.new_id().to_string(), ..send }))
            }
            Decoded::Reply(reply) => Decoded::Reply(dialect::about(reply, &dialect::named_in(text), None)),
            other => other,
        }
    }

    fn binary(&self) -> Utf8Bytes {
        self.dialect.binary()
    }

    fn rate_limited(&self, retry_after_s: u64) -> Utf8Bytes {
        self.dialect.rate_limited(retry_after_s)
    }

    fn overloaded(&self, action: &Action) -> Utf8Bytes {
        let refused = Refused {
            reason: RefusalReason::Unavailable.into(),
            message: "temporarily unavailable; nothing was stored, send it again".to_owned(),
        };
        self.refused(&refused, action)
    }

    fn care(action: &Action) -> Care {
        if matches!(action, Action::Typing(_)) { Care::Dropped } else { Care::Kept }
    }

    fn again(action: Action) -> Action {
        match action {
            Action::Send(send) => Action::Send(Send { retry: true, ..send }),
            other => other,
        }
    }

    async fn hear<S: Io>(
        &mut self,
        told: &Told<wire::Chat>,
        answered: Option<&Pending<wire::Chat>>,
        out: &mut Out<'_, S>,
    ) -> Result<Heard, End> {
        if self.greeting.is_some() || self.place.is_some() {
            // Boxed, as it comes once: each idle socket would hold room for it.
            Box::pin(self.say_greeting(out)).await?;
        }
        let is_first = answered.as_ref().is_some_and(|pending| Some(pending.request) == self.first_request);
        let answered = answered.map(|pending| &pending.action);
        match &told.event {
            Event::Message(message) => match self.order.offer(message.seq) {
                Offer::Next => self.show(told, out).await?,
                // The client repeated a message, and this is the first one: it has another id than the repeat.
                Offer::Behind if answered.is_some_and(|action| is_other_send(action, &message.id)) => {
                    self.show(told, out).await?;
                }
                Offer::Behind => {}
                Offer::Gap => self.catch_up(),
            },
            Event::Joined(joined) => {
                let head = joined.conversation.as_ref().map_or(0, |conversation| conversation.last_seq);
                self.order.raise(head);
                self.catch_up();
            }
            Event::Refused(refused) => match answered {
                Some(Action::Join(_)) => return self.unseated(refused),
                // The client did not ask for it.
                Some(_) if is_first => {}
                Some(action) => out.feed(self.refused(refused, action)).await?,
                // It was asked again meanwhile, on another stream.
                None => {}
            },
            _ => self.show(told, out).await?,
        }
        Ok(Heard::Fine)
    }

    async fn down<S: Io>(&mut self, out: &mut Out<'_, S>) -> Result<(), End> {
        self.say_greeting(out).await
    }

    async fn own(&mut self) -> Page {
        // Nothing of the past is said before the greeting.
        if self.greeting.is_some() {
            std::future::pending::<()>().await;
        }
        let page = OptionFuture(self.page.as_mut()).await;
        self.page = None;
        page
    }

    async fn owned<S: Io>(&mut self, (head, page): Page, out: &mut Out<'_, S>) -> Result<(), End> {
        match page {
            Ok(page) => {
                let mut seqs = page.messages.iter().map(|message| message.seq);
                self.order.fetched(seqs.next_back(), head);
                for message in page.messages {
                    let event = Event::Message(message);
                    if let Some(view) = self.dialect.view(&event, &self.viewer) {
                        let person = self.backstage.people.of(self.dialect, &event).await;
                        let text = self.dialect.encode(&event, view, &person);
                        out.feed(self.named(text, &event)).await?;
                    }
                }
            }
            Err(status) if status.code() == tonic::Code::NotFound => {
                // What came meanwhile is still to be shown.
                let newest = self.order.head();
                self.order = Order::live(head);
                self.order.raise(newest);
                out.feed(self.dialect.unknown_after()).await?;
            }
            Err(status) => {
                tracing::error!(code = ?status.code(), message = status.message(), "the past cannot be read");
                return Err(End::Goodbye(goodbye::INTERNAL));
            }
        }
        self.catch_up();
        Ok(())
    }
}

/// What is to be replayed.
#[derive(Debug, PartialEq, Eq)]
enum After<'a> {
    /// Nothing: where the conversation is was asked for.
    AskedFor,
    /// What came after a place.
    Place(u64),
    /// What came after a message.
    Message(&'a str),
}

impl<'a> After<'a> {
    fn read(after: &'a str) -> Self {
        match after.strip_prefix('@').map(|place| (place, place.parse())) {
            Some(("", _)) => Self::AskedFor,
            Some((_, Ok(seq))) => Self::Place(seq),
            _ => Self::Message(after),
        }
    }
}

/// Whether an action sent a message of another id.
fn is_other_send(action: &Action, id: &str) -> bool {
    matches!(action, Action::Send(send) if send.id != id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_to_be_replayed() {
        assert_eq!(After::read("@"), After::AskedFor);
        assert_eq!(After::read("@41"), After::Place(41));
        for id in ["41", "0190d3f0-0000-7000-8000-000000000001", "@-1", "@x"] {
            assert_eq!(After::read(id), After::Message(id));
        }
    }
}
