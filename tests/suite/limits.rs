//! What holds on every socket of the edge: size, silence and rate.

use anyhow::Context as _;
use switchboard_proto::identity::v1::CreateSessionRequest;
use switchboard_tests::{Backend, Client, Sandbox, client};

const PEOPLE: &str = r#"
{"user": {"id": "1", "roles": ["customer", "patient", "client", "student"], "assigned_mentor_id": "2"}}
{"user": {"id": "2", "roles": ["therapist", "professional", "expert", "teacher"]}}
{"device": {"device_id": "d"}}
{"conversation": {"kind": "CONVERSATION_KIND_CLINIC", "id": "aaaaaaaa-0000-4000-8000-000000000000", "participants": [{"user_id": "1", "role": "patient"}, {"user_id": "2", "role": "professional"}]}}
{"conversation": {"kind": "CONVERSATION_KIND_CONSULTATION", "id": "bbbbbbbb-0000-4000-8000-000000000000", "participants": [{"user_id": "1", "role": "client"}, {"user_id": "2", "role": "expert"}]}}
{"conversation": {"kind": "CONVERSATION_KIND_MOBILE", "number": 7, "participants": [{"user_id": "d", "role": "device"}]}}
"#;
const THERAPY: &str = "/ws/chat/1/2/";
const LOCATION: &str = "/ws/location/1/2/";
const CLINIC: &str = "/ws/chat/aaaaaaaa-0000-4000-8000-000000000000/";
const CONSULTATION: &str = "/ws/chat/bbbbbbbb-0000-4000-8000-000000000000/";
const NOTIFICATIONS: &str = "/ws/notifications/";
const PRESENCE: &str = "/ws/presence/";
const MOBILE: &str = "/ws/mobile/chat/7/?device_id=d";
const MENTORING: &str = "/ws/chat/my-conversation/";
const EVERY: [&str; 8] = [THERAPY, LOCATION, CLINIC, CONSULTATION, NOTIFICATIONS, PRESENCE, MOBILE, MENTORING];

/// A socket of any kind, of user 1 or the device, after what is said first.
async fn open(sandbox: &Sandbox, path: &str) -> anyhow::Result<Client> {
    let mut socket = connect(sandbox, path).await?;
    let greetings = match path {
        CONSULTATION | MENTORING => 1,
        NOTIFICATIONS | MOBILE => 2,
        _ => 0,
    };
    for _ in 0..greetings {
        socket.next().await?;
    }
    Ok(socket)
}

