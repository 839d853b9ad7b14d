//! How sockets behave together: order, replay, slowness, silence, endings.

use std::collections::HashSet;

use switchboard_proto::{chat::v1::ListMessagesRequest, identity::v1::User};
use switchboard_tests::{Backend, Client, Sandbox, client};

const CHAT: &str = "550e8400-e29b-41d4-a716-446655440000";
const PATH: &str = "/ws/chat/550e8400-e29b-41d4-a716-446655440000/";
const PEOPLE: &str = r#"
{"user": {"id": "p", "roles": ["patient"]}}
{"user": {"id": "d", "roles": ["professional"]}}
{"conversation": {"kind": "CONVERSATION_KIND_CLINIC", "id": "550e8400-e29b-41d4-a716-446655440000", "participants": [{"user_id": "p", "role": "patient"}, {"user_id": "d", "role": "professional"}]}}
"#;

async fn sandbox_on(backend: Backend) -> anyhow::Result<Sandbox> {
    let sandbox = Sandbox::start(backend).await?;
    sandbox.provision(PEOPLE).await?;
    Ok(sandbox)
}

/// Ids and contents, as a socket or the archive has them.
type View = Vec<(String, String)>;

fn say(content: &str) -> String {
    serde_json::json!({ "content": content }).to_string()
}

async fn heard(socket: &mut Client, count: usize) -> anyhow::Result<View> {
    let mut heard = Vec::with_capacity(count);
    while heard.len() < count {
        let frame = socket.next().await?;
        let text = |field: &str| frame["message"][field].as_str().unwrap_or_default().to_owned();
        heard.push((text("id"), text("content")));
    }
    Ok(heard)
}

async fn stored(sandbox: &Sandbox) -> anyhow::Result<View> {
    let (mut chat, mut all, mut from_seq) = (sandbox.chat()?, Vec::new(), 0);
    loop {
        let request =
            ListMessagesRequest { conversation_id: CHAT.into(), page_size: 1000, from_seq, ..Default::default() };
        let page = chat.list_messages(request).await?.into_inner();
        all.extend(page.messages.into_iter().map(|message| (message.id, message.content)));
        from_seq = page.next_from_seq;
        if from_seq == 0 {
            return Ok(all);
        }
    }
}

/// Both sides talk at once in two tabs each: everyone sees the same, in the order of the archive, once.
async fn one_order_for_all(backend: Backend) -> anyhow::Result<()> {
    const EACH: usize = 150;
    let sandbox = sandbox_on(backend).await?;
    let mut sockets = Vec::new();
    for user in ["p", "p", "d", "d"] {
        sockets.push(sandbox.connect(PATH, user).await?);
    }
    let mut tasks = Vec::new();
    for (number, mut socket) in sockets.into_iter().enumerate() {
        tasks.push(tokio::spawn(async move {
            // Without waiting for answers: the window must not lose or reorder.
            for n in 0..EACH {
                socket.send(say(&format!("{number}:{n}"))).await?;
            }
            heard(&mut socket, 4 * EACH).await
        }));
    }
    let archive = stored_after(&sandbox, tasks).await?;
    for number in 0..4 {
        let prefix = format!("{number}:");
        let theirs: Vec<&String> =
            archive.iter().map(|(_, content)| content).filter(|content| content.starts_with(&prefix)).collect();
        assert!(
            theirs.iter().enumerate().all(|(n, content)| **content == format!("{prefix}{n}")),
            "a sender's own order"
        );
        assert_eq!(theirs.len(), EACH);
    }
    Ok(())
}

async fn stored_after(
    sandbox: &Sandbox,
    tasks: Vec<tokio::task::JoinHandle<anyhow::Result<View>>>,
) -> anyhow::Result<View> {
    let mut views = Vec::new();
    for task in tasks {
        views.push(task.await??);
    }
    let archive = stored(sandbox).await?;
    for view in &views {
        assert_eq!(*view, archive);
    }
    let ids: HashSet<&String> = archive.iter().map(|(id, _)| id).collect();
    assert_eq!(ids.len(), archive.len());
    Ok(archive)
}

#[tokio::test(flavor = "multi_thread")]
async fn one_order_for_all_on_sqlite() -> anyhow::Result<()> {
    one_order_for_all(Backend::Sqlite).await
}

#[tokio::test(flavor = "multi_thread")]
async fn one_order_for_all_on_postgres() -> anyhow::Result<()> {
    one_order_for_all(Backend::Postgres).await
}

/// Reconnecting while the other side talks: no gap and no repeat between what is replayed and what is live.
#[tokio::test(flavor = "multi_thread")]
async fn a_replay_runs_into_the_live_stream() -> anyhow::Result<()> {
    const TOTAL: usize = 600;
    let sandbox = sandbox_on(Backend::Sqlite).await?;
    let mut talker = sandbox.connect(PATH, "d").await?;
    talker.send(say("0")).await?;
    let (first, _) = heard(&mut talker, 1).await?.remove(0);
    let talking = tokio::spawn(async move {
        for n in 1..TOTAL {
            talker.send(say(&n.to_string())).await?;
            heard(&mut talker, 1).await?;
        }
        anyhow::Ok(())
    });
    let mut after = first;
    let mut seen = 0;
    while seen < TOTAL - 1 {
        let mut socket = sandbox.connect(&format!("{PATH}?after={after}"), "p").await?;
        for (id, content) in heard(&mut socket, 40.min(TOTAL - 1 - seen)).await? {
            seen += 1;
            assert_eq!(content, seen.to_string());
            after = id;
        }
    }
    talking.await?
}

