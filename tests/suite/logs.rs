//! What the log says of whom: as JSON, with the user and the conversation as fields.

use std::time::{Duration, Instant};

use serde_json::Value;
use switchboard_tests::{Client, PATIENCE, process::Machine};

const CHAT: &str = "c1100000-0000-4000-8000-000000000000";
const PEOPLE: &str = r#"
{"user": {"id": "pat-1", "roles": ["patient"]}}
{"user": {"id": "dora-2", "roles": ["professional"]}}
{"user": {"id": "eve-3", "roles": ["patient"]}}
{"device": {"device_id": "phone-marker-9"}}
{"conversation": {"kind": "CONVERSATION_KIND_CLINIC", "id": "c1100000-0000-4000-8000-000000000000", "participants": [{"user_id": "pat-1", "role": "patient"}, {"user_id": "dora-2", "role": "professional"}]}}
{"conversation": {"kind": "CONVERSATION_KIND_MOBILE", "number": 7, "participants": [{"user_id": "phone-marker-9", "role": "device"}]}}
"#;
const FILTER: &str = "log.filter=info,sockets=debug,messages=debug";

#[tokio::test(flavor = "multi_thread")]
async fn the_log_says_what_happened_to_whom() -> anyhow::Result<()> {
    let machine = Machine::new()?;
    let mut server = machine.start(&["serve", "--set", FILTER, "--set", "drain_timeout_s=5"], machine.edge).await?;
    server.listens(machine.grpc).await?;
    machine.provision(PEOPLE)?;
    let path = format!("/ws/chat/{CHAT}/");

    let mut pat = machine.connect(&path, "pat-1").await?;
    pat.send(r#"{"content": "hello", "role": "patient"}"#).await?;
    pat.next().await?;
    pat.close().await?;
    let mut eve = machine.connect(&path, "eve-3").await?;
    assert_eq!(eve.closed().await?.0, 4003);
    let mut nobody = Client::connect(&format!("ws://{}{path}", machine.edge), &[]).await?;
    assert_eq!(nobody.closed().await?.0, 4001);
    let url = format!("ws://{}/ws/mobile/chat/7/?device_id=phone-marker-9", machine.edge);
    let mut phone = Client::connect(&url, &[]).await?;
    phone.next().await?;
    let mut dora = machine.connect(&path, "dora-2").await?;
    server.terminate()?;
    assert_eq!(dora.closed().await?.0, 1012);
    while phone.next_or_close().await?.is_ok() {}
    assert_eq!(server.exit_code().await?, 0);

    let log = std::fs::read_to_string(machine.log())?;
    let lines = log.lines().map(serde_json::from_str).collect::<Result<Vec<Value>, _>>()?;
    let said = |message: &str, fields: &[(&str, Value)]| {
        lines.iter().any(|line| line["message"] == message && fields.iter().all(|(name, value)| line[*name] == *value))
    };
    let (pat, dora, eve) = (("user_id", "pat-1".into()), ("user_id", "dora-2".into()), ("user_id", "eve-3".into()));
    let chat = ("conversation", Value::from(CHAT));
    let why = |code: u16, why: &str| [("code", Value::from(code)), ("why", why.into())];
    let [forbidden, not_yours] = why(4003, "not authorized for this conversation");
    let [unauthenticated, unknown] = why(4001, "not authenticated");
    let [restarting, restart] = why(1012, "restarting, come back");
    for (message, fields) in [
        ("a socket opened", vec![pat.clone(), chat.clone(), ("protocol", "clinic".into())]),
        ("a message was stored", vec![pat.clone(), chat.clone(), ("seq", 1.into())]),
        ("a socket closed", vec![pat, chat.clone(), ("code", Value::Null)]),
        ("a socket closed", vec![dora, chat.clone(), restarting, restart]),
        ("a visitor was refused", vec![eve, chat.clone(), forbidden, not_yours]),
        ("a visitor was refused", vec![("user_id", Value::Null), chat, unauthenticated, unknown]),
        ("a socket opened", vec![("user_id", Value::Null), ("protocol", "mobile".into())]),
    ] {
        assert!(said(message, &fields), "{message} {fields:?} is not in {log}");
    }
    assert!(!log.contains("phone-marker-9") && !log.contains("hello"), "{log}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_is_for_people_when_they_want_it() -> anyhow::Result<()> {
    for (format, is_json) in [("human", false), ("json", true), ("auto", true)] {
        let machine = Machine::new()?;
        let setting = format!("log.format={format}");
        let _server = machine.start(&["serve", "--set", &setting], machine.edge).await?;
        let begun = Instant::now();
        let log = loop {
            let log = std::fs::read_to_string(machine.log())?;
            if log.lines().any(|line| line.contains("serving")) {
                break log;
            }
            assert!(begun.elapsed() < PATIENCE, "{log}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        };
        let line = log.lines().find(|line| line.contains("serving")).unwrap_or_default();
        assert_eq!(serde_json::from_str::<Value>(line).is_ok(), is_json, "{log}");
        assert!(!log.contains('\u{1b}'), "no colours in a file: {log}");
    }
    Ok(())
}
