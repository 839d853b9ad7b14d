//! Backups under traffic: what was acknowledged before one began is there after it was restored.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    process::Command,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use anyhow::{Context as _, ensure};
use switchboard_chassis::testing::new_postgres_database;
use switchboard_proto::chat::v1::{
    BatchGetMessagesRequest, Send, SendMessageRequest, chat_service_client::ChatServiceClient,
};
use switchboard_tests::{PATIENCE, process::Machine};
use tokio::task::JoinSet;

const ROOM: &str = "550e8400-e29b-41d4-a716-446655440000";
const PEOPLE: &str = r#"
{"user": {"id": "1", "roles": ["patient"]}}
{"user": {"id": "2", "roles": ["professional"]}}
{"conversation": {"kind": "CONVERSATION_KIND_CLINIC", "id": "550e8400-e29b-41d4-a716-446655440000", "participants": [{"user_id": "1", "role": "patient"}, {"user_id": "2", "role": "professional"}]}}
"#;
const BEFORE: usize = 300;

/// People who write without a pause.
struct Traffic {
    acknowledged: Arc<Mutex<Vec<String>>>,
    is_over: Arc<AtomicBool>,
    writers: JoinSet<anyhow::Result<()>>,
}

impl Traffic {
    fn start(machine: &Machine) -> anyhow::Result<Self> {
        let mut traffic = Self { acknowledged: Arc::default(), is_over: Arc::default(), writers: JoinSet::new() };
        for _ in 0..4 {
            let mut chat = ChatServiceClient::new(machine.peer()?);
            let (acknowledged, is_over) = (traffic.acknowledged.clone(), traffic.is_over.clone());
            traffic.writers.spawn(async move {
                while !is_over.load(Ordering::Relaxed) {
                    let send = Some(Send { content: "word ".repeat(40), ..Send::default() });
                    let request = SendMessageRequest { conversation_id: ROOM.into(), user_id: "1".into(), send };
                    let message = chat.send_message(request).await?.into_inner().message.context("stored")?;
                    acknowledged.lock().unwrap_or_else(PoisonError::into_inner).push(message.id);
                }
                Ok(())
            });
        }
        Ok(traffic)
    }

