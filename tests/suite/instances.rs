//! Several instances of every service behind one edge, on one Postgres: one leaves or dies, and nobody notices.

use std::fmt::Write as _;

use serde_json::json;
use switchboard::config::Role;
use switchboard_chassis::Lifecycle;
use switchboard_proto::{
    chat::v1::{ListMessagesRequest, Send, SendMessageRequest},
    notification::v1::{NotifyRequest, notification_service_client::NotificationServiceClient},
};
use switchboard_tests::{Backend, Client, Sandbox};

/// Enough that both instances have some.
const PAIRS: usize = 12;
const SERVICES: [Role; 5] = [Role::Identity, Role::Chat, Role::Location, Role::Notification, Role::Presence];

fn conversation(pair: usize) -> String {
    format!("00000000-0000-4000-8000-{pair:012x}")
}

fn people() -> String {
    let mut lines = String::new();
    for n in 0..PAIRS {
        let _ = writeln!(lines, r#"{{"user": {{"id": "c{n}", "roles": ["client", "customer"]}}}}"#);
        let _ = writeln!(lines, r#"{{"user": {{"id": "e{n}", "roles": ["expert", "therapist"]}}}}"#);
        let _ = writeln!(
            lines,
            r#"{{"conversation": {{"kind": "CONVERSATION_KIND_CONSULTATION", "id": "{}", "participants": [{{"user_id": "c{n}", "role": "client"}}, {{"user_id": "e{n}", "role": "expert"}}]}}}}"#,
            conversation(n)
        );
    }
    lines
}

/// Everything that a pair has open.
struct Pair {
    number: usize,
    client: Client,
    expert: Client,
    inbox: Client,
    customer: Client,
    therapist: Client,
    sent: usize,
    notified: i64,
}

impl Pair {
    async fn open(sandbox: &Sandbox, edge: std::net::SocketAddr, number: usize) -> anyhow::Result<Self> {
        let (client, expert) = (format!("c{number}"), format!("e{number}"));
        let chat = format!("/ws/chat/{}/", conversation(number));
        let location = format!("/ws/location/{client}/{expert}/");
        let mut pair = Self {
            number,
            client: sandbox.connect_at(edge, &chat, &client).await?,
            expert: sandbox.connect_at(edge, &chat, &expert).await?,
            inbox: sandbox.connect_at(edge, "/ws/notifications/", &client).await?,
            customer: sandbox.connect_at(edge, &location, &client).await?,
            therapist: sandbox.connect_at(edge, &location, &expert).await?,
            sent: 0,
            notified: 0,
        };
        pair.client.next().await?;
        pair.expert.next().await?;
        while pair.inbox.next().await?["type"] != "unread_count" {}
        Ok(pair)
    }

    /// Says something and is notified; both must come, once, in their order.
    async fn say(&mut self) -> anyhow::Result<()> {
        let frame = json!({ "type": "chat_message", "message": self.sent.to_string() });
        self.client.send(frame.to_string()).await?;
        self.therapist.send(json!({ "latitude": self.sent as f64 / 100.0, "longitude": 0 }).to_string()).await
    }

    async fn hear(&mut self) -> anyhow::Result<()> {
        for side in [&mut self.client, &mut self.expert] {
            let frame = side.next().await?;
            assert_eq!(frame["data"]["content"], self.sent.to_string(), "pair {}", self.number);
        }
        while self.customer.next().await?["latitude"] != self.sent as f64 / 100.0 {}
        self.sent += 1;
        Ok(())
    }

    async fn notified(&mut self) -> anyhow::Result<()> {
        let frame = self.inbox.next().await?;
        assert_eq!(frame["data"]["title"], self.notified.to_string(), "pair {}", self.number);
        self.notified += 1;
        assert_eq!(self.inbox.next().await?, json!({ "type": "unread_count", "count": self.notified }));
        Ok(())
    }
}

async fn everybody_goes_on(end: impl Fn(&Lifecycle)) -> anyhow::Result<()> {
    let sandbox = Sandbox::start(Backend::Postgres).await?;
    sandbox.provision(&people()).await?;
    let (second, lifecycle) = sandbox.another(&SERVICES).await?;
    let (edge, _edge) = sandbox.edge_over(&[sandbox.grpc, second]).await?;
    let mut notify = NotificationServiceClient::new(sandbox.peer_at(sandbox.grpc)?);
    let mut pairs = Vec::new();
    for n in 0..PAIRS {
        pairs.push(Pair::open(&sandbox, edge, n).await?);
    }
    let mut watcher = sandbox.connect_at(edge, "/ws/presence/", "c0").await?;
    let _watched = sandbox.connect_at(edge, "/ws/presence/", "c1").await?;
    assert_eq!(watcher.next().await?["user_id"], "c1");

    for round in 0..6 {
        if round == 3 {
            end(&lifecycle);
        }
        // All at once, so that some are on their way when the instance ends.
        for pair in &mut pairs {
            pair.say().await?;
        }
        for pair in &mut pairs {
            pair.hear().await?;
            let user_id = format!("c{}", pair.number);
            notify.notify(NotifyRequest { user_id, title: round.to_string(), ..NotifyRequest::default() }).await?;
            pair.notified().await?;
        }
    }
    let mut chat = sandbox.chat()?;
    for pair in &mut pairs {
        // By a service, at the instance that is left.
        let send = Some(Send { content: pair.sent.to_string(), ..Send::default() });
        let (conversation_id, user_id) = (conversation(pair.number), format!("e{}", pair.number));
        let request = SendMessageRequest { conversation_id: conversation_id.clone(), user_id, send };
        chat.send_message(request).await?;
        for side in [&mut pair.client, &mut pair.expert] {
            assert_eq!(side.next().await?["data"]["content"], pair.sent.to_string());
        }
        let request = ListMessagesRequest { conversation_id, ..ListMessagesRequest::default() };
        let stored = chat.list_messages(request).await?.into_inner().messages;
        let contents: Vec<String> = stored.into_iter().map(|message| message.content).collect();
        assert_eq!(contents, (0..=pair.sent).map(|n| n.to_string()).collect::<Vec<_>>(), "each once, in order");
    }
    // Nobody blinked.
    let late = sandbox.connect_at(edge, "/ws/presence/", "c2").await?;
    assert_eq!(watcher.next().await?["user_id"], "c2");
    drop(late);
    lifecycle.stop();
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_leaves_hands_its_sessions_over() -> anyhow::Result<()> {
    everybody_goes_on(Lifecycle::drain).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_dies_is_not_missed() -> anyhow::Result<()> {
    everybody_goes_on(Lifecycle::stop).await
}
