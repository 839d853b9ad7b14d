//! Contents that are too big, too deep, too many or too odd, on every kind of socket.

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;
use switchboard_proto::identity::v1::{CreateSessionRequest, identity_service_client::IdentityServiceClient};
use switchboard_tests::Client;

use crate::{cases::Tally, stage::Stage};

/// Every kind of socket, the field that holds its text, and what it says first.
const SOCKETS: [(&str, &str, usize); 8] = [
    ("/ws/chat/1/2/", "message", 0),
    ("/ws/location/1/2/", "latitude", 0),
    ("/ws/chat/aaaaaaaa-0000-4000-8000-000000000000/", "content", 0),
    ("/ws/chat/bbbbbbbb-0000-4000-8000-000000000000/", "message", 1),
    ("/ws/notifications/", "type", 2),
    ("/ws/presence/", "type", 0),
    (MOBILE, "content", 2),
    (MENTORING, "message", 1),
];
const MOBILE: &str = "/ws/mobile/chat/7/?device_id=d";
const MENTORING: &str = "/ws/chat/my-conversation/";

/// What is answered with an error on any socket.
fn refused(field: &str) -> Vec<(&'static str, String)> {
    let of = |value: &str| format!(r#"{{"{field}": {value}}}"#);
    let deep = |open: &str, close: &str, depth: usize| open.repeat(depth) + &close.repeat(depth);
    let many = |count: usize| (0..count).map(|n| format!(r#""{n}":0"#)).collect::<Vec<_>>().join(",");
    vec![
        ("arrays 10,000 deep", of(&deep("[", "]", 10_000))),
        ("arrays 30,000 deep, alone", deep("[", "]", 30_000)),
        ("arrays that do not end", "[".repeat(60_000)),
        ("objects 10,000 deep", format!("{}0{}", r#"{"a":"#.repeat(10_000), "}".repeat(10_000))),
        ("objects that do not end", r#"{"a":"#.repeat(12_000)),
        ("1e308", "1e308".to_owned()),
        ("1e309 for a field", of("1e309")),
        ("-1e309 for a field", of("-1e309")),
        ("a number of 60,000 digits", of(&"9".repeat(60_000))),
        ("a number with 60,000 zeros behind the point", of(&format!("0.{}1e", "0".repeat(60_000)))),
        ("a number with an endless exponent", of(&format!("1e{}", "9".repeat(60_000)))),
        ("NaN", of("NaN")),
        ("Infinity", of("Infinity")),
        ("hexadecimal", of("0x10")),
        ("six thousand keys", format!("[{{{}}}]", many(6_000))),
        ("the same key ten thousand times", format!("[{{{}\"a\":0}}]", r#""a":0,"#.repeat(10_000))),
        ("a key of 60,000 characters, alone", format!(r#"["{}"]"#, "k".repeat(60_000))),
        ("an array of 30,000", of(&format!("[{}0]", "0,".repeat(30_000)))),
        ("a lone high surrogate", of(r#""\ud800""#)),
        ("a lone low surrogate", of(r#""\udfff""#)),
        ("60,000 bytes of escapes", of(&format!("\"{}\\u\"", r"\u0041".repeat(10_000)))),
        ("an escape nobody knows", of(r#""\x41""#)),
        ("a raw NUL", of("\"a\0b\"")),
        ("a raw line feed", of("\"a\nb\"")),
        ("a string without its end", format!(r#"{{"{field}": "a"#)),
        ("a comment", format!("/* */ {}", of("\"a\""))),
        ("a comma too many", format!(r#"{{"{field}": "a",}}"#)),
        ("two objects", "{}{}".to_owned()),
        ("a byte order mark", "\u{feff}{}".to_owned()),
        ("60,000 blanks", " ".repeat(60_000)),
        ("a pollution of prototypes", r#"["__proto__", {"constructor": {"prototype": {"a": 1}}}]"#.to_owned()),
    ]
}

/// What clinic answers with the message: odd, but good.
fn accepted() -> Vec<(&'static str, String)> {
    let keys: String = (0..4_000).map(|n| format!(r#", "k{n}": {n}"#)).collect();
    vec![
        ("four thousand keys more", format!(r#"{{"content": "good"{keys}}}"#)),
        ("a value a hundred deep", format!(r#"{{"content": "good", "x": {}{}}}"#, "[".repeat(100), "]".repeat(100))),
        ("1e308 in a field nobody knows", r#"{"content": "good", "x": [1e308, -1e308, 5e-324, 1e-400]}"#.to_owned()),
        ("a key of 60,000 characters", format!(r#"{{"content": "good", "{}": 1}}"#, "k".repeat(60_000))),
        ("prototypes", r#"{"content": "good", "__proto__": {"content": "bad"}, "constructor": 1}"#.to_owned()),
        ("blanks everywhere", format!("{0}{{{0}\"content\"{0}:{0}\"good\"{0}}}{0}", " \t\r\n".repeat(1_000))),
        ("escapes for letters", r#"{"content": "\u0067\u006f\u006f\u0064"}"#.to_owned()),
    ]
}

pub(crate) async fn oversized(stage: &Stage) -> anyhow::Result<Tally> {
    let mut count = 0;
    for (path, field, greetings) in SOCKETS {
        let mut socket = open(stage, path).await.context(path)?;
        for _ in 0..greetings {
            socket.next().await.context(path)?;
        }
        for (name, frame) in refused(field) {
            socket.send(frame).await.with_context(|| format!("{path}: {name}"))?;
            let reply = told(&mut socket).await.with_context(|| format!("{path}: {name}"))?;
            ensure!(reply["error"].is_string() || reply["type"] == "error", "{path}: {name}: {reply}");
            count += 1;
        }
        socket.close().await.context(path)?;
    }
    let mut tally = Tally::of("oversized JSON", count);
    let mut socket = stage.connect(SOCKETS[2].0, "1").await?;
    for (name, frame) in accepted() {
        socket.send(frame).await?;
        let reply = socket.next().await.context(name)?;
        ensure!(reply["message"]["content"] == "good", "{name}: {reply}");
        tally.count("odd, but good JSON", 1);
    }
    socket.close().await?;
    Ok(tally)
}

async fn open(stage: &Stage, path: &str) -> anyhow::Result<Client> {
    let url = format!("ws://{}{path}", stage.edge);
    match path {
        MOBILE => Client::connect(&url, &[]).await,
        MENTORING => {
            let request = CreateSessionRequest { user_id: "1".into(), ttl_seconds: 0 };
            let created = IdentityServiceClient::new(stage.peer.clone()).create_session(request).await?;
            Client::connect(&url, &[("cookie", format!("sessionid={}", created.into_inner().session_key))]).await
        }
        path => stage.connect(path, "1").await,
    }
}

/// The next frame that is not news of somebody's coming.
async fn told(socket: &mut Client) -> anyhow::Result<Value> {
    for _ in 0..10 {
        let reply = socket.next().await?;
        if reply["type"] != "user_online" {
            return Ok(reply);
        }
    }
    bail!("only comings")
}
