//! The scenarios of chats between two.

use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::{
    marker::{Counts, Marker, Tally, Times, rounded},
    pace::Pace,
    progress::{Progress, say},
    sockets::{CONNECTING_MAX, PATIENCE, hear, listen, open, open_each, pairs, said, say_and_hear},
    system::{Seat, System, chat},
};

/// Said on each idle socket.
const FIRST_WORDS: u64 = 3;

/// The seats of so many sockets, two a conversation.
fn seats(sockets: usize) -> Vec<Seat> {
    (0..sockets).map(|n| chat(n / 2, n % 2 == 0)).collect()
}

/// Opens sockets, lets each say three things, and looks at the memory.
pub(crate) async fn idle(system: &System, sockets: usize, rest: Duration) -> Result<Value> {
    let before = system.usages()?;
    let begun = Instant::now();
    let mut sockets_open = open(&system.door, seats(sockets), CONNECTING_MAX).await?;
    let opened_in = begun.elapsed();
    let mut tasks = JoinSet::new();
    let progress = Progress::of("sockets spoke", sockets as u64);
    // A few at once: this is not about speed.
    let parts: Vec<Vec<_>> = split(&mut sockets_open, CONNECTING_MAX);
    for part in parts {
        let progress = progress.clone();
        tasks.spawn(async move {
            let (mut lost, mut spoke) = (0, Vec::new());
            for (n, mut socket) in part {
                lost += say_and_hear(&mut socket, n, FIRST_WORDS, PATIENCE).await?;
                progress.add(1);
                spoke.push(socket);
            }
            anyhow::Ok((lost, spoke))
        });
    }
    let (mut lost, mut spoke) = (0, Vec::new());
    while let Some(done) = tasks.join_next().await {
        let (more_lost, more) = done??;
        lost += more_lost;
        spoke.extend(more);
    }
    tokio::time::sleep(rest).await;
    let after = system.usages()?;
    drop(spoke);
    Ok(json!({
        "scenario": "idle", "sockets": sockets,
        "kib_per_socket": after.kib_each(&before, sockets),
        "sockets_per_second": rounded(sockets as f64 / opened_in.as_secs_f64()),
        "said_on_each": FIRST_WORDS, "lost": lost,
    }))
}

/// How long a fresh server took until somebody heard what was said.
pub(crate) async fn first(system: &System) -> Result<Value> {
    let begun = Instant::now();
    let mut socket = system.door.enter(&chat(0, true)).await?;
    let lost = say_and_hear(&mut socket, 0, 1, PATIENCE).await?;
    let (serves_after, heard_in) = (system.serves_after()?, begun.elapsed());
    let ms = |time: Duration| rounded(time.as_secs_f64() * 1000.0);
    Ok(json!({
        "scenario": "start", "lost": lost,
        "serves_after_ms": ms(serves_after), "first_message_after_ms": ms(serves_after + heard_in),
    }))
}

/// Deals things out, with their places.
fn split<T>(things: &mut Vec<T>, into: usize) -> Vec<Vec<(usize, T)>> {
    let mut parts: Vec<Vec<(usize, T)>> = (0..into).map(|_| Vec::new()).collect();
    for (n, thing) in things.drain(..).enumerate() {
        parts[n % into].push((n, thing));
    }
    parts
}

/// Opens sockets as fast as they are let in. With `is_heard`, one is ready when what it said came back.
pub(crate) async fn connect(system: &System, sockets: usize, at_once: usize, is_heard: bool) -> Result<Value> {
    let before = system.usages()?;
    let times = Times::new()?;
    let progress = Progress::of("sockets ready", sockets as u64);
    let begun = Instant::now();
    let each = times.clone();
    let ready = open_each(&system.door, seats(sockets), at_once, progress, move |mut socket, n| {
        let times = each.clone();
        async move {
            let began = Instant::now();
            let lost = if is_heard { say_and_hear(&mut socket, n, 1, PATIENCE).await? } else { 0 };
            times.record(began.elapsed());
            Ok((lost, socket))
        }
    })
    .await?;
    let took = begun.elapsed();
    let after = system.usages()?;
    let lost: u64 = ready.iter().map(|(lost, _)| lost).sum();
    Ok(json!({
        "scenario": "connect", "sockets": sockets, "at_once": at_once,
        "ready_means": if is_heard { "the first message came back" } else { "upgraded" },
        "sockets_per_second": rounded(sockets as f64 / took.as_secs_f64()),
        "first_message_ms": if is_heard { times.json() } else { Value::Null },
        "cpu_us_per_socket": after.cpu_us(&before, sockets as u64),
        "lost": lost,
    }))
}

