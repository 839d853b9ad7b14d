//! The hot path, piece by piece.

use std::{hint::black_box, sync::LazyLock};

use anyhow::Context as _;
use futures_util::future::try_join_all;
use prost::Message as _;
use switchboard_chassis::testing::Backend;
use switchboard_edge::documents::{react, show};
use switchboard_proto::{
    chat::v1::{
        ConversationKind, ConverseRequest, ConverseResponse, Message, OpenConversationRequest, Participant, Send,
        SendMessageRequest, converse_request::Action, converse_response::Event,
    },
    wire::{Answer, Chat, Wire as _},
};
use switchboard_tests::{Client, Sandbox};
use tokio::runtime::{Builder, Runtime};

/// Messages that one transaction stores in [`Commits`].
pub(crate) const BATCH: u64 = 64;

/// A message as each protocol's client sends it.
pub(crate) const FRAMES: [(&str, &str); 5] = [
    ("therapy", r#"{"message":"How did you sleep since we spoke on Tuesday?"}"#),
    ("clinic", r#"{"type":"message","content":"How did you sleep since we spoke on Tuesday?"}"#),
    ("mobile", r#"{"type":"chat_message","message":"How did you sleep since we spoke on Tuesday?"}"#),
    ("mentoring", r#"{"type":"chat_message","message":"How did you sleep since we spoke on Tuesday?"}"#),
    ("consultation", r#"{"type":"chat_message","content":"How did you sleep since we spoke on Tuesday?"}"#),
];

static MESSAGE: LazyLock<Event> = LazyLock::new(|| {
    Event::Message(Message {
        id: "01938c5e-7d6a-7c3e-9f1b-2a4d6e8f0a1c".to_owned(),
        number: 4711,
        conversation_id: "01938c5e-0000-7c3e-9f1b-2a4d6e8f0a1c".to_owned(),
        seq: 12,
        sender_id: "1000001".to_owned(),
        sender_role: "customer".to_owned(),
        content: "How did you sleep since we spoke on Tuesday?".to_owned(),
        created_at: Some(prost_types::Timestamp { seconds: 1_793_000_000, nanos: 123_456_000 }),
        ..Message::default()
    })
});

/// Reads a client's frame.
pub(crate) fn decode(protocol: &str, frame: &str) {
    black_box(react(black_box(protocol), black_box(frame)));
}

/// Writes a message as a protocol's clients see it.
pub(crate) fn encode(protocol: &str) {
    black_box(show(black_box(protocol), &MESSAGE));
}

/// A client's message on its way to the service: as an action, as bytes, and back.
pub(crate) fn link_request() {
    let send = Send { content: "How did you sleep since we spoke on Tuesday?".to_owned(), ..Send::default() };
    let bytes = Chat::request(black_box(7), black_box(9), Action::Send(send)).encode_to_vec();
    let read = ConverseRequest::decode(black_box(bytes.as_slice())).expect("a frame");
    black_box(Chat::split_request(read));
}

/// A message on its way to the edge, for two sessions.
pub(crate) fn link_response() {
    let answer = Some(Answer { session: 7, request: 9 });
    let bytes = Chat::response(black_box(vec![7, 8]), MESSAGE.clone(), answer).encode_to_vec();
    let read = ConverseResponse::decode(black_box(bytes.as_slice())).expect("a frame");
    black_box(Chat::split_response(read));
}

/// A whole system in this process, on SQLite.
struct System {
    sandbox: Sandbox,
    runtime: Runtime,
}

impl System {
    fn new() -> anyhow::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let sandbox = runtime.block_on(async {
            let sandbox = Sandbox::start(Backend::Sqlite).await?;
            let person = |n: u64, role| format!(r#"{{"user":{{"id":"{role}-{n}","roles":["{role}"]}}}}"#);
            let people: Vec<String> =
                (0..BATCH).flat_map(|n| [person(n, "customer"), person(n, "therapist")]).collect();
            sandbox.provision(&people.join("\n")).await?;
            anyhow::Ok(sandbox)
        })?;
        Ok(Self { sandbox, runtime })
    }
}

/// Messages of many conversations that come at once, and share a commit.
pub(crate) struct Commits {
    system: System,
    conversations: Vec<String>,
}

impl Commits {
    /// # Errors
    /// When the system does not start.
    pub(crate) fn new() -> anyhow::Result<Self> {
        let system = System::new()?;
        let opened = async {
            let chat = system.sandbox.chat()?;
            try_join_all((0..BATCH).map(|n| {
                let seat = |role: &str| Participant { user_id: format!("{role}-{n}"), role: role.to_owned() };
                let request = OpenConversationRequest {
                    kind: ConversationKind::Therapy.into(),
                    participants: vec![seat("customer"), seat("therapist")],
                    ..OpenConversationRequest::default()
                };
                let mut chat = chat.clone();
                async move {
                    let opened = chat.open_conversation(request).await?.into_inner();
                    anyhow::Ok(opened.conversation.context("a conversation")?.id)
                }
            }))
            .await
        };
        let conversations = system.runtime.block_on(opened)?;
        Ok(Self { system, conversations })
    }

    /// One message in each.
    ///
    /// # Errors
    /// When one is not stored.
    pub(crate) fn store(&self) -> anyhow::Result<()> {
        self.system.runtime.block_on(async {
            let chat = self.system.sandbox.chat()?;
            let sent = self.conversations.iter().zip(0..).map(|(conversation_id, n): (_, u64)| {
                let send = Send { content: "How did you sleep?".to_owned(), ..Send::default() };
                let request = SendMessageRequest {
                    conversation_id: conversation_id.clone(),
                    user_id: format!("customer-{n}"),
                    send: Some(send),
                };
                let mut chat = chat.clone();
                async move { chat.send_message(request).await }
            });
            try_join_all(sent).await?;
            Ok(())
        })
    }
}

/// Two people who chat: a frame into one socket, through session, link, service, store and back out of both.
pub(crate) struct RoundTrips {
    system: System,
    both: [Client; 2],
}

impl RoundTrips {
    /// # Errors
    /// When the system does not start.
    pub(crate) fn new() -> anyhow::Result<Self> {
        let system = System::new()?;
        let path = "/ws/chat/customer-0/therapist-0/";
        let connecting = async {
            let customer = system.sandbox.connect(path, "customer-0").await?;
            anyhow::Ok([customer, system.sandbox.connect(path, "therapist-0").await?])
        };
        let both = system.runtime.block_on(connecting)?;
        Ok(Self { system, both })
    }

    /// One message, heard by both.
    ///
    /// # Errors
    /// When it is not heard.
    pub(crate) fn talk(&mut self) -> anyhow::Result<()> {
        let both = &mut self.both;
        self.system.runtime.block_on(async {
            both[0].send(FRAMES[0].1).await?;
            for client in both {
                while client.next().await?["message"] != "How did you sleep since we spoke on Tuesday?" {}
            }
            Ok(())
        })
    }
}
