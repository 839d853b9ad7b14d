//! Clients that are slow on purpose: half a head, half a body, no reading.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use futures_util::{StreamExt as _, future::join_all, stream};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{sleep, timeout},
};

use crate::{
    cases::Tally,
    stage::{HEADER_TIMEOUT_S, Stage, clinic},
    wire::{Raw, request},
};

/// Between two bytes of a client that drips.
const DRIP_EVERY: Duration = Duration::from_millis(300);
/// By then every one of them must have been cut off. Generous: the machine may be slow.
const CUT_MAX: Duration = Duration::from_secs(HEADER_TIMEOUT_S + 28);
/// Connections that are opened at the same time.
const AT_ONCE: usize = 64;
/// The pair whose conversation nobody reads.
const BUSY_PAIR: usize = 16;
/// The pair whose sockets are left in the middle.
const LEFT_PAIR: usize = 18;
/// How long a short run leaves answers unread.
const UNREAD: Duration = Duration::from_secs(1);
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// What a client sends at once, and then byte by byte.
#[derive(Clone, Debug)]
struct Slow {
    name: &'static str,
    at_once: String,
    dripping: &'static str,
}

fn kinds(stage: &Stage) -> anyhow::Result<Vec<Slow>> {
    let slow = |name, at_once: &str, dripping| Slow { name, at_once: at_once.to_owned(), dripping };
    let registering = "POST /mobile/sessions/create/ HTTP/1.1\r\nhost: x\r\n";
    let speaking = format!("POST /chat/chats/ HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n", stage.token("1")?);
    Ok(vec![
        slow("says nothing", "", ""),
        slow("half a first line", "GET /heal", ""),
        slow("half a head", "GET /healthz HTTP/1.1\r\nhost: x\r\nx: ", ""),
        slow("a head without its end", "GET /healthz HTTP/1.1\r\nhost: x\r\n", ""),
        slow("a head that drips", "GET /healthz HTTP/1.1\r\nhost: x\r\nx: ", "y"),
        slow("a first line that drips", "GET /", "y"),
        slow("empty lines that drip", "", "\r\n"),
        slow("half a request for a socket", &request("/ws/chat/x/")[..120], ""),
        slow("nothing after an answer", "GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n", ""),
        slow("half a head after an answer", "GET /healthz HTTP/1.1\r\nhost: x\r\n\r\nGET /h", ""),
        slow("no body", &format!("{registering}content-length: 100\r\n\r\n"), ""),
        slow("a body that drips", &format!("{registering}content-length: 100000\r\n\r\n"), " "),
        slow("chunks that drip", &format!("{registering}transfer-encoding: chunked\r\n\r\n"), "1\r\n \r\n"),
        slow("half a body, with a token", &format!("{speaking}content-length: 100\r\n\r\n{{"), ""),
        slow("a body that drips, with a token", &format!("{speaking}content-length: 100000\r\n\r\n"), " "),
    ])
}

/// Connections that never come to a request. Each is cut off.
pub(crate) async fn loris(stage: &Stage, count: usize) -> anyhow::Result<Tally> {
    let kinds = kinds(stage)?;
    let begun = Instant::now();
    let opened: Vec<_> = stream::iter((0..count).map(|n| kinds[n % kinds.len()].clone()))
        .map(async |slow| {
            let mut connection = TcpStream::connect(stage.edge).await?;
            connection.write_all(slow.at_once.as_bytes()).await?;
            anyhow::Ok((slow, connection))
        })
        .buffered(AT_ONCE)
        .collect()
        .await;
    let opening = begun.elapsed();
    let cut = join_all(opened.into_iter().map(async |opened| {
        let (slow, connection) = opened?;
        timeout(CUT_MAX, outlast(connection, slow.dripping.as_bytes())).await.map_err(|_| anyhow::anyhow!(slow.name))
    }))
    .await;
    let mut open: Vec<String> = cut.iter().filter_map(|cut| Some(format!("{:#}", cut.as_ref().err()?))).collect();
    let left = open.len();
    open.sort();
    open.dedup();
    ensure!(left == 0, "{left} of {count} are open after {CUT_MAX:?}: {}", open.join("; "));
    let note = format!("{count} connections opened in {opening:.1?}, the last cut off after {:.1?}", begun.elapsed());
    Ok(Tally::of("slow requests", kinds.len()).note(note))
}

/// Until the server ends it.
async fn outlast(connection: TcpStream, dripping: &[u8]) {
    let (mut reading, mut writing) = connection.into_split();
    let drip = async {
        while !dripping.is_empty() && writing.write_all(dripping).await.is_ok() {
            sleep(DRIP_EVERY).await;
        }
        std::future::pending::<()>().await;
    };
    let end = async { while matches!(reading.read(&mut [0; 1024]).await, Ok(read) if read > 0) {} };
    tokio::select! {
        () = drip => {}
        () = end => {}
    }
}

