//! Real processes, really killed.

use std::collections::HashSet;

use switchboard_proto::chat::v1::{ListMessagesRequest, chat_service_client::ChatServiceClient};
use switchboard_tests::{Client, process::Machine};

const CHAT: &str = "550e8400-e29b-41d4-a716-446655440000";
const PEOPLE: &str = r#"
{"user": {"id": "p", "roles": ["patient"]}}
{"user": {"id": "d", "roles": ["professional"]}}
{"conversation": {"kind": "CONVERSATION_KIND_CLINIC", "id": "550e8400-e29b-41d4-a716-446655440000", "participants": [{"user_id": "p", "role": "patient"}, {"user_id": "d", "role": "professional"}]}}
"#;
async fn connect(machine: &Machine, user: &str, after: Option<&str>) -> anyhow::Result<Client> {
    let after = after.map(|after| format!("?after={after}")).unwrap_or_default();
    machine.connect(&format!("/ws/chat/{CHAT}/{after}"), user).await
}

async fn stored(machine: &Machine) -> anyhow::Result<Vec<(String, String)>> {
    let mut chat = ChatServiceClient::new(machine.peer()?);
    let request =
        ListMessagesRequest { conversation_id: CHAT.into(), page_size: 1000, ..ListMessagesRequest::default() };
    let page = chat.list_messages(request).await?.into_inner();
    assert_eq!(page.next_from_seq, 0, "one page is enough for this test");
    Ok(page.messages.into_iter().map(|message| (message.id, message.content)).collect())
}

fn told(frame: &serde_json::Value) -> (String, String) {
    let text = |field: &str| frame["message"][field].as_str().unwrap_or_default().to_owned();
    (text("id"), text("content"))
}

/// `kill -9` in the middle of a burst, several times: everything that any client saw is there, once, in the same order.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_process_loses_nothing_that_was_seen() -> anyhow::Result<()> {
    const ROUNDS: usize = 3;
    const SEEN_BEFORE_KILL: usize = 60;
    let machine = Machine::new()?;
    let mut seen: Vec<(String, String)> = Vec::new();
    for round in 0..ROUNDS {
        let mut server = machine.start(&["serve"], machine.edge).await?;
        if round == 0 {
            machine.provision(PEOPLE)?;
        }
        let mut watcher = connect(&machine, "d", None).await?;
        let mut sender = connect(&machine, "p", None).await?;
        let sending = tokio::spawn(async move {
            for n in 0.. {
                if sender.send(format!(r#"{{"content":"{round}:{n}"}}"#)).await.is_err() {
                    break;
                }
                // Its own echoes must be read, or it would be slow; the kill ends it.
                if sender.next().await.is_err() {
                    break;
                }
            }
        });
        for _ in 0..SEEN_BEFORE_KILL {
            seen.push(told(&watcher.next().await?));
        }
        server.kill()?;
        while let Ok(frame) = watcher.next().await {
            seen.push(told(&frame));
        }
        sending.await?;
    }
    let _server = machine.start(&["serve"], machine.edge).await?;
    let stored = stored(&machine).await?;
    let ids: HashSet<&String> = stored.iter().map(|(id, _)| id).collect();
    assert_eq!(ids.len(), stored.len());
    let mut archive = stored.iter();
    for message in &seen {
        assert!(archive.any(|stored| stored == message), "{message:?} was seen but is not stored in its place");
    }
    Ok(())
}

/// The chat service dies under live sockets: they stay, what they said meanwhile is stored once, in order, and everyone
/// is told everything once.
#[tokio::test(flavor = "multi_thread")]
async fn sockets_outlive_the_chat_service() -> anyhow::Result<()> {
    const ROUNDS: usize = 3;
    const MESSAGES: usize = 120;
    let machine = Machine::new()?;
    let services = ["serve", "--role", "identity,chat"];
    let mut service = machine.start(&services, machine.grpc).await?;
    let _edge = machine.start(&["serve", "--role", "edge"], machine.edge).await?;
    machine.provision(PEOPLE)?;
    let mut watcher = connect(&machine, "d", None).await?;
    let mut sender = connect(&machine, "p", None).await?;

    let mut sent = 0;
    let mut seen = Vec::new();
    for _ in 0..ROUNDS {
        // A few are on their way when the service dies, and a few are sent while it is away.
        for _ in 0..8 {
            sender.send(format!(r#"{{"content":"{sent}"}}"#)).await?;
            sent += 1;
        }
        service.kill()?;
        for _ in 0..4 {
            sender.send(format!(r#"{{"content":"{sent}"}}"#)).await?;
            sent += 1;
        }
        service = machine.start(&services, machine.grpc).await?;
        while seen.len() < sent {
            let frame = watcher.next().await?;
            assert!(frame["error"].is_null(), "{frame}");
            seen.push(told(&frame));
            let echo = told(&sender.next().await?);
            assert_eq!(seen.last(), Some(&echo));
        }
    }
    while sent < MESSAGES {
        sender.send(format!(r#"{{"content":"{sent}"}}"#)).await?;
        sent += 1;
        seen.push(told(&watcher.next().await?));
        sender.next().await?;
    }
    assert!(seen.iter().enumerate().all(|(n, (_, content))| *content == n.to_string()), "{seen:?}");
    assert_eq!(stored(&machine).await?, seen);
    Ok(())
}

/// SIGTERM: sockets are told to come back, the process ends by itself with 0, and starts again where it was.
#[tokio::test(flavor = "multi_thread")]
async fn a_terminated_process_ends_well() -> anyhow::Result<()> {
    let machine = Machine::new()?;
    let mut server = machine.start(&["serve", "--set", "edge.drain_spread_s=0"], machine.edge).await?;
    machine.provision(PEOPLE)?;
    let mut socket = connect(&machine, "p", None).await?;
    socket.send(r#"{"content":"first"}"#).await?;
    let (first, _) = told(&socket.next().await?);
    socket.send(r#"{"content":"second"}"#).await?;
    socket.next().await?;
    server.terminate()?;
    assert_eq!(socket.closed().await?.0, 1012);
    assert_eq!(server.exit_code().await?, 0);
    let _server = machine.start(&["serve"], machine.edge).await?;
    let mut socket = connect(&machine, "p", Some(&first)).await?;
    assert_eq!(told(&socket.next().await?).1, "second");
    Ok(())
}
