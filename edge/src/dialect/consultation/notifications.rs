//! consultation.md, notifications.

use serde::Serialize;
use serde_json::{Map, Value};
use switchboard_proto::{
    json::from_struct,
    notification::v1::{Notification, Read, subscribe_request::Action},
};
use tokio_tungstenite::tungstenite::Utf8Bytes;

use crate::dialect::{Decoded, frame, iso, json, typed_error};

/// What is said first.
pub(crate) const GREETING: &str = r#"{"type":"connection_established","message":"Connected to notifications"}"#;

/// Reads a text frame.
pub(crate) fn decode(text: &str) -> Decoded<Action> {
    let Ok(frame) = frame::object(text) else {
        return Decoded::Reply(typed_error("the frame must be a JSON object"));
    };
    match frame.get("type") {
        Some(Value::String(kind)) if kind == "mark_read" => match frame.get("notification_id") {
            Some(Value::String(id)) if !id.is_empty() => {
                Decoded::Act(Action::Read(Read { notification_ids: vec![id.clone()], all: false }))
            }
            _ => Decoded::Reply(typed_error("notification_id is required and must be a string")),
        },
        other => Decoded::Reply(typed_error(&frame::unknown_type(other))),
    }
}

/// Something happened.
pub(crate) fn notification(notification: &Notification) -> Utf8Bytes {
    #[derive(Serialize)]
    struct Out<'a> {
        r#type: &'static str,
        data: Data<'a>,
    }
    #[derive(Serialize)]
    struct Data<'a> {
        id: &'a str,
        title: &'a str,
        message: &'a str,
        notification_type: &'a str,
        is_read: bool,
        created_at: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        data: Option<Map<String, Value>>,
    }
    json(&Out {
        r#type: "notification",
        data: Data {
            id: &notification.id,
            title: &notification.title,
            message: &notification.message,
            notification_type: &notification.notification_type,
            is_read: notification.is_read,
            created_at: iso(notification.created_at),
            data: notification.data.clone().map(from_struct),
        },
    })
}

/// How many are unread.
pub(crate) fn unread_count(count: i64) -> Utf8Bytes {
    #[derive(Serialize)]
    struct Out {
        r#type: &'static str,
        count: i64,
    }
    json(&Out { r#type: "unread_count", count })
}

#[cfg(test)]
mod tests {
    use switchboard_proto::json::to_struct;

    use super::*;
    use crate::dialect::tests::value;

    #[test]
    fn what_is_no_mark_is_answered() {
        for bad in [
            "x",
            "[]",
            "{}",
            r#"{"type":"mark_read"}"#,
            r#"{"type":"mark_read","notification_id":""}"#,
            r#"{"type":"mark_read","notification_id":5}"#,
            r#"{"type":"chat_message","message":"hello"}"#,
        ] {
            let Decoded::Reply(reply) = decode(bad) else { panic!("{bad}") };
            assert_eq!(value(&reply)["type"], "error", "{bad}");
        }
    }

    #[test]
    fn its_data_is_an_object_as_it_was_given() {
        let data = serde_json::json!({ "consultation_id": "c", "count": 3, "nested": { "list": [1.5, null] } });
        let object = data.as_object().cloned().expect("an object");
        let with = Notification { data: Some(to_struct(object)), ..Notification::default() };
        assert_eq!(value(&notification(&with))["data"]["data"], data);
        let without = value(&notification(&Notification::default()));
        assert!(without["data"].as_object().is_some_and(|fields| !fields.contains_key("data")));
    }
}
