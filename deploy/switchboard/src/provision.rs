//! Loads people and conversations from JSON lines through gRPC.
//!
//! A line is one object with one key: `{"user": {...}}`, `{"device": {...}}` or `{"conversation": {...}}`; its fields
//! are those of `User`, `RegisterDeviceRequest` and `OpenConversationRequest`, in the protobuf JSON mapping. Loading
//! the same lines again changes nothing.

use std::fmt;

use anyhow::{Context as _, bail};
use serde_json::{Map, Value};
use switchboard_chassis::grpc::Peer;
use switchboard_proto::{
    chat::v1::{OpenConversationRequest, chat_service_client::ChatServiceClient},
    identity::v1::{RegisterDeviceRequest, UpsertUserRequest, User, identity_service_client::IdentityServiceClient},
    reflect,
};

/// What was loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    /// Users, and how many of them are new.
    pub users: (u64, u64),
    /// Devices, and how many of them are new.
    pub devices: (u64, u64),
    /// Conversations, and how many of them are new.
    pub conversations: (u64, u64),
}

impl fmt::Display for Loaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { users, devices, conversations } = self;
        write!(
            f,
            "{} users ({} new), {} devices ({} new), {} conversations ({} new)",
            users.0, users.1, devices.0, devices.1, conversations.0, conversations.1
        )
    }
}

/// One line, read.
enum Line {
    User(User),
    Device(RegisterDeviceRequest),
    Conversation(OpenConversationRequest),
}

/// Loads all lines; none if one of them cannot be read.
///
/// # Errors
/// The first line that cannot be read, or that a service refused, by its number.
pub async fn provision(lines: &str, identity: Peer, chat: Peer) -> anyhow::Result<Loaded> {
    let lines = lines
        .lines()
        .zip(1..)
        .filter(|(line, _)| !line.trim().is_empty())
        .map(|(line, number)| Ok((number, read(line).with_context(|| format!("line {number}"))?)))
        .collect::<anyhow::Result<Vec<(u32, Line)>>>()?;

    let (mut identity, mut chat) = (IdentityServiceClient::new(identity), ChatServiceClient::new(chat));
    let mut loaded = Loaded::default();
    for (number, line) in lines {
        let (count, created) = match line {
            Line::User(user) => {
                let done = identity.upsert_user(UpsertUserRequest { user: Some(user) }).await;
                (&mut loaded.users, done.map(|done| done.into_inner().created))
            }
            Line::Device(device) => {
                let done = identity.register_device(device).await;
                (&mut loaded.devices, done.map(|done| done.into_inner().created))
            }
            Line::Conversation(conversation) => {
                let done = chat.open_conversation(conversation).await;
                (&mut loaded.conversations, done.map(|done| done.into_inner().created))
            }
        };
        match created {
            Ok(created) => *count = (count.0 + 1, count.1 + u64::from(created)),
            Err(status) => bail!("line {number}: {} ({:?}); {loaded} before it", status.message(), status.code()),
        }
    }
    Ok(loaded)
}

fn read(line: &str) -> anyhow::Result<Line> {
    let object: Map<String, Value> = serde_json::from_str(line).context("not a JSON object")?;
    let mut fields = object.into_iter();
    let (Some((key, value)), None) = (fields.next(), fields.next()) else {
        bail!("one key is wanted: user, device or conversation");
    };
    match key.as_str() {
        "user" => Ok(Line::User(reflect::from_json("switchboard.identity.v1.User", value)?)),
        "device" => Ok(Line::Device(reflect::from_json("switchboard.identity.v1.RegisterDeviceRequest", value)?)),
        "conversation" => {
            Ok(Line::Conversation(reflect::from_json("switchboard.chat.v1.OpenConversationRequest", value)?))
        }
        other => bail!("`{other}` is not user, device or conversation"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_named_as_in_the_protos() {
        let Line::User(user) =
            read(r#"{"user":{"id":"1","full_name":"A","profiles":{"patient":"p"},"roles":["patient"]}}"#)
                .expect("right")
        else {
            panic!("not a user")
        };
        assert_eq!((user.full_name.as_str(), user.profiles["patient"].as_str()), ("A", "p"));
        let Line::Conversation(conversation) =
            read(r#"{"conversation":{"kind":"CONVERSATION_KIND_MOBILE","number":"123"}}"#).expect("right")
        else {
            panic!("not a conversation")
        };
        assert_eq!(conversation.number, 123);
        for wrong in ["", "[]", "{}", r#"{"user":{"idd":"1"}}"#, r#"{"king":{}}"#, r#"{"user":{},"device":{}}"#] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
