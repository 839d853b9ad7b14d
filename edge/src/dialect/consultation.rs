//! consultation.md: frames with a `type`, errors as `{"type": "error", "message": ...}`. Chat here; notifications and
//! presence in their modules.

pub(crate) mod notifications;
pub(crate) mod presence;

use serde::Serialize;
use serde_json::{Map, Value};
use switchboard_proto::{
    chat::v1::{
        Conversation, MessageStatus, Receipt, Refused, Send, converse_request::Action, converse_response::Event,
    },
    identity::v1::User,
};
use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::{BINARY, Decoded, Dialect, Ends, JWT_ENDS, Viewer, frame, iso, json, limited_error, typed_error};
use crate::rate::Limit;

pub(super) struct Consultation;

/// The close codes of the three sockets.
pub(crate) const ENDS: Ends = JWT_ENDS;
impl Dialect for Consultation {
    fn ends(&self) -> Ends {
        ENDS
    }

    fn greeting(&self, conversation: &Conversation, _: &Viewer, _: &str) -> Option<Utf8Bytes> {
        #[derive(Serialize)]
        struct Out<'a> {
            r#type: &'static str,
            message: &'static str,
            consultation_id: &'a str,
        }
        Some(json(&Out {
            r#type: "connection_established",
            message: "Connected to chat",
            consultation_id: &conversation.id,
        }))
    }

    fn decode(&self, text: &str, _: &Viewer) -> Decoded {
        let Ok(frame) = frame::object(text) else {
            return Decoded::Reply(typed_error("the frame must be a JSON object"));
        };
        let action = match frame.get("type") {
            Some(Value::String(kind)) if kind == "chat_message" => match send(&frame) {
                Ok(Some(send)) => Ok(Action::Send(send)),
                Ok(None) => return Decoded::Ignore,
                Err(wrong) => Err(wrong),
            },
            Some(Value::String(kind)) if kind == "typing" => frame::is_typing(&frame).map(Action::Typing),
            Some(Value::String(kind)) if kind == "read_receipt" => read_receipt(&frame).map(Action::Receipt),
            other => Err(frame::unknown_type(other)),
        };
        match action {
            Ok(action) => Decoded::Act(action),
            Err(wrong) => Decoded::Reply(typed_error(&wrong)),
        }
    }

    fn binary(&self) -> Utf8Bytes {
        BINARY.into()
    }

    fn view(&self, event: &Event, viewer: &Viewer) -> Option<usize> {
        match event {
            Event::Message(_) => Some(0),
            Event::Typing(typing) => (typing.user_id != viewer.user_id).then_some(0),
            Event::Receipts(receipts) => (receipts.status() == MessageStatus::Read).then_some(0),
            _ => None,
        }
    }

    fn person<'a>(&self, event: &'a Event) -> Option<&'a str> {
        match event {
            Event::Message(message) => Some(&message.sender_id),
            Event::Typing(typing) => Some(&typing.user_id),
            _ => None,
        }
    }

    fn encode(&self, event: &Event, _: usize, person: &User) -> Utf8Bytes {
        #[derive(Serialize)]
        struct Told<'a> {
            r#type: &'static str,
            data: Data<'a>,
        }
        #[derive(Serialize)]
        struct Data<'a> {
            id: &'a str,
            sender_id: &'a str,
            sender_name: &'a str,
            content: &'a str,
            created_at: String,
            message_type: &'static str,
        }
        #[derive(Serialize)]
        struct TypingOut<'a> {
            r#type: &'static str,
            user_id: &'a str,
            user_name: &'a str,
            is_typing: bool,
        }
        #[derive(Serialize)]
        struct Read<'a> {
            r#type: &'static str,
            message_id: &'a str,
            user_id: &'a str,
        }
        match event {
            Event::Message(message) => json(&Told {
                r#type: "chat_message",
                data: Data {
                    id: &message.id,
                    sender_id: &message.sender_id,
                    sender_name: name(person, &message.sender_id),
                    content: &message.content,
                    created_at: iso(message.created_at),
                    message_type: "text",
                },
            }),
            Event::Typing(typing) => json(&TypingOut {
                r#type: "typing_indicator",
                user_id: &typing.user_id,
                user_name: name(person, &typing.user_id),
                is_typing: typing.is_typing,
            }),
            Event::Receipts(receipts) => {
                let message = receipts.up_to.as_ref().or(receipts.messages.last());
                json(&Read {
                    r#type: "read_receipt",
                    message_id: message.map_or("", |message| &message.id),
                    user_id: &receipts.user_id,
                })
            }
            _ => Utf8Bytes::default(),
        }
    }

    fn refused(&self, refused: &Refused, _: Option<&Action>) -> Utf8Bytes {
        typed_error(&refused.message)
    }

    fn rate_limited(&self, retry_after_s: u64) -> Utf8Bytes {
        limited_error(retry_after_s)
    }

    fn limit(&self) -> Limit {
        Limit::Consultation
    }

    fn unknown_after(&self) -> Utf8Bytes {
        typed_error("after is not a message of this conversation")
    }
}

/// `None` for an empty message, which is ignored.
fn send(frame: &Map<String, Value>) -> Result<Option<Send>, String> {
    let content = match frame.get("message") {
        Some(Value::String(content)) if content.trim().is_empty() => return Ok(None),
        Some(Value::String(content)) => content.clone(),
        _ => return Err("message is required and must be a string".to_owned()),
    };
    let client_message_id = frame::client_message_id(frame)?;
    Ok(Some(Send { content, client_message_id, ..Send::default() }))
}

