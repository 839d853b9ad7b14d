//! Writes everything that people have as JSON lines: users, devices, and each conversation followed by its messages.

use std::io::Write;

use anyhow::Context as _;
use prost_types::Timestamp;
use switchboard_chassis::grpc::Peer;
use switchboard_proto::{
    chat::v1::{Conversation, ExportConversationsRequest, ListMessagesRequest, chat_service_client::ChatServiceClient},
    identity::v1::{ListDevicesRequest, ListUsersRequest, identity_service_client::IdentityServiceClient},
};
use tonic::Status;

use super::{Record, Tally, device_line};

const PEOPLE_PAGE: i32 = 2_000;
const CONVERSATIONS_PAGE: i32 = 200;
const MESSAGES_PAGE: i32 = 1_000;

/// Exports all, or with `since` the conversations that changed and the messages that were written at that time or later
/// (users and devices always all). What is written meanwhile may be in it or not.
///
/// # Errors
/// When a service refuses, or the lines cannot be written.
pub async fn export(
    out: &mut (impl Write + Send),
    identity: Peer,
    chat: Peer,
    since: Option<Timestamp>,
) -> anyhow::Result<Tally> {
    let mut lines = Lines { out, tally: Tally::default() };
    let mut identity = IdentityServiceClient::new(identity);
    let mut page_token = String::new();
    loop {
        let request = ListUsersRequest { page_size: PEOPLE_PAGE, page_token };
        let page = identity.list_users(request).await.map_err(|status| told("users", &status))?.into_inner();
        for user in page.users {
            lines.write(Record::User(user))?;
        }
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    loop {
        let request = ListDevicesRequest { page_size: PEOPLE_PAGE, page_token, device_ids: Vec::new() };
        let page = identity.list_devices(request).await.map_err(|status| told("devices", &status))?.into_inner();
        for device in page.devices {
            lines.write(Record::Device(device_line(device)))?;
        }
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }

    let mut chat = ChatServiceClient::new(chat);
    loop {
        let request = ExportConversationsRequest {
            page_size: CONVERSATIONS_PAGE,
            page_token,
            updated_since: since,
            conversation_ids: Vec::new(),
        };
        let page = chat.export_conversations(request).await;
        let page = page.map_err(|status| told("conversations", &status))?.into_inner();
        for conversation in page.conversations {
            messages(&mut lines, &mut chat, conversation, since).await?;
        }
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    lines.out.flush()?;
    Ok(lines.tally)
}

async fn messages<W: Write>(
    lines: &mut Lines<'_, W>,
    chat: &mut ChatServiceClient<Peer>,
    conversation: Conversation,
    since: Option<Timestamp>,
) -> anyhow::Result<()> {
    let (conversation_id, last_seq) = (conversation.id.clone(), conversation.last_seq);
    lines.write(Record::Conversation(conversation))?;
    if last_seq == 0 {
        return Ok(());
    }
    let mut from_seq = match since {
        // Its messages may be older than itself: those that were imported.
        Some(since) => first_since(chat, &conversation_id, last_seq, &since).await?,
        None => 0,
    };
    loop {
        let request = ListMessagesRequest {
            conversation_id: conversation_id.clone(),
            from_seq,
            page_size: MESSAGES_PAGE,
            ..ListMessagesRequest::default()
        };
        let page = chat.list_messages(request).await.map_err(|status| told("messages", &status))?.into_inner();
        for message in page.messages {
            // What came meanwhile is beyond what the conversation's line says.
            if message.seq <= last_seq {
                lines.write(Record::Message(message))?;
            }
        }
        from_seq = page.next_from_seq;
        if from_seq == 0 || from_seq >= last_seq {
            return Ok(());
        }
    }
}

/// The place before the first message of a time or later; messages are stored in the order of their times.
async fn first_since(
    chat: &mut ChatServiceClient<Peer>,
    conversation_id: &str,
    last_seq: u64,
    since: &Timestamp,
) -> anyhow::Result<u64> {
    let (mut low, mut high) = (0, last_seq);
    while low < high {
        let middle = low.midpoint(high);
        let request = ListMessagesRequest {
            conversation_id: conversation_id.to_owned(),
            from_seq: middle,
            page_size: 1,
            ..ListMessagesRequest::default()
        };
        let page = chat.list_messages(request).await.map_err(|status| told("messages", &status))?.into_inner();
        match page.messages.first() {
            Some(message) if message.created_at.as_ref().is_some_and(|at| is_before(at, since)) => low = message.seq,
            _ => high = middle,
        }
    }
    Ok(low)
}

fn is_before(at: &Timestamp, since: &Timestamp) -> bool {
    (at.seconds, at.nanos) < (since.seconds, since.nanos)
}

fn told(what: &str, status: &Status) -> anyhow::Error {
    anyhow::anyhow!("{what}: {} ({:?})", status.message(), status.code())
}

struct Lines<'a, W> {
    out: &'a mut W,
    tally: Tally,
}

impl<W: Write> Lines<'_, W> {
    fn write(&mut self, mut record: Record) -> anyhow::Result<()> {
        record.normalise()?;
        let line = record.line()?;
        self.tally.add(record.kind(), &line);
        writeln!(self.out, "{line}").context("cannot write")
    }
}
