//! Between our words and the wire's.

use switchboard_chassis::clock::timestamp;
use switchboard_proto::chat::v1 as wire;

use crate::model::{Conversation, Message, Named};

pub(crate) fn conversation(conversation: &Conversation) -> wire::Conversation {
    wire::Conversation {
        id: conversation.id.to_string(),
        number: conversation.number,
        kind: conversation.kind.into(),
        participants: conversation
            .seats
            .iter()
            .map(|seat| wire::Participant { user_id: seat.user_id.clone(), role: seat.role.as_str().to_owned() })
            .collect(),
        subject: conversation.subject.clone(),
        status: conversation.openness.into(),
        last_seq: conversation.last_seq,
        created_at: Some(timestamp(conversation.created_at)),
        updated_at: Some(timestamp(conversation.updated_at)),
        secondary: false,
    }
}

pub(crate) fn message(message: Message) -> wire::Message {
    wire::Message {
        id: message.id.to_string(),
        conversation_id: message.conversation_id.to_string(),
        number: message.number,
        seq: message.seq,
        sender_id: message.sender_id,
        sender_role: message.sender_role.as_str().to_owned(),
        content: message.body.content,
        message_type: message.body.message_type.into(),
        media_url: message.body.media_url,
        is_urgent: message.body.is_urgent,
        metadata_json: message.body.metadata_json,
        client_message_id: message.client_message_id.unwrap_or_default(),
        created_at: Some(timestamp(message.created_at)),
        status: message.status.into(),
    }
}

pub(crate) fn named(named: &Named) -> wire::MessageRef {
    wire::MessageRef { id: named.id.to_string(), number: named.number }
}
