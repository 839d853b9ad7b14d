//! What other systems are told by webhook.

use serde_json::{Map, Value, json};
use switchboard_chassis::{Micros, secret::sha256_hex};
use switchboard_webhooks::{Event, EventType, Person};
use uuid::Uuid;

use crate::model::{Kind, Opening, Role, kind_name};

/// A conversation was opened.
pub(crate) fn opened(opening: &Opening, id: Uuid, number: i64, at: Micros) -> Event {
    let participants: Vec<Value> = opening
        .seats
        .iter()
        .map(|seat| {
            let mut object = Map::new();
            person(&seat.user_id, seat.role).name_in(&mut object, "");
            object.insert("role".to_owned(), json!(seat.role.as_str()));
            Value::Object(object)
        })
        .collect();
    Event {
        id: format!("opened-{id}"),
        event_type: EventType::ConversationOpened,
        at,
        data: object(json!({
            "conversation_id": id.to_string(),
            "conversation_kind": kind_name(opening.kind),
            "conversation_number": number,
            "participants": participants,
        })),
        text: object(json!({ "subject": opening.subject })),
        people: opening.seats.iter().map(|seat| seat.user_id.clone()).collect(),
    }
}

/// The first message of a burst that somebody missed.
#[derive(Clone, Debug)]
pub(crate) struct MissedMessage {
    pub(crate) conversation_id: Uuid,
    pub(crate) kind: Kind,
    pub(crate) message_id: Uuid,
    pub(crate) seq: i64,
    pub(crate) sender_id: String,
    pub(crate) sender_role: Role,
    pub(crate) content: String,
    pub(crate) user_id: String,
    pub(crate) role: Role,
    /// When the message was stored.
    pub(crate) at: Micros,
}

impl MissedMessage {
    pub(crate) fn event(&self) -> Event {
        let mut data = object(json!({
            "conversation_id": self.conversation_id.to_string(),
            "conversation_kind": kind_name(self.kind),
            "message_id": self.message_id.to_string(),
            "seq": self.seq,
            "role": self.role.as_str(),
            "sender_role": self.sender_role.as_str(),
        }));
        person(&self.user_id, self.role).name_in(&mut data, "");
        person(&self.sender_id, self.sender_role).name_in(&mut data, "sender_");
        let whose = &sha256_hex(&self.user_id)[..16];
        Event {
            id: format!("offline-{}-{whose}", self.message_id),
            event_type: EventType::MessageOffline,
            at: self.at,
            data,
            text: object(json!({ "content": self.content })),
            people: vec![self.user_id.clone(), self.sender_id.clone()],
        }
    }
}

fn person(id: &str, role: Role) -> Person<'_> {
    if role == Role::Device { Person::Device(id) } else { Person::User(id) }
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(object) => object,
        _ => Map::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Seat;

    #[test]
    fn no_event_names_a_device() {
        let device = "secret-device";
        let opening = Opening {
            kind: Kind::Mobile,
            seats: vec![Seat { role: Role::Device, user_id: device.to_owned() }],
            subject: "about me".to_owned(),
            id: None,
            number: None,
        };
        let missed = MissedMessage {
            conversation_id: Uuid::nil(),
            kind: Kind::Mobile,
            message_id: Uuid::nil(),
            seq: 1,
            sender_id: "admin".to_owned(),
            sender_role: Role::Staff,
            content: "words".to_owned(),
            user_id: device.to_owned(),
            role: Role::Device,
            at: 0,
        };
        for event in [opened(&opening, Uuid::nil(), 1, 0), missed.event()] {
            let told = event.payload(true);
            assert!(!told.contains(device) && told.contains(&sha256_hex(device)), "{told}");
            let told = event.payload(false);
            assert!(!told.contains("about me") && !told.contains("words"), "{told}");
        }
    }
}
