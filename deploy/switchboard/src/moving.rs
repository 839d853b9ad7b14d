//! Moving in and out: users, devices, conversations and messages as JSON lines, with their ids and times.
//!
//! A line is one object with one key, `user`, `device`, `conversation` or `message`; its fields are those of `User`,
//! `RegisterDeviceRequest`, `Conversation` and `Message` in the protobuf JSON mapping, named as in the protos. What
//! [`provision`](crate::provision) reads, an import reads, too: a conversation without `created_at` is opened. The
//! document of the format is `docs/MOVING.md`.

pub mod command;
pub mod export;
pub mod import;

use std::{collections::BTreeMap, fmt};

use anyhow::{Context as _, bail, ensure};
use prost_reflect::prost::Message as _;
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};
use switchboard_proto::{
    chat::v1::{Conversation, Message, OpenConversationRequest},
    identity::v1::{Device, RegisterDeviceRequest, User},
    reflect,
};
use uuid::Uuid;

const USER: &str = "switchboard.identity.v1.User";
const DEVICE: &str = "switchboard.identity.v1.RegisterDeviceRequest";
const CONVERSATION: &str = "switchboard.chat.v1.Conversation";
const OPENING: &str = "switchboard.chat.v1.OpenConversationRequest";
const MESSAGE: &str = "switchboard.chat.v1.Message";

/// One line, in its one spelling.
#[derive(Clone, Debug, PartialEq)]
pub enum Record {
    /// A person.
    User(User),
    /// A device.
    Device(RegisterDeviceRequest),
    /// A conversation with its times.
    Conversation(Conversation),
    /// A conversation that is to be opened.
    Opening(OpenConversationRequest),
    /// A message.
    Message(Message),
}

impl Record {
    /// The key of its line.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::User(_) => "user",
            Self::Device(_) => "device",
            Self::Conversation(_) | Self::Opening(_) => "conversation",
            Self::Message(_) => "message",
        }
    }

    /// Reads a line.
    ///
    /// # Errors
    /// What is wrong with it, and what would be right.
    pub fn read(line: &str) -> anyhow::Result<Self> {
        let object: Map<String, Value> = serde_json::from_str(line).context("not a JSON object")?;
        let mut fields = object.into_iter();
        let (Some((key, value)), None) = (fields.next(), fields.next()) else {
            bail!("one key is wanted: user, device, conversation or message");
        };
        let mut record = match key.as_str() {
            "user" => Self::User(reflect::from_json(USER, value)?),
            "device" => Self::Device(reflect::from_json(DEVICE, value)?),
            "conversation" if value.get("created_at").is_some() => {
                Self::Conversation(reflect::from_json(CONVERSATION, value)?)
            }
            "conversation" => Self::Opening(
                reflect::from_json(OPENING, value)
                    .context("without created_at it is a conversation to be opened, which has fewer fields")?,
            ),
            "message" => Self::Message(reflect::from_json(MESSAGE, value)?),
            other => bail!("`{other}` is not user, device, conversation or message"),
        };
        record.normalise()?;
        Ok(record)
    }

    /// Writes a line, without its end: always the same one for the same record.
    ///
    /// # Errors
    /// Never, unless the build is broken.
    pub fn line(&self) -> anyhow::Result<String> {
        let options = reflect::options();
        let value = match self {
            Self::User(user) => reflect::to_json(USER, user, &options),
            Self::Device(device) => reflect::to_json(DEVICE, device, &options),
            Self::Conversation(conversation) => reflect::to_json(CONVERSATION, conversation, &options),
            Self::Opening(opening) => reflect::to_json(OPENING, opening, &options),
            Self::Message(message) => reflect::to_json(MESSAGE, message, &options),
        }?;
        // A map of serde_json is sorted, so that fields and profiles have one order.
        Ok(Value::Object(Map::from_iter([(self.kind().to_owned(), value)])).to_string())
    }

    /// About how many bytes it takes in a call.
    fn weight(&self) -> usize {
        match self {
            Self::User(user) => user.encoded_len(),
            Self::Device(device) => device.encoded_len(),
            Self::Conversation(conversation) => conversation.encoded_len(),
            Self::Opening(opening) => opening.encoded_len(),
            Self::Message(message) => message.encoded_len(),
        }
    }

    /// Brings what has several spellings into one, so that what is the same is the same line.
    fn normalise(&mut self) -> anyhow::Result<()> {
        match self {
            Self::User(user) => {
                user.roles = user.roles.iter().map(|role| one_role(role)).collect();
                user.roles.sort();
                user.roles.dedup();
                user.profiles = user.profiles.drain().map(|(role, id)| (one_role(&role), id)).collect();
            }
            Self::Device(device) => truncate(device.created_at.as_mut()),
            Self::Conversation(conversation) => {
                conversation.id = one_id("id", &conversation.id)?;
                if conversation.status == 0 {
                    conversation.status = 1;
                }
                for participant in &mut conversation.participants {
                    participant.role = one_role(&participant.role);
                }
                conversation.participants.sort_by(|a, b| (&a.role, &a.user_id).cmp(&(&b.role, &b.user_id)));
                conversation.participants.dedup();
                truncate(conversation.created_at.as_mut());
                truncate(conversation.updated_at.as_mut());
            }
            Self::Opening(opening) => {
                if !opening.id.is_empty() {
                    opening.id = one_id("id", &opening.id)?;
                }
            }
            Self::Message(message) => {
                message.id = one_id("id", &message.id)?;
                message.conversation_id = one_id("conversation_id", &message.conversation_id)?;
                message.sender_role = one_role(&message.sender_role);
                if message.message_type == 0 {
                    message.message_type = 1;
                }
                if message.status == 0 {
                    message.status = 1;
                }
                ensure!(
                    message.created_at.is_some(),
                    "created_at is missing: when it was written, as \"2024-05-01T10:00:00Z\""
                );
                truncate(message.created_at.as_mut());
            }
        }
        Ok(())
    }
}

