//! Other people's programs: grpcurl, Node and Python clients that make the calls of the documents' examples, and the
//! demonstration as a newcomer starts it.

use std::net::SocketAddr;

use anyhow::Context as _;
use switchboard_proto::identity::v1::CreateSessionRequest;
use switchboard_tests::{
    Backend, Client, Sandbox, client,
    process::{self, Process},
};
use tokio::io::AsyncWriteExt as _;

const CHAT: &str = "550e8400-e29b-41d4-a716-446655440000";
const PEOPLE: &str = include_str!("../../deploy/switchboard/demo/people.jsonl");

async fn sandbox() -> anyhow::Result<Sandbox> {
    let sandbox = Sandbox::start(Backend::Sqlite).await?;
    sandbox.provision(PEOPLE).await?;
    Ok(sandbox)
}

async fn grpcurl(token: &str, arguments: &[&str], input: &str) -> anyhow::Result<(bool, String)> {
    let mut command = tokio::process::Command::new("grpcurl");
    command.arg("-plaintext");
    if !token.is_empty() {
        command.args(["-H", &format!("authorization: Bearer {token}")]);
    }
    command.args(arguments).stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
    command.stderr(std::process::Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().context("grpcurl is missing: run ./tests/run")?;
    child.stdin.take().context("its input")?.write_all(input.as_bytes()).await?;
    let output = tokio::time::timeout(switchboard_tests::PATIENCE, child.wait_with_output()).await??;
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    Ok((output.status.success(), text))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_by_hand_with_grpcurl() -> anyhow::Result<()> {
    let sandbox = sandbox().await?;
    let address = sandbox.grpc.to_string();
    let token = sandbox.secrets.grpc_token.expose();

    let (ok, listed) = grpcurl(token, &[&address, "list"], "").await?;
    assert!(ok && listed.contains("switchboard.chat.v1.ChatService") && listed.contains("IdentityService"), "{listed}");
    let (ok, described) =
        grpcurl(token, &[&address, "describe", "switchboard.chat.v1.ChatService.Converse"], "").await?;
    assert!(ok && described.contains("stream .switchboard.chat.v1.ConverseRequest"), "{described}");
    let (ok, refused) = grpcurl("", &[&address, "list"], "").await?;
    assert!(!ok && refused.contains("authorization: Bearer"), "{refused}");
    let (ok, refused) = grpcurl("wrong", &[&address, "list"], "").await?;
    assert!(!ok && refused.contains("not the one of this deployment"), "{refused}");
    let (ok, health) = grpcurl(token, &[&address, "grpc.health.v1.Health/Check"], "").await?;
    assert!(ok && health.contains("SERVING"), "{health}");

    // Somebody listens by WebSocket while join and send are typed.
    let mut pat = sandbox.connect(&format!("/ws/chat/{CHAT}/"), "701").await?;
    let typed = format!(
        r#"{{"session": 1, "join": {{"conversation_id": "{CHAT}", "user_id": "702"}}}}
           {{"session": 1, "send": {{"content": "Hello from grpcurl"}}}}"#
    );
    let (ok, said) = grpcurl(token, &["-d", "@", &address, "switchboard.chat.v1.ChatService/Converse"], &typed).await?;
    assert!(
        ok && said.contains("joined") && said.contains("Hello from grpcurl") && said.contains("\"seq\": \"1\""),
        "{said}"
    );
    let heard = pat.next().await?;
    assert_eq!(heard["message"]["content"], "Hello from grpcurl");
    assert_eq!(heard["message"]["sender_type"], "professional");

    let wrong = r#"{"kind": "CONVERSATION_KIND_CLINIC", "participants": [{"user_id": "1", "role": "patient"}]}"#;
    let call = "switchboard.chat.v1.ChatService/OpenConversation";
    let (ok, told) = grpcurl(token, &["-d", wrong, &address, call], "").await?;
    assert!(
        !ok && told.contains("BadRequest") && told.contains("one professional") && told.contains("ErrorInfo"),
        "{told}"
    );
    Ok(())
}

/// The streams of location, notifications and presence, typed by hand.
#[tokio::test(flavor = "multi_thread")]
async fn live_streams_by_hand_with_grpcurl() -> anyhow::Result<()> {
    let sandbox = sandbox().await?;
    let address = sandbox.grpc.to_string();
    let token = sandbox.secrets.grpc_token.expose();
    let typed = async |method: &str, frames: &str| grpcurl(token, &["-d", "@", &address, method], frames).await;

    let mut customer = sandbox.connect("/ws/location/123/456/", "123").await?;
    let (ok, said) = typed(
        "switchboard.location.v1.LocationService/Share",
        r#"{"session": 1, "join": {"pair": {"customer_id": "123", "therapist_id": "456"}, "user_id": "456"}}
           {"session": 1, "report": {"latitude": 40.7128, "longitude": -74.006, "heading_deg": 90}, "request": 2}
           {"session": 1, "report": {"latitude": 91, "longitude": 0}, "request": 3}"#,
    )
    .await?;
    assert!(ok, "{said}");
    for part in ["joined", "\"latitude\": 40.7128", "\"headingDeg\": 90", "REFUSAL_REASON_INVALID_ARGUMENT"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert_eq!(customer.next().await?["latitude"], 40.7128);

    let notify = r#"{"user_id": "801", "title": "Booked", "notification_type": "booking", "data": {"booking": 7}}"#;
    let (ok, said) =
        grpcurl(token, &["-d", notify, &address, "switchboard.notification.v1.NotificationService/Notify"], "").await?;
    assert!(ok && said.contains("\"booking\": 7") && said.contains("\"created\": true"), "{said}");
    let (ok, said) = typed(
        "switchboard.notification.v1.NotificationService/Subscribe",
        r#"{"session": 1, "join": {"user_id": "801"}}
           {"session": 1, "read": {"all": true}, "request": 1}"#,
    )
    .await?;
    assert!(ok && said.contains("\"unreadCount\": \"1\"") && said.contains("inboxChanged"), "{said}");

    let _ed = sandbox.connect("/ws/presence/", "802").await?;
    let (ok, said) = typed(
        "switchboard.presence.v1.PresenceService/Track",
        r#"{"session": 1, "join": {"user_id": "801", "user_name": "Clara"}}"#,
    )
    .await?;
    assert!(ok && said.contains("roster") && said.contains("Ed Expert") && said.contains("joined"), "{said}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_in_javascript_and_python() -> anyhow::Result<()> {
    let sandbox = sandbox().await?;
    let edge = sandbox.edge.to_string();
    for (interpreter, name) in [("node", "therapy.mjs"), ("python3", "therapy.py")] {
        let arguments = [edge.as_str(), &sandbox.token("123")?, &sandbox.token("456")?];
        let said = process::script(interpreter, name, &arguments).await?;
        assert_eq!(said.lines().last(), Some("ok"), "{name}: {said}");
    }
    for (interpreter, name) in [("node", "clinic.mjs"), ("python3", "clinic.py")] {
        let arguments = [edge.as_str(), &sandbox.token("701")?, &sandbox.token("702")?];
        let said = process::script(interpreter, name, &arguments).await?;
        assert_eq!(said.lines().last(), Some("ok"), "{name}: {said}");
    }
    Ok(())
}

/// A demonstration in a directory, on free ports: where its edge listens, and its settings.
fn demo_settings(directory: &tempfile::TempDir) -> anyhow::Result<(SocketAddr, [(&'static str, String); 3])> {
    let (edge, grpc) = (process::free_address()?, process::free_address()?);
    let settings = [
        ("SWITCHBOARD_DATA_DIR", directory.path().join("data").display().to_string()),
        ("SWITCHBOARD_EDGE__LISTEN", edge.to_string()),
        ("SWITCHBOARD_GRPC__LISTEN", grpc.to_string()),
    ];
    Ok((edge, settings))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demonstration_works_as_printed() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let (edge, settings) = demo_settings(&directory)?;
    // Twice: the second start finds everything as the first one left it.
    for _ in 0..2 {
        let (_server, guide) = Process::start_reading(&["demo"], &settings, "Stop with Ctrl-C")?;
        let urls: Vec<&str> = guide.lines().map(str::trim).filter(|line| line.starts_with("ws://")).collect();
        assert_eq!(urls.len(), 12, "{guide}");
        let frames = [
            r#"{"message": "hi"}"#,
            r#"{"content": "hi"}"#,
            r#"{"type": "chat_message", "content": "hi"}"#,
            r#"{"type": "chat_message", "message": "hi"}"#,
        ];
        for (pair, frame) in urls.chunks(2).zip(frames) {
            let (mut one, mut other) = (Client::connect(pair[0], &[]).await?, Client::connect(pair[1], &[]).await?);
            one.send(frame).await?;
            while !other.next().await?.to_string().contains("\"hi\"") {}
        }
        let says = ["location", "connection_established", "user_online", "user_online"];
        let mut live = Vec::new();
        for url in &urls[8..] {
            live.push(Client::connect(url, &[]).await?);
        }
        for (socket, says) in live.iter_mut().zip(says) {
            assert_eq!(socket.next().await?["type"], says);
        }
        let cookies = guide.lines().filter_map(|line| line.trim().strip_prefix("wscat -H '")?.split_once("' -c "));
        for (cookie, url) in cookies {
            let cookie = cookie.strip_prefix("Cookie: ").context("a cookie")?.to_owned();
            let mut socket = Client::connect(url, &[("cookie", cookie)]).await?;
            assert_eq!(socket.next().await?["conversation_id"], "123");
        }
        let (status, page) = client::call(edge, "GET", "/", None, None).await?;
        assert!(status == 200 && page.as_str().is_some_and(|page| page.contains("playground")));
        let (status, people) = client::call(edge, "GET", "/playground.json", None, None).await?;
        assert_eq!((status, people["people"].as_array().map(Vec::len)), (200, Some(12)));

        // The printed grpcurl lines, run by a shell as they stand.
        let begin = guide.find("with grpcurl\n").context("grpcurl lines")? + "with grpcurl\n".len();
        let end = guide.find("Stop with").context("an end")?;
        let lines: String = guide[begin..end].lines().map(|line| format!("{}\n", line.trim())).collect();
        let output = tokio::process::Command::new("sh").args(["-ec", &lines]).output().await?;
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
        for part in ["pat@example.com", "Hello from grpcurl", "totalSize", "latitude"] {
            assert!(said.contains(part), "{said}");
        }
    }
    Ok(())
}

/// A front end's WebSocket class with listeners and reconnects, in the manner of consultation.md.
#[tokio::test(flavor = "multi_thread")]
async fn a_front_end_of_consultation() -> anyhow::Result<()> {
    const CONSULTATION: &str = "aaaaaaaa-0000-4000-8000-000000000000";
    let sandbox = Sandbox::start(Backend::Sqlite).await?;
    let people = format!(
        r#"{{"user": {{"id": "1", "full_name": "Clara Client", "roles": ["client"]}}}}
           {{"user": {{"id": "2", "full_name": "Ed Expert", "roles": ["expert"]}}}}
           {{"conversation": {{"kind": "CONVERSATION_KIND_CONSULTATION", "id": "{CONSULTATION}", "participants": [{{"user_id": "1", "role": "client"}}, {{"user_id": "2", "role": "expert"}}]}}}}"#
    );
    sandbox.provision(&people).await?;
    let arguments = [&sandbox.edge.to_string(), CONSULTATION, &sandbox.token("1")?, &sandbox.token("2")?];
    let said = process::script("node", "consultation.mjs", &arguments).await?;
    assert_eq!(said.lines().last(), Some("ok"), "{said}");
    Ok(())
}

/// A React page in the manner of mentoring.md, in a real browser, with session cookies from another port's page.
#[tokio::test(flavor = "multi_thread")]
async fn a_front_end_of_mentoring() -> anyhow::Result<()> {
    let page = process::free_address()?;
    let sandbox = Sandbox::start_with(Backend::Sqlite, |config| {
        config.edge.allowed_origins = vec![format!("http://{page}")];
    })
    .await?;
    sandbox
        .provision(
            r#"{"user": {"id": "5", "username": "johndoe", "roles": ["student"], "assigned_mentor_id": "6"}}
               {"user": {"id": "6", "username": "tess", "roles": ["teacher"]}}
               {"conversation": {"kind": "CONVERSATION_KIND_MENTORING", "number": 123, "participants": [{"user_id": "5", "role": "student"}, {"user_id": "6", "role": "teacher"}]}}"#,
        )
        .await?;
    let mut sessions = Vec::new();
    for user_id in ["5", "6"] {
        let request = CreateSessionRequest { user_id: user_id.into(), ttl_seconds: 600 };
        sessions.push(sandbox.identity()?.create_session(request).await?.into_inner().session_key);
    }
    let arguments = [&sandbox.edge.to_string(), &page.port().to_string(), &sessions[0], &sessions[1], "123"];
    let said = process::script("node", "mentoring.mjs", &arguments.map(|argument| argument as &str)).await?;
    assert_eq!(said.lines().last(), Some("ok"), "{said}");
    Ok(())
}
