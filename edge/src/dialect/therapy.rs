//! therapy.md. Chat here: `{"message": "..."}` in, `{"type": "message", ...}` out. Location in its module.

pub(crate) mod location;

use serde::Serialize;
use serde_json::Value;
use switchboard_proto::{
    chat::v1::{Refused, Send, converse_request::Action, converse_response::Event},
    identity::v1::User,
};
use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::{BINARY, Decoded, Dialect, Ends, JWT_ENDS, Viewer, frame, iso, json, limited_error, typed_error};
use crate::{goodbye, rate::Limit};

pub(super) struct Therapy;

/// The close codes of both sockets.
pub(crate) const ENDS: Ends = Ends { not_found: goodbye::FORBIDDEN, ..JWT_ENDS };
impl Dialect for Therapy {
    fn ends(&self) -> Ends {
        ENDS
    }

    fn decode(&self, text: &str, _: &Viewer) -> Decoded {
        let Ok(frame) = frame::object(text) else {
            return Decoded::Reply(typed_error("the frame must be a JSON object"));
        };
        let content = match frame.get("message") {
            Some(Value::String(content)) if content.trim().is_empty() => return Decoded::Ignore,
            Some(Value::String(content)) if !frame::is_foreign(&frame, &[]) => content.clone(),
            _ => return Decoded::Reply(typed_error("message is required and must be a string")),
        };
        match frame::client_message_id(&frame) {
            Ok(client_message_id) => Decoded::Act(Action::Send(Send { content, client_message_id, ..Send::default() })),
            Err(wrong) => Decoded::Reply(typed_error(wrong)),
        }
    }

    fn binary(&self) -> Utf8Bytes {
        BINARY.into()
    }

    fn view(&self, event: &Event, _: &Viewer) -> Option<usize> {
        matches!(event, Event::Message(_)).then_some(0)
    }

    fn encode(&self, event: &Event, _: usize, _: &User) -> Utf8Bytes {
        #[derive(Serialize)]
        struct Out<'a> {
            r#type: &'static str,
            message: &'a str,
            sender_id: &'a str,
            message_id: String,
            timestamp: String,
        }
        let Event::Message(message) = event else { return Utf8Bytes::default() };
        json(&Out {
            r#type: "message",
            message: &message.content,
            sender_id: &message.sender_id,
            message_id: message.number.to_string(),
            timestamp: iso(message.created_at),
        })
    }

    fn refused(&self, refused: &Refused, _: Option<&Action>) -> Utf8Bytes {
        typed_error(&refused.message)
    }

    fn rate_limited(&self, retry_after_s: u64) -> Utf8Bytes {
        limited_error(retry_after_s)
    }

    fn limit(&self) -> Limit {
        Limit::Therapy
    }

    fn unknown_after(&self) -> Utf8Bytes {
        typed_error("after is not a message of this conversation")
    }
}

#[cfg(test)]
mod tests {
    use switchboard_proto::location::v1::{Moved, Pair, share_request::Action::Report};

    use super::*;
    use crate::dialect::tests::{fences, message, value};

    const DOCUMENT: &str = include_str!("therapy.md");

    #[test]
    fn every_example_of_the_document_is_claimed() {
        let mut examples = fences(DOCUMENT).into_iter();
        let mut next = || examples.next().expect("an example");

        let sent = next();
        let Decoded::Act(Action::Send(send)) = Therapy.decode(&sent.to_string(), &Viewer::default()) else {
            panic!("not a send")
        };
        assert_eq!(send.content, "Hello, how are you today?");

        let event = message("Hello, how are you today?", "123", "customer", (1_705_314_600, 123_456_000));
        assert_eq!(value(&Therapy.encode(&event, 0, &User::default())), next());

        let Decoded::Act(Report(position)) = location::decode(&next().to_string(), true) else {
            panic!("not a position")
        };
        let pair = Some(Pair { customer_id: "123".into(), therapist_id: "456".into() });
        assert_eq!(value(&location::encode(&Moved { pair, position: Some(position) })), next());
        assert_eq!(examples.next(), None);
    }

    #[test]
    fn bad_frames_are_answered_and_blank_ones_are_not() {
        for blank in [r#"{"message":""}"#, r#"{"message":" \n "}"#] {
            assert_eq!(Therapy.decode(blank, &Viewer::default()), Decoded::Ignore);
        }
        for bad in [
            "",
            "x",
            "[]",
            "null",
            "1",
            r#""a""#,
            "{}",
            r#"{"message":null}"#,
            r#"{"message":1}"#,
            r#"{"message":["a"]}"#,
            r#"{"message":"a","client_message_id":5}"#,
            r#"{"message":"\ud800"}"#,
        ] {
            let Decoded::Reply(reply) = Therapy.decode(bad, &Viewer::default()) else {
                panic!("{bad} was not answered")
            };
            assert_eq!(value(&reply)["type"], "error", "{bad}");
            assert!(value(&reply)["message"].is_string());
        }
    }
}
