//! All sockets are cut at once and come back at once.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::{
    marker::{Marker, Times, is_refusal, rounded},
    progress::{Progress, say},
    socket::{Frame, Socket},
    sockets::{PATIENCE, open_each, said},
    system::{Seat, System, chat},
};

/// Who is refused or cut tries again after this, and a bit more each time.
const AGAIN: Duration = Duration::from_millis(100);
const TRIES_MAX: u32 = 100;

/// Each of so many sockets has said a thing; all are cut; each comes back with the id of the last message that it knows,
/// and says another thing. Each must hear both of the new things of its pair, once: what the other said before it was
/// back is fetched by `?after=`.
pub(crate) async fn reconnect(system: &System, sockets: usize, hold: Duration) -> Result<Value> {
    let sockets = sockets.next_multiple_of(2);
    let seats: Vec<Seat> = (0..sockets).map(|n| chat(n / 2, n % 2 == 0)).collect();
    let progress = Progress::of("sockets ready", sockets as u64);
    let connected = open_each(&system.door, seats.clone(), 64, progress, |mut socket, n| async move {
        Ok((first_word(&mut socket, n).await?, socket))
    })
    .await?;
    // Of the two of a pair, the first may not have heard the second's: that one is not news.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let last = last_known(connected).await?;
    tokio::time::sleep(hold).await;
    say("all are cut");

    let before = system.usages()?;
    let (ready_times, refused) = (Times::new()?, Arc::new(AtomicU64::new(0)));
    let progress = Progress::of("sockets ready again", sockets as u64);
    let begun = Instant::now();
    let mut tasks = JoinSet::new();
    for (n, (seat, after)) in seats.into_iter().zip(last).enumerate() {
        let (door, times, refused) = (system.door.clone(), ready_times.clone(), refused.clone());
        let progress = progress.clone();
        tasks.spawn(async move {
            for attempt in 1..=TRIES_MAX {
                // Again as a whole: a socket that was refused has said nothing that was taken.
                let tried = match door.enter_with(&seat, &format!("&after={after}")).await {
                    Ok(socket) => come_back(socket, n, attempt == 1, begun, &times, &progress).await,
                    Err(error) => Err(error),
                };
                match tried {
                    Ok(result) => return anyhow::Ok(result),
                    Err(_) => refused.fetch_add(1, Relaxed),
                };
                tokio::time::sleep(AGAIN * attempt).await;
            }
            bail!("socket {n} does not get back in")
        });
    }
    let (mut lost, mut doubled) = (0, 0);
    let mut open = Vec::with_capacity(sockets);
    while let Some(done) = tasks.join_next().await {
        let back = done??;
        lost += back.lost;
        doubled += back.doubled;
        open.push(back.socket);
    }
    let all = ready_times.json();
    Ok(json!({
        "scenario": "reconnect", "sockets": sockets,
        "all_ready_again_ms": all["max"], "ready_again_ms": all,
        "sockets_per_second": rounded(sockets as f64 * 1000.0 / all["max"].as_f64().unwrap_or(f64::INFINITY)),
        "tried_again": refused.load(Relaxed), "lost": lost, "doubled": doubled,
        "cpu_us_per_socket": system.usages()?.cpu_us(&before, sockets as u64),
    }))
}

struct Back {
    socket: Socket,
    lost: u64,
    doubled: u64,
}

/// Its own first message, back from the server.
async fn first_word((sender, receiver): &mut Socket, n: usize) -> Result<String> {
    sender.send(&said(&Marker::new(n, 0, Instant::now()))).await?;
    let hearing = async {
        loop {
            let frame = receiver.text().await?;
            if Marker::find(frame).is_some_and(|marker| marker.stream == n as u64) {
                return message_id(frame);
            }
        }
    };
    tokio::time::timeout(PATIENCE, hearing).await.context("the first message did not come back")?
}

/// The last message of each pair, after everything that was on its way has come.
async fn last_known(connected: Vec<(String, Socket)>) -> Result<Vec<String>> {
    let mut last = Vec::with_capacity(connected.len());
    for (mut id, (_sender, mut receiver)) in connected {
        while let Ok(next) = tokio::time::timeout(Duration::from_millis(1), receiver.text()).await {
            id = message_id(next?)?;
        }
        last.push(id);
    }
    Ok(last)
}

fn message_id(frame: &[u8]) -> Result<String> {
    let frame: Value = serde_json::from_slice(frame)?;
    Ok(frame["message_id"].as_str().with_context(|| format!("{frame}"))?.to_owned())
}

/// Says the second thing, is ready when it comes back, and then waits for the other side's.
async fn come_back(
    (sender, mut receiver): Socket,
    n: usize,
    is_first: bool,
    begun: Instant,
    times: &Times,
    progress: &Progress,
) -> Result<Back> {
    const LONGER: Duration = Duration::from_millis(300);
    let (own, other) = (n as u64, (n ^ 1) as u64);
    // By its own id a repeat is answered with the first one.
    let marker = Marker::new(n, 1, Instant::now());
    sender.send(&format!(r#"{{"message":"{marker}","client_message_id":"{n}"}}"#)).await?;
    let mut heard = [0, 0];
    let mut until = Instant::now() + 3 * PATIENCE;
    loop {
        let Ok(next) = tokio::time::timeout_at(until.into(), receiver.next()).await else { break };
        let frame = match next {
            Ok(Frame::Text(frame)) => frame,
            Ok(Frame::Close(code, reason)) if heard[0] == 0 => bail!("closed with {code} {reason}"),
            Ok(Frame::Close(..)) | Err(_) if heard[0] > 0 => break,
            Ok(Frame::Close(..)) => bail!("closed"),
            Err(error) => return Err(error),
        };
        match Marker::find(frame) {
            Some(marker) if marker.number == 1 && marker.stream == own => {
                heard[0] += 1;
                times.record(begun.elapsed());
                progress.add(1);
            }
            Some(marker) if marker.number == 1 && marker.stream == other => heard[1] += 1,
            None if is_refusal(frame) && heard[0] == 0 => bail!("refused: {}", String::from_utf8_lossy(frame)),
            _ => {}
        }
        if heard[0] > 0 && heard[1] > 0 {
            until = until.min(Instant::now() + LONGER);
        }
    }
    if heard[0] == 0 {
        bail!("it is not ready in time");
    }
    let lost = heard.iter().filter(|count| **count == 0).count() as u64;
    // After a repeat, its own may come by the answer and by `after`.
    let doubled = heard.iter().skip(usize::from(!is_first)).map(|count: &u64| count.saturating_sub(1)).sum();
    Ok(Back { socket: (sender, receiver), lost, doubled })
}
