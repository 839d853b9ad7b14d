//! Bad input of every kind: answered, never a close that is not documented, never stored, never a panic.

use anyhow::Context as _;
use switchboard_proto::chat::v1::ListMessagesRequest;
use switchboard_tests::{Backend, Client, Sandbox, client};
use tokio_tungstenite::tungstenite::{
    Bytes, Message,
    protocol::frame::{
        Frame,
        coding::{Data, OpCode},
    },
};

const PEOPLE: &str = r#"
{"user": {"id": "1", "roles": ["customer", "patient"]}}
{"user": {"id": "2", "roles": ["therapist", "professional"]}}
{"conversation": {"kind": "CONVERSATION_KIND_THERAPY", "participants": [{"user_id": "1", "role": "customer"}, {"user_id": "2", "role": "therapist"}]}}
{"conversation": {"kind": "CONVERSATION_KIND_CLINIC", "id": "550e8400-e29b-41d4-a716-446655440000", "participants": [{"user_id": "1", "role": "patient"}, {"user_id": "2", "role": "professional"}]}}
"#;
const THERAPY: &str = "/ws/chat/1/2/";
const CLINIC: &str = "/ws/chat/550e8400-e29b-41d4-a716-446655440000/";
const MESSAGE_BYTES_MAX: usize = 64 << 10;

async fn sandbox() -> anyhow::Result<Sandbox> {
    let sandbox = Sandbox::start(Backend::Sqlite).await?;
    sandbox.provision(PEOPLE).await?;
    Ok(sandbox)
}

