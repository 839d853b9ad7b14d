//! clinic.md: `{"content": "...", "role": "..."}` in, `{"message": {...}}` or `{"error": "..."}` out.

use serde::Serialize;
use serde_json::Value;
use switchboard_proto::{
    chat::v1::{Message, RefusalReason, Refused, Send, converse_request::Action, converse_response::Event},
    identity::v1::User,
};
use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::{Decoded, Dialect, Ends, JWT_ENDS, RATE_LIMITED, Viewer, frame, iso, json, plain_error};
use crate::rate::Limit;

pub(super) struct Clinic;

/// `Message content cannot be empty`, for the socket and for REST.
pub(crate) const EMPTY: &str = "Message content cannot be empty";
/// `Chat not found`, for the socket and for REST.
pub(crate) const NOT_FOUND: &str = "Chat not found";

impl Dialect for Clinic {
    fn ends(&self) -> Ends {
        JWT_ENDS
    }

    fn decode(&self, text: &str, viewer: &Viewer) -> Decoded {
        let Ok(frame) = frame::object(text) else { return Decoded::Reply(plain_error("Invalid JSON")) };
        match send(&frame, viewer) {
            Ok(send) => Decoded::Act(Action::Send(send)),
            Err(wrong) => Decoded::Reply(plain_error(&wrong)),
        }
    }

    fn binary(&self) -> Utf8Bytes {
        plain_error("Invalid JSON")
    }

    fn view(&self, event: &Event, _: &Viewer) -> Option<usize> {
        matches!(event, Event::Message(_)).then_some(0)
    }

    fn encode(&self, event: &Event, _: usize, _: &User) -> Utf8Bytes {
        #[derive(Serialize)]
        struct Out<'a> {
            message: Told<'a>,
        }
        #[derive(Serialize)]
        struct Told<'a> {
            id: &'a str,
            content: &'a str,
            sender_type: &'static str,
            created_at: String,
        }
        let Event::Message(message) = event else { return Utf8Bytes::default() };
        json(&Out {
            message: Told {
                id: &message.id,
                content: &message.content,
                sender_type: sender_type(message),
                created_at: iso(message.created_at),
            },
        })
    }

    fn refused(&self, refused: &Refused, action: Option<&Action>) -> Utf8Bytes {
        let role = match action {
            Some(Action::Send(send)) => send.role.as_str(),
            _ => "",
        };
        plain_error(&refusal(refused.reason(), &refused.message, role))
    }

    fn rate_limited(&self, _: u64) -> Utf8Bytes {
        plain_error(RATE_LIMITED)
    }

    fn limit(&self) -> Limit {
        Limit::Clinic
    }

    fn unknown_after(&self) -> Utf8Bytes {
        plain_error("Unknown message in 'after'")
    }

    fn last_words(&self) -> Option<Utf8Bytes> {
        Some(plain_error(NOT_FOUND))
    }
}

/// A send from a frame's or a REST body's fields, or the documented error.
pub(crate) fn send(frame: &serde_json::Map<String, Value>, viewer: &Viewer) -> Result<Send, String> {
    let content = match frame.get("content") {
        Some(Value::String(content)) if !content.trim().is_empty() && !frame::is_foreign(frame, &[]) => content.clone(),
        _ => return Err(EMPTY.to_owned()),
    };
    let role = match frame.get("role") {
        None | Some(Value::Null) => "",
        Some(Value::String(role)) => match role.to_lowercase().as_str() {
            "patient" => "patient",
            "professional" | "provider" => "professional",
            _ => return Err(invalid_role(role)),
        },
        Some(other) => return Err(invalid_role(&other.to_string())),
    };
    Ok(Send {
        content,
        // Who has one profile writes with that one, whatever the frame says.
        role: if viewer.has_both_profiles { role.to_owned() } else { String::new() },
        client_message_id: frame::client_message_id(frame)?,
        ..Send::default()
    })
}

