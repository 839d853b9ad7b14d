//! A disk that is full: SQLite under a limit on the size of files, which lets a write fail in its middle.

use std::{
    fs::File,
    net::SocketAddr,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, bail, ensure};
use serde_json::{Value, json};
use switchboard::provision::provision;
use switchboard_proto::chat::v1::{ListMessagesRequest, chat_service_client::ChatServiceClient};
use switchboard_tests::{
    Client,
    client::call,
    process::{self, Process},
};

use crate::{
    LIVENESS,
    cluster::{credentials, free_address, peer, token},
};

const CHAT: &str = "00000000-0000-4000-8000-000000000000";
const PEOPLE: &str = r#"
{"user": {"id": "c", "roles": ["client"]}}
{"user": {"id": "e", "roles": ["expert"]}}
{"conversation": {"kind": "CONVERSATION_KIND_CONSULTATION", "id": "00000000-0000-4000-8000-000000000000", "participants": [{"user_id": "c", "role": "client"}, {"user_id": "e", "role": "expert"}]}}
"#;
/// Of `ulimit -f`, in units of 512 bytes: 1 MiB for each file.
const FILE_BLOCKS_MAX: usize = 2048;
const WORDS_BYTES: usize = 4096;
/// So many fit by no means.
const MESSAGES_MAX: usize = 4096;
const REFUSALS: usize = 10;

struct Server<'a> {
    directory: &'a Path,
    edge: SocketAddr,
    grpc: SocketAddr,
}

/// What a message was answered with.
enum Answer {
    Echo(String),
    Error(String),
}

/// When the disk is full, each send is answered with an error, and the process goes on; when there is room again, so do
/// sends. Nothing that was acknowledged is lost.
pub(crate) async fn full(directory: &Path) -> anyhow::Result<()> {
    let server = Server { directory, edge: free_address()?, grpc: free_address()? };
    let mut process = server.start(&format!("ulimit -S -f {FILE_BLOCKS_MAX}")).await?;
    provision(PEOPLE, peer(server.grpc)?, peer(server.grpc)?).await?;
    let mut client = server.connect().await?;

    let mut stored = Vec::new();
    let mut refused = Vec::new();
    for n in 0.. {
        ensure!(n < MESSAGES_MAX, "the disk does not become full");
        match say(&mut client, n).await? {
            Answer::Echo(id) => stored.push((n, id)),
            Answer::Error(_) => refused.push(n),
        }
        if refused.len() == REFUSALS {
            break;
        }
    }
    if let Some(status) = process.ended()? {
        bail!("a full disk ended the process: {status}");
    }
    let (status, _) = call(server.edge, "GET", "/healthz", None, None).await?;
    ensure!(status == 200, "/healthz is {status} while the disk is full");

    // There is room again.
    let limit = Command::new("prlimit").args(["--pid", &process.id().to_string(), "--fsize=unlimited"]).status();
    ensure!(limit.context("prlimit")?.success(), "the limit cannot be lifted");
    for n in refused {
        match say(&mut client, n).await? {
            Answer::Echo(id) => stored.push((n, id)),
            Answer::Error(error) => bail!("message {n} is refused though there is room again: {error}"),
        }
    }
    server.holds(&stored).await.context("after there was room again")?;

    process.kill()?;
    let _process = server.start("true").await?;
    server.holds(&stored).await.context("after kill -9")
}

/// Sends a message and waits for its echo or an error.
async fn say(client: &mut Client, n: usize) -> anyhow::Result<Answer> {
    let frame = json!({ "type": "chat_message", "message": words(n), "client_message_id": n.to_string() });
    client.send(frame.to_string()).await?;
    let answer = tokio::time::timeout(LIVENESS, client.next()).await;
    let frame = answer.with_context(|| format!("message {n} is answered neither by an echo nor by an error"))??;
    let text = |value: &Value| value.as_str().map(str::to_owned).with_context(|| format!("message {n}: {frame}"));
    match frame["type"].as_str() {
        Some("chat_message") if frame["data"]["content"] == words(n) => Ok(Answer::Echo(text(&frame["data"]["id"])?)),
        Some("error") => Ok(Answer::Error(text(&frame["message"])?)),
        _ => bail!("message {n} is answered with {frame}"),
    }
}

fn words(n: usize) -> String {
    format!("{n} {}", "x".repeat(WORDS_BYTES))
}

impl Server<'_> {
    /// All roles in one process, after a command to the shell that becomes it.
    async fn start(&self, first: &str) -> anyhow::Result<Process> {
        let log = File::options().create(true).append(true).open(self.directory.join("serve.log"))?;
        // A disk that is full does not signal.
        let script = format!(r#"trap '' XFSZ && {first} && exec "$0" serve"#);
        let mut command = Command::new("sh");
        command.args(["-c", &script]).arg(process::binary()?).env_clear().envs(credentials());
        command.env("SWITCHBOARD_DATA_DIR", self.directory.join("data"));
        command.env("SWITCHBOARD_ADMIN__LISTEN", "127.0.0.1:0");
        command.env("SWITCHBOARD_EDGE__LISTEN", self.edge.to_string());
        command.env("SWITCHBOARD_GRPC__LISTEN", self.grpc.to_string());
        command.env("SWITCHBOARD_EDGE__RATE_LIMITS__CONSULTATION", "0");
        let mut process = Process::spawn(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log))?;
        process.listens(self.edge).await?;
        process.listens(self.grpc).await?;
        Ok(process)
    }

    async fn connect(&self) -> anyhow::Result<Client> {
        let url = format!("ws://{}/ws/chat/{CHAT}/?token={}", self.edge, token("c")?);
        let mut client = Client::connect(&url, &[]).await?;
        let greeting = client.next().await?;
        ensure!(greeting["type"] == "connection_established", "{greeting}");
        Ok(client)
    }

    /// That each acknowledged message is stored once, and nothing else is.
    async fn holds(&self, acknowledged: &[(usize, String)]) -> anyhow::Result<()> {
        let mut chat = ChatServiceClient::new(peer(self.grpc)?);
        let mut stored = Vec::new();
        let mut from_seq = 0;
        loop {
            let request = ListMessagesRequest {
                conversation_id: CHAT.to_owned(),
                from_seq,
                page_size: 1000,
                ..ListMessagesRequest::default()
            };
            let page = chat.list_messages(request).await?.into_inner();
            stored.extend(page.messages);
            from_seq = page.next_from_seq;
            if from_seq == 0 {
                break;
            }
        }
        for (n, id) in acknowledged {
            let found: Vec<_> = stored.iter().filter(|message| message.client_message_id == n.to_string()).collect();
            let is_right = found.len() == 1 && found[0].id == *id && found[0].content == words(*n);
            ensure!(is_right, "message {n} was acknowledged as {id}, and is stored {} times", found.len());
        }
        ensure!(stored.len() == acknowledged.len(), "{} of {} are stored", stored.len(), acknowledged.len());
        ensure!(stored.iter().zip(1..).all(|(message, seq)| message.seq == seq), "there are holes");
        Ok(())
    }
}
