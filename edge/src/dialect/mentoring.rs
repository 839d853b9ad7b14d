//! mentoring.md: `{"message": "..."}` or `{"type": "mark_read"}` in, frames with a `type` or an `error` out.

use serde::Serialize;
use serde_json::Value;
use switchboard_proto::{
    chat::v1::{
        Conversation, Message, MessageStatus, Receipt, RefusalReason, Refused, Send, converse_request::Action,
        converse_response::Event,
    },
    identity::v1::User,
};
use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::{Decoded, Dialect, Ends, JWT_ENDS, RATE_LIMITED, Viewer, frame, id_value, iso, json, plain_error};
use crate::rate::Limit;

pub(super) struct Mentoring;

/// Views of a message: somebody else's, one's own.
const OWN: usize = 1;
const INVALID: &str = "Invalid JSON.";
const EMPTY: &str = "Message content cannot be empty.";

impl Dialect for Mentoring {
    fn ends(&self) -> Ends {
        JWT_ENDS
    }

    /// Who connects has read what the other side wrote.
    fn on_join(&self) -> Option<Action> {
        Some(Action::Receipt(Receipt { status: MessageStatus::Read.into(), all: true, ..Receipt::default() }))
    }

    fn greeting(&self, conversation: &Conversation, _: &Viewer, _: &str) -> Option<Utf8Bytes> {
        #[derive(Serialize)]
        struct Out {
            r#type: &'static str,
            conversation_id: String,
            room_group_name: String,
        }
        Some(json(&Out {
            r#type: "connection_established",
            conversation_id: conversation.number.to_string(),
            room_group_name: format!("chat_{}", conversation.number),
        }))
    }

    fn decode(&self, text: &str, _: &Viewer) -> Decoded {
        let Ok(frame) = frame::object(text) else { return Decoded::Reply(plain_error(INVALID)) };
        if frame.get("type").and_then(Value::as_str) == Some("mark_read") {
            return match frame.get("message_id").and_then(frame::number) {
                Some(message_id) => Decoded::Act(Action::Receipt(Receipt {
                    status: MessageStatus::Read.into(),
                    up_to: message_id.to_string(),
                    ..Receipt::default()
                })),
                None => Decoded::Reply(plain_error("message_id is required and must be a number.")),
            };
        }
        let content = match frame.get("message") {
            Some(Value::String(content))
                if !content.trim().is_empty() && !frame::is_foreign(&frame, &["mark_read"]) =>
            {
                content.clone()
            }
            _ => return Decoded::Reply(plain_error(EMPTY)),
        };
        match frame::client_message_id(&frame) {
            Ok(client_message_id) => Decoded::Act(Action::Send(Send { content, client_message_id, ..Send::default() })),
            Err(wrong) => Decoded::Reply(plain_error(wrong)),
        }
    }

    fn binary(&self) -> Utf8Bytes {
        plain_error(INVALID)
    }

    fn view(&self, event: &Event, viewer: &Viewer) -> Option<usize> {
        match event {
            Event::Message(message) => Some(if message.sender_id == viewer.user_id { OWN } else { 0 }),
            Event::Receipts(receipts) if receipts.status() == MessageStatus::Read => {
                (receipts.user_id != viewer.user_id).then_some(0)
            }
            _ => None,
        }
    }

    fn person<'a>(&self, event: &'a Event) -> Option<&'a str> {
        match event {
            Event::Message(message) => Some(&message.sender_id),
            _ => None,
        }
    }

    fn encode(&self, event: &Event, view: usize, person: &User) -> Utf8Bytes {
        #[derive(Serialize)]
        struct Told<M: Serialize> {
            r#type: &'static str,
            message: M,
        }
        #[derive(Serialize)]
        struct Read {
            r#type: &'static str,
            message_id: i64,
            is_read: bool,
        }
        match event {
            Event::Message(message) => {
                json(&Told { r#type: "new_message", message: shown(message, person, view == OWN) })
            }
            Event::Receipts(receipts) => json(&Read {
                r#type: "update_message_status",
                message_id: receipts.messages.last().map_or(0, |message| message.number),
                is_read: true,
            }),
            _ => Utf8Bytes::default(),
        }
    }

    fn refused(&self, refused: &Refused, action: Option<&Action>) -> Utf8Bytes {
        let is_receipt = matches!(action, Some(Action::Receipt(_)));
        plain_error(match refused.reason() {
            RefusalReason::EmptyContent => EMPTY,
            RefusalReason::MessageNotFound => "Message not found.",
            RefusalReason::NotJoined => "Conversation not established.",
            RefusalReason::InvalidArgument => &refused.message,
            _ if is_receipt => "Failed to update message status.",
            _ => "Failed to save message.",
        })
    }

    fn rate_limited(&self, _: u64) -> Utf8Bytes {
        plain_error(RATE_LIMITED)
    }

    fn limit(&self) -> Limit {
        Limit::Mentoring
    }

    fn unknown_after(&self) -> Utf8Bytes {
        plain_error("Unknown message in 'after'.")
    }
}

/// A message as clients read it.
pub(crate) fn shown<'a>(message: &'a Message, person: &'a User, is_own_message: bool) -> impl Serialize + 'a {
    #[derive(Serialize)]
    struct Out<'a, P: Serialize> {
        id: i64,
        sender: Value,
        sender_profile: P,
        content: &'a str,
        timestamp: String,
        is_read: bool,
        is_own_message: bool,
    }
    Out {
        id: message.number,
        sender: id_value(&message.sender_id),
        sender_profile: profile(person, &message.sender_role),
        content: &message.content,
        timestamp: iso(message.created_at),
        is_read: message.status() == MessageStatus::Read,
        is_own_message,
    }
}