/// As identity and chat spell it.
fn one_role(role: &str) -> String {
    match role.trim().to_lowercase().as_str() {
        "admin" => "staff".to_owned(),
        "provider" => "professional".to_owned(),
        role => role.to_owned(),
    }
}

fn one_id(field: &str, id: &str) -> anyhow::Result<String> {
    let parsed = Uuid::try_parse(id).map_err(|_| {
        anyhow::anyhow!(
            "{field} is not a UUID: give one (for an integer, a UUID version 5 of it, and the integer as `number`)"
        )
    })?;
    Ok(parsed.to_string())
}

/// Times are kept to the microsecond.
fn truncate(at: Option<&mut prost_types::Timestamp>) {
    if let Some(at) = at {
        at.nanos -= at.nanos.rem_euclid(1_000);
    }
}

/// A device as its line.
#[must_use]
pub fn device_line(device: Device) -> RegisterDeviceRequest {
    RegisterDeviceRequest {
        device_id: device.device_id,
        inactive: !device.active,
        created_at: device.created_at,
        keep_inactive: false,
    }
}

/// How many lines of each kind there are, and a hash of them that does not depend on their order: the sum of their
/// SHA-256, modulo 2^256.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    kinds: BTreeMap<&'static str, (u64, [u64; 4])>,
}

impl Tally {
    /// Counts a line.
    pub fn add(&mut self, kind: &'static str, line: &str) {
        let digest = Sha256::digest(line.as_bytes());
        let (count, sum) = self.kinds.entry(kind).or_default();
        *count += 1;
        let mut carry = false;
        for (limb, bytes) in sum.iter_mut().zip(digest.chunks(8)) {
            let mut word = [0; 8];
            word.copy_from_slice(bytes);
            let (added, first) = limb.overflowing_add(u64::from_le_bytes(word));
            let (added, second) = added.overflowing_add(u64::from(carry));
            (*limb, carry) = (added, first || second);
        }
    }

