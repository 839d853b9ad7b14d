//! Chats, comings and goings for a long time: does anything grow that should not?

use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::{Value, json};

use crate::{
    marker::rounded,
    pairs,
    progress::say,
    sockets::{PATIENCE, say_and_hear},
    system::{Door, System, chat},
    usage::{Usages, Watcher},
};

const SAMPLE_EVERY: Duration = Duration::from_secs(5);
/// One round of chats.
const ROUND_S: u64 = 30;
/// How long the server may take to give back what the load had.
const SETTLE_MAX: Duration = Duration::from_secs(60);

/// Pairs that chat at a steady rate, in rounds on fresh sockets, while others come, say a thing and go.
pub(crate) async fn soak(system: &System, count: usize, rate: u32, visits: u32, seconds: u64) -> Result<Value> {
    // Caches, pools and buffers are filled first.
    pairs::steady(system, count, rate, seconds.clamp(5, ROUND_S) / 5).await?;
    let before = settle(system, None).await?;
    let begun = Instant::now();
    let end = begun + Duration::from_secs(seconds);
    let visitors = tokio::spawn(visit(system.door.clone(), count, visits, end));
    let sampling = tokio::spawn(sample(system.watcher(), begun, end));
    let (mut deliveries, mut lost, mut doubled, mut disordered) = (0, 0, 0, 0);
    while Instant::now() < end {
        let left = end.saturating_duration_since(Instant::now()).as_secs().clamp(1, ROUND_S);
        let round = pairs::steady(system, count, rate, left).await?;
        let number = |name: &str| round[name].as_u64().unwrap_or_default();
        deliveries += number("deliveries");
        lost += number("lost");
        doubled += number("doubled");
        disordered += number("disordered");
        say(&format!(
            "{:.1} min: {deliveries} deliveries, {lost} lost, p99 {} ms, {:.1} MiB",
            begun.elapsed().as_secs_f64() / 60.0,
            round["latency_ms"]["p99"],
            system.usages()?.resident_kib() as f64 / 1024.0
        ));
    }
    let visits = visitors.await??;
    let samples = sampling.await??;
    let after = settle(system, Some(&before)).await?;
    // What is filled at the beginning is no leak.
    let late = &samples[samples.len() / 4..];
    Ok(json!({
        "scenario": "soak", "minutes": rounded(seconds as f64 / 60.0), "pairs": count, "rate": rate,
        "deliveries": deliveries, "visits": visits, "lost": lost, "doubled": doubled, "disordered": disordered,
        "memory_kib_a_minute": slope(late).map(rounded),
        "memory_mib": samples.iter().map(|(_, kib)| rounded(*kib as f64 / 1024.0)).collect::<Vec<_>>(),
        "rss_mib_before": before.mib(), "rss_mib_after": after.mib(),
        "descriptors_before": before.descriptors(), "descriptors_after": after.descriptors(),
        "threads_before": before.threads(), "threads_after": after.threads(),
        "back_to_the_level_of_before": is_back(&before, &after),
    }))
}

/// Waits until descriptors stand still, or are those of before.
async fn settle(system: &System, before: Option<&Usages>) -> Result<Usages> {
    let begun = Instant::now();
    let mut last = system.usages()?;
    loop {
        tokio::time::sleep(Duration::from_secs(2)).await;
        let now = system.usages()?;
        let is_still = now.descriptors() == last.descriptors();
        if begun.elapsed() > SETTLE_MAX || before.map_or(is_still, |before| is_back(before, &now)) {
            return Ok(now);
        }
        last = now;
    }
}

fn is_back(before: &Usages, after: &Usages) -> bool {
    before
        .0
        .iter()
        .zip(&after.0)
        .all(|((_, before), (_, after))| after.descriptors <= before.descriptors && after.threads <= before.threads)
}

/// Minutes and KiB.
async fn sample(watcher: Watcher, begun: Instant, end: Instant) -> Result<Vec<(f64, u64)>> {
    let mut samples = Vec::new();
    while Instant::now() < end {
        samples.push((begun.elapsed().as_secs_f64() / 60.0, watcher.usages()?.resident_kib()));
        tokio::time::sleep(SAMPLE_EVERY).await;
    }
    Ok(samples)
}

/// People who come, say a thing and go, one after the other.
async fn visit(door: Door, count: usize, a_second: u32, end: Instant) -> Result<u64> {
    let mut visits = 0;
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / a_second.max(1));
    while a_second > 0 && Instant::now() < end {
        ticks.tick().await;
        let n = usize::try_from(visits)? % count;
        let mut socket = door.enter(&chat(n, visits % 2 == 0)).await?;
        // A stream of its own, which those who chat pass over.
        say_and_hear(&mut socket, usize::MAX - n, 1, PATIENCE).await?;
        visits += 1;
    }
    Ok(visits)
}

/// By least squares.
fn slope(samples: &[(f64, u64)]) -> Option<f64> {
    let count = samples.len() as f64;
    let mean = |value: fn(&(f64, u64)) -> f64| samples.iter().map(value).sum::<f64>() / count;
    let (at, kib) = (mean(|sample| sample.0), mean(|sample| sample.1 as f64));
    let both: f64 = samples.iter().map(|sample| (sample.0 - at) * (sample.1 as f64 - kib)).sum();
    let own: f64 = samples.iter().map(|sample| (sample.0 - at).powi(2)).sum();
    (samples.len() > 1).then(|| both / own)
}