/// A frame of exactly so many bytes that says something.
fn sized(field: &str, bytes: usize) -> String {
    let empty = format!(r#"{{"{field}":""}}"#);
    format!(r#"{{"{field}":"{}"}}"#, "x".repeat(bytes - empty.len()))
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_frames_are_answered_and_not_stored() -> anyhow::Result<()> {
    let sandbox = sandbox().await?;
    for (path, field) in [(THERAPY, "message"), (CLINIC, "content")] {
        let mut socket = sandbox.connect(path, "1").await?;
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        let bad = [
            String::new(),
            " ".to_owned(),
            "hello".to_owned(),
            "{".to_owned(),
            "[]".to_owned(),
            "null".to_owned(),
            "true".to_owned(),
            "12".to_owned(),
            "\"text\"".to_owned(),
            "{}".to_owned(),
            "\u{0}".to_owned(),
            "{\"a\":1}".to_owned(),
            format!(r#"{{"{field}":null}}"#),
            format!(r#"{{"{field}":1}}"#),
            format!(r#"{{"{field}":true}}"#),
            format!(r#"{{"{field}":["a"]}}"#),
            format!(r#"{{"{field}":{{"a":"b"}}}}"#),
            format!(r#"{{"{field}":"a\u0000b"}}"#),
            format!(r#"{{"{field}":"\ud800"}}"#),
            format!(r#"{{"{field}":"\udc00\ud800"}}"#),
            format!(r#"{{"{field}":"a"}} trailing"#),
            format!(r#"{{"{field}":"a","client_message_id":{{}}}}"#),
            format!(r#"{{"{field}":"a","client_message_id":"{}"}}"#, "c".repeat(65)),
            format!(r#"{{"{field}":"a","client_message_id":"\u0000"}}"#),
            format!(r#"{{"{field}":{}}}"#, nested(100)),
            format!(r#"{{"{field}":{}}}"#, nested(30_000)),
            nested(30_000),
            format!("{{\"{field}\":\"a\nb\"}}"),
            format!("{{{field}:'a'}}"),
            "1e999999".to_owned(),
            format!("{{\"{field}\":1e999999}}"),
            "\u{feff}{}".to_owned(),
        ];
        for frame in &bad {
            socket.send(frame.as_str()).await?;
            let reply = socket.next().await.with_context(|| format!("{path}: {frame:.60}"))?;
            assert!(reply["error"].is_string() || reply["type"] == "error", "{frame:.60} was answered {reply}");
        }
        for bytes in [vec![], vec![0xff, 0xfe], br#"{"message":"x","content":"x"}"#.to_vec()] {
            socket.send_frame(Message::Binary(bytes.into())).await?;
            let reply = socket.next().await?;
            assert!(reply["error"].is_string() || reply["type"] == "error", "{reply}");
        }
        // The socket is as good as before, and what it says is the first thing stored.
        socket.send(format!(r#"{{"{field}":"good","unknown":[1,2],"sender_id":"2","id":"x"}}"#)).await?;
        let reply = socket.next().await?.to_string();
        assert!(reply.contains("good"), "{reply}");
        socket.close().await?;
    }
    let stored = sandbox
        .chat()?
        .list_messages(ListMessagesRequest {
            conversation_id: "550e8400-e29b-41d4-a716-446655440000".into(),
            ..ListMessagesRequest::default()
        })
        .await?
        .into_inner();
    assert_eq!(stored.total_size, 1);
    assert_eq!(stored.messages[0].sender_id, "1", "a forged sender is nobody's");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn words_of_every_script_come_through() -> anyhow::Result<()> {
    let sandbox = sandbox().await?;
    let mut socket = sandbox.connect(CLINIC, "1").await?;
    for words in
        ["👩‍⚕️ café", "مرحبا", "你好", "\u{202e}desrever", "a\u{1}b", "'; DROP TABLE messages; --", "<script>", "\\u0041"]
    {
        socket.send(serde_json::json!({ "content": words }).to_string()).await?;
        assert_eq!(socket.next().await?["message"]["content"], words);
    }
    socket.send(r#"{"content":"\ud83d\ude00"}"#).await?;
    assert_eq!(socket.next().await?["message"]["content"], "😀");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_kib_pass_and_one_byte_more_does_not() -> anyhow::Result<()> {
    let sandbox = sandbox().await?;
    for (path, field) in [(THERAPY, "message"), (CLINIC, "content")] {
        let mut socket = sandbox.connect(path, "1").await?;
        socket.send(sized(field, MESSAGE_BYTES_MAX)).await?;
        assert!(socket.next().await?.to_string().len() > MESSAGE_BYTES_MAX);
        socket.send(sized(field, MESSAGE_BYTES_MAX + 1)).await?;
        assert_eq!(socket.closed().await?, (1009, "message over 64 KiB".to_owned()));
        // In pieces, too.
        let mut socket = sandbox.connect(path, "1").await?;
        let half = Bytes::from(vec![b'x'; MESSAGE_BYTES_MAX / 2 + 1]);
        socket.send_frame(Message::Frame(Frame::message(half.clone(), OpCode::Data(Data::Text), false))).await?;
        socket.send_frame(Message::Frame(Frame::message(half, OpCode::Data(Data::Continue), true))).await?;
        assert_eq!(socket.closed().await?.0, 1009);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn breaches_of_the_rfc_get_their_codes() -> anyhow::Result<()> {
    let sandbox = sandbox().await?;
    let cases: [(&[u8], u16); 6] = [
        (&[0x81, 0x02, b'h', b'i'], 1002),             // not masked
        (&[0xc1, 0x82, 0, 0, 0, 0, b'h', b'i'], 1002), // a reserved bit
        (&[0x83, 0x80, 0, 0, 0, 0], 1002),             // a reserved opcode
        (&[0x80, 0x80, 0, 0, 0, 0], 1002),             // a continuation of nothing
        (&[0x81, 0x82, 0, 0, 0, 0, 0xff, 0xfe], 1007), // not UTF-8
        (&[0x09, 0x80, 0, 0, 0, 0], 1002),             // a control frame in pieces
    ];
    for (bytes, code) in cases {
        let mut socket = sandbox.connect(THERAPY, "1").await?;
        socket.send_raw(bytes).await?;
        assert_eq!(socket.closed().await.with_context(|| format!("{bytes:x?}"))?.0, code, "{bytes:x?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn urls_that_are_no_sockets() -> anyhow::Result<()> {
    let sandbox = sandbox().await?;
    for (method, path, status) in [
        ("GET", "/ws/chat/1/2/", 426),
        ("POST", "/ws/chat/1/2/", 426),
        ("GET", "/ws/nothing/", 404),
        ("GET", "/", 404),
        ("GET", "/playground.json", 404),
        ("GET", "/playground.js", 404),
        ("GET", "/playground.css", 404),
        ("GET", "/playground.metrics", 404),
        ("GET", "/playground.calls?page=0123456789abcdef", 404),
        ("GET", "/healthz", 200),
        ("GET", "/metrics", 404),
        ("GET", "/../etc/passwd", 404),
        ("GET", "/chat/chats/%00/", 401),
    ] {
        assert_eq!(client::call(sandbox.edge, method, path, None, None).await?.0, status, "{method} {path}");
    }
    let token = sandbox.token("1")?;
    let call = |body: String| {
        client::call(
            sandbox.edge,
            "POST",
            "/chat/chats/550e8400-e29b-41d4-a716-446655440000/send_message/",
            Some(&token),
            Some(body),
        )
    };
    assert_eq!(call(sized("content", MESSAGE_BYTES_MAX + 1)).await?.0, 413);
    assert_eq!(call("[]".to_owned()).await?.0, 400);
    assert_eq!(call("\u{0}".to_owned()).await?.0, 400);
    assert_eq!(client::call(sandbox.edge, "GET", "/chat/chats/x/", Some(&token), None).await?.0, 404);
    for page in ["0", "-1", "999999999999", "2147483647", "%00"] {
        let path = format!("/chat/chats/?page={page}");
        assert_eq!(client::call(sandbox.edge, "GET", &path, Some(&token), None).await?.0, 404, "{page}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_can_be_plain_http() -> anyhow::Result<()> {
    let sandbox =
        Sandbox::start_with(Backend::Sqlite, |config| config.edge.refusal = switchboard_edge::Refusal::Http).await?;
    sandbox.provision(PEOPLE).await?;
    let url = |path: &str| format!("ws://{}{path}", sandbox.edge);
    let refused = |error: anyhow::Error| error.to_string();
    let status = Client::connect(&url(THERAPY), &[]).await.map(drop).expect_err("refused");
    assert!(refused(status).contains("401"));
    let status = sandbox.connect("/ws/chat/1//", "1").await.map(drop).expect_err("refused");
    assert!(refused(status).contains("400"));
    let status = sandbox.connect("/ws/chat/2/2/", "1").await.map(drop).expect_err("refused");
    assert!(refused(status).contains("403"));
    let nowhere = "/ws/chat/00000000-0000-4000-8000-000000000000/";
    let status = sandbox.connect(nowhere, "1").await.map(drop).expect_err("refused");
    assert!(refused(status).contains("404"));
    sandbox.connect(THERAPY, "1").await?.close().await
}
