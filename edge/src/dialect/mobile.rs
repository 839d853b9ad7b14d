//! mobile.md: frames with a `type`, errors as `{"type": "error", "message": ...}`.

use serde::Serialize;
use serde_json::{Map, Value};
use switchboard_proto::{
    chat::v1::{
        Conversation, Message, MessageStatus, MessageType, Receipt, RefusalReason, Refused, Send, Typing,
        converse_request::Action, converse_response::Event,
    },
    identity::v1::User,
};
use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::{Decoded, Dialect, Ends, RATE_LIMITED, Viewer, frame, id_value, iso, json, typed_error};
use crate::{goodbye, rate::Limit};

pub(super) struct Mobile;

/// `Message content cannot be empty`, for the socket and for REST.
pub(crate) const EMPTY: &str = "Message content cannot be empty";
/// `Conversation is closed`, for the socket and for REST.
pub(crate) const CLOSED: &str = "Conversation is closed";
/// `Failed to create message`, for the socket and for REST.
pub(crate) const FAILED: &str = "Failed to create message";
const INVALID_STATUS: &str = "Invalid message status update";
const FAILED_STATUS: &str = "Failed to update message status";

impl Dialect for Mobile {
    fn ends(&self) -> Ends {
        Ends {
            unauthenticated: goodbye::MOBILE_DEVICE_INVALID,
            forbidden: goodbye::MOBILE_FORBIDDEN,
            not_found: goodbye::MOBILE_NOT_FOUND,
        }
    }