/// A socket that does not read holds up nobody, is told 4008 once it reads, and finds everything with `?after=`.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_socket_delays_nobody() -> anyhow::Result<()> {
    const MESSAGES: usize = 700;
    let sandbox = sandbox_on(Backend::Sqlite).await?;
    let mut slow = sandbox.connect(PATH, "p").await?;
    let mut fast = sandbox.connect(PATH, "d").await?;
    let words = "x".repeat(50_000);
    for n in 0..MESSAGES {
        fast.send(say(&format!("{n} {words}"))).await?;
        let (_, content) = heard(&mut fast, 1).await?.remove(0);
        assert!(content.starts_with(&format!("{n} ")));
    }
    let mut last = None;
    let mut got = 0;
    let (code, reason) = loop {
        match slow.next_or_close().await? {
            Ok(frame) => {
                let content = frame["message"]["content"].as_str().unwrap_or_default();
                assert!(content.starts_with(&format!("{got} ")), "in order and without holes up to the end");
                got += 1;
                last = frame["message"]["id"].as_str().map(str::to_owned);
            }
            Err(close) => break close,
        }
    };
    assert_eq!((code, reason.as_str()), (4008, "reading too slowly"));
    assert!(got < MESSAGES);
    let after = last.unwrap_or_default();
    let mut again = sandbox.connect(&format!("{PATH}?after={after}"), "p").await?;
    for n in got..MESSAGES {
        let (_, content) = heard(&mut again, 1).await?.remove(0);
        assert!(content.starts_with(&format!("{n} ")));
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_ends_with_its_token() -> anyhow::Result<()> {
    let sandbox = sandbox_on(Backend::Sqlite).await?;
    let token = sandbox.token_for(&User { id: "p".into(), ..User::default() }, 5)?;
    let mut socket = Client::connect(&format!("ws://{}{PATH}?token={token}", sandbox.edge), &[]).await?;
    socket.send(say("still good")).await?;
    heard(&mut socket, 1).await?;
    assert_eq!(socket.closed().await?, (4001, "not authenticated".to_owned()));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_peer_is_cut_and_a_quiet_one_is_not() -> anyhow::Result<()> {
    let sandbox = Sandbox::start_with(Backend::Sqlite, |config| {
        config.edge.ping_interval_s = 1;
        config.edge.idle_timeout_s = 6;
    })
    .await?;
    sandbox.provision(PEOPLE).await?;
    let mut dead = sandbox.connect(PATH, "p").await?;
    let mut quiet = sandbox.connect(PATH, "d").await?;
    // The quiet one's library answers pings while it waits for a frame.
    let waiting = tokio::spawn(async move { (quiet.next().await, quiet) });
    dead.answer_no_pings().await?;
    assert_eq!(dead.closed().await?, (1001, "idle".to_owned()));
    sandbox.connect(PATH, "p").await?.send(say("anyone there?")).await?;
    let (frame, _quiet) = waiting.await?;
    assert_eq!(frame?["message"]["content"], "anyone there?");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_draining_edge_says_goodbye() -> anyhow::Result<()> {
    let sandbox = sandbox_on(Backend::Sqlite).await?;
    let mut sockets = Vec::new();
    for _ in 0..20 {
        sockets.push(sandbox.connect(PATH, "p").await?);
    }
    sandbox.lifecycle.drain();
    for mut socket in sockets {
        assert_eq!(socket.closed().await?, (1012, "restarting, come back".to_owned()));
    }
    sandbox.lifecycle.finish(switchboard_tests::PATIENCE).await.map_err(anyhow::Error::msg)?;
    assert!(sandbox.connect(PATH, "p").await.is_err(), "and lets nobody in");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_subprotocol_is_selected_only_when_it_carried_the_token() -> anyhow::Result<()> {
    let sandbox = sandbox_on(Backend::Sqlite).await?;
    let token = sandbox.token("p")?;
    let url = format!("ws://{}{PATH}", sandbox.edge);
    let socket = Client::connect(&url, &[("sec-websocket-protocol", format!("bearer, {token}"))]).await?;
    assert_eq!(socket.response.headers()["sec-websocket-protocol"], "bearer");
    let socket = Client::connect(&format!("{url}?token={token}"), &[]).await?;
    assert!(!socket.response.headers().contains_key("sec-websocket-protocol"));
    Ok(())
}

/// Messages so long that a page of them would not fit into one answer of the service.
#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_long_messages_is_whole() -> anyhow::Result<()> {
    const MESSAGES: usize = 120;
    let sandbox = sandbox_on(Backend::Sqlite).await?;
    let mut socket = sandbox.connect(PATH, "p").await?;
    for n in 0..MESSAGES {
        socket.send(say(&format!("{n} {}", "x".repeat(60_000)))).await?;
        heard(&mut socket, 1).await?;
    }
    let token = sandbox.token("d")?;
    let path = format!("/chat/chats/{CHAT}/messages/?page_size=200");
    let (status, page) = client::call(sandbox.edge, "GET", &path, Some(&token), None).await?;
    assert_eq!((status, page["results"].as_array().map(Vec::len)), (200, Some(MESSAGES)));
    assert_eq!(stored(&sandbox).await?.len(), MESSAGES);
    Ok(())
}
