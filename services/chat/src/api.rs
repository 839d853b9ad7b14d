//! The RPCs of chat.

use std::sync::Arc;

use switchboard_chassis::{Error, audit::Asked, paging::page_size};
use switchboard_proto::{
    chat::v1::{
        BatchGetMessagesRequest, BatchGetMessagesResponse, CloseConversationRequest, CloseConversationResponse,
        ConversationSummary, ConverseRequest, EraseUserRequest, EraseUserResponse, ExportConversationsRequest,
        ExportConversationsResponse, GetConversationRequest, GetConversationResponse, ImportConversationsRequest,
        ImportConversationsResponse, ImportMessagesRequest, ImportMessagesResponse, ListContactsRequest,
        ListContactsResponse, ListConversationsRequest, ListConversationsResponse, ListMessagesRequest,
        ListMessagesResponse, OpenConversationRequest, OpenConversationResponse, SendMessageRequest,
        SendMessageResponse, UpdateReceiptsRequest, UpdateReceiptsResponse, WatchRequest,
        chat_service_server::ChatService, converse_response::Event, get_conversation_request,
    },
    wire,
};
use tokio::sync::oneshot;
use tonic::{Request, Response, Status, Streaming};
use uuid::Uuid;

use crate::{
    converse::Rooms,
    convert,
    hub::Admitted,
    import,
    model::{self, Conversation, Kind, MessageName, Refusal, Role},
    rules,
    store::{ConversationKey, MessagesFrom, Summary, Whose},
    watch::{Feed, WatchStream},
    writer::{self, Sender},
};

const PAGE_DEFAULT: u32 = 50;
const CONVERSATIONS_PAGE_MAX: u32 = 200;
const CONTACTS_PAGE_DEFAULT: u32 = 100;
const CONTACTS_PAGE_MAX: u32 = 1000;
const MESSAGES_PAGE_MAX: u32 = 1000;
/// An answer ends early after so many bytes of text; what is looked up at a time always fits above it.
const ANSWER_BYTES: usize = 2 << 20;
const MESSAGES_LOOKED_UP: usize = 16;

/// The chat service.
pub struct Chat {
    pub(crate) rooms: Rooms,
    pub(crate) feed: Feed,
}

impl Chat {
    async fn conversation(&self, id: &str) -> Result<Conversation, Status> {
        let id = Uuid::try_parse(id).map_err(|_| model::no_conversation())?;
        let found = self.rooms.store.conversation(id).await?;
        Ok(found.ok_or_else(model::no_conversation)?)
    }

    /// The user as one of the conversation's people.
    async fn admitted(&self, conversation_id: &str, user_id: String, role: &str) -> Result<Admitted, Status> {
        let conversation = Arc::new(self.conversation(conversation_id).await?);
        let role = rules::enter(&conversation, &user_id, role)?;
        Ok(Admitted { conversation, user_id, role, unseen: false })
    }
}

#[tonic::async_trait]
impl ChatService for Chat {
    type ConverseStream = switchboard_sessions::Stream<wire::Chat>;
    type WatchStream = WatchStream;

    async fn watch(&self, request: Request<WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        Ok(Response::new(self.feed.watch(request.into_inner()).await?))
    }

    async fn converse(
        &self,
        request: Request<Streaming<ConverseRequest>>,
    ) -> Result<Response<Self::ConverseStream>, Status> {
        let lifecycle = self.rooms.lifecycle.clone();
        Ok(Response::new(switchboard_sessions::open(self.rooms.clone(), request.into_inner(), lifecycle)))
    }

    async fn open_conversation(
        &self,
        request: Request<OpenConversationRequest>,
    ) -> Result<Response<OpenConversationResponse>, Status> {
        let opening = rules::opening(request.into_inner())?;
        let clock = &self.rooms.clock;
        let (conversation, created) = self.rooms.store.open(&opening, clock.new_id(), clock.now()).await??;
        if created {
            self.feed.ring();
        }
        let conversation = Some(convert::conversation(&conversation));
        Ok(Response::new(OpenConversationResponse { conversation, created }))
    }

