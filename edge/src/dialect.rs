//! The documented JSON protocols: pure translations between a client's frames and what the services do.
//!
//! A dialect knows no socket, no clock and no service. What it says of an event depends on the event, on the person
//! whose doing it was, and on a small number, the *view*, alone: so one encoding serves every socket with the same view.

pub(crate) mod clinic;
pub(crate) mod consultation;
pub(crate) mod frame;
pub(crate) mod mentoring;
pub(crate) mod mobile;
pub(crate) mod therapy;

use prost_types::Timestamp;
use serde::Serialize;
use serde_json::Value;
use switchboard_chassis::clock;
use switchboard_proto::{
    chat::v1::{Conversation, ConversationKind, Refused, converse_request::Action, converse_response::Event},
    identity::v1::User,
};
use time::OffsetDateTime;
use tokio_tungstenite::tungstenite::Utf8Bytes;

use crate::{
    goodbye::{self, Goodbye},
    rate::Limit,
};

/// The most views that a dialect tells apart.
pub(crate) const VIEWS: usize = 2;

/// Who sits at a socket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Viewer {
    /// The user, or the device.
    pub(crate) user_id: String,
    /// In which role this viewer entered.
    pub(crate) role: String,
    /// Whether the user is both a patient and a professional.
    pub(crate) has_both_profiles: bool,
}

/// What to do about a client's frame.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Decoded<A = Action> {
    /// Ask the service.
    Act(A),
    /// Tell this client.
    Reply(Utf8Bytes),
    /// Nothing, as documented.
    Ignore,
}

/// How the ends of a protocol's sockets are documented.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ends {
    /// No credential, or it has ended.
    pub(crate) unauthenticated: Goodbye,
    /// Not one's own.
    pub(crate) forbidden: Goodbye,
    /// No such conversation.
    pub(crate) not_found: Goodbye,
}

/// One documented protocol.
pub(crate) trait Dialect: Send + Sync {
    /// Its close codes.
    fn ends(&self) -> Ends;
    /// What is asked of the service for somebody who just entered.
    fn on_join(&self) -> Option<Action> {
        None
    }
    /// What is said first to somebody who entered, at the time `now`.
    fn greeting(&self, _conversation: &Conversation, _viewer: &Viewer, _now: &str) -> Option<Utf8Bytes> {
        None
    }
    /// Reads a text frame.
    fn decode(&self, text: &str, viewer: &Viewer) -> Decoded;
    /// What a binary frame is told.
    fn binary(&self) -> Utf8Bytes;
    /// Which of its [`VIEWS`] a viewer has of an event; `None` when this viewer is not told.
    fn view(&self, event: &Event, viewer: &Viewer) -> Option<usize>;
    /// The user whom the encoding of an event describes, if it describes one.
    fn person<'a>(&self, _event: &'a Event) -> Option<&'a str> {
        None
    }
    /// An event in a view; `person` is the one that [`Dialect::person`] asked for, else empty.
    fn encode(&self, event: &Event, view: usize, person: &User) -> Utf8Bytes;
    /// What a client is told whose action was refused.
    fn refused(&self, refused: &Refused, action: Option<&Action>) -> Utf8Bytes;
    /// What a client is told who asked for what came after an unknown message.
    fn unknown_after(&self) -> Utf8Bytes;
    /// What a client is told whose frame was dropped, because there were too many; and when it may send again.
    fn rate_limited(&self, retry_after_s: u64) -> Utf8Bytes;
    /// Which of the rate limits is its own.
    fn limit(&self) -> Limit;
    /// What is said before the goodbye `not_found`.
    fn last_words(&self) -> Option<Utf8Bytes> {
        None
    }
}

/// therapy.md, chat.
pub(crate) static THERAPY: &dyn Dialect = &therapy::Therapy;
/// clinic.md.
pub(crate) static CLINIC: &dyn Dialect = &clinic::Clinic;

/// mobile.md.
pub(crate) static MOBILE: &dyn Dialect = &mobile::Mobile;
/// mentoring.md.
pub(crate) static MENTORING: &dyn Dialect = &mentoring::Mentoring;
/// consultation.md, chat.
pub(crate) static CONSULTATION: &dyn Dialect = &consultation::Consultation;

