//! What all dialects read in the same way.

use serde_json::{Map, Value};
use switchboard_proto::chat::v1::Typing;

/// The most characters of a client's own id for a message.
const CLIENT_MESSAGE_ID_CHARS_MAX: usize = 64;

/// A frame that is not a JSON object.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NotAnObject;

/// The fields of a frame.
pub(crate) fn object(text: &str) -> Result<Map<String, Value>, NotAnObject> {
    serde_json::from_str(text).map_err(|_| NotAnObject)
}

/// The optional `client_message_id`; empty when there is none.
pub(crate) fn client_message_id(frame: &Map<String, Value>) -> Result<String, &'static str> {
    match frame.get("client_message_id") {
        None | Some(Value::Null) => Ok(String::new()),
        Some(Value::String(id)) if id.chars().count() <= CLIENT_MESSAGE_ID_CHARS_MAX => Ok(id.clone()),
        Some(_) => Err("client_message_id must be a string of at most 64 characters"),
    }
}

/// Whether a frame has the `type` of another protocol's: its words are then not for this one.
pub(crate) fn is_foreign(frame: &Map<String, Value>, own_types: &[&str]) -> bool {
    const TYPES: [&str; 6] =
        ["chat_message", "message_status", "typing_indicator", "read_receipt", "typing", "mark_read"];
    frame.get("type").and_then(Value::as_str).is_some_and(|kind| TYPES.contains(&kind) && !own_types.contains(&kind))
}

/// An integer, or one in decimal as a string.
pub(crate) fn number(value: &Value) -> Option<i64> {
    match value {
        Value::Number(number) => number.as_i64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}

/// The required `is_typing`.
pub(crate) fn is_typing(frame: &Map<String, Value>) -> Result<Typing, String> {
    match frame.get("is_typing") {
        Some(Value::Bool(is_typing)) => Ok(Typing { is_typing: *is_typing, ..Typing::default() }),
        _ => Err("is_typing must be true or false".to_owned()),
    }
}

/// What a frame is told whose `type` is no type of the protocol, in Python's words.
pub(crate) fn unknown_type(kind: Option<&Value>) -> String {
    match kind {
        None | Some(Value::Null) => "Unknown message type: None".to_owned(),
        Some(Value::String(kind)) => format!("Unknown message type: {kind}"),
        Some(other) => format!("Unknown message type: {other}"),
    }
}
