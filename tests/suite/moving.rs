//! Moving in and out: what was exported is imported elsewhere, and is the same.

use std::{fs, path::Path};

use anyhow::{Context as _, ensure};
use serde_json::Value;
use switchboard::moving::import::{check, verify};
use switchboard_proto::{
    chat::v1::{
        BatchGetMessagesRequest, CloseConversationRequest, EraseUserRequest, ImportMessagesRequest,
        ListMessagesRequest, Message, MessageStatus, MessageType, Receipt, Send, SendMessageRequest,
        UpdateReceiptsRequest, chat_service_client::ChatServiceClient,
    },
    identity::v1::DeactivateDeviceRequest,
    notification::v1::ListNotificationsRequest,
};
use switchboard_tests::{
    Backend, Sandbox,
    process::{self, Machine, Process},
};
use tempfile::TempDir;
use tonic::Code;

const CLINIC: &str = "550e8400-e29b-41d4-a716-446655440000";
const SECOND: &str = "650e8400-e29b-41d4-a716-446655440000";
const MENTORING: &str = "750e8400-e29b-41d4-a716-446655440000";
const CONSULTATION: &str = "850e8400-e29b-41d4-a716-446655440000";
const PEOPLE: &str = r#"
{"user": {"id": "701", "full_name": "Pat Ö", "roles": ["patient"], "profiles": {"patient": "patient-701", "client": "c"}}}
{"user": {"id": "702", "roles": ["professional", "expert", "teacher"], "username": "B", "email": "b@example.org"}}
{"user": {"id": "a", "roles": ["student"], "assigned_mentor_id": "702"}}
{"user": {"id": "B", "inactive": true}}
{"device": {"device_id": "phone"}}
{"device": {"device_id": "Phone-2"}}
{"conversation": {"kind": "CONVERSATION_KIND_CLINIC", "id": "550e8400-e29b-41d4-a716-446655440000", "number": 77, "subject": "knee", "participants": [{"user_id": "701", "role": "patient"}, {"user_id": "702", "role": "professional"}]}}
{"conversation": {"kind": "CONVERSATION_KIND_CLINIC", "id": "650e8400-e29b-41d4-a716-446655440000", "participants": [{"user_id": "701", "role": "patient"}, {"user_id": "702", "role": "professional"}]}}
{"conversation": {"kind": "CONVERSATION_KIND_MENTORING", "id": "750e8400-e29b-41d4-a716-446655440000", "participants": [{"user_id": "a", "role": "student"}, {"user_id": "702", "role": "teacher"}]}}
{"conversation": {"kind": "CONVERSATION_KIND_CONSULTATION", "id": "850e8400-e29b-41d4-a716-446655440000", "participants": [{"user_id": "701", "role": "client"}, {"user_id": "702", "role": "expert"}]}}
{"conversation": {"kind": "CONVERSATION_KIND_MOBILE", "number": 5, "participants": [{"user_id": "phone", "role": "device"}]}}
"#;

/// What the binary needs to find a sandbox's services.
fn settings(sandbox: &Sandbox, directory: &TempDir) -> Vec<(&'static str, String)> {
    let url = format!("http://{}", sandbox.grpc);
    vec![
        ("SWITCHBOARD_DATA_DIR", directory.path().join("data").display().to_string()),
        ("SWITCHBOARD_GRPC__TOKEN", sandbox.secrets.grpc_token.expose().to_owned()),
        ("SWITCHBOARD_SERVICES__IDENTITY", url.clone()),
        ("SWITCHBOARD_SERVICES__CHAT", url),
    ]
}

/// Runs the binary; its standard output.
fn run(sandbox: &Sandbox, directory: &TempDir, arguments: &[&str]) -> anyhow::Result<String> {
    let (code, out, err) = process::run(arguments, &settings(sandbox, directory))?;
    ensure!(code == 0, "{arguments:?}: {out}{err}");
    Ok(out)
}