    async fn get_conversation(
        &self,
        request: Request<GetConversationRequest>,
    ) -> Result<Response<GetConversationResponse>, Status> {
        let GetConversationRequest { conversation, user_id } = request.into_inner();
        let conversation = match conversation {
            Some(get_conversation_request::Conversation::ConversationId(id)) => self.conversation(&id).await?,
            Some(get_conversation_request::Conversation::ConversationNumber(named)) => {
                let found = self.rooms.store.conversation_by_number(named.kind(), named.number).await?;
                found.ok_or_else(model::no_conversation)?
            }
            None => return Err(Refusal::invalid("conversation", "is required").into()),
        };
        let mut summary = self.rooms.store.summaries(vec![conversation], &user_id).await?.pop().map(summary);
        if let (Some(summary), true) = (&mut summary, user_id.is_empty()) {
            summary.unread_count = 0;
        }
        Ok(Response::new(GetConversationResponse { summary }))
    }

    async fn list_conversations(
        &self,
        request: Request<ListConversationsRequest>,
    ) -> Result<Response<ListConversationsResponse>, Status> {
        let request = request.into_inner();
        if request.kind() == Kind::Unspecified {
            return Err(Error::invalid("kind", "is required").into());
        }
        let size = page_size(request.page_size, PAGE_DEFAULT, CONVERSATIONS_PAGE_MAX)?;
        let skip = skip(request.skip)?;
        let after = match request.page_token.as_str() {
            "" => None,
            token => Some(read_token(token).ok_or_else(|| Error::invalid("page_token", "is not one that we gave"))?),
        };
        let roles: Vec<&str> = request.roles.iter().filter_map(|role| Role::parse(role)).map(Role::as_str).collect();
        if roles.len() < request.roles.len() {
            return Err(Error::invalid("roles", "not all are roles of ours").into());
        }
        let whose = Whose { user_id: &request.user_id, roles: &roles, kind: request.kind() };
        let page = self.rooms.store.conversations(whose, request.open_first, after, skip, size).await?;
        Ok(Response::new(ListConversationsResponse {
            summaries: page.summaries.into_iter().map(summary).collect(),
            next_page_token: page.next.map(write_token).unwrap_or_default(),
            total_size: page.total,
        }))
    }

    async fn list_messages(
        &self,
        request: Request<ListMessagesRequest>,
    ) -> Result<Response<ListMessagesResponse>, Status> {
        let request = request.into_inner();
        let size = page_size(request.page_size, PAGE_DEFAULT, MESSAGES_PAGE_MAX)?;
        let skip = skip(request.skip)?;
        let conversation = self.conversation(&request.conversation_id).await?;
        if !request.user_id.is_empty() {
            rules::enter(&conversation, &request.user_id, &request.role)?;
        }
        let seq = match (request.from_seq, request.from_message.as_str()) {
            (seq, "") => seq,
            (0, name) => {
                let name = MessageName::parse(name).ok_or_else(model::no_message)?;
                self.rooms.store.seq_of(conversation.id, name).await?.ok_or_else(model::no_message)?
            }
            _ => return Err(Error::invalid("from_message", "give it or from_seq, not both").into()),
        };
        let from = MessagesFrom { seq, skip, newest_first: request.newest_first };
        let page = self.rooms.store.messages(&conversation, from, size).await?;
        let last = page.messages.last().map_or(0, |message| message.seq);
        Ok(Response::new(ListMessagesResponse {
            messages: page.messages.into_iter().map(convert::message).collect(),
            next_from_seq: if page.more { last } else { 0 },
            total_size: i64::try_from(conversation.last_seq.saturating_sub(conversation.erased)).unwrap_or(i64::MAX),
        }))
    }

    async fn send_message(
        &self,
        request: Request<SendMessageRequest>,
    ) -> Result<Response<SendMessageResponse>, Status> {
        let SendMessageRequest { conversation_id, user_id, send } = request.into_inner();
        let mut send = send.ok_or_else(|| Error::invalid("send", "is required"))?;
        let role = std::mem::take(&mut send.role);
        let admitted = self.admitted(&conversation_id, user_id, &role).await?;
        let draft = self.rooms.draft(&admitted, send)?;
        let (call, answer) = oneshot::channel();
        if let Err(sender) = self.rooms.writer.write(draft, Sender::Call(call)) {
            writer::refuse(sender, Refusal::overloaded());
        }
        let (message, created) =
            answer.await.map_err(|_| Status::unavailable("this instance is ending; try again"))??;
        Ok(Response::new(SendMessageResponse { message: Some(message), created }))
    }

