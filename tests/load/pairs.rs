//! The scenarios: pairs of people in conversations of their own.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use switchboard_tests::Client;
use tokio::task::JoinSet;

use crate::machine::{Machine, Usage};

/// Handshakes under way at once.
const CONNECTING_MAX: usize = 64;
/// As long as a message of a chat is, more or less.
const PADDING: &str = "this is about as long as people's messages are";

/// Opens sockets, lets each say three things, and looks at the memory.
pub(crate) async fn idle(machine: &Machine, sockets: usize) -> Result<Value> {
    let before = machine.usage()?;
    let begun = Instant::now();
    let mut open = Vec::with_capacity(sockets);
    for batch in (0..sockets).collect::<Vec<_>>().chunks(CONNECTING_MAX) {
        let connecting = batch.iter().map(|n| machine.connect(if n % 2 == 0 { 'p' } else { 'd' }, n / 2));
        for socket in futures_util::future::join_all(connecting).await {
            open.push(socket?);
        }
    }
    let connected_in = begun.elapsed();
    for socket in &mut open {
        for _ in 0..3 {
            socket.send(json!({ "content": PADDING }).to_string()).await?;
        }
    }
    for socket in &mut open {
        for _ in 0..3 {
            socket.next().await?;
        }
    }
    let after = machine.usage()?;
    let per_socket: serde_json::Map<String, Value> = before
        .iter()
        .zip(&after)
        .map(|((name, before), (_, after))| {
            let kib = after.resident_kib.saturating_sub(before.resident_kib);
            ((*name).to_owned(), json!(rounded(kib as f64 / sockets as f64)))
        })
        .collect();
    Ok(json!({
        "scenario": "idle",
        "sockets": sockets,
        "kib_per_socket": per_socket,
        "sockets_per_second": rounded(sockets as f64 / connected_in.as_secs_f64()),
    }))
}

/// Sends at fixed times and measures from the time at which a message was due (no coordinated omission).
pub(crate) async fn steady(machine: &Machine, pairs: usize, rate: u32, seconds: u64) -> Result<Value> {
    let mut sides = connect(machine, pairs).await?;
    let before = machine.usage()?;
    let interval = Duration::from_secs(1) * u32::try_from(pairs)? / rate;
    let count = seconds * u64::from(rate) / u64::try_from(pairs)?;
    let begin = Instant::now() + Duration::from_millis(200);
    let mut tasks = JoinSet::new();
    for (n, (mut sender, mut receiver)) in sides.drain(..).enumerate() {
        // The pairs take turns.
        let first = begin + interval * u32::try_from(n)? / u32::try_from(pairs)?;
        let due = move |message: u64| first + interval * u32::try_from(message).unwrap_or(u32::MAX);
        tasks.spawn(async move {
            let sending = async {
                for message in 0..count {
                    tokio::time::sleep_until(due(message).into()).await;
                    sender.send(marked(message)).await?;
                }
                for message in 0..count {
                    anyhow::ensure!(marker(&sender.next().await?) == Some(message), "the sender's own echo");
                }
                anyhow::Ok(())
            };
            let receiving = async {
                let mut latencies = Vec::new();
                for message in 0..count {
                    let got = marker(&receiver.next().await?);
                    anyhow::ensure!(got == Some(message), "{got:?} instead of {message}: lost, doubled or disordered");
                    latencies.push(due(message).elapsed());
                }
                anyhow::Ok(latencies)
            };
            let ((), latencies) = tokio::try_join!(sending, receiving)?;
            anyhow::Ok(latencies)
        });
    }
    let mut latencies = Vec::new();
    while let Some(done) = tasks.join_next().await {
        latencies.extend(done??);
    }
    Ok(json!({
        "scenario": "steady", "pairs": pairs, "rate": rate, "messages": latencies.len(),
        "latency_ms": percentiles(latencies.clone())?,
        "lost": 0, "doubled": 0, "disordered": 0,
        "cpu_us_per_delivery": cpu(&before, &machine.usage()?, 2 * latencies.len()),
    }))
}

/// Sends as fast as the answers come.
pub(crate) async fn saturate(machine: &Machine, pairs: usize, seconds: u64) -> Result<Value> {
    let mut sides = connect(machine, pairs).await?;
    let before = machine.usage()?;
    let begun = Instant::now();
    let end = begun + Duration::from_secs(seconds);
    let mut tasks = JoinSet::new();
    for (mut sender, mut receiver) in sides.drain(..) {
        tasks.spawn(async move {
            let mut sent = 0;
            while Instant::now() < end {
                sender.send(marked(sent)).await?;
                for side in [&mut sender, &mut receiver] {
                    let got = marker(&side.next().await?);
                    anyhow::ensure!(got == Some(sent), "{got:?} instead of {sent}: lost, doubled or disordered");
                }
                sent += 1;
            }
            anyhow::Ok(sent)
        });
    }
    let mut sent = 0;
    while let Some(done) = tasks.join_next().await {
        sent += done??;
    }
    let took = begun.elapsed();
    let deliveries = usize::try_from(2 * sent)?;
    Ok(json!({
        "scenario": "saturate", "pairs": pairs, "messages": sent,
        "deliveries_per_second": (deliveries as f64 / took.as_secs_f64()).round(),
        "lost": 0, "doubled": 0, "disordered": 0,
        "cpu_us_per_delivery": cpu(&before, &machine.usage()?, deliveries),
    }))
}

async fn connect(machine: &Machine, pairs: usize) -> Result<Vec<(Client, Client)>> {
    let mut sides = Vec::with_capacity(pairs);
    for pair in 0..pairs {
        sides.push((machine.connect('p', pair).await?, machine.connect('d', pair).await?));
    }
    Ok(sides)
}

/// The middle, the slow end and the slowest, in milliseconds.
pub(crate) fn percentiles(mut latencies: Vec<Duration>) -> Result<Value> {
    latencies.sort_unstable();
    let percentile = |percent: usize| -> Result<f64> {
        let at = (latencies.len() * percent / 100).min(latencies.len().saturating_sub(1));
        Ok(rounded(latencies.get(at).context("something measured")?.as_secs_f64() * 1000.0))
    };
    Ok(json!({ "p50": percentile(50)?, "p99": percentile(99)?, "max": percentile(100)? }))
}

fn marked(marker: u64) -> String {
    format!(r#"{{"content":"{marker} {PADDING}"}}"#)
}

fn marker(frame: &Value) -> Option<u64> {
    frame["message"]["content"].as_str()?.split(' ').next()?.parse().ok()
}

pub(crate) fn cpu(before: &[(&'static str, Usage)], after: &[(&'static str, Usage)], deliveries: usize) -> Value {
    let each = before.iter().zip(after).map(|((name, before), (_, after))| {
        let micros = (after.cpu_seconds - before.cpu_seconds) * 1e6 / deliveries as f64;
        ((*name).to_owned(), json!(rounded(micros)))
    });
    Value::Object(each.collect())
}

pub(crate) fn rounded(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}