/// The documented error for a refusal by the service.
pub(crate) fn refusal(reason: RefusalReason, message: &str, role: &str) -> String {
    match reason {
        RefusalReason::EmptyContent => EMPTY.to_owned(),
        RefusalReason::ConversationNotFound => NOT_FOUND.to_owned(),
        RefusalReason::WrongRole => {
            format!("Cannot send message as {role}: you are not the {role} in this chat")
        }
        _ => message.to_owned(),
    }
}

/// `patient` or `professional`.
pub(crate) fn sender_type(message: &Message) -> &'static str {
    if message.sender_role == "professional" { "professional" } else { "patient" }
}

fn invalid_role(role: &str) -> String {
    format!("Invalid role '{role}'. Must be 'patient' or 'professional'")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::tests::{fences, message, value};

    const DOCUMENT: &str = include_str!("clinic.md");

    fn both() -> Viewer {
        Viewer { has_both_profiles: true, ..Viewer::default() }
    }

    fn decoded(text: &str, viewer: &Viewer) -> Result<Send, String> {
        match Clinic.decode(text, viewer) {
            Decoded::Act(Action::Send(send)) => Ok(send),
            Decoded::Reply(reply) => Err(value(&reply)["error"].as_str().expect("text").to_owned()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_example_of_the_document_is_claimed() {
        let mut examples = fences(DOCUMENT).into_iter();
        let mut next = || examples.next().expect("an example");

        let send = decoded(&next().to_string(), &both()).expect("a send");
        assert_eq!((send.content.as_str(), send.role.as_str()), ("Hello, how can I help you?", "patient"));

        let event = message("Hello, how can I help you?", "p", "patient", (1_765_103_400, 123_456_000));
        let mut told = value(&Clinic.encode(&event, 0, &User::default()));
        told["message"]["id"] = "message-uuid".into();
        assert_eq!(told, next());

        let mut told = value(&plain_error("x"));
        told["error"] = "Error message here".into();
        assert_eq!(told, next());

        let send = decoded(&next().to_string(), &both()).expect("a send");
        assert_eq!((send.content.as_str(), send.role.as_str()), ("Hello!", "patient"));
        assert_eq!(examples.next(), None);
    }

    #[test]
    fn errors_are_the_documented_ones() {
        for bad in ["", "not json", "[]", "null", "7", r#"{"content":"\udfff"}"#] {
            assert_eq!(decoded(bad, &both()), Err("Invalid JSON".to_owned()), "{bad}");
        }
        for empty in ["{}", r#"{"content":""}"#, r#"{"content":" \t"}"#, r#"{"content":null}"#, r#"{"content":5}"#] {
            assert_eq!(decoded(empty, &both()), Err("Message content cannot be empty".to_owned()), "{empty}");
        }
        assert_eq!(
            decoded(r#"{"content":"a","role":"nurse"}"#, &Viewer::default()),
            Err("Invalid role 'nurse'. Must be 'patient' or 'professional'".to_owned())
        );
        assert_eq!(
            decoded(r#"{"content":"a","role":5}"#, &both()),
            Err("Invalid role '5'. Must be 'patient' or 'professional'".to_owned())
        );
        let wrong = Refused { reason: RefusalReason::WrongRole.into(), message: String::new() };
        let sent = Action::Send(Send { role: "professional".into(), ..Send::default() });
        assert_eq!(
            value(&Clinic.refused(&wrong, Some(&sent)))["error"],
            "Cannot send message as professional: you are not the professional in this chat"
        );
    }

    #[test]
    fn a_role_matters_only_with_both_profiles() {
        let role = |text, viewer: &Viewer| decoded(text, viewer).expect("a send").role;
        assert_eq!(role(r#"{"content":"a","role":"Provider"}"#, &both()), "professional");
        assert_eq!(role(r#"{"content":"a","role":"PATIENT"}"#, &both()), "patient");
        assert_eq!(role(r#"{"content":"a","role":"provider"}"#, &Viewer::default()), "");
        assert_eq!(role(r#"{"content":"a"}"#, &both()), "");
    }
}
