//! What all dialects read in the same way.

use serde_json::{Map, Value};

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