    fn greeting(&self, conversation: &Conversation, viewer: &Viewer, now: &str) -> Option<Utf8Bytes> {
        #[derive(Serialize)]
        struct Out<'a> {
            r#type: &'static str,
            conversation_id: i64,
            device_id: Option<&'a str>,
            #[serde(skip_serializing_if = "Option::is_none")]
            user_id: Option<Value>,
            timestamp: &'a str,
        }
        let (device_id, user_id) = match viewer.role.as_str() {
            "device" => (Some(viewer.user_id.as_str()), None),
            _ => (None, Some(id_value(&viewer.user_id))),
        };
        Some(json(&Out {
            r#type: "connection_established",
            conversation_id: conversation.number,
            device_id,
            user_id,
            timestamp: now,
        }))
    }

    fn decode(&self, text: &str, _: &Viewer) -> Decoded {
        let Ok(frame) = frame::object(text) else { return Decoded::Reply(typed_error("Invalid JSON format")) };
        let action = match frame.get("type") {
            Some(Value::String(kind)) if kind == "chat_message" => send(&frame).map(Action::Send),
            Some(Value::String(kind)) if kind == "message_status" => status_update(&frame).map(Action::Receipt),
            Some(Value::String(kind)) if kind == "typing_indicator" => frame::is_typing(&frame).map(Action::Typing),
            Some(Value::String(kind)) if kind == "read_receipt" => read_receipt(&frame).map(Action::Receipt),
            other => Err(frame::unknown_type(other)),
        };
        match action {
            Ok(action) => Decoded::Act(action),
            Err(wrong) => Decoded::Reply(typed_error(&wrong)),
        }
    }

    fn binary(&self) -> Utf8Bytes {
        typed_error("Invalid JSON format")
    }

    fn view(&self, event: &Event, _: &Viewer) -> Option<usize> {
        match event {
            Event::Message(_)
            | Event::Typing(_)
            | Event::Receipts(_)
            | Event::ParticipantJoined(_)
            | Event::ParticipantLeft(_) => Some(0),
            _ => None,
        }
    }

    fn person<'a>(&self, event: &'a Event) -> Option<&'a str> {
        match event {
            Event::Message(message) if message.sender_role != "device" => Some(&message.sender_id),
            _ => None,
        }
    }

    fn encode(&self, event: &Event, _: usize, person: &User) -> Utf8Bytes {
        #[derive(Serialize)]
        struct Told<M: Serialize> {
            r#type: &'static str,
            message: M,
        }
        #[derive(Serialize)]
        struct TypingOut<'a> {
            r#type: &'static str,
            device_id: Option<&'a str>,
            user_id: Option<Value>,
            is_typing: bool,
            timestamp: String,
        }
        #[derive(Serialize)]
        struct StatusOut {
            r#type: &'static str,
            message_id: i64,
            status: &'static str,
            timestamp: String,
        }
        #[derive(Serialize)]
        struct ReadOut<'a> {
            r#type: &'static str,
            device_id: Option<&'a str>,
            user_id: Option<Value>,
            message_ids: Vec<i64>,
            timestamp: String,
        }
        match event {
            Event::Message(message) => json(&Told { r#type: "chat_message", message: shown(message, person, false) }),
            Event::Typing(Typing { user_id, role, is_typing, at }) => {
                let (device_id, user_id) = who(user_id, role);
                let timestamp = iso(*at);
                json(&TypingOut { r#type: "typing_indicator", device_id, user_id, is_typing: *is_typing, timestamp })
            }
            // A status update names one message.
            Event::Receipts(receipts) if receipts.is_status_update => json(&StatusOut {
                r#type: "message_status_update",
                message_id: receipts.messages.first().map_or(0, |message| message.number),
                status: status(receipts.status()),
                timestamp: iso(receipts.at),
            }),
            Event::Receipts(receipts) => {
                let (device_id, user_id) = who(&receipts.user_id, &receipts.role);
                json(&ReadOut {
                    r#type: "read_receipt",
                    device_id,
                    user_id,
                    message_ids: receipts.messages.iter().map(|message| message.number).collect(),
                    timestamp: iso(receipts.at),
                })
            }
            Event::ParticipantJoined(joined) => came_or_went(&joined.user_id, &joined.role, "joined", iso(joined.at)),
            Event::ParticipantLeft(left) => came_or_went(&left.user_id, &left.role, "left", iso(left.at)),
            _ => Utf8Bytes::default(),
        }
    }

    fn refused(&self, refused: &Refused, action: Option<&Action>) -> Utf8Bytes {
        let is_receipt = matches!(action, Some(Action::Receipt(_)));
        typed_error(match refused.reason() {
            RefusalReason::EmptyContent => EMPTY,
            RefusalReason::ConversationClosed => CLOSED,
            RefusalReason::MessageNotFound | RefusalReason::OwnMessage => FAILED_STATUS,
            RefusalReason::InvalidArgument if !is_receipt => &refused.message,
            _ if is_receipt => FAILED_STATUS,
            _ => FAILED,
        })
    }

    fn rate_limited(&self, _: u64) -> Utf8Bytes {
        typed_error(RATE_LIMITED)
    }

    fn limit(&self) -> Limit {
        Limit::Mobile
    }

    fn unknown_after(&self) -> Utf8Bytes {
        typed_error("after is not a message of this conversation")
    }
}

/// A send from a frame's or a REST body's fields, or the documented error.
pub(crate) fn send(frame: &Map<String, Value>) -> Result<Send, String> {
    let text = |field: &str| match frame.get(field) {
        None | Some(Value::Null) => Ok(String::new()),
        Some(Value::String(text)) => Ok(text.clone()),
        Some(_) => Err(format!("{field} must be a string")),
    };
    let content = text("content")?;
    let media_url = text("media_url")?;
    let message_type = match text("message_type")?.as_str() {
        "" | "text" => MessageType::Text,
        "image" => MessageType::Image,
        "video" => MessageType::Video,
        "audio" => MessageType::Audio,
        "file" => MessageType::File,
        "location" => MessageType::Location,
        other => return Err(format!("Invalid message type: {other}")),
    };
    if content.trim().is_empty() && (message_type == MessageType::Text || media_url.is_empty()) {
        return Err(EMPTY.to_owned());
    }
    let is_urgent = match frame.get("is_urgent") {
        None | Some(Value::Null) => false,
        Some(Value::Bool(is_urgent)) => *is_urgent,
        Some(_) => return Err("is_urgent must be true or false".to_owned()),
    };
    let metadata_json = match frame.get("metadata") {
        None | Some(Value::Null) => String::new(),
        Some(Value::Object(metadata)) if metadata.is_empty() => String::new(),
        Some(metadata @ Value::Object(_)) => metadata.to_string(),
        Some(_) => return Err("metadata must be an object".to_owned()),
    };
    let client_message_id = frame::client_message_id(frame)?;
    Ok(Send {
        content,
        message_type: message_type.into(),
        media_url,
        is_urgent,
        metadata_json,
        client_message_id,
        ..Send::default()
    })
}

fn status_update(frame: &Map<String, Value>) -> Result<Receipt, String> {
    let status = match frame.get("status").and_then(Value::as_str) {
        Some("delivered") => MessageStatus::Delivered,
        Some("read") => MessageStatus::Read,
        _ => return Err(INVALID_STATUS.to_owned()),
    };
    let message_id = frame.get("message_id").and_then(frame::number).ok_or(INVALID_STATUS)?;
    let message_ids = vec![message_id.to_string()];
    Ok(Receipt { status: status.into(), message_ids, strict: true, is_status_update: true, ..Receipt::default() })
}

fn read_receipt(frame: &Map<String, Value>) -> Result<Receipt, String> {
    const WRONG: &str = "message_ids must be a list of at most 1000 message ids";
    let ids = frame.get("message_ids").and_then(Value::as_array).filter(|ids| ids.len() <= 1000).ok_or(WRONG)?;
    let ids: Option<Vec<String>> = ids.iter().map(|id| frame::number(id).map(|id| id.to_string())).collect();
    let message_ids = ids.ok_or(WRONG)?;
    Ok(Receipt { status: MessageStatus::Read.into(), message_ids, ..Receipt::default() })
}

/// A message as clients read it; REST also gives its metadata.
pub(crate) fn shown<'a>(message: &'a Message, person: &'a User, with_metadata: bool) -> impl Serialize + 'a {
    #[derive(Serialize)]
    #[serde(untagged)]
    enum Sender<'a> {
        Device { r#type: &'static str, device_id: &'a str },
        Staff { id: Value, username: &'a str, first_name: &'a str, last_name: &'a str },
    }
    #[derive(Serialize)]
    struct Out<'a> {
        message_id: i64,
        content: &'a str,
        message_type: &'static str,
        media_url: &'a str,
        is_urgent: bool,
        #[serde(skip_serializing_if = "Option::is_none")]
        metadata: Option<Value>,
        sender_type: &'static str,
        sender_info: Sender<'a>,
        sent_at: String,
        status: &'static str,
    }
    let (first_name, last_name) = person.full_name.split_once(' ').unwrap_or((&person.full_name, ""));
    let (sender_type, sender_info) = if message.sender_role == "device" {
        ("mobile", Sender::Device { r#type: "mobile_user", device_id: &message.sender_id })
    } else {
        let id = id_value(&message.sender_id);
        ("admin", Sender::Staff { id, username: &person.username, first_name, last_name })
    };
    let metadata = || serde_json::from_str(&message.metadata_json).unwrap_or_else(|_| Value::Object(Map::new()));
    Out {
        message_id: message.number,
        content: &message.content,
        message_type: match message.message_type() {
            MessageType::Image => "image",
            MessageType::Video => "video",
            MessageType::Audio => "audio",
            MessageType::File => "file",
            MessageType::Location => "location",
            MessageType::Text | MessageType::Unspecified => "text",
        },
        media_url: &message.media_url,
        is_urgent: message.is_urgent,
        metadata: with_metadata.then(metadata),
        sender_type,
        sender_info,
        sent_at: iso(message.created_at),
        status: status(message.status()),
    }
}

fn status(status: MessageStatus) -> &'static str {
    match status {
        MessageStatus::Read => "read",
        MessageStatus::Delivered => "delivered",
        MessageStatus::Sent | MessageStatus::Unspecified => "sent",
    }
}

/// `device_id` and `user_id`, of which one is null.
fn who<'a>(user_id: &'a str, role: &str) -> (Option<&'a str>, Option<Value>) {
    if role == "device" { (Some(user_id), None) } else { (None, Some(id_value(user_id))) }
}

fn came_or_went(user_id: &str, role: &str, verb: &str, timestamp: String) -> Utf8Bytes {
    #[derive(Serialize)]
    struct Out<'a> {
        r#type: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        device_id: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        user_id: Option<Value>,
        timestamp: String,
    }
    let (device_id, user_id) = who(user_id, role);
    let who = if device_id.is_some() { "mobile_user" } else { "user" };
    json(&Out { r#type: format!("{who}_{verb}"), device_id, user_id, timestamp })
}

#[cfg(test)]
mod tests {
    use switchboard_proto::chat::v1::{MessageRef, ParticipantJoined, ParticipantLeft, Receipts};

    use super::*;
    use crate::dialect::tests::{fences, timestamp, value};

    const DOCUMENT: &str = include_str!("mobile.md");
    /// 2024-01-01T12:00:00Z
    const NOON: i64 = 1_704_110_400;

    fn act(frame: &Value) -> Action {
        match Mobile.decode(&frame.to_string(), &Viewer::default()) {
            Decoded::Act(action) => action,
            other => panic!("{other:?} for {frame}"),
        }
    }

    fn told(event: &Event) -> Value {
        value(&Mobile.encode(event, 0, &User::default()))
    }

    fn message(content: &str) -> Message {
        Message {
            number: 456,
            content: content.into(),
            sender_id: "abc123xyz".into(),
            sender_role: "device".into(),
            created_at: timestamp(NOON),
            status: MessageStatus::Sent.into(),
            ..Message::default()
        }
    }

    #[test]
    fn every_example_of_the_document_is_claimed() {
        let mut examples = fences(DOCUMENT).into_iter();
        let mut next = || examples.next().expect("an example");

        let viewer = Viewer { user_id: "abc123xyz".into(), role: "device".into(), ..Viewer::default() };
        let conversation = Conversation { number: 123, ..Conversation::default() };
        let greeting = Mobile.greeting(&conversation, &viewer, "2024-01-01T12:00:00Z").expect("a greeting");
        assert_eq!(value(&greeting), next());

        let Action::Send(send) = act(&next()) else { panic!("not a send") };
        assert_eq!((send.content.as_str(), send.message_type()), ("Hello, I need help!", MessageType::Text));
        let Action::Send(send) = act(&next()) else { panic!("not a send") };
        assert_eq!(
            (send.message_type(), send.media_url.as_str()),
            (MessageType::Image, "https://example.com/image.jpg")
        );

        assert_eq!(told(&Event::Message(message("Hello, I need help!"))), next());

        let Action::Receipt(receipt) = act(&next()) else { panic!("not a receipt") };
        assert_eq!(
            (receipt.status(), receipt.message_ids, receipt.strict),
            (MessageStatus::Delivered, vec!["456".into()], true)
        );
        let receipts = |numbers: &[i64], is_status_update, role: &str, seconds| {
            Event::Receipts(Receipts {
                user_id: if role == "device" { "abc123xyz".into() } else { "1".into() },
                role: role.into(),
                status: MessageStatus::Read.into(),
                messages: numbers
                    .iter()
                    .map(|number| MessageRef { number: *number, ..MessageRef::default() })
                    .collect(),
                at: timestamp(seconds),
                is_status_update,
                up_to: None,
            })
        };
        assert_eq!(told(&receipts(&[456], true, "device", NOON + 1)), next());

        let Action::Typing(typing) = act(&next()) else { panic!("not typing") };
        assert!(typing.is_typing);
        // The document prints both ids; one of them is null.
        let typing = |user_id: &str, role: &str| {
            told(&Event::Typing(Typing {
                user_id: user_id.into(),
                role: role.into(),
                is_typing: true,
                at: timestamp(NOON + 2),
            }))
        };
        let both = next();
        for (was, field, other) in
            [(typing("abc123xyz", "device"), "device_id", "user_id"), (typing("1", "staff"), "user_id", "device_id")]
        {
            assert_eq!((&was[field], &was[other]), (&both[field], &Value::Null));
            assert_eq!(
                (&was["type"], &was["is_typing"], &was["timestamp"]),
                (&both["type"], &both["is_typing"], &both["timestamp"])
            );
        }

        let Action::Receipt(receipt) = act(&next()) else { panic!("not a receipt") };
        assert_eq!((receipt.message_ids.len(), receipt.strict), (3, false));
        let both = next();
        let was = told(&receipts(&[456, 457, 458], false, "device", NOON + 3));
        for field in ["type", "device_id", "message_ids", "timestamp"] {
            assert_eq!(was[field], both[field]);
        }
        assert_eq!(told(&receipts(&[456], false, "staff", NOON))["user_id"], both["user_id"]);

        let (user_id, role) = ("abc123xyz".to_owned(), "device".to_owned());
        let joined = ParticipantJoined { user_id: user_id.clone(), role: role.clone(), at: timestamp(NOON + 4) };
        assert_eq!(told(&Event::ParticipantJoined(joined)), next());
        let left = ParticipantLeft { user_id, role, at: timestamp(NOON + 5) };
        assert_eq!(told(&Event::ParticipantLeft(left)), next());
        assert_eq!(value(&typed_error("Message content cannot be empty")), next());
        assert_eq!(examples.next(), None);
    }

    #[test]
    fn staff_is_told_of_with_a_name() {
        let person =
            User { id: "9".into(), username: "sam".into(), full_name: "Sam van Staff".into(), ..User::default() };
        let message = Message { sender_id: "9".into(), sender_role: "staff".into(), ..message("hi") };
        let was = value(&Mobile.encode(&Event::Message(message), 0, &person));
        assert_eq!(was["message"]["sender_type"], "admin");
        let info = serde_json::json!({"id": 9, "username": "sam", "first_name": "Sam", "last_name": "van Staff"});
        assert_eq!(was["message"]["sender_info"], info);
    }

    #[test]
    fn errors_are_the_documented_ones() {
        let cases = [
            ("nonsense", "Invalid JSON format"),
            ("[]", "Invalid JSON format"),
            ("{}", "Unknown message type: None"),
            (r#"{"type":null}"#, "Unknown message type: None"),
            (r#"{"type":"dance"}"#, "Unknown message type: dance"),
            (r#"{"type":5}"#, "Unknown message type: 5"),
            (r#"{"type":"chat_message"}"#, EMPTY),
            (r#"{"type":"chat_message","content":" "}"#, EMPTY),
            (r#"{"type":"chat_message","content":"","message_type":"image"}"#, EMPTY),
            (r#"{"type":"chat_message","content":"","media_url":"https://x/y"}"#, EMPTY),
            (r#"{"type":"chat_message","content":5}"#, "content must be a string"),
            (r#"{"type":"chat_message","content":"x","metadata":[]}"#, "metadata must be an object"),
            (r#"{"type":"chat_message","content":"x","is_urgent":"yes"}"#, "is_urgent must be true or false"),
            (r#"{"type":"chat_message","content":"x","message_type":"smell"}"#, "Invalid message type: smell"),
            (r#"{"type":"message_status","message_id":1,"status":"sent"}"#, INVALID_STATUS),
            (r#"{"type":"message_status","message_id":1}"#, INVALID_STATUS),
            (r#"{"type":"message_status","status":"read"}"#, INVALID_STATUS),
            (r#"{"type":"message_status","status":"read","message_id":"x"}"#, INVALID_STATUS),
            (r#"{"type":"typing_indicator"}"#, "is_typing must be true or false"),
            (r#"{"type":"read_receipt"}"#, "message_ids must be a list of at most 1000 message ids"),
            (
                r#"{"type":"read_receipt","message_ids":["x"]}"#,
                "message_ids must be a list of at most 1000 message ids",
            ),
        ];
        for (frame, expected) in cases {
            let Decoded::Reply(reply) = Mobile.decode(frame, &Viewer::default()) else { panic!("{frame}") };
            assert_eq!(value(&reply), serde_json::json!({"type": "error", "message": expected}), "{frame}");
        }
        assert!(matches!(
            act(&serde_json::json!({"type": "chat_message", "message_type": "file", "media_url": "https://x/y"})),
            Action::Send(_)
        ));
        let refused = |reason: RefusalReason, action: &Action| {
            let refused = Refused { reason: reason.into(), message: "why".into() };
            value(&Mobile.refused(&refused, Some(action)))["message"].clone()
        };
        let send = Action::Send(Send::default());
        let receipt = Action::Receipt(Receipt::default());
        assert_eq!(refused(RefusalReason::ConversationClosed, &send), CLOSED);
        assert_eq!(refused(RefusalReason::Unavailable, &send), FAILED);
        assert_eq!(refused(RefusalReason::OwnMessage, &receipt), FAILED_STATUS);
        assert_eq!(refused(RefusalReason::Unavailable, &receipt), FAILED_STATUS);
    }
}
