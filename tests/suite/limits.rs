//! What holds on every socket of the edge: size, silence and rate.

use anyhow::Context as _;
use switchboard_tests::{Backend, Client, Sandbox, client};

use crate::every::{
    CLINIC, CONSULTATION, EVERY, LOCATION, MENTORING, MOBILE, NOTIFICATIONS, PEOPLE, PRESENCE, THERAPY, connect, open,
};

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

/// Over an edge that believes this machine to be a proxy: a visitor from anywhere.
async fn visit_from(sandbox: &Sandbox, address: &str, path: &str) -> anyhow::Result<Client> {
    let url = format!("ws://{}{path}", sandbox.edge);
    let bearer = format!("Bearer {}", sandbox.token("1")?);
    Client::connect(&url, &[("authorization", bearer), ("x-forwarded-for", address.to_owned())]).await
}

async fn is_told(socket: &mut Client, expected: (u16, &str)) -> anyhow::Result<()> {
    assert_eq!(socket.closed().await?, (expected.0, expected.1.to_owned()));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_has_so_many_sockets_and_no_more() -> anyhow::Result<()> {
    const TOO_MANY: (u16, &str) = (1008, "too many sockets of this user");
    let sandbox = Sandbox::start_with(Backend::Sqlite, |config| config.edge.sockets_per_user_max = 3).await?;
    sandbox.provision(PEOPLE).await?;
    let mut other = sandbox.connect(CLINIC, "2").await?;
    let mut sockets = Vec::new();
    for path in [CLINIC, LOCATION, NOTIFICATIONS] {
        sockets.push(open(&sandbox, path).await?);
    }
    for path in [CLINIC, LOCATION, NOTIFICATIONS, PRESENCE, MENTORING] {
        is_told(&mut connect(&sandbox, path).await?, TOO_MANY).await.with_context(|| path)?;
    }
    // Nobody else is concerned, and who goes makes room.
    other.send(r#"{"content": "still here", "role": "professional"}"#).await?;
    assert_eq!(other.next().await?["message"]["content"], "still here");
    sockets.remove(0).close().await?;
    let mut again = loop {
        let mut socket = sandbox.connect(CLINIC, "1").await?;
        socket.send(r#"{"content": "back", "role": "patient"}"#).await?;
        match socket.next_or_close().await? {
            Ok(_) => break socket,
            Err(refused) => assert_eq!(refused.0, TOO_MANY.0),
        }
    };
    again.send(r#"{"content": "and well", "role": "patient"}"#).await?;
    assert_eq!(again.next().await?["message"]["content"], "and well");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_has_so_many_sockets_and_so_many_handshakes() -> anyhow::Result<()> {
    const LATER: (u16, &str) = (1013, "try again later");
    let behind_a_proxy = |config: &mut switchboard::config::Config| {
        config.edge.trusted_proxies = vec!["127.0.0.1".to_owned()];
    };
    let sandbox = Sandbox::start_with(Backend::Sqlite, |config| {
        behind_a_proxy(config);
        config.edge.sockets_per_address_max = 2;
    })
    .await?;
    sandbox.provision(PEOPLE).await?;
    let mut sockets = Vec::new();
    for address in ["192.0.2.7", "192.0.2.7", "2001:db8::1", "2001:db8::2"] {
        sockets.push(visit_from(&sandbox, address, THERAPY).await?);
    }
    for address in ["192.0.2.7", "2001:db8::3"] {
        is_told(&mut visit_from(&sandbox, address, THERAPY).await?, LATER).await.with_context(|| address)?;
    }
    for address in ["192.0.2.8", "2001:db8:0:1::1", "127.0.0.1"] {
        let mut socket = visit_from(&sandbox, address, THERAPY).await?;
        socket.send(r#"{"message": "hello"}"#).await?;
        assert_eq!(socket.next().await.with_context(|| address)?["message"], "hello", "{address}");
    }

    let sandbox = Sandbox::start_with(Backend::Sqlite, |config| {
        behind_a_proxy(config);
        config.edge.handshakes_per_address_s = 1;
    })
    .await?;
    sandbox.provision(PEOPLE).await?;
    // Ten seconds' come at once; while they do, a few more may become due.
    let mut told_later = false;
    for _ in 0..60 {
        let mut socket = visit_from(&sandbox, "192.0.2.7", THERAPY).await?;
        socket.send(r#"{"message": "hello"}"#).await?;
        match socket.next_or_close().await? {
            Ok(_) => {}
            Err(refused) => {
                assert_eq!(refused.0, LATER.0);
                told_later = true;
                break;
            }
        }
    }
    assert!(told_later);
    visit_from(&sandbox, "192.0.2.8", THERAPY).await?.close().await
}

fn header<'a>(answer: &'a hyper::Response<bytes::Bytes>, name: &str) -> &'a str {
    answer.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_allowed_origins_read_what_rest_answers() -> anyhow::Result<()> {
    let sandbox = Sandbox::start_with(Backend::Sqlite, |config| {
        config.edge.allowed_origins = vec!["https://*.example.com".to_owned()];
    })
    .await?;
    sandbox.provision(PEOPLE).await?;
    let own = format!("http://{}", sandbox.edge);
    for (origin, is_allowed) in [
        ("https://app.example.com", true),
        (own.as_str(), true),
        ("https://example.com", false),
        ("https://app.example.com.evil.com", false),
        ("null", false),
    ] {
        let bearer = format!("Bearer {}", sandbox.token("1")?);
        let asks = [("origin", origin.to_owned()), ("authorization", bearer)];
        let answer = client::exchange(sandbox.edge, "GET", "/chat/chats/", &asks, None).await?;
        assert_eq!(answer.status(), 200, "{origin}: the page was not asked, its reader was");
        assert_eq!(header(&answer, "access-control-allow-origin"), if is_allowed { origin } else { "" }, "{origin}");
        // Before a call with a token, a browser asks whether it may.
        let asks = [
            ("origin", origin.to_owned()),
            ("access-control-request-method", "POST".to_owned()),
            ("access-control-request-headers", "authorization,content-type".to_owned()),
        ];
        let answer = client::exchange(sandbox.edge, "OPTIONS", "/chat/chats/", &asks, None).await?;
        assert_eq!(header(&answer, "access-control-allow-origin"), if is_allowed { origin } else { "" });
        assert!(header(&answer, "access-control-allow-headers").contains("authorization"));
    }
    Ok(())
}