/// The dialect of a kind of conversation.
pub(crate) fn of_kind(kind: ConversationKind) -> Option<&'static dyn Dialect> {
    match kind {
        ConversationKind::Therapy => Some(THERAPY),
        ConversationKind::Clinic => Some(CLINIC),
        ConversationKind::Mobile => Some(MOBILE),
        ConversationKind::Mentoring => Some(MENTORING),
        ConversationKind::Consultation => Some(CONSULTATION),
        ConversationKind::Unspecified => None,
    }
}

/// The dialect of a conversation that is dialled by its UUID.
pub(crate) fn of_uuid(kind: ConversationKind) -> Option<&'static dyn Dialect> {
    match kind {
        ConversationKind::Clinic => Some(CLINIC),
        ConversationKind::Consultation => Some(CONSULTATION),
        _ => None,
    }
}

/// `{"type": "error", "message": ...}`
pub(crate) fn typed_error(message: &str) -> Utf8Bytes {
    #[derive(Serialize)]
    struct Out<'a> {
        r#type: &'static str,
        message: &'a str,
    }
    json(&Out { r#type: "error", message })
}

/// What a binary frame is told by therapy and consultation.
pub(crate) const BINARY: &str = r#"{"type":"error","message":"send text frames, not binary ones"}"#;

/// `{"type": "error", "message": ..., "retry_after": ...}`, in seconds.
pub(crate) fn limited_error(retry_after: u64) -> Utf8Bytes {
    #[derive(Serialize)]
    struct Out {
        r#type: &'static str,
        message: &'static str,
        retry_after: u64,
    }
    json(&Out { r#type: "error", message: RATE_LIMITED, retry_after })
}

/// What every protocol says of too many frames.
pub(crate) const RATE_LIMITED: &str = "Rate limit exceeded";

/// `{"error": ...}`
fn plain_error(error: &str) -> Utf8Bytes {
    #[derive(Serialize)]
    struct Out<'a> {
        error: &'a str,
    }
    json(&Out { error })
}

/// A frame about a message that its sender named, with that name, and when to send it again if that helps:
/// `{..., "client_message_id": ..., "retry_after": ...}`. As it is when it has no name.
pub(crate) fn about(frame: Utf8Bytes, client_message_id: &str, retry_after_s: Option<u64>) -> Utf8Bytes {
    if client_message_id.is_empty() {
        return frame;
    }
    let Some(fields) = frame.strip_suffix('}') else { return frame };
    let id = json(&client_message_id);
    let retry = retry_after_s.map_or_else(String::new, |seconds| format!(r#","retry_after":{seconds}"#));
    format!(r#"{fields},"client_message_id":{id}{retry}}}"#).into()
}

/// The name that a client gave to the message in its frame; empty when there is none.
pub(crate) fn named_in(text: &str) -> String {
    frame::object(text).ok().and_then(|frame| frame::client_message_id(&frame).ok()).unwrap_or_default()
}

/// Where a conversation is, for `?after=`.
pub(crate) fn place(seq: u64) -> Utf8Bytes {
    #[derive(Serialize)]
    struct Out {
        r#type: &'static str,
        after: String,
    }
    json(&Out { r#type: "place", after: format!("@{seq}") })
}

/// An id as clients that have numbers read it: a number if it is one, else a string.
pub(crate) fn id_value(id: &str) -> Value {
    match id.parse::<i64>() {
        Ok(number) if number.to_string() == id => Value::from(number),
        _ => Value::from(id),
    }
}

/// As JSON.
pub(crate) fn json<T: Serialize>(value: &T) -> Utf8Bytes {
    // Our own structs of strings, numbers and booleans cannot fail.
    serde_json::to_string(value).unwrap_or_default().into()
}

/// So many digits of a number.
fn put(text: &mut String, number: u32, digits: u32) {
    text.extend((0..digits).rev().filter_map(|place| char::from_digit(number / 10_u32.pow(place) % 10, 10)));
}

/// A time as the clients read it: ISO 8601, UTC with `Z`, microseconds when they are not zero. By hand, because every event has
/// one, and `format!` cost more than all the rest of it.
pub(crate) fn iso(at: Option<Timestamp>) -> String {
    let at = at.unwrap_or_default();
    let micros = clock::join(at.seconds, at.nanos);
    let (seconds, micros) = (micros.div_euclid(1_000_000), micros.rem_euclid(1_000_000));
    let Ok(time) = OffsetDateTime::from_unix_timestamp(seconds) else { return String::new() };
    let mut text = String::with_capacity("2026-01-05T10:00:00.123456Z".len());
    let parts = [
        (time.year().unsigned_abs(), 4, "-"),
        (u8::from(time.month()).into(), 2, "-"),
        (time.day().into(), 2, "T"),
        (time.hour().into(), 2, ":"),
        (time.minute().into(), 2, ":"),
        (time.second().into(), 2, ""),
    ];
    for (number, digits, after) in parts {
        put(&mut text, number, digits);
        text.push_str(after);
    }
    if micros > 0 {
        text.push('.');
        put(&mut text, u32::try_from(micros).unwrap_or_default(), 6);
    }
    text.push('Z');
    text
}

/// The codes of every protocol that authenticates with a JWT.
const JWT_ENDS: Ends =
    Ends { unauthenticated: goodbye::UNAUTHENTICATED, forbidden: goodbye::FORBIDDEN, not_found: goodbye::NOT_FOUND };

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;
    use serde_json::Value;
    use switchboard_proto::chat::v1::{Message, MessageStatus, Typing};

    use super::*;
    pub(crate) use crate::documents::examples as fences;

    pub(crate) fn timestamp(seconds: i64) -> Option<Timestamp> {
        Some(Timestamp { seconds, nanos: 0 })
    }

    pub(crate) fn value(json: &Utf8Bytes) -> Value {
        serde_json::from_str(json).expect("JSON")
    }

    /// A message as the service tells it.
    pub(crate) fn message(content: &str, sender_id: &str, sender_role: &str, at: (i64, i32)) -> Event {
        Event::Message(Message {
            id: "0190d3f0-0000-7000-8000-000000000001".to_owned(),
            number: 789,
            seq: 1,
            content: content.to_owned(),
            sender_id: sender_id.to_owned(),
            sender_role: sender_role.to_owned(),
            created_at: Some(Timestamp { seconds: at.0, nanos: at.1 }),
            ..Message::default()
        })
    }

    #[test]
    fn a_frame_about_a_message_that_its_sender_named() {
        let about = |name, retry| about(plain_error("no"), name, retry).to_string();
        assert_eq!(about("", None), r#"{"error":"no"}"#);
        assert_eq!(about("c\"1", None), r#"{"error":"no","client_message_id":"c\"1"}"#);
        assert_eq!(about("c", Some(2)), r#"{"error":"no","client_message_id":"c","retry_after":2}"#);
        assert_eq!(named_in(r#"{"client_message_id":"c"}"#), "c");
        for nameless in ["x", "{}", r#"{"client_message_id":5}"#] {
            assert_eq!(named_in(nameless), "");
        }
        assert_eq!(place(41), r#"{"type":"place","after":"@41"}"#);
    }

    #[test]
    fn times_are_written_as_documented() {
        assert_eq!(iso(Some(Timestamp { seconds: 1_705_314_600, nanos: 123_456_000 })), "2024-01-15T10:30:00.123456Z");
        assert_eq!(iso(Some(Timestamp { seconds: 1_705_314_600, nanos: 0 })), "2024-01-15T10:30:00Z");
        assert_eq!(iso(Some(Timestamp { seconds: 1_705_314_600, nanos: 1_000 })), "2024-01-15T10:30:00.000001Z");
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
            prop::sample::select(vec![
                "patient",
                "chat_message",
                "typing",
                "typing_indicator",
                "read_receipt",
                "message_status",
                "mark_read",
                "read",
                "delivered",
                "image",
                "https://example.com/a",
                "101",
            ])
            .prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::hash_map(
                    prop_oneof![
                        Just("message".to_owned()),
                        Just("content".to_owned()),
                        Just("role".to_owned()),
                        Just("type".to_owned()),
                        Just("client_message_id".to_owned()),
                        Just("is_typing".to_owned()),
                        Just("message_id".to_owned()),
                        Just("message_ids".to_owned()),
                        Just("status".to_owned()),
                        Just("media_url".to_owned()),
                        Just("message_type".to_owned()),
                        Just("metadata".to_owned()),
                        any::<String>()
                    ],
                    inner,
                    0..4
                )
                .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn any_text_is_an_action_a_reply_or_documented_silence(
            text in prop_oneof![any::<String>(), any_json().prop_map(|json| json.to_string())],
            has_both_profiles: bool,
        ) {
            let viewer = Viewer { user_id: "1".to_owned(), has_both_profiles, ..Viewer::default() };
            for dialect in [THERAPY, CLINIC, MOBILE, MENTORING, CONSULTATION] {
                match dialect.decode(&text, &viewer) {
                    Decoded::Act(Action::Send(send)) => {
                        prop_assert!(!send.content.trim().is_empty() || !send.media_url.is_empty());
                    }
                    Decoded::Act(Action::Receipt(receipt)) => prop_assert!(receipt.status() != MessageStatus::Unspecified),
                    Decoded::Act(action) => prop_assert!(matches!(action, Action::Typing(_)), "{:?}", action),
                    Decoded::Reply(reply) => prop_assert!(value(&reply).is_object()),
                    Decoded::Ignore => {
                        let blank = value(&text.as_str().into())["message"].as_str().map(str::trim) == Some("");
                        prop_assert!(blank, "{} was ignored", text);
                    }
                }
            }
        }

        /// Ids that are numbers in a document are numbers, those that are strings are strings, and so on.
        #[test]
        fn clients_find_what_they_read_with_its_type(
            content in any::<String>(),
            user in "[0-9]{1,9}",
            number in 1i64..(1 << 53),
            seconds in 0i64..4_000_000_000,
            is_typing: bool,
        ) {
            let mut event = message(&content, &user, "staff", (seconds, 0));
            if let Event::Message(message) = &mut event {
                message.number = number;
            }
            let person = User { id: user.clone(), full_name: content.clone(), ..User::default() };
            let told = |dialect: &dyn Dialect, event: &Event| value(&dialect.encode(event, 0, &person));
            let is_time = |value: &Value| value.as_str().is_some_and(|at| at.ends_with('Z') && at.contains('T'));

            let therapy = told(THERAPY, &event);
            prop_assert_eq!(&therapy["message_id"], &Value::from(number.to_string()));
            prop_assert!(therapy["sender_id"].is_string() && is_time(&therapy["timestamp"]));
            let clinic = &told(CLINIC, &event)["message"];
            prop_assert!(clinic["id"].is_string() && clinic["sender_type"].is_string() && is_time(&clinic["created_at"]));
            let mobile = &told(MOBILE, &event)["message"];
            prop_assert_eq!(mobile["message_id"].as_i64(), Some(number));
            prop_assert!(mobile["is_urgent"].is_boolean() && mobile["media_url"].is_string() && is_time(&mobile["sent_at"]));
            prop_assert!(mobile["sender_info"]["first_name"].is_string() && mobile["status"].is_string());
            let mentoring = &told(MENTORING, &event)["message"];
            prop_assert_eq!(mentoring["id"].as_i64(), Some(number));
            prop_assert_eq!(&mentoring["sender"], &id_value(&user));
            prop_assert!(mentoring["is_read"].is_boolean() && mentoring["is_own_message"].is_boolean());
            prop_assert!(mentoring["sender_profile"].is_object() && is_time(&mentoring["timestamp"]));
            let consultation = &told(CONSULTATION, &event)["data"];
            prop_assert!(consultation["id"].is_string() && consultation["sender_id"].is_string());
            prop_assert!(consultation["sender_name"].is_string() && is_time(&consultation["created_at"]));

            let typing = Event::Typing(Typing { user_id: user, role: "staff".into(), is_typing, at: timestamp(seconds) });
            for (dialect, name) in [(MOBILE, "user_id"), (CONSULTATION, "user_name")] {
                let typing = told(dialect, &typing);
                prop_assert_eq!(typing["is_typing"].as_bool(), Some(is_typing));
                prop_assert!(!typing[name].is_null());
            }
        }

        #[test]
        fn whatever_was_said_is_told_as_it_was_said(content in any::<String>()) {
            let event = message(&content, "1", "patient", (1_705_314_600, 0));
            let told = |dialect: &dyn Dialect| value(&dialect.encode(&event, 0, &User::default()));
            let content = Value::from(content);
            prop_assert_eq!(&told(THERAPY)["message"], &content);
            prop_assert_eq!(&told(CLINIC)["message"]["content"], &content);
            prop_assert_eq!(&told(MOBILE)["message"]["content"], &content);
            prop_assert_eq!(&told(MENTORING)["message"]["content"], &content);
            prop_assert_eq!(&told(CONSULTATION)["data"]["content"], &content);
        }
    }
}