    async fn update_receipts(
        &self,
        request: Request<UpdateReceiptsRequest>,
    ) -> Result<Response<UpdateReceiptsResponse>, Status> {
        let UpdateReceiptsRequest { conversation_id, user_id, role, receipt } = request.into_inner();
        let receipt = receipt.ok_or_else(|| Error::invalid("receipt", "is required"))?;
        let admitted = self.admitted(&conversation_id, user_id, &role).await?;
        let reading = rules::reading(receipt)?;
        let (mut messages, mut changed, mut after) = (Vec::new(), 0, Some(0));
        while let Some(seq) = after {
            let part = self.rooms.read(&admitted, &reading, seq).await?;
            after = part.next;
            if let Some(Event::Receipts(receipts)) = &part.event {
                changed += receipts.messages.len();
                if messages.is_empty() {
                    messages.clone_from(&receipts.messages);
                }
            }
            if let Some(event) = part.event {
                self.rooms.hub.tell(&admitted.conversation, event, None);
            }
        }
        let changed = i64::try_from(changed).unwrap_or(i64::MAX);
        Ok(Response::new(UpdateReceiptsResponse { messages, changed }))
    }

    async fn close_conversation(
        &self,
        request: Request<CloseConversationRequest>,
    ) -> Result<Response<CloseConversationResponse>, Status> {
        let id = Uuid::try_parse(&request.into_inner().conversation_id).map_err(|_| model::no_conversation())?;
        let closed = self.rooms.store.close(id, self.rooms.clock.now()).await?;
        let closed = closed.ok_or_else(model::no_conversation)?;
        self.rooms.hub.closed(&closed);
        Ok(Response::new(CloseConversationResponse { conversation: Some(convert::conversation(&closed)) }))
    }

    async fn list_contacts(
        &self,
        request: Request<ListContactsRequest>,
    ) -> Result<Response<ListContactsResponse>, Status> {
        let ListContactsRequest { user_id, page_size: asked, page_token } = request.into_inner();
        if user_id.is_empty() {
            return Err(Error::invalid("user_id", "is required").into());
        }
        let size = page_size(asked, CONTACTS_PAGE_DEFAULT, CONTACTS_PAGE_MAX)?;
        let user_ids = self.rooms.store.contacts(&user_id, &page_token, size).await?;
        let is_full = user_ids.len() == usize::try_from(size).unwrap_or(usize::MAX);
        let next_page_token = user_ids.last().filter(|_| is_full).cloned().unwrap_or_default();
        Ok(Response::new(ListContactsResponse { user_ids, next_page_token }))
    }

    async fn erase_user(&self, request: Request<EraseUserRequest>) -> Result<Response<EraseUserResponse>, Status> {
        let user_id = request.get_ref().user_id.clone();
        if user_id.is_empty() {
            return Err(Error::invalid("user_id", "is required").into());
        }
        let asked = Asked::of(&request, &user_id, self.rooms.clock.now());
        let (messages, seats) = self.rooms.store.erase(&user_id, &asked).await?;
        self.rooms.hub.unseat(&user_id);
        self.feed.ring();
        asked.done("chat.EraseUser", messages);
        Ok(Response::new(EraseUserResponse {
            messages_erased: i64::try_from(messages).unwrap_or(i64::MAX),
            seats_erased: i64::try_from(seats).unwrap_or(i64::MAX),
        }))
    }

    async fn export_conversations(
        &self,
        request: Request<ExportConversationsRequest>,
    ) -> Result<Response<ExportConversationsResponse>, Status> {
        let ExportConversationsRequest { page_size: asked, page_token, updated_since, conversation_ids } =
            request.into_inner();
        let size = page_size(asked, PAGE_DEFAULT, CONVERSATIONS_PAGE_MAX)?;
        let wrong = |_| Error::invalid("page_token", "is not one that we gave");
        let after = if page_token.is_empty() { None } else { Some(Uuid::try_parse(&page_token).map_err(wrong)?) };
        let since = import::time("updated_since", updated_since)?;
        if conversation_ids.len() > import::CONVERSATIONS_MAX {
            return Err(Error::invalid("conversation_ids", "at most 200").into());
        }
        let only: Vec<Uuid> = conversation_ids.iter().filter_map(|id| Uuid::try_parse(id).ok()).collect();
        if only.is_empty() && !conversation_ids.is_empty() {
            return Ok(Response::new(Default::default()));
        }
        let page = self.rooms.store.export(after, &only, since, size).await?;
        let is_full = page.len() == usize::try_from(size).unwrap_or(usize::MAX);
        let next_page_token = page.last().filter(|_| is_full).map(|(last, _)| last.id.to_string()).unwrap_or_default();
        let conversations = page.into_iter().map(|(conversation, secondary)| {
            switchboard_proto::chat::v1::Conversation { secondary, ..convert::conversation(&conversation) }
        });
        Ok(Response::new(ExportConversationsResponse { conversations: conversations.collect(), next_page_token }))
    }

