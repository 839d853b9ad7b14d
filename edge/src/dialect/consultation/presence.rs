//! consultation.md, presence: clients only listen.

use serde::Serialize;
use switchboard_proto::presence::v1::OnlineUser;
use tokio_tungstenite::tungstenite::Utf8Bytes;

use crate::dialect::{frame, json, typed_error};

/// What a text frame is told: there are none to send.
pub(crate) fn decode(text: &str) -> Utf8Bytes {
    match frame::object(text) {
        Ok(frame) => typed_error(&frame::unknown_type(frame.get("type"))),
        Err(_) => typed_error("the frame must be a JSON object"),
    }
}

/// Somebody came.
pub(crate) fn online(user: &OnlineUser) -> Utf8Bytes {
    #[derive(Serialize)]
    struct Out<'a> {
        r#type: &'static str,
        user_id: &'a str,
        user_name: &'a str,
    }
    json(&Out { r#type: "user_online", user_id: &user.user_id, user_name: &user.user_name })
}

/// Somebody went.
pub(crate) fn offline(user_id: &str) -> Utf8Bytes {
    #[derive(Serialize)]
    struct Out<'a> {
        r#type: &'static str,
        user_id: &'a str,
    }
    json(&Out { r#type: "user_offline", user_id })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::tests::value;

    #[test]
    fn whatever_is_sent_is_answered() {
        for bad in ["x", "[]", "{}", r#"{"type":"mark_read"}"#, r#"{"type":5}"#] {
            assert_eq!(value(&decode(bad))["type"], "error", "{bad}");
        }
    }
}