    /// How many lines there are of a kind.
    #[must_use]
    pub fn count(&self, kind: &str) -> u64 {
        self.kinds.get(kind).map_or(0, |(count, _)| *count)
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.kinds.is_empty() {
            return f.write_str("nothing");
        }
        for (place, (kind, (count, sum))) in self.kinds.iter().enumerate() {
            let separator = if place == 0 { "" } else { "\n" };
            write!(f, "{separator}{:<14}{count:>12}  sha256 ", format!("{kind}s"))?;
            for limb in sum {
                for byte in limb.to_le_bytes() {
                    write!(f, "{byte:02x}")?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MESSAGE_LINE: &str = r#"{"message":{"content":"a\"b","conversation_id":"550e8400-e29b-41d4-a716-446655440000","created_at":"2024-05-01T10:00:00.123456Z","id":"018f3f9e-0000-7000-8000-000000000001","message_type":"MESSAGE_TYPE_TEXT","number":7,"sender_id":"1","sender_role":"patient","seq":3,"status":"MESSAGE_STATUS_READ"}}"#;

    #[test]
    fn what_is_read_is_written() -> anyhow::Result<()> {
        for line in [
            MESSAGE_LINE,
            r#"{"user":{"full_name":"Ä","id":"1","profiles":{"patient":"p","professional":"q"},"roles":["patient"]}}"#,
            r#"{"device":{"created_at":"2024-05-01T10:00:00Z","device_id":"d","inactive":true}}"#,
            r#"{"conversation":{"created_at":"2024-05-01T10:00:00Z","id":"550e8400-e29b-41d4-a716-446655440000","kind":"CONVERSATION_KIND_THERAPY","last_seq":3,"number":5,"participants":[{"role":"customer","user_id":"1"},{"role":"therapist","user_id":"2"}],"secondary":true,"status":"CONVERSATION_STATUS_CLOSED"}}"#,
        ] {
            assert_eq!(Record::read(line)?.line()?, line);
        }
        Ok(())
    }

    #[test]
    fn other_spellings_are_the_same_line() -> anyhow::Result<()> {
        for (one, other) in [
            ("550e8400-e29b-41d4-a716-446655440000", "550E8400E29B41D4A716446655440000"),
            (r#""seq":3"#, r#""seq":"3""#),
            ("10:00:00.123456Z", "10:00:00.123456789Z"),
            ("2024-05-01T10:00:00.123456Z", "2024-05-01T12:00:00.123456+02:00"),
            (r#""patient""#, r#""Patient ""#),
            (r#""message_type":"MESSAGE_TYPE_TEXT","#, ""),
        ] {
            assert!(MESSAGE_LINE.contains(one));
            assert_eq!(Record::read(&MESSAGE_LINE.replace(one, other))?.line()?, MESSAGE_LINE, "{other}");
        }
        Ok(())
    }

    #[test]
    fn what_is_wrong_is_told_with_what_is_right() -> anyhow::Result<()> {
        for (line, told) in [
            ("", "not a JSON object"),
            ("{}", "one key is wanted"),
            (r#"{"king":{}}"#, "`king` is not"),
            (r#"{"message":{"id":"7"}}"#, "UUID version 5"),
            (&MESSAGE_LINE.replace("created_at", "createdat"), "createdat"),
            (r#"{"conversation":{"status":"CONVERSATION_STATUS_CLOSED"}}"#, "without created_at"),
        ] {
            let wrong = format!("{:#}", Record::read(line).expect_err("wrong"));
            assert!(wrong.contains(told), "{wrong}");
        }
        Ok(())
    }

    #[test]
    fn a_tally_knows_no_order_but_every_line() {
        let tally = |lines: &[&str]| {
            let mut tally = Tally::default();
            lines.iter().for_each(|line| tally.add("message", line));
            tally
        };
        assert_eq!(tally(&["a", "b", "c"]), tally(&["c", "a", "b"]));
        assert_ne!(tally(&["a", "b"]), tally(&["a", "c"]));
        // Twice the same is not nothing.
        assert_ne!(tally(&["a", "a"]), tally(&["b", "b"]));
        assert_eq!(tally(&["a"]).count("message"), 1);
        assert!(
            tally(&["a"]).to_string().ends_with("ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb")
        );
    }
}