    async fn batch_get_messages(
        &self,
        request: Request<BatchGetMessagesRequest>,
    ) -> Result<Response<BatchGetMessagesResponse>, Status> {
        let ids = request.into_inner().message_ids;
        if ids.len() > import::MESSAGES_MAX {
            return Err(Error::invalid("message_ids", "at most 1000").into());
        }
        let (mut messages, mut bytes, mut looked_at) = (Vec::new(), 0, 0);
        for part in ids.chunks(MESSAGES_LOOKED_UP) {
            if bytes >= ANSWER_BYTES {
                return Ok(Response::new(BatchGetMessagesResponse { messages, looked_at }));
            }
            // Nothing has a name that is no id.
            let part_ids: Vec<Uuid> = part.iter().filter_map(|id| Uuid::try_parse(id).ok()).collect();
            for message in self.rooms.store.messages_by_id(&part_ids).await? {
                bytes += message.body.content.len() + message.body.metadata_json.len() + message.body.media_url.len();
                messages.push(convert::message(message));
            }
            looked_at += i32::try_from(part.len()).unwrap_or(i32::MAX);
        }
        Ok(Response::new(BatchGetMessagesResponse { messages, looked_at: 0 }))
    }

    async fn import_conversations(
        &self,
        request: Request<ImportConversationsRequest>,
    ) -> Result<Response<ImportConversationsResponse>, Status> {
        let lines = request.into_inner().conversations;
        if lines.len() > import::CONVERSATIONS_MAX {
            return Err(Error::invalid("conversations", "at most 200").into());
        }
        let read =
            |(place, line)| import::conversation(line).map_err(|wrong| import::at("conversations", place, wrong));
        let lines = lines.into_iter().enumerate().map(read).collect::<Result<Vec<_>, _>>()?;
        let import::Counts { created, updated, unchanged } = self.rooms.store.import_conversations(&lines).await??;
        let [created, updated, unchanged] = [created, updated, unchanged].map(count);
        Ok(Response::new(ImportConversationsResponse { created, updated, unchanged }))
    }

    async fn import_messages(
        &self,
        request: Request<ImportMessagesRequest>,
    ) -> Result<Response<ImportMessagesResponse>, Status> {
        let lines = request.into_inner().messages;
        if lines.len() > import::MESSAGES_MAX {
            return Err(Error::invalid("messages", "at most 1000").into());
        }
        let read = |(place, line)| import::message(line).map_err(|wrong| import::at("messages", place, wrong));
        let lines = lines.into_iter().enumerate().map(read).collect::<Result<Vec<_>, _>>()?;
        let import::Counts { created, updated, unchanged } = self.rooms.store.import_messages(lines).await??;
        let [created, updated, unchanged] = [created, updated, unchanged].map(count);
        Ok(Response::new(ImportMessagesResponse { created, updated, unchanged }))
    }
}

fn count(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn skip(asked: i32) -> Result<u32, Error> {
    u32::try_from(asked).map_err(|_| Error::invalid("skip", "must not be negative"))
}

fn write_token(key: ConversationKey) -> String {
    format!("{}.{}.{}", key.rank, key.updated_at, key.id.simple())
}

fn read_token(token: &str) -> Option<ConversationKey> {
    let mut parts = token.split('.');
    let key = ConversationKey {
        rank: parts.next()?.parse().ok()?,
        updated_at: parts.next()?.parse().ok()?,
        id: Uuid::try_parse(parts.next()?).ok()?,
    };
    parts.next().is_none().then_some(key)
}

fn summary(summary: Summary) -> ConversationSummary {
    ConversationSummary {
        conversation: Some(convert::conversation(&summary.conversation)),
        last_message: summary.last_message.map(convert::message),
        unread_count: summary.unread,
    }
}
