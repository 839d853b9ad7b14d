//! What the sessions of a stream do.

use std::sync::Arc;

use futures_util::{FutureExt as _, future::BoxFuture};
use switchboard_chassis::{Clock, Lifecycle, clock::timestamp};
use switchboard_proto::{
    chat::v1::{
        Accepted, Join, Receipt, Receipts, RefusalReason, Send, Typing, converse_request::Action,
        converse_response::Event, join,
    },
    part, wire,
};
use switchboard_sessions::PENDING_MAX;
use uuid::Uuid;

use crate::{
    Asker, Link, convert, doorbell,
    hub::{Admitted, Entrant, Hub},
    model::{self, Draft, Kind, Reading, Refusal},
    rules::{self, RECEIPT_MESSAGES_MAX},
    store::{Marked, Store},
    writer::{self, Sender, Writer},
};

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

impl switchboard_sessions::Rooms for Rooms {
    type Wire = wire::Chat;
    type Admitted = Admitted;

    async fn join(&self, asker: Asker, join: Join) -> Option<Admitted> {
        match self.enter(&asker, join).await {
            Ok(admitted) => Some(admitted),
            Err(refusal) => {
                asker.refuse(refusal);
                None
            }
        }
    }

    fn act(&self, asker: Asker, admitted: &Admitted, action: Action, pending: usize) -> Option<BoxFuture<'static, ()>> {
        match action {
            _ if admitted.unseen => {
                asker.refuse(Refusal::new(RefusalReason::NotAParticipant, "who is unseen may do nothing"));
                None
            }
            Action::Send(send) => {
                if let Err((refusal, asker)) = self.send(asker, admitted, send) {
                    asker.refuse(refusal);
                }
                None
            }
            Action::Typing(_) if !self.hub.still_sits(admitted) => {
                asker.refuse(no_seat());
                None
            }
            Action::Typing(typing) => {
                let event = Event::Typing(Typing {
                    user_id: admitted.user_id.clone(),
                    role: admitted.role.as_str().to_owned(),
                    is_typing: typing.is_typing,
                    at: Some(timestamp(self.clock.now())),
                });
                self.hub.tell(&admitted.conversation, event, Some(&asker));
                None
            }
            Action::Receipt(_) if pending >= PENDING_MAX => {
                asker.refuse(Refusal::overloaded());
                None
            }
            Action::Receipt(receipt) => {
                let (rooms, admitted) = (self.clone(), admitted.clone());
                let read = async move {
                    if let Err(refusal) = rooms.read_all(&admitted, receipt, &asker).await {
                        asker.refuse(refusal);
                    }
                };
                Some(read.boxed())
            }
            Action::Join(_) | Action::Leave(_) => None,
        }
    }

    fn leave(&self, link: &Link, session: u64, admitted: &Admitted, moves: bool) {
        self.hub.leave(link, session, admitted, moves);
    }
}

impl Rooms {
    async fn enter(&self, asker: &Asker, join: Join) -> Result<Admitted, Refusal> {
        let part = part::of_join(&join);
        let id = match join.conversation {
            Some(join::Conversation::ConversationId(id)) => {
                Uuid::try_parse(&id).map_err(|_| model::no_conversation())?
            }
            Some(join::Conversation::ConversationNumber(named)) => {
                let found = self.store.conversation_by_number(named.kind(), named.number).await?;
                found.ok_or_else(model::no_conversation)?.id
            }
            None => return Err(Refusal::invalid("conversation", "is required")),
        };
        let kinds = join.kinds.iter().filter_map(|kind| Kind::try_from(*kind).ok()).collect();
        let entrant = Entrant { user_id: join.user_id, role: join.role, kinds, again: join.again, unseen: join.unseen };
        self.hub.join(asker, id, part, entrant).await
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
            return Err(no_seat());
        }
        let conversation = &admitted.conversation;
        let role = std::mem::take(&mut send.role);
        let sender_role = rules::write_as(conversation, &admitted.user_id, admitted.role, &role)?;
        let retry = send.retry;
        let (body, id, client_message_id) = rules::body(conversation.kind, send)?;
        Ok(Draft {
            absent: self.hub.absent(conversation, &admitted.user_id),
            conversation_id: conversation.id,
            part: doorbell::part_of(conversation),
            kind: conversation.kind,
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
        if !self.hub.still_sits(admitted) {
            return Err(no_seat());
        }
        let reading = rules::reading(receipt)?;
        let mut after = 0;
        loop {
            let part = self.read(admitted, &reading, after).await?;
            let asker = part.next.is_none().then_some(asker);
            match (part.event, asker) {
                (Some(event), asker) => self.hub.tell(&admitted.conversation, event, asker),
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
        let Admitted { conversation, user_id, role, .. } = admitted;
        self.hub.arrived(conversation, user_id);
        let Marked { changed, up_to } =
            self.store.mark(conversation, user_id, *role, reading, after, self.clock.now()).await??;
        let next = changed.last().filter(|_| changed.len() >= RECEIPT_MESSAGES_MAX).map(|last| last.seq);
        // A consultation's reader is always told of; the other protocols tell only what changed.
        let is_told = conversation.kind == Kind::Consultation && up_to.is_some();
        let event = (!changed.is_empty() || is_told).then(|| {
            Event::Receipts(Receipts {
                user_id: admitted.user_id.clone(),
                role: admitted.role.as_str().to_owned(),
                status: reading.status.into(),
                messages: changed.iter().map(convert::named).collect(),
                at: Some(timestamp(self.clock.now())),
                is_status_update: reading.is_status_update,
                up_to: up_to.as_ref().map(convert::named),
            })
        });
        Ok(Read { event, next })
    }
}

/// Of somebody who was in, and whose seat was erased since.
fn no_seat() -> Refusal {
    Refusal::new(RefusalReason::NotAParticipant, "the user no longer sits in this conversation")
}