/// Sends at fixed times and measures from the time at which a message was due (no coordinated omission).
pub(crate) async fn steady(system: &System, count: usize, rate: u32, seconds: u64) -> Result<Value> {
    let sockets = pairs(system, count).await?;
    let before = system.usages()?;
    let (times, late) = (Times::new()?, Times::new()?);
    let pace = Pace::new(rate, seconds);
    let progress = Progress::of("messages heard", 2 * pace.count);
    let until = pace.end() + PATIENCE;
    let mut senders = Vec::with_capacity(count);
    let mut tasks = JoinSet::new();
    for (n, (customer, therapist)) in sockets.into_iter().enumerate() {
        senders.push(customer.0.clone());
        // The pairs take turns.
        let messages = pace.count / count as u64 + u64::from((n as u64) < pace.count % count as u64);
        let (progress, times) = (progress.clone(), times.clone());
        tasks.spawn(async move {
            let own = listen(customer, n, messages, until, None, progress.clone());
            let other = listen(therapist, n, messages, until, Some(times), progress);
            let (own, other) = tokio::try_join!(own, other)?;
            anyhow::Ok((own.end(messages), other.end(messages)))
        });
    }
    let mut ticks = pace.start();
    while let Some(tick) = ticks.recv().await {
        let (n, number) = ((tick % count as u64) as usize, tick / count as u64);
        let due = pace.due(tick);
        senders[n].post(&said(&Marker::new(n, number, due)));
        late.record(due.elapsed());
    }
    let (mut own, mut other) = (Counts::default(), Counts::default());
    while let Some(done) = tasks.join_next().await {
        let (more_own, more_other) = done??;
        own += more_own;
        other += more_other;
    }
    let mut all = own;
    all += other;
    let mut line = json!({
        "scenario": "steady", "pairs": count, "sockets": 2 * count, "rate": rate, "seconds": seconds,
        "messages": pace.count,
        "latency_ms": times.json(), "generator_late_ms": late.json(),
        "lost_of_the_other_side_percent": rounded(100.0 * other.lost as f64 / pace.count.max(1) as f64),
        "cpu_us_per_delivery": system.usages()?.cpu_us(&before, all.heard),
    });
    all.put(&mut line);
    Ok(line)
}

/// Sends as fast as the answers come.
pub(crate) async fn saturate(system: &System, count: usize, seconds: u64) -> Result<Value> {
    let sockets = pairs(system, count).await?;
    let before = system.usages()?;
    let times = Times::new()?;
    let progress = Progress::of("messages sent", 0);
    let begun = Instant::now();
    let end = begun + Duration::from_secs(seconds);
    let mut tasks = JoinSet::new();
    for (n, (mut customer, mut therapist)) in sockets.into_iter().enumerate() {
        let (times, progress) = (times.clone(), progress.clone());
        tasks.spawn(async move {
            let mut tallies = [Tally::default(), Tally::default()];
            let mut sent = 0;
            while Instant::now() < end {
                customer.0.send(&said(&Marker::new(n, sent, Instant::now()))).await?;
                let [own, other] = &mut tallies;
                let both = async {
                    hear(&mut customer.1, n, sent, own, None).await?;
                    // Refused is refused for both.
                    if own.has(sent) { hear(&mut therapist.1, n, sent, other, Some(&times)).await } else { Ok(()) }
                };
                // What does not come is lost; the pair goes on.
                if let Ok(heard) = tokio::time::timeout(PATIENCE, both).await {
                    heard?;
                }
                sent += 1;
                progress.add(1);
            }
            let mut counts = Counts::default();
            for tally in tallies {
                counts += tally.end(sent);
            }
            anyhow::Ok((sent, counts))
        });
    }
    let (mut sent, mut all) = (0, Counts::default());
    while let Some(done) = tasks.join_next().await {
        let (more, counts) = done??;
        sent += more;
        all += counts;
    }
    let took = begun.elapsed();
    let mut line = json!({
        "scenario": "saturate", "pairs": count, "seconds": seconds, "messages": sent,
        "deliveries_per_second": (all.heard as f64 / took.as_secs_f64()).round(),
        "latency_ms": times.json(),
        "cpu_us_per_delivery": system.usages()?.cpu_us(&before, all.heard),
    });
    all.put(&mut line);
    if all.lost > 0 {
        say("messages were lost: each held its pair up for 10 s");
    }
    Ok(line)
}
