//! Real processes, really killed.

use std::collections::HashSet;

use switchboard_chassis::{Secret, grpc::remote_peer};
use switchboard_proto::chat::v1::{ListMessagesRequest, chat_service_client::ChatServiceClient};
use switchboard_tests::{
    Client,
    process::{self, Process},
};
use tempfile::TempDir;

const CHAT: &str = "550e8400-e29b-41d4-a716-446655440000";
const PEOPLE: &str = r#"
{"user": {"id": "p", "roles": ["patient"]}}
{"user": {"id": "d", "roles": ["professional"]}}
{"conversation": {"kind": "CONVERSATION_KIND_CLINIC", "id": "550e8400-e29b-41d4-a716-446655440000", "participants": [{"user_id": "p", "role": "patient"}, {"user_id": "d", "role": "professional"}]}}
"#;
const GRPC_TOKEN: &str = "a-token-between-services";

/// One machine's worth of processes, which share a data directory and addresses over restarts.
struct Machine {
    directory: TempDir,
    edge: std::net::SocketAddr,
    grpc: std::net::SocketAddr,
}

impl Machine {
    fn new() -> anyhow::Result<Self> {
        Ok(Self { directory: tempfile::tempdir()?, edge: process::free_address()?, grpc: process::free_address()? })
    }

    fn settings(&self) -> Vec<(&'static str, String)> {
        let url = format!("http://{}", self.grpc);
        vec![
            ("SWITCHBOARD_DATA_DIR", self.directory.path().join("data").display().to_string()),
            ("SWITCHBOARD_EDGE__LISTEN", self.edge.to_string()),
            ("SWITCHBOARD_GRPC__LISTEN", self.grpc.to_string()),
            ("SWITCHBOARD_GRPC__TOKEN", GRPC_TOKEN.to_owned()),
            ("SWITCHBOARD_SERVICES__IDENTITY", url.clone()),
            ("SWITCHBOARD_SERVICES__CHAT", url),
        ]
    }

    async fn start(&self, arguments: &[&str], address: std::net::SocketAddr) -> anyhow::Result<Process> {
        let mut process = Process::start(arguments, &self.settings())?;
        process.listens(address).await?;
        Ok(process)
    }

    fn provision(&self) -> anyhow::Result<()> {
        let file = self.directory.path().join("people.jsonl");
        std::fs::write(&file, PEOPLE)?;
        let (code, out, err) = process::run(&["provision", &file.display().to_string()], &self.settings())?;
        assert_eq!((code, out.trim()), (0, "2 users (2 new), 0 devices (0 new), 1 conversations (1 new)"), "{err}");
        Ok(())
    }

    async fn connect(&self, user: &str, after: Option<&str>) -> anyhow::Result<Client> {
        let (code, token, err) = process::run(&["token", "--user", user], &self.settings())?;
        assert_eq!(code, 0, "{err}");
        let after = after.map(|after| format!("&after={after}")).unwrap_or_default();
        Client::connect(&format!("ws://{}/ws/chat/{CHAT}/?token={}{after}", self.edge, token.trim()), &[]).await
    }

    async fn stored(&self) -> anyhow::Result<Vec<(String, String)>> {
        let mut chat = ChatServiceClient::new(remote_peer(&format!("http://{}", self.grpc), &Secret::new(GRPC_TOKEN))?);
        let request =
            ListMessagesRequest { conversation_id: CHAT.into(), page_size: 1000, ..ListMessagesRequest::default() };
        let page = chat.list_messages(request).await?.into_inner();
        assert_eq!(page.next_from_seq, 0, "one page is enough for this test");
        Ok(page.messages.into_iter().map(|message| (message.id, message.content)).collect())
    }
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
            machine.provision()?;
        }
        let mut watcher = machine.connect("d", None).await?;
        let mut sender = machine.connect("p", None).await?;
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
    let stored = machine.stored().await?;
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
    machine.provision()?;
    let mut watcher = machine.connect("d", None).await?;
    let mut sender = machine.connect("p", None).await?;

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
    assert_eq!(machine.stored().await?, seen);
    Ok(())
}

/// SIGTERM: sockets are told to come back, the process ends by itself with 0, and starts again where it was.
#[tokio::test(flavor = "multi_thread")]
async fn a_terminated_process_ends_well() -> anyhow::Result<()> {
    let machine = Machine::new()?;
    let mut server = machine.start(&["serve", "--set", "edge.drain_spread_s=0"], machine.edge).await?;
    machine.provision()?;
    let mut socket = machine.connect("p", None).await?;
    socket.send(r#"{"content":"first"}"#).await?;
    let (first, _) = told(&socket.next().await?);
    socket.send(r#"{"content":"second"}"#).await?;
    socket.next().await?;
    server.terminate()?;
    assert_eq!(socket.closed().await?.0, 1012);
    assert_eq!(server.exit_code().await?, 0);
    let _server = machine.start(&["serve"], machine.edge).await?;
    let mut socket = machine.connect("p", Some(&first)).await?;
    assert_eq!(told(&socket.next().await?).1, "second");
    Ok(())
}
