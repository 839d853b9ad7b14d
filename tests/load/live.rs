//! The scenarios of location, notifications and presence.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use switchboard_proto::{
    notification::v1::{NotifyRequest, notification_service_client::NotificationServiceClient},
    presence::v1::{Join, presence_service_client::PresenceServiceClient, track_request::Action},
    wire::{Presence, Wire as _},
};
use tokio::{sync::mpsc, task::JoinSet};
use tokio_stream::wrappers::UnboundedReceiverStream;

use crate::{
    marker::{Times, rounded},
    pace::Pace,
    progress::Progress,
    socket::{Frame, Receiver, Socket},
    sockets::{CONNECTING_MAX, PATIENCE, open},
    system::{System, customer, seat, therapist},
};

/// A therapist's step, in degrees: positions are told apart by it.
const STEP: f64 = 1e-4;
/// How long a socket may say nothing while it is waited for.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// Therapists on the way, each seen by one customer: time from a position's due time to the customer.
pub(crate) async fn walk(system: &System, therapists: usize, hertz: u32, seconds: u64) -> Result<Value> {
    let path = |n| format!("/ws/location/{}/{}/", customer(n), therapist(n));
    let seats = (0..therapists).flat_map(|n| [seat(&path(n), n, true), seat(&path(n), n, false)]).collect();
    let mut sockets = open(&system.door, seats, CONNECTING_MAX).await?.into_iter();
    let before = system.usages()?;
    let pace = Pace::new(hertz * u32::try_from(therapists)?, seconds);
    let count = pace.count / therapists as u64;
    let (times, late, progress) = (Times::new()?, Times::new()?, Progress::of("positions told", pace.count));
    let mut walkers = Vec::with_capacity(therapists);
    let mut tasks = JoinSet::new();
    let until = pace.end() + PATIENCE;
    for n in 0..therapists {
        let (Some(customer), Some(therapist)) = (sockets.next(), sockets.next()) else { break };
        walkers.push(therapist.0.clone());
        // The therapist is told, too.
        tasks.spawn(watch(therapist, count, until, |_| {}));
        let (times, progress) = (times.clone(), progress.clone());
        let begin = pace.due(n as u64);
        let apart = pace.due(therapists as u64) - pace.begin;
        let seen = move |step: u64| {
            times.record((begin + apart * u32::try_from(step - 1).unwrap_or(u32::MAX)).elapsed());
            progress.add(1);
        };
        tasks.spawn(watch(customer, count, until, seen));
    }
    let mut ticks = pace.start();
    while let Some(tick) = ticks.recv().await {
        let (n, step) = ((tick % therapists as u64) as usize, tick / therapists as u64 + 1);
        walkers[n].post(&format!(r#"{{"latitude":{},"longitude":7.5}}"#, step as f64 * STEP));
        late.record(pace.due(tick).elapsed());
    }
    let mut sum = Walked::default();
    while let Some(done) = tasks.join_next().await {
        let walked = done??;
        sum.told += walked.told;
        sum.disordered += walked.disordered;
        sum.lost_last += walked.lost_last;
        sum.closed += walked.closed;
    }
    let both = 2 * pace.count;
    Ok(json!({
        "scenario": "walk", "therapists": therapists, "hertz": hertz, "seconds": seconds,
        "positions": pace.count, "positions_per_second": hertz * u32::try_from(therapists)?,
        "deliveries": sum.told, "doubled_or_disordered": sum.disordered,
        // A newer one may take an older one's place before it is told: only a last one that never comes is lost for good.
        "not_told_percent": rounded(100.0 * (both - sum.told.min(both)) as f64 / both as f64),
        "last_positions_lost": sum.lost_last, "closed": sum.closed,
        "latency_ms": times.json(), "generator_late_ms": late.json(),
        "cpu_us_per_delivery": system.usages()?.cpu_us(&before, sum.told),
    }))
}

#[derive(Default)]
struct Walked {
    told: u64,
    disordered: u64,
    lost_last: u64,
    /// Sockets that the server closed.
    closed: u64,
}

/// Watches one therapist walk until the last step was seen, or the server wants to hear no more of it.
async fn watch(
    (_sender, mut receiver): Socket,
    count: u64,
    until: Instant,
    seen: impl Fn(u64) + Send,
) -> Result<Walked> {
    let (mut walked, mut last) = (Walked::default(), 0);
    while last < count {
        let frame = match tokio::time::timeout_at(until.into(), receiver.next()).await {
            Ok(Ok(Frame::Text(frame))) => frame,
            Ok(Ok(Frame::Close(..)) | Err(_)) => {
                (walked.lost_last, walked.closed) = (1, 1);
                break;
            }
            Err(_) => {
                walked.lost_last = 1;
                break;
            }
        };
        let step = step_of(frame)?;
        if step > last {
            last = step;
            walked.told += 1;
            seen(step);
        } else {
            walked.disordered += 1;
        }
    }
    Ok(walked)
}

fn step_of(frame: &[u8]) -> Result<u64> {
    let frame: Value = serde_json::from_slice(frame)?;
    let latitude = frame["latitude"].as_f64().with_context(|| format!("{frame}"))?;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small whole number")]
    Ok((latitude / STEP).round() as u64)
}

/// Many are online over another edge: how long their coming takes to reach watchers, and the roster a newcomer.
pub(crate) async fn crowd(system: &System, online: u64, watchers: usize, newcomers: usize) -> Result<Value> {
    let online_count = usize::try_from(online)?;
    let seats = (0..watchers).map(|n| seat("/ws/presence/", n, false)).collect();
    let mut watching = open(&system.door, seats, CONNECTING_MAX).await?;
    // Those who watch see each other first.
    for (_, receiver) in &mut watching {
        hear(receiver, watchers.saturating_sub(1)).await?;
    }
    let before = system.usages()?;
    let (requests, outgoing) = mpsc::unbounded_channel();
    let stream = PresenceServiceClient::new(system.grpc()?).track(UnboundedReceiverStream::new(outgoing)).await?;
    let mut frames = stream.into_inner();
    let reading = tokio::spawn(async move { while let Ok(Some(_)) = frames.message().await {} });
    let (storm, rosters) = (Times::new()?, Times::new()?);
    let begun = Instant::now();
    for n in 1..=online {
        let join = Join { user_id: format!("crowd-{n:06}"), user_name: "One of many".to_owned() };
        requests.send(Presence::request(n, 0, Action::Join(join)))?;
    }
    let mut tasks = JoinSet::new();
    let progress = Progress::of("watchers were told of all", watchers as u64);
    for (sender, mut receiver) in watching {
        let (storm, progress) = (storm.clone(), progress.clone());
        tasks.spawn(async move {
            hear(&mut receiver, online_count).await?;
            storm.record(begun.elapsed());
            progress.add(1);
            anyhow::Ok((sender, receiver))
        });
    }
    let mut stay = Vec::new();
    while let Some(done) = tasks.join_next().await {
        stay.push(done??);
    }
    let used = system.usages()?.cpu_us(&before, online * watchers.max(1) as u64);

    // One newcomer after the other; each is told of all who are there.
    for n in 0..newcomers {
        let begun = Instant::now();
        let (sender, mut receiver) = system.door.enter(&seat("/ws/presence/", n, true)).await?;
        hear(&mut receiver, online_count + watchers + n).await?;
        rosters.record(begun.elapsed());
        stay.push((sender, receiver));
    }
    drop(requests);
    reading.abort();
    Ok(json!({
        "scenario": "crowd", "online": online, "watchers": watchers, "newcomers": newcomers,
        "joins_told_to_all_ms": storm.json(),
        "cpu_us_per_delivery": used,
        "roster_to_a_newcomer_ms": rosters.json(),
    }))
}

/// Reads until so many came.
async fn hear(receiver: &mut Receiver, count: usize) -> Result<()> {
    for heard in 0..count {
        let next = tokio::time::timeout(SILENCE_MAX, receiver.text()).await;
        let frame: Value = serde_json::from_slice(next.with_context(|| format!("{heard} of {count} came"))??)?;
        ensure!(frame["type"] == "user_online", "{frame}");
    }
    Ok(())
}

/// Services notify users at a steady rate: time from a notification's due time to the user's socket.
pub(crate) async fn notify(system: &System, users: usize, rate: u32, seconds: u64) -> Result<Value> {
    let seats = (0..users).map(|n| seat("/ws/notifications/", n, true)).collect();
    let mut sockets = open(&system.door, seats, CONNECTING_MAX).await?;
    for (_, receiver) in &mut sockets {
        while next(receiver).await?["type"] != "unread_count" {}
    }
    let before = system.usages()?;
    let pace = Pace::new(rate, seconds);
    let (times, late, progress) = (Times::new()?, Times::new()?, Progress::of("notifications told", pace.count));
    let mut hearing = JoinSet::new();
    for (n, (_sender, mut receiver)) in sockets.into_iter().enumerate() {
        let count = pace.count / users as u64 + u64::from((n as u64) < pace.count % users as u64);
        let first = pace.due(n as u64);
        let apart = pace.due(users as u64) - pace.begin;
        let (times, progress) = (times.clone(), progress.clone());
        hearing.spawn(async move {
            for number in 1..=count {
                let frame = next(&mut receiver).await?;
                let title: u32 =
                    frame["data"]["title"].as_str().and_then(|title| title.parse().ok()).context("a title")?;
                times.record((first + apart * title).elapsed());
                progress.add(1);
                let unread = next(&mut receiver).await?;
                ensure!(unread["count"] == number, "{unread} instead of {number}: lost or doubled");
            }
            anyhow::Ok(count)
        });
    }
    let service = NotificationServiceClient::new(system.grpc()?);
    let mut calls = JoinSet::new();
    let mut ticks = pace.start();
    while let Some(tick) = ticks.recv().await {
        let mut service = service.clone();
        let (n, number) = ((tick % users as u64) as usize, tick / users as u64);
        let request = NotifyRequest { user_id: customer(n), title: number.to_string(), ..NotifyRequest::default() };
        late.record(pace.due(tick).elapsed());
        calls.spawn(async move { service.notify(request).await });
    }
    while let Some(done) = calls.join_next().await {
        done??;
    }
    let mut told = 0;
    while let Some(done) = hearing.join_next().await {
        told += done??;
    }
    Ok(json!({
        "scenario": "notify", "users": users, "rate": rate, "seconds": seconds, "notifications": told,
        "latency_ms": times.json(), "generator_late_ms": late.json(), "lost": 0, "doubled": 0,
        "cpu_us_per_delivery": system.usages()?.cpu_us(&before, told),
    }))
}

async fn next(receiver: &mut Receiver) -> Result<Value> {
    let frame = tokio::time::timeout(SILENCE_MAX, receiver.text()).await.context("nothing came")??;
    Ok(serde_json::from_slice(frame)?)
}