fn text(path: &Path) -> anyhow::Result<&str> {
    path.to_str().context("a path")
}

async fn say(sandbox: &Sandbox, conversation: &str, user: &str, send: Send) -> anyhow::Result<Message> {
    let request = SendMessageRequest { conversation_id: conversation.into(), user_id: user.into(), send: Some(send) };
    sandbox.chat()?.send_message(request).await?.into_inner().message.context("stored")
}

fn words(content: &str) -> Send {
    Send { content: content.into(), ..Send::default() }
}

/// Everything that a conversation can go through.
async fn live(sandbox: &Sandbox) -> anyhow::Result<()> {
    sandbox.provision(PEOPLE).await?;
    let mut chat = sandbox.chat()?;
    for n in 0..60 {
        let user = if n % 3 == 0 { "702" } else { "701" };
        let client_message_id = if n % 5 == 0 { format!("c{n}") } else { String::new() };
        say(sandbox, CLINIC, user, Send { client_message_id, ..words(&format!("word {n}. \"ä\" \u{1F600}")) }).await?;
    }
    let picture = Send {
        message_type: MessageType::Image.into(),
        media_url: "https://media.example.org/1.png".into(),
        metadata_json: r#"{"width": 3}"#.into(),
        is_urgent: true,
        ..Send::default()
    };
    say(sandbox, CLINIC, "701", picture).await?;
    say(sandbox, SECOND, "701", words("the other one")).await?;
    for n in 0..3 {
        say(sandbox, MENTORING, "a", words(&format!("  question {n}  "))).await?;
        say(sandbox, MENTORING, "702", words(&format!("answer {n}"))).await?;
    }
    say(sandbox, CONSULTATION, "702", words("hello")).await?;
    let read = Receipt { status: MessageStatus::Read.into(), all: true, ..Receipt::default() };
    let request = UpdateReceiptsRequest {
        conversation_id: CLINIC.into(),
        user_id: "702".into(),
        role: String::new(),
        receipt: Some(read),
    };
    chat.update_receipts(request).await?;
    chat.close_conversation(CloseConversationRequest { conversation_id: SECOND.into() }).await?;
    // It leaves holes in the places, and a seat without anybody.
    chat.erase_user(EraseUserRequest { user_id: "a".into() }).await?;
    let request = DeactivateDeviceRequest { device_id: "phone".into() };
    sandbox.identity()?.deactivate_device(request).await?;
    Ok(())
}

async fn what_is_exported_is_imported(from: Backend, to: Backend) -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let (first, second) = (directory.path().join("first.jsonl"), directory.path().join("second.jsonl"));
    let old = Sandbox::start(from).await?;
    live(&old).await?;
    let told = run(&old, &directory, &["export", text(&first)?])?;
    for line in ["users ", "devices ", "conversations ", "messages "] {
        assert!(told.contains(line), "{told}");
    }
    assert_eq!(told.lines().count(), 4, "{told}");

    let new = Sandbox::start(to).await?;
    let imported = run(&new, &directory, &["import", text(&first)?])?;
    assert!(imported.contains("conversations: 5 new, 0 changed, 0 there already"), "{imported}");
    // Both tell the same counts and hashes.
    assert!(imported.contains(told.trim_end()), "{imported}\n{told}");
    let verified = run(&new, &directory, &["import", "--verify", text(&first)?])?;
    assert!(verified.contains("the same") && verified.matches(told.trim_end()).count() == 2, "{verified}");
    run(&new, &directory, &["export", text(&second)?])?;
    assert_eq!(fs::read_to_string(&first)?, fs::read_to_string(&second)?);

    // Again, nothing changes.
    let imported = run(&new, &directory, &["import", text(&first)?])?;
    for kind in ["users", "conversations", "messages"] {
        assert!(imported.contains(&format!("{kind}: 0 new, 0 changed, ")), "{imported}");
    }
    let again = directory.path().join("again.jsonl");
    run(&new, &directory, &["export", text(&again)?])?;
    assert_eq!(fs::read_to_string(&first)?, fs::read_to_string(&again)?);

    // It goes on where the other ended.
    let request =
        ListMessagesRequest { conversation_id: CLINIC.into(), page_size: 1_000, ..ListMessagesRequest::default() };
    let messages = old.chat()?.list_messages(request.clone()).await?.into_inner().messages;
    assert_eq!(new.chat()?.list_messages(request).await?.into_inner().messages, messages);
    let next = say(&new, CLINIC, "701", words("here I am")).await?;
    assert_eq!(next.seq, messages.last().context("a message")?.seq + 1);
    assert!(messages.iter().all(|message| message.number < next.number));
    // Who is led there by who they are is led to the same one.
    let held = verify(fs::read(&first)?.as_slice(), new.peer()?, new.peer()?).await?;
    assert_eq!(held.differing, 0, "{held}");
    let difference = fs::read_to_string(&first)?.replace("word 7.", "word seven.");
    let held = verify(difference.as_bytes(), new.peer()?, new.peer()?).await?;
    assert!(held.differing == 1 && !held.to_string().contains("word"), "{held}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn from_sqlite_to_postgres() -> anyhow::Result<()> {
    what_is_exported_is_imported(Backend::Sqlite, Backend::Postgres).await
}