    fn so_far(&self) -> Vec<String> {
        self.acknowledged.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn reaches(&self, count: usize) -> anyhow::Result<Vec<String>> {
        let begun = std::time::Instant::now();
        loop {
            let so_far = self.so_far();
            if so_far.len() >= count {
                return Ok(so_far);
            }
            ensure!(begun.elapsed() < PATIENCE, "only {} messages", so_far.len());
            tokio::task::yield_now().await;
        }
    }

    async fn end(mut self) -> anyhow::Result<()> {
        self.is_over.store(true, Ordering::Relaxed);
        while let Some(writer) = self.writers.join_next().await {
            writer??;
        }
        Ok(())
    }
}

async fn are_there(machine: &Machine, ids: &[String]) -> anyhow::Result<()> {
    let mut chat = ChatServiceClient::new(machine.peer()?);
    for part in ids.chunks(1_000) {
        let request = BatchGetMessagesRequest { message_ids: part.to_vec() };
        let found = chat.batch_get_messages(request).await?.into_inner();
        assert_eq!((found.messages.len(), found.looked_at), (part.len(), 0));
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_is_copied_while_people_write() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let backup = directory.path().join("backup");
    let at = backup.display().to_string();
    let machine = Machine::new()?;
    let mut server = machine.start(&["serve"], machine.edge).await?;
    machine.provision(PEOPLE)?;
    let token = machine.token("1")?;

    let traffic = Traffic::start(&machine)?;
    let before = traffic.reaches(BEFORE).await?;
    let (code, out, err) = machine.run(&["backup", &at])?;
    assert!(code == 0 && out.contains("files are in"), "{out}{err}");
    // They went on meanwhile.
    traffic.reaches(before.len() + 1).await?;
    traffic.end().await?;
    for entry in fs::read_dir(&backup)? {
        let mode = entry?.metadata()?.permissions().mode() & 0o777;
        assert_eq!(mode, 0o600);
    }
    assert_eq!(fs::metadata(&backup)?.permissions().mode() & 0o777, 0o700);
    let (code, _, err) = machine.run(&["backup", &at])?;
    assert!(code == 1 && err.contains("is not empty"), "{err}");
    let (code, _, err) = machine.run(&["restore", &at])?;
    assert!(code == 1 && err.contains("nothing is overwritten"), "{err}");

    // The machine burns down.
    server.kill()?;
    fs::remove_dir_all(machine.data())?;
    let (code, _, err) = machine.run(&["restore", &at])?;
    assert_eq!(code, 0, "{err}");
    let _server = machine.start(&["serve"], machine.edge).await?;
    are_there(&machine, &before).await?;
    // Tokens of before are good: the secret was kept.
    assert_eq!(machine.token("1")?.len(), token.len());
    let url = format!("ws://{}/ws/chat/{ROOM}/?token={token}", machine.edge);
    let mut socket = switchboard_tests::Client::connect(&url, &[]).await?;
    socket.send(r#"{"content": "back again", "role": "patient"}"#).await?;
    assert_eq!(socket.next().await?["message"]["content"], "back again");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_whole_backup_is_not_restored() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let backup = directory.path().join("backup");
    let at = backup.display().to_string();
    let machine = Machine::new()?;
    let (code, _, err) = machine.run(&["backup", &at])?;
    assert!(code == 1 && err.contains("there is no database"), "{err}");
    fs::remove_dir_all(&backup)?;
    let mut server = machine.start(&["serve"], machine.edge).await?;
    machine.provision(PEOPLE)?;
    let (code, _, err) = machine.run(&["backup", &at])?;
    assert_eq!(code, 0, "{err}");
    server.kill()?;
    fs::remove_dir_all(machine.data())?;

    let mut bytes = fs::read(backup.join("chat.db"))?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(backup.join("chat.db"), bytes)?;
    let (code, _, err) = machine.run(&["restore", &at])?;
    assert!(code == 1 && err.contains("chat.db is not what was backed up"), "{err}");
    fs::remove_file(backup.join("backup.json"))?;
    let (code, _, err) = machine.run(&["restore", &at])?;
    assert!(code == 1 && err.contains("not a backup"), "{err}");
    assert!(!machine.data().join("identity.db").exists());

    let (code, _, err) = machine.run(&["backup", &at, "--set", "store.url=postgres://u:hunter2@127.0.0.1/x"])?;
    assert!(code == 1 && err.contains("pg_dump") && !err.contains("hunter2"), "{err}");
    Ok(())
}

/// As docs/OPERATIONS.md says.
#[tokio::test(flavor = "multi_thread")]
async fn postgres_is_dumped_while_people_write() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let dump = directory.path().join("switchboard.dump").display().to_string();
    let (old, new) = (new_postgres_database().await?, new_postgres_database().await?);
    let machine = Machine::new()?;
    let setting = |url: &str| format!("store.url={url}");
    let mut server = machine.start(&["serve", "--set", &setting(&old)], machine.edge).await?;
    machine.provision(PEOPLE)?;

    let traffic = Traffic::start(&machine)?;
    let before = traffic.reaches(BEFORE).await?;
    run("pg_dump", &["--format=custom", "--no-owner", "--schema=switchboard_*", "--file", &dump, &old])?;
    traffic.reaches(before.len() + 1).await?;
    traffic.end().await?;
    server.kill()?;

    run("pg_restore", &["--no-owner", "--exit-on-error", "--dbname", &new, &dump])?;
    let _server = machine.start(&["serve", "--set", &setting(&new)], machine.edge).await?;
    are_there(&machine, &before).await?;
    let send = Some(Send { content: "back again".into(), ..Send::default() });
    let request = SendMessageRequest { conversation_id: ROOM.into(), user_id: "2".into(), send };
    let message = ChatServiceClient::new(machine.peer()?).send_message(request).await?.into_inner().message;
    assert!(message.context("stored")?.seq > u64::try_from(before.len())?);
    Ok(())
}

fn run(program: &str, arguments: &[&str]) -> anyhow::Result<()> {
    let output = Command::new(program).args(arguments).output().with_context(|| format!("{program} is missing"))?;
    ensure!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
