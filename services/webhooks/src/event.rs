//! What happened, as a receiver is told of it.

use serde_json::{Map, Value, json};
use switchboard_chassis::{Micros, secret::sha256_hex};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::EventType;

/// Something that happened.
#[derive(Clone, Debug)]
pub struct Event {
    /// The `webhook-id`: the same however often it is told.
    pub id: String,
    /// What kind of thing.
    pub event_type: EventType,
    /// When.
    pub at: Micros,
    /// Ids, and nothing that anybody said.
    pub data: Map<String, Value>,
    /// What people said: only for endpoints with `include_text`.
    pub text: Map<String, Value>,
    /// Whom it concerns: when one of them is erased before it is delivered, it goes.
    pub people: Vec<String>,
}

impl Event {
    /// The body of the request.
    #[must_use]
    pub fn payload(&self, include_text: bool) -> String {
        let mut data = self.data.clone();
        if include_text {
            data.extend(self.text.clone());
        }
        json!({ "id": self.id, "type": self.event_type.name(), "timestamp": rfc3339(self.at), "data": data })
            .to_string()
    }
}

/// Somebody, as others are told: a device's id is its credential, so they are told the SHA-256 of it, in hexadecimal.
#[derive(Clone, Copy, Debug)]
pub enum Person<'a> {
    /// By id.
    User(&'a str),
    /// By `device_id`.
    Device(&'a str),
}

impl Person<'_> {
    /// Adds the person to an object, under `user_id` or `device_sha256`, after a prefix.
    pub fn name_in(self, object: &mut Map<String, Value>, prefix: &str) {
        let (name, value) = match self {
            Self::User(id) => ("user_id", id.to_owned()),
            Self::Device(id) => ("device_sha256", sha256_hex(id)),
        };
        object.insert(format!("{prefix}{name}"), Value::String(value));
    }
}

fn rfc3339(at: Micros) -> String {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(at) * 1_000)
        .ok()
        .and_then(|at| at.format(&Rfc3339).ok())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_said_is_told_to_those_who_may_know() {
        let map = |value: Value| value.as_object().cloned().unwrap_or_default();
        let event = Event {
            id: "m-1".into(),
            event_type: EventType::MessageOffline,
            at: 1_700_000_000_000_000,
            data: map(json!({ "seq": 1 })),
            text: map(json!({ "content": "hi" })),
            people: Vec::new(),
        };
        let told: Value = serde_json::from_str(&event.payload(false)).expect("JSON");
        assert_eq!(
            told,
            json!({ "id": "m-1", "type": "message.offline", "timestamp": "2023-11-14T22:13:20Z", "data": { "seq": 1 } })
        );
        assert!(event.payload(true).contains(r#""content":"hi""#));
    }

    #[test]
    fn a_device_is_told_by_its_hash() {
        let mut object = Map::new();
        Person::Device("abc").name_in(&mut object, "sender_");
        assert_eq!(
            Value::Object(object),
            json!({ "sender_device_sha256": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" })
        );
    }
}