#[tokio::test(flavor = "multi_thread")]
async fn from_postgres_to_sqlite() -> anyhow::Result<()> {
    what_is_exported_is_imported(Backend::Postgres, Backend::Sqlite).await
}

/// A file of one conversation.
fn long_file(messages: u32) -> String {
    let mut file = PEOPLE.to_owned();
    for n in 0..messages {
        let line = format!(
            r#"{{"message": {{"id": "018f3f9e-0000-7000-8000-{n:012x}", "conversation_id": "{CLINIC}", "number": {}, "sender_id": "701", "sender_role": "patient", "content": "message {n}", "created_at": "2020-05-01T10:{:02}:{:02}Z"}}}}"#,
            n + 1,
            n / 60 % 60,
            n % 60
        );
        file.push_str(&line);
        file.push('\n');
    }
    file
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_that_was_killed_is_run_again() -> anyhow::Result<()> {
    const MESSAGES: u32 = 3_000;
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("long.jsonl");
    fs::write(&file, long_file(MESSAGES))?;
    let sandbox = Sandbox::start(Backend::Sqlite).await?;
    let list =
        || ListMessagesRequest { conversation_id: CLINIC.into(), page_size: 1, ..ListMessagesRequest::default() };
    let mut import = Process::start(&["import", text(&file)?], &settings(&sandbox, &directory))?;
    // As soon as something is there, it dies.
    let mut chat = sandbox.chat()?;
    let begun = std::time::Instant::now();
    loop {
        match chat.list_messages(list()).await {
            Ok(page) if page.get_ref().total_size > 0 => break,
            Err(status) if status.code() != Code::NotFound => return Err(status.into()),
            _ => {}
        }
        ensure!(begun.elapsed() < switchboard_tests::PATIENCE, "nothing comes");
    }
    import.kill()?;
    let imported = run(&sandbox, &directory, &["import", text(&file)?])?;
    assert!(imported.contains(&format!("messages {MESSAGES:>17}  sha256")), "{imported}");
    let verified = run(&sandbox, &directory, &["import", "--verify", text(&file)?])?;
    assert!(verified.contains("the same"), "{verified}");
    let page =
        chat.list_messages(ListMessagesRequest { from_seq: u64::from(MESSAGES) - 1, ..list() }).await?.into_inner();
    assert_eq!((page.total_size, page.messages[0].number), (i64::from(MESSAGES), i64::from(MESSAGES)));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_lines_are_told_by_their_numbers() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let sandbox = Sandbox::start(Backend::Sqlite).await?;
    let file = directory.path().join("wrong.jsonl");
    // The sixth message is no message, the ninth has no id; the people are lines 2 to 12.
    let wrong =
        long_file(20).replace(r#""content": "message 5""#, r#""contents": """#).replace("0008\", \"conv", "\", \"conv");
    fs::write(&file, &wrong)?;
    let (code, _, err) = process::run(&["import", text(&file)?], &settings(&sandbox, &directory))?;
    assert!(code == 1 && err.contains("nothing was imported"), "{err}");
    for part in ["line 18: ", "contents", "line 21: id is not a UUID"] {
        assert!(err.contains(part), "{part} is not in {err}");
    }
    assert!(
        sandbox
            .chat()?
            .list_messages(ListMessagesRequest { conversation_id: CLINIC.into(), ..ListMessagesRequest::default() })
            .await
            .is_err()
    );
    assert!(check(&b"\xff\n"[..]).expect_err("wrong").to_string().contains("line 1: not UTF-8"));

    // What only the service can know.
    fs::write(&file, long_file(20).replace(r#""number": 9,"#, r#""number": 8,"#))?;
    let (code, _, err) = process::run(&["import", text(&file)?], &settings(&sandbox, &directory))?;
    assert!(code == 1 && err.contains("line 21: number: another message of the conversation has it"), "{err}");
    Ok(())
}

async fn nobody_is_rung_and_the_order_stays(backend: Backend) -> anyhow::Result<()> {
    let sandbox = Sandbox::start(backend).await?;
    sandbox.provision(PEOPLE).await?;
    let mut chat = sandbox.chat()?;
    let path = format!("/ws/chat/{CONSULTATION}/");
    let mut expert = sandbox.connect(&path, "702").await?;
    assert_eq!(expert.next().await?["type"], "connection_established");
    let old = |n: u32, at: i64| Message {
        id: format!("018f3f9e-0000-7000-8000-{n:012x}"),
        conversation_id: CONSULTATION.into(),
        sender_id: "702".into(),
        sender_role: "expert".into(),
        content: format!("old {n}"),
        created_at: Some(prost_time(at)),
        ..Message::default()
    };
    let messages = vec![old(1, 100), old(2, 100), old(3, 200)];
    let done = chat.import_messages(ImportMessagesRequest { messages: messages.clone() }).await?.into_inner();
    assert_eq!((done.created, done.updated, done.unchanged), (3, 0, 0));
    // The client is away: of what is written now, and not of what was, it is notified.
    let sent = say(&sandbox, CONSULTATION, "702", words("new")).await?;
    for content in ["old 1", "old 2", "old 3", "new"] {
        let heard = expert.next().await?;
        assert_eq!(heard["data"]["content"], content, "{heard}");
    }
    let mut inbox = sandbox.connect("/ws/notifications/", "701").await?;
    while inbox.next().await?["count"] != 1 {}
    let request = ListNotificationsRequest { user_id: "701".into(), ..ListNotificationsRequest::default() };
    let notifications = sandbox.notifications()?.list_notifications(request).await?.into_inner().notifications;
    let data = notifications[0].data.clone().context("data")?;
    assert_eq!(switchboard_proto::json::from_struct(data)["message_id"], Value::from(sent.id.as_str()));

    let refused = async |message: Message| {
        let request = ImportMessagesRequest { messages: vec![old(1, 100), message] };
        let status = sandbox.chat()?.import_messages(request).await.expect_err("refused");
        anyhow::Ok((status.code(), status.message().to_owned()))
    };
    for (message, code, told) in [
        (old(4, 150), Code::AlreadyExists, "messages[1].created_at"),
        (Message { seq: 2, ..old(4, 300) }, Code::AlreadyExists, "messages[1].seq"),
        (Message { content: "other".into(), ..old(2, 100) }, Code::AlreadyExists, "messages[1].id"),
        (Message { sender_role: "king".into(), ..old(4, 300) }, Code::InvalidArgument, "messages[1].sender_role"),
        (Message { created_at: None, ..old(4, 300) }, Code::InvalidArgument, "messages[1].created_at"),
        (Message { content: "a\0".into(), ..old(4, 300) }, Code::InvalidArgument, "messages[1].content"),
        (Message { media_url: "x".into(), ..old(4, 300) }, Code::InvalidArgument, "messages[1].media_url"),
        (
            Message { conversation_id: SECOND.replace('6', "9"), ..old(4, 300) },
            Code::NotFound,
            "messages[1].conversation_id",
        ),
    ] {
        let (refused, message) = refused(message).await?;
        assert!(refused == code && message.starts_with(told), "{told}: {refused:?} {message}");
    }
    // Nothing of them was stored, and a receipt moves forward.
    let request =
        ImportMessagesRequest { messages: vec![Message { status: MessageStatus::Read.into(), ..old(1, 100) }] };
    assert_eq!(chat.import_messages(request).await?.into_inner().updated, 1);
    let ids = vec![old(1, 0).id, old(4, 0).id, "none".to_owned()];
    let found = chat.batch_get_messages(BatchGetMessagesRequest { message_ids: ids }).await?.into_inner();
    assert_eq!((found.messages.len(), found.messages[0].status(), found.looked_at), (1, MessageStatus::Read, 0));
    Ok(())
}

fn prost_time(seconds: i64) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds, nanos: 0 }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_rung_on_sqlite() -> anyhow::Result<()> {
    nobody_is_rung_and_the_order_stays(Backend::Sqlite).await
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_rung_on_postgres() -> anyhow::Result<()> {
    nobody_is_rung_and_the_order_stays(Backend::Postgres).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_came_since_is_exported_alone() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let sandbox = Sandbox::start(Backend::Sqlite).await?;
    let file = directory.path().join("long.jsonl");
    fs::write(&file, long_file(500))?;
    run(&sandbox, &directory, &["import", text(&file)?])?;
    say(&sandbox, CLINIC, "702", words("new")).await?;
    for (since, expected) in
        [("2020-05-01T10:08:10Z", 11), ("2020-05-01T10:08:19.5Z", 1), ("2019-01-01T00:00:00Z", 501)]
    {
        let lines = run(&sandbox, &directory, &["export", "-", "--since", since])?;
        let messages: Vec<&str> = lines.lines().filter(|line| line.starts_with(r#"{"message""#)).collect();
        assert_eq!(messages.len(), expected, "{since}");
        assert!(messages.last().context("one")?.contains(r#""content":"new""#));
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_old_goes_by_itself_if_that_is_wanted() -> anyhow::Result<()> {
    const OLD: u32 = 2_500;
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("long.jsonl");
    fs::write(&file, long_file(OLD))?;
    let machine = Machine::new()?;
    let mut server = machine.start(&["serve"], machine.edge).await?;
    let (code, _, err) = machine.run(&["import", text(&file)?])?;
    assert_eq!(code, 0, "{err}");
    let mut chat = ChatServiceClient::new(machine.peer()?);
    let request =
        SendMessageRequest { conversation_id: CLINIC.into(), user_id: "701".into(), send: Some(words("new")) };
    let new = chat.send_message(request).await?.into_inner().message.context("stored")?;
    server.kill()?;

    // Restarted as it was, it keeps everything; it has to be wanted.
    let list = || ListMessagesRequest { conversation_id: CLINIC.into(), ..ListMessagesRequest::default() };
    let mut server = machine.start(&["serve"], machine.grpc).await?;
    let page = ChatServiceClient::new(machine.peer()?).list_messages(list()).await?.into_inner();
    assert_eq!(page.total_size, i64::from(OLD) + 1);
    server.kill()?;

    let _server = machine.start(&["serve", "--set", "chat.retention_days=30"], machine.grpc).await?;
    let mut chat = ChatServiceClient::new(machine.peer()?);
    let begun = std::time::Instant::now();
    let page = loop {
        let page = chat.list_messages(list()).await?.into_inner();
        if page.total_size == 1 {
            break page;
        }
        ensure!(begun.elapsed() < switchboard_tests::PATIENCE, "{} are left", page.total_size);
    };
    assert_eq!((page.messages.len(), page.messages[0].seq), (1, u64::from(OLD) + 1));
    assert_eq!(page.messages[0].id, new.id);
    Ok(())
}

/// Of each kind, how many messages there are.
async fn messages_by_kind(machine: &Machine, ids: &[&str]) -> anyhow::Result<Vec<i64>> {
    let mut chat = ChatServiceClient::new(machine.peer()?);
    let mut counts = Vec::new();
    for id in ids {
        let list = ListMessagesRequest { conversation_id: (*id).to_owned(), ..ListMessagesRequest::default() };
        counts.push(chat.list_messages(list).await?.into_inner().total_size);
    }
    Ok(counts)
}

/// Starts it with these ages of messages, waits until so many are left of each conversation, and ends it.
async fn left(store: &str, machine: &Machine, ages: &[&str], ids: &[&str], expected: &[i64]) -> anyhow::Result<()> {
    let mut arguments = vec!["serve", "--set", store];
    arguments.extend(ages.iter().flat_map(|age| ["--set", *age]));
    let mut server = machine.start(&arguments, machine.grpc).await?;
    let begun = std::time::Instant::now();
    loop {
        let counts = messages_by_kind(machine, ids).await?;
        if counts == expected {
            break;
        }
        ensure!(begun.elapsed() < switchboard_tests::PATIENCE, "{ages:?}: {counts:?} are left");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    server.kill()
}

async fn each_kind_is_kept_for_as_long_as_it_is_told(store: &str) -> anyhow::Result<()> {
    // In the order in which they are swept: when a later one is gone, so would be an earlier one.
    let ids = [CLINIC, MENTORING, CONSULTATION];
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("kinds.jsonl");
    let mut lines = PEOPLE.to_owned();
    for (n, (id, sender, role)) in
        [(CLINIC, "701", "patient"), (MENTORING, "a", "student"), (CONSULTATION, "701", "client")]
            .into_iter()
            .enumerate()
    {
        let message = serde_json::json!({"message": {
            "id": format!("018f3f9e-0000-7000-8000-{n:012x}"), "conversation_id": id, "number": n + 1,
            "sender_id": sender, "sender_role": role, "content": "old", "created_at": "2020-05-01T10:00:00Z"}});
        lines = format!("{lines}{message}\n");
    }
    fs::write(&file, lines)?;
    let machine = Machine::new()?;
    let mut server = machine.start(&["serve", "--set", store], machine.edge).await?;
    let (code, _, err) = machine.run(&["import", text(&file)?])?;
    assert_eq!(code, 0, "{err}");
    server.kill()?;

    let (all, clinic) = ("chat.retention_days=30", "chat.retention.clinic=100000d");
    left(store, &machine, &[all, clinic, "chat.retention.mentoring=0"], &ids, &[1, 1, 0]).await?;
    // Restarted with other words: all others are kept for ever.
    left(store, &machine, &[clinic, "chat.retention.mentoring=3d"], &ids, &[1, 0, 0]).await?;
    left(store, &machine, &[all, "chat.retention.clinic="], &ids, &[0, 0, 0]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn each_kind_is_kept_for_as_long_as_it_is_told_on_sqlite() -> anyhow::Result<()> {
    each_kind_is_kept_for_as_long_as_it_is_told("store.url=").await
}

#[tokio::test(flavor = "multi_thread")]
async fn each_kind_is_kept_for_as_long_as_it_is_told_on_postgres() -> anyhow::Result<()> {
    let database = switchboard_chassis::testing::new_postgres_database().await?;
    each_kind_is_kept_for_as_long_as_it_is_told(&format!("store.url={database}")).await
}