/// Connections that end in the middle of everything.
pub(crate) async fn abandoned(stage: &Stage, count: usize) -> anyhow::Result<Tally> {
    let path = stage.path(&clinic(LEFT_PAIR), &format!("p{LEFT_PAIR}"))?;
    let request = request(&path);
    let message = crate::wire::text(r#"{"content": "never heard"}"#);
    let moments = [0, 1, request.len() / 2, request.len(), request.len() + 3, request.len() + message.len()];
    let all = [request.into_bytes(), message].concat();
    let ended: Vec<anyhow::Result<()>> = stream::iter((0..count).map(|n| (moments[n % moments.len()], n % 2 == 0)))
        .map(async |(until, is_reset)| {
            let mut connection = TcpStream::connect(stage.edge).await?;
            connection.write_all(&all[..until]).await?;
            if is_reset {
                connection.set_zero_linger()?;
            }
            Ok(())
        })
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    ended.into_iter().collect::<anyhow::Result<()>>()?;
    Ok(Tally::of("abandoned connections", moments.len() * 2))
}

/// Sockets in a busy conversation that never read. Each is dropped; who talks is not held up.
pub(crate) async fn readers(stage: &Stage, count: usize) -> anyhow::Result<Tally> {
    const MESSAGES_MAX: usize = 20_000;
    let before = stage.usage()?.sockets;
    let mut talker = stage.connect(&clinic(BUSY_PAIR), &format!("d{BUSY_PAIR}")).await?;
    let path = stage.path(&clinic(BUSY_PAIR), &format!("p{BUSY_PAIR}"))?;
    let opened = stream::iter(0..count).map(|_| Raw::open_narrow(stage.edge, &path)).buffer_unordered(AT_ONCE);
    let silent: Vec<_> = opened.collect().await;
    let silent: Vec<Raw> = silent.into_iter().collect::<anyhow::Result<_>>()?;
    let (begun, words) = (Instant::now(), "x".repeat(20_000));
    let mut said = 0;
    // The talker's own socket is there, too.
    while stage.usage()?.sockets > before + 1 {
        ensure!(
            begun.elapsed() < CUT_MAX * 2 && said < MESSAGES_MAX,
            "some of them are not dropped after {said} messages"
        );
        talker.send(json!({ "content": format!("{said} {words}") }).to_string()).await?;
        let back = talker.next().await?;
        let is_next = back["message"]["content"].as_str().is_some_and(|back| back.starts_with(&format!("{said} ")));
        ensure!(is_next, "something else than message {said} came back");
        said += 1;
        sleep(Duration::from_millis(5)).await;
    }
    let note = format!("{count} sockets were dropped after {said} messages of 20 KB, {:.1?}", begun.elapsed());
    drop(silent);
    talker.close().await?;
    Ok(Tally::of("slow readers", 1).note(note))
}

/// Requests whose answers nobody reads: megabytes each. They are cut off after a minute, for which only a long run waits.
pub(crate) async fn unread_answers(stage: &Stage, is_long: bool) -> anyhow::Result<Tally> {
    const COUNT: usize = 20;
    const UNREAD_MAX: Duration = Duration::from_secs(120);
    let token = stage.token(&format!("p{BUSY_PAIR}"))?;
    let path = format!("/chat/chats/{}/messages/?page_size=200", crate::stage::conversation(BUSY_PAIR));
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\r\n");
    let before = stage.usage()?.sockets;
    let opened = stream::iter(0..COUNT).map(async |_| {
        let socket = tokio::net::TcpSocket::new_v4()?;
        socket.set_recv_buffer_size(4 << 10)?;
        let mut connection = socket.connect(stage.edge).await?;
        connection.write_all(request.repeat(8).as_bytes()).await?;
        anyhow::Ok(connection)
    });
    let opened: Vec<_> = opened.buffer_unordered(AT_ONCE).collect().await;
    let opened: Vec<TcpStream> = opened.into_iter().collect::<anyhow::Result<_>>()?;
    let begun = Instant::now();
    while is_long && stage.usage()?.sockets > before {
        ensure!(begun.elapsed() < UNREAD_MAX, "{} of {COUNT} are not cut off", stage.usage()?.sockets - before);
        sleep(LOOK_AGAIN).await;
    }
    if !is_long {
        sleep(UNREAD).await;
    }
    drop(opened);
    let note = format!("{COUNT} connections did not read their answers for {:.1?}", begun.elapsed());
    Ok(Tally::of("unread answers", 1).note(note))
}

/// Waits until the process has as few sockets open as before.
pub(crate) async fn sockets_return(stage: &Stage, before: usize) -> anyhow::Result<()> {
    let begun = Instant::now();
    loop {
        let sockets = stage.usage().context("after the attack")?.sockets;
        if sockets <= before {
            return Ok(());
        }
        ensure!(begun.elapsed() < CUT_MAX, "{sockets} sockets are open, {before} were before");
        sleep(LOOK_AGAIN).await;
    }
}
