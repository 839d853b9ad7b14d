//! The scenarios of location, notifications and presence.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use switchboard_proto::{
    notification::v1::{NotifyRequest, notification_service_client::NotificationServiceClient},
    presence::v1::{Join, presence_service_client::PresenceServiceClient, track_request::Action},
    wire::{Presence, Wire as _},
};
use switchboard_tests::Client;
use tokio::{sync::mpsc, task::JoinSet};
use tokio_stream::wrappers::UnboundedReceiverStream;

use crate::{
    machine::Machine,
    pairs::{cpu, percentiles, rounded},
};

/// A therapist's step, in degrees: positions are told apart by it.
const STEP: f64 = 1e-4;

/// Therapists on the way, each seen by one customer: time from a position's due time to the customer.
pub(crate) async fn walk(machine: &Machine, therapists: usize, hertz: u32, seconds: u64) -> Result<Value> {
    let mut pairs = Vec::new();
    for n in 0..therapists {
        let path = format!("/ws/location/p{n}/d{n}/");
        pairs.push((machine.socket(&path, &format!("d{n}")).await?, machine.socket(&path, &format!("p{n}")).await?));
    }
    let before = machine.usage()?;
    let interval = Duration::from_secs(1) / hertz;
    let count = seconds * u64::from(hertz);
    let begin = Instant::now() + Duration::from_millis(200);
    let mut tasks = JoinSet::new();
    for (n, (mut therapist, mut customer)) in pairs.into_iter().enumerate() {
        let first = begin + interval * u32::try_from(n)? / u32::try_from(therapists)?;
        let due = move |step: u64| first + interval * u32::try_from(step).unwrap_or(u32::MAX);
        tasks.spawn(async move {
            let walking = async {
                for step in 1..=count {
                    tokio::time::sleep_until(due(step).into()).await;
                    therapist.send(format!(r#"{{"latitude":{},"longitude":7.5}}"#, step as f64 * STEP)).await?;
                }
                while step_of(&therapist.next().await?)? < count {}
                anyhow::Ok(())
            };
            let watching = async {
                let (mut latencies, mut last) = (Vec::new(), 0);
                while last < count {
                    let step = step_of(&customer.next().await?)?;
                    ensure!(step > last, "{step} after {last}: doubled or disordered");
                    last = step;
                    latencies.push(due(step).elapsed());
                }
                anyhow::Ok(latencies)
            };
            Ok::<_, anyhow::Error>(tokio::try_join!(walking, watching)?.1)
        });
    }
    let mut latencies = Vec::new();
    while let Some(done) = tasks.join_next().await {
        latencies.extend(done??);
    }
    let sent = therapists * usize::try_from(count)?;
    let told = latencies.len();
    Ok(json!({
        "scenario": "walk", "therapists": therapists, "hertz": hertz,
        "positions_per_second": rounded(sent as f64 / seconds as f64),
        "sent": sent, "told": told, "conflated": sent - told,
        "latency_ms": percentiles(latencies)?,
        "cpu_us_per_delivery": cpu(&before, &machine.usage()?, 2 * told),
    }))
}

fn step_of(frame: &Value) -> Result<u64> {
    let latitude = frame["latitude"].as_f64().with_context(|| format!("{frame}"))?;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small whole number")]
    Ok((latitude / STEP).round() as u64)
}

/// Many are online over another edge: how long their coming takes to reach watchers, and the roster a newcomer.
pub(crate) async fn crowd(machine: &Machine, online: u64, watchers: usize, newcomers: usize) -> Result<Value> {
    let online_count = usize::try_from(online)?;
    let mut watching = Vec::new();
    for n in 0..watchers {
        watching.push(machine.socket("/ws/presence/", &format!("d{n}")).await?);
    }
    // Those who watch see each other first.
    for socket in &mut watching {
        hear(socket, watchers - 1).await?;
    }
    let before = machine.usage()?;
    let (requests, outgoing) = mpsc::unbounded_channel();
    let stream = PresenceServiceClient::new(machine.peer()).track(UnboundedReceiverStream::new(outgoing)).await?;
    let mut frames = stream.into_inner();
    let reading = tokio::spawn(async move {
        let mut count = 0;
        while let Ok(Some(_)) = frames.message().await {
            count += 1;
        }
        count
    });
    let begun = Instant::now();
    for n in 1..=online {
        let join = Join { user_id: format!("crowd-{n:06}"), user_name: "One of many".to_owned() };
        requests.send(Presence::request(n, 0, Action::Join(join)))?;
    }
    let mut tasks = JoinSet::new();
    for mut socket in watching {
        tasks.spawn(async move {
            hear(&mut socket, online_count).await?;
            anyhow::Ok((begun.elapsed(), socket))
        });
    }
    let mut storm = Vec::new();
    let mut watching = Vec::new();
    while let Some(done) = tasks.join_next().await {
        let (took, socket) = done??;
        storm.push(took);
        watching.push(socket);
    }
    let used = cpu(&before, &machine.usage()?, online_count * watchers.max(1));

    // One newcomer after the other; each is told of all who are there.
    let mut rosters = Vec::new();
    let mut stay = Vec::new();
    for n in 0..newcomers {
        let begun = Instant::now();
        let mut socket = machine.socket("/ws/presence/", &format!("p{n}")).await?;
        hear(&mut socket, online_count + watchers + n).await?;
        rosters.push(begun.elapsed());
        stay.push(socket);
    }
    drop(requests);
    reading.abort();
    Ok(json!({
        "scenario": "crowd", "online": online, "watchers": watchers, "newcomers": newcomers,
        "joins_told_to_all_ms": percentiles(storm)?,
        "cpu_us_per_join_and_watcher": used,
        "roster_to_a_newcomer_ms": percentiles(rosters)?,
    }))
}

/// Reads until so many came.
async fn hear(socket: &mut Client, count: usize) -> Result<()> {
    for _ in 0..count {
        let frame = socket.next().await?;
        ensure!(frame["type"] == "user_online", "{frame}");
    }
    Ok(())
}

/// Services notify users at a steady rate: time from a notification's due time to the user's socket.
pub(crate) async fn notify(machine: &Machine, users: usize, rate: u32, seconds: u64) -> Result<Value> {
    let mut sockets = Vec::new();
    for n in 0..users {
        let mut socket = machine.socket("/ws/notifications/", &format!("p{n}")).await?;
        while socket.next().await?["type"] != "unread_count" {}
        sockets.push(socket);
    }
    let before = machine.usage()?;
    let interval = Duration::from_secs(1) * u32::try_from(users)? / rate;
    let count = seconds * u64::from(rate) / u64::try_from(users)?;
    let begin = Instant::now() + Duration::from_millis(200);
    let mut tasks = JoinSet::new();
    for (n, mut socket) in sockets.into_iter().enumerate() {
        let first = begin + interval * u32::try_from(n)? / u32::try_from(users)?;
        let due = move |number: u64| first + interval * u32::try_from(number).unwrap_or(u32::MAX);
        let service = NotificationServiceClient::new(machine.peer());
        tasks.spawn(async move {
            let notifying = async {
                let mut calls = JoinSet::new();
                for number in 0..count {
                    tokio::time::sleep_until(due(number).into()).await;
                    let mut service = service.clone();
                    let request = NotifyRequest {
                        user_id: format!("p{n}"),
                        title: number.to_string(),
                        ..NotifyRequest::default()
                    };
                    calls.spawn(async move { service.notify(request).await });
                }
                while let Some(done) = calls.join_next().await {
                    done??;
                }
                anyhow::Ok(())
            };
            let hearing = async {
                let mut latencies = Vec::new();
                for number in 1..=count {
                    let frame = socket.next().await?;
                    let title = frame["data"]["title"].as_str().and_then(|title| title.parse().ok());
                    latencies.push(due(title.with_context(|| format!("{frame}"))?).elapsed());
                    let unread = socket.next().await?;
                    ensure!(unread["count"] == number, "{unread} instead of {number}: lost or doubled");
                }
                anyhow::Ok(latencies)
            };
            Ok::<_, anyhow::Error>(tokio::try_join!(notifying, hearing)?.1)
        });
    }
    let mut latencies = Vec::new();
    while let Some(done) = tasks.join_next().await {
        latencies.extend(done??);
    }
    let told = latencies.len();
    Ok(json!({
        "scenario": "notify", "users": users, "rate": rate, "notifications": told,
        "latency_ms": percentiles(latencies)?,
        "cpu_us_per_notification": cpu(&before, &machine.usage()?, told),
    }))
}