fn read_receipt(frame: &Map<String, Value>) -> Result<Receipt, String> {
    match frame.get("message_id") {
        Some(Value::String(id)) if !id.is_empty() => {
            Ok(Receipt { status: MessageStatus::Read.into(), up_to: id.clone(), ..Receipt::default() })
        }
        _ => Err("message_id is required and must be a string".to_owned()),
    }
}

/// The full name, else the e-mail address, else the username, else the id.
pub(crate) fn name<'a>(person: &'a User, id: &'a str) -> &'a str {
    [&person.full_name, &person.email, &person.username]
        .into_iter()
        .find(|name| !name.is_empty())
        .map_or(id, |name| name)
}

#[cfg(test)]
mod tests {
    use switchboard_proto::{
        chat::v1::{Message, MessageRef, Receipts, Typing},
        notification::v1::{Notification, subscribe_request::Action::Read},
        presence::v1::OnlineUser,
    };

    use super::*;
    use crate::dialect::tests::{fences, timestamp, value};

    const DOCUMENT: &str = include_str!("consultation.md");
    /// 2024-01-15T10:00:00Z
    const WHEN: i64 = 1_705_312_800;

    fn viewer() -> Viewer {
        Viewer { user_id: "uuid".into(), ..Viewer::default() }
    }

    fn act(frame: &Value) -> Action {
        match Consultation.decode(&frame.to_string(), &viewer()) {
            Decoded::Act(action) => action,
            other => panic!("{other:?} for {frame}"),
        }
    }

    #[test]
    fn every_example_of_the_document_is_claimed() {
        let mut examples = fences(DOCUMENT).into_iter();
        let mut next = || examples.next().expect("an example");

        let Action::Send(send) = act(&next()) else { panic!("not a send") };
        assert_eq!(send.content, "Hello, how can I help?");
        let Action::Typing(typing) = act(&next()) else { panic!("not typing") };
        assert!(typing.is_typing);
        let Action::Receipt(receipt) = act(&next()) else { panic!("not a receipt") };
        assert_eq!(receipt.up_to, "uuid");

        let conversation = Conversation { id: "uuid".into(), ..Conversation::default() };
        assert_eq!(value(&Consultation.greeting(&conversation, &viewer(), "").expect("a greeting")), next());

        let person = |full_name: &str| User { full_name: full_name.into(), ..User::default() };
        let message = Event::Message(Message {
            id: "uuid".into(),
            sender_id: "uuid".into(),
            content: "Hello!".into(),
            created_at: timestamp(WHEN),
            ..Message::default()
        });
        assert_eq!(value(&Consultation.encode(&message, 0, &person("John Doe"))), next());
        let typing = Event::Typing(Typing { user_id: "uuid".into(), is_typing: true, ..Typing::default() });
        assert_eq!(value(&Consultation.encode(&typing, 0, &person("Jane Doe"))), next());
        assert_eq!(Consultation.view(&typing, &viewer()), None, "never to the typist");

        let Decoded::Act(Read(read)) = notifications::decode(&next().to_string()) else { panic!("not a mark") };
        assert_eq!(read.notification_ids, ["uuid"]);
        assert_eq!(value(&notifications::GREETING.into()), next());
        let notification = Notification {
            id: "uuid".into(),
            title: "Daily Reading Ready".into(),
            message: "Your daily reading is available".into(),
            notification_type: "daily_reading".into(),
            created_at: timestamp(WHEN),
            ..Notification::default()
        };
        assert_eq!(value(&notifications::notification(&notification)), next());
        assert_eq!(value(&notifications::unread_count(5)), next());

        let user = OnlineUser { user_id: "uuid".into(), user_name: "John Doe".into() };
        assert_eq!(value(&presence::online(&user)), next());
        assert_eq!(value(&presence::offline("uuid")), next());
        assert_eq!(examples.next(), None);
    }

    #[test]
    fn a_receipt_names_what_the_reader_named() {
        let event = Event::Receipts(Receipts {
            user_id: "7".into(),
            status: MessageStatus::Read.into(),
            messages: vec![MessageRef { id: "a".into(), number: 1 }],
            up_to: Some(MessageRef { id: "b".into(), number: 2 }),
            ..Receipts::default()
        });
        let told = value(&Consultation.encode(&event, 0, &User::default()));
        assert_eq!(told, serde_json::json!({"type": "read_receipt", "message_id": "b", "user_id": "7"}));
    }

    #[test]
    fn who_has_no_name_is_called_by_what_there_is() {
        let mut person = User { username: "u".into(), email: "e".into(), ..User::default() };
        assert_eq!(name(&person, "1"), "e");
        person.email.clear();
        assert_eq!(name(&person, "1"), "u");
        assert_eq!(name(&User::default(), "1"), "1");
    }

    #[test]
    fn bad_frames_are_answered_and_empty_ones_are_not() {
        for empty in [r#"{"type":"chat_message","message":""}"#, r#"{"type":"chat_message","message":" \n"}"#] {
            assert_eq!(Consultation.decode(empty, &viewer()), Decoded::Ignore);
        }
        for bad in [
            "x",
            "[]",
            "{}",
            r#"{"type":"chat_message"}"#,
            r#"{"type":"chat_message","message":1}"#,
            r#"{"type":"typing"}"#,
            r#"{"type":"typing","is_typing":"yes"}"#,
            r#"{"type":"read_receipt"}"#,
            r#"{"type":"read_receipt","message_id":5}"#,
            r#"{"type":"x"}"#,
        ] {
            let Decoded::Reply(reply) = Consultation.decode(bad, &viewer()) else { panic!("{bad}") };
            assert_eq!(value(&reply)["type"], "error", "{bad}");
        }
    }
}
