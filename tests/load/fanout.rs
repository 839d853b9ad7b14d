//! One speaks, many listen.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::{
    marker::{Counts, Marker, Tally, Times},
    progress::Progress,
    socket::{Sender, Socket},
    sockets::{CONNECTING_MAX, listen_into, open, said},
    system::{Seat, System, chat},
};

/// When nothing comes for so long, what is open is given up.
const SILENCE_MAX: Duration = Duration::from_secs(3);
/// Between two looks at what came.
const LOOK: Duration = Duration::from_millis(1);

/// A therapist who speaks to so many sockets of one customer, at most `window` messages ahead of them (closed loop).
pub(crate) async fn fanout(system: &System, listeners: usize, window: u64, seconds: u64) -> Result<Value> {
    let seats: Vec<Seat> = (0..listeners).map(|_| chat(0, true)).collect();
    let sockets = open(&system.door, seats, CONNECTING_MAX).await?;
    let speaker = open(&system.door, vec![chat(0, false)], 1).await?.pop().context("a speaker")?;
    let before = system.usages()?;
    let (times, progress) = (Times::new()?, Progress::of("deliveries", 0));
    let mut listening = JoinSet::new();
    let mut tallies = Vec::with_capacity(listeners);
    for socket in sockets {
        tallies.push(hearing(&mut listening, socket, Some(times.clone()), progress.clone()));
    }
    let voice = speaker.0.clone();
    // The speaker hears itself, too; that is not counted.
    hearing(&mut listening, speaker, None, Progress::of("own messages heard", 0));

    let begun = Instant::now();
    let speaking = speak(&voice, listeners as u64, window, begun + Duration::from_secs(seconds), &progress);
    let (sent, given_up) = tokio::select! {
        spoke = speaking => spoke?,
        failed = listening.join_next() => return Err(failed.context("listeners")??.context("a listener")),
    };
    let took = begun.elapsed();
    let after = system.usages()?;
    // What should not come has a moment to come.
    tokio::time::sleep(Duration::from_millis(300)).await;
    listening.shutdown().await;
    let mut all = Counts::default();
    for tally in tallies {
        all += std::mem::take(&mut *tally.lock().unwrap_or_else(PoisonError::into_inner)).end(sent);
    }
    let mut line = json!({
        "scenario": "fanout", "listeners": listeners, "window": window, "seconds": seconds, "messages": sent,
        "rounds_given_up": given_up,
        "deliveries_per_second": (all.heard as f64 / took.as_secs_f64()).round(),
        "latency_ms": times.json(),
        "cpu_us_per_delivery": after.cpu_us(&before, all.heard),
    });
    all.put(&mut line);
    Ok(line)
}

fn hearing(
    tasks: &mut JoinSet<anyhow::Error>,
    socket: Socket,
    times: Option<Times>,
    progress: Progress,
) -> Arc<Mutex<Tally>> {
    let tally = Arc::new(Mutex::new(Tally::default()));
    let own = tally.clone();
    tasks.spawn(async move { listen_into(socket, 0, &own, times, progress).await });
    tally
}

/// How many messages were sent, and how often what was open was given up.
async fn speak(voice: &Sender, listeners: u64, window: u64, end: Instant, progress: &Progress) -> Result<(u64, u64)> {
    let (mut sent, mut given_up) = (0, 0);
    // Deliveries that came, or that nobody waits for any more.
    let (mut written_off, mut heard, mut at) = (0, 0, Instant::now());
    loop {
        let is_over = Instant::now() >= end;
        let now = progress.count();
        if now > heard {
            (heard, at) = (now, Instant::now());
        }
        let open = (sent * listeners).saturating_sub(heard + written_off);
        if is_over && open == 0 {
            return Ok((sent, given_up));
        }
        if !is_over && open <= (window - 1) * listeners {
            voice.send(&said(&Marker::new(0, sent, Instant::now()))).await?;
            sent += 1;
            at = Instant::now();
        } else if at.elapsed() > SILENCE_MAX {
            written_off += open;
            given_up += 1;
        } else {
            tokio::time::sleep(LOOK).await;
        }
    }
}