async fn connect(sandbox: &Sandbox, path: &str) -> anyhow::Result<Client> {
    let url = format!("ws://{}{path}", sandbox.edge);
    match path {
        MOBILE => Client::connect(&url, &[]).await,
        MENTORING => {
            let request = CreateSessionRequest { user_id: "1".into(), ttl_seconds: 0 };
            let key = sandbox.identity()?.create_session(request).await?.into_inner().session_key;
            Client::connect(&url, &[("cookie", format!("sessionid={key}"))]).await
        }
        path => sandbox.connect(path, "1").await,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_socket_refuses_more_than_64_kib() -> anyhow::Result<()> {
    let sandbox = Sandbox::start(Backend::Sqlite).await?;
    sandbox.provision(PEOPLE).await?;
    for path in EVERY {
        let mut socket = open(&sandbox, path).await?;
        socket.send("x".repeat(64 << 10)).await?;
        assert!(socket.next().await.with_context(|| path)?.to_string().contains("rror"), "{path}");
        socket.send("x".repeat((64 << 10) + 1)).await?;
        assert_eq!(socket.closed().await.with_context(|| path)?, (1009, "message over 64 KiB".to_owned()), "{path}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_socket_cuts_a_dead_peer() -> anyhow::Result<()> {
    let sandbox = Sandbox::start_with(Backend::Sqlite, |config| {
        config.edge.ping_interval_s = 1;
        config.edge.idle_timeout_s = 2;
    })
    .await?;
    sandbox.provision(PEOPLE).await?;
    let mut sockets = Vec::new();
    for path in EVERY {
        sockets.push((path, open(&sandbox, path).await?));
    }
    for (path, mut socket) in sockets {
        socket.answer_no_pings().await.with_context(|| path)?;
        assert_eq!(socket.closed().await.with_context(|| path)?, (1001, "idle".to_owned()), "{path}");
    }
    Ok(())
}

/// A user's frames on consultation's three sockets and that user's REST calls under any protocol count together.
#[tokio::test(flavor = "multi_thread")]
async fn a_user_s_frames_and_calls_count_together() -> anyhow::Result<()> {
    const LIMIT: u32 = 12;
    let sandbox = Sandbox::start_with(Backend::Sqlite, |config| config.edge.rate_limits.consultation = LIMIT).await?;
    sandbox.provision(PEOPLE).await?;
    let (edge, token) = (sandbox.edge, sandbox.token("1")?);
    let call = async |path: &str, token: &str| client::call(edge, "GET", path, Some(token), None).await;

    let mut sockets = [
        sandbox.connect(CONSULTATION, "1").await?,
        sandbox.connect(NOTIFICATIONS, "1").await?,
        sandbox.connect(PRESENCE, "1").await?,
    ];
    let mut unlimited = sandbox.connect(THERAPY, "1").await?;
    for socket in &mut sockets {
        for _ in 0..LIMIT / 4 {
            socket.send("not json").await?;
            while socket.next().await?["message"] != "the frame must be a JSON object" {}
        }
    }
    for path in ["/chat/chats/", "/chat/my-conversation/", "/chat/chats/?page=1"] {
        assert_eq!(call(path, &token).await?.0, 200, "{path}");
    }
    for socket in &mut sockets {
        socket.send(r#"{"type": "mark_read"}"#).await?;
        let limited = socket.next().await?;
        assert_eq!((&limited["type"], &limited["message"]), (&"error".into(), &"Rate limit exceeded".into()));
        assert!(limited["retry_after"].as_u64().is_some_and(|wait| (1..=60).contains(&wait)), "{limited}");
    }
    let bearer = [("authorization", format!("Bearer {token}"))];
    for (path, says) in [("/chat/chats/", "Rate limit exceeded"), ("/chat/my-conversation/", "Request was throttled")] {
        let answer = client::exchange(edge, "GET", path, &bearer, None).await?;
        assert_eq!(answer.status(), 429);
        let wait: u64 = answer.headers()["retry-after"].to_str()?.parse()?;
        assert!((1..=60).contains(&wait));
        assert!(String::from_utf8_lossy(answer.body()).contains(says));
    }
    // Therapy documents no limit; somebody else and a device have their own, or none.
    for _ in 0..LIMIT * 2 {
        unlimited.send("not json").await?;
        assert_eq!(unlimited.next().await?["message"], "the frame must be a JSON object");
        assert_eq!(client::call(edge, "GET", "/mobile/chat/list/?device_id=d", None, None).await?.0, 200);
    }
    assert_eq!(call("/chat/chats/", &sandbox.token("2")?).await?.0, 200);
    Ok(())
}

/// The other protocols have a limit when one is set.
#[tokio::test(flavor = "multi_thread")]
async fn every_protocol_can_be_limited_in_its_own_words() -> anyhow::Result<()> {
    let sandbox = Sandbox::start_with(Backend::Sqlite, |config| {
        let limits = &mut config.edge.rate_limits;
        (limits.therapy, limits.clinic, limits.mobile, limits.mentoring) = (1, 1, 1, 1);
    })
    .await?;
    sandbox.provision(PEOPLE).await?;
    for (path, field) in [(CLINIC, "error"), (MOBILE, "message"), (MENTORING, "error"), (THERAPY, "message")] {
        let mut socket = open(&sandbox, path).await?;
        for _ in 0..2 {
            socket.send("not json").await?;
        }
        while socket.next().await.with_context(|| path)?[field] != "Rate limit exceeded" {}
    }
    // Counted with the chat's.
    let mut location = sandbox.connect(LOCATION, "1").await?;
    location.send(r#"{"latitude": 1, "longitude": 1}"#).await?;
    assert_eq!(location.next().await?["message"], "Rate limit exceeded");
    Ok(())
}

/// Beyond the sockets that an edge has room for, visitors are told to come later; when one goes, another may come.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_edge_says_so_and_goes_on() -> anyhow::Result<()> {
    let sandbox = Sandbox::start_with(Backend::Sqlite, |config| config.edge.sockets_max = 2).await?;
    sandbox.provision(PEOPLE).await?;
    let mut first = sandbox.connect(THERAPY, "1").await?;
    let second = sandbox.connect(THERAPY, "2").await?;
    for path in EVERY {
        let mut beyond = connect(&sandbox, path).await?;
        assert_eq!(beyond.closed().await?, (1013, "try again later".to_owned()), "{path}");
    }
    first.send(r#"{"message": "still served"}"#).await?;
    assert_eq!(first.next().await?["message"], "still served");
    second.close().await?;
    // Its place is free when its session has ended.
    loop {
        let mut again = sandbox.connect(THERAPY, "2").await?;
        first.send(r#"{"message": "hello?"}"#).await?;
        first.next().await?;
        match again.next_or_close().await? {
            Ok(frame) => {
                assert_eq!(frame["message"], "hello?");
                return Ok(());
            }
            Err((code, _)) => assert_eq!(code, 1013),
        }
    }
}