/// A person as clients read it. Its `user_id` is the profile's id; who has none is named by the user's.
pub(crate) fn profile<'a>(person: &'a User, role: &str) -> impl Serialize + use<'a> {
    #[derive(Serialize)]
    struct Out<'a> {
        user_id: Value,
        full_name: &'a str,
        username: &'a str,
        email: &'a str,
        role: String,
    }
    let id = if person.profile_id.is_empty() { &person.id } else { &person.profile_id };
    Out {
        user_id: id_value(id),
        full_name: &person.full_name,
        username: &person.username,
        email: &person.email,
        role: role.to_uppercase(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Map;
    use switchboard_proto::chat::v1::{MessageRef, Receipts};

    use super::*;
    use crate::dialect::tests::{fences, timestamp, value};

    const DOCUMENT: &str = include_str!("mentoring.md");
    /// 2023-10-27T10:30:00Z
    const WHEN: i64 = 1_698_402_600;

    #[test]
    fn every_example_of_the_document_is_claimed() {
        let mut examples = fences(DOCUMENT).into_iter();
        let mut next = || examples.next().expect("an example");
        let viewer = Viewer { user_id: "5".into(), ..Viewer::default() };

        let Decoded::Act(Action::Send(send)) = Mentoring.decode(&next().to_string(), &viewer) else {
            panic!("not a send")
        };
        assert_eq!(send.content, "Your chat message content here");

        let conversation = Conversation { number: 123, ..Conversation::default() };
        let greeting = value(&Mentoring.greeting(&conversation, &viewer, "").expect("a greeting"));
        let example = next();
        assert_eq!(greeting["type"], example["type"]);
        assert_eq!(
            (greeting["conversation_id"].as_str(), greeting["room_group_name"].as_str()),
            (Some("123"), Some("chat_123"))
        );
        assert!(
            greeting.as_object().map(Map::keys).into_iter().flatten().eq(example
                .as_object()
                .map(Map::keys)
                .into_iter()
                .flatten())
        );

        let message = Event::Message(Message {
            number: 101,
            sender_id: "5".into(),
            sender_role: "student".into(),
            content: "The actual chat message text.".into(),
            created_at: timestamp(WHEN),
            ..Message::default()
        });
        let person = User {
            id: "5".into(),
            profile_id: "25".into(),
            full_name: "John Doe".into(),
            username: "johndoe".into(),
            email: "john.doe@example.com".into(),
            ..User::default()
        };
        let view = Mentoring.view(&message, &viewer).expect("shown");
        assert_eq!(value(&Mentoring.encode(&message, view, &person)), next());
        let other = Mentoring.view(&message, &Viewer::default()).expect("shown");
        assert_eq!(value(&Mentoring.encode(&message, other, &person))["message"]["is_own_message"], false);

        assert_eq!(value(&plain_error(EMPTY)), next());
        let refused = Refused { reason: RefusalReason::NotJoined.into(), message: String::new() };
        assert_eq!(value(&Mentoring.refused(&refused, None)), next());
        assert_eq!(examples.next(), None);
    }

    #[test]
    fn reading_is_told_to_the_others() {
        let messages = [101, 103].map(|number| MessageRef { number, ..MessageRef::default() }).to_vec();
        let event = Event::Receipts(Receipts {
            user_id: "5".into(),
            status: MessageStatus::Read.into(),
            messages,
            ..Receipts::default()
        });
        assert_eq!(Mentoring.view(&event, &Viewer { user_id: "5".into(), ..Viewer::default() }), None);
        let told = value(&Mentoring.encode(&event, 0, &User::default()));
        assert_eq!(told, serde_json::json!({"type": "update_message_status", "message_id": 103, "is_read": true}));
    }

    #[test]
    fn errors_are_the_documented_ones() {
        for (frame, expected) in [
            ("x", INVALID),
            ("[]", INVALID),
            ("{}", EMPTY),
            (r#"{"message":" "}"#, EMPTY),
            (r#"{"message":5}"#, EMPTY),
            (r#"{"type":"mark_read"}"#, "message_id is required and must be a number."),
            (r#"{"type":"mark_read","message_id":"x"}"#, "message_id is required and must be a number."),
        ] {
            let Decoded::Reply(reply) = Mentoring.decode(frame, &Viewer::default()) else { panic!("{frame}") };
            assert_eq!(value(&reply), serde_json::json!({ "error": expected }), "{frame}");
        }
        for message_id in ["101", "\"101\""] {
            let frame = format!(r#"{{"type":"mark_read","message_id":{message_id}}}"#);
            let Decoded::Act(Action::Receipt(receipt)) = Mentoring.decode(&frame, &Viewer::default()) else {
                panic!("{frame}")
            };
            assert_eq!(receipt.up_to, "101");
        }
        let failed = Refused { reason: RefusalReason::Unavailable.into(), message: String::new() };
        let send = Action::Send(Send::default());
        assert_eq!(value(&Mentoring.refused(&failed, Some(&send)))["error"], "Failed to save message.");
    }
}
