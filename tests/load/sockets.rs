//! Opening many sockets, and saying a first thing on them.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use tokio::task::JoinSet;

use crate::{
    marker::{Marker, Tally, Times, is_refusal},
    progress::Progress,
    socket::{Frame, Receiver, Socket},
    system::{Door, Seat, System, chat},
};

/// Handshakes under way at once, unless a scenario says otherwise.
pub(crate) const CONNECTING_MAX: usize = 64;
/// What did not come within this is lost.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// A message of therapy's chat.
pub(crate) fn said(marker: &Marker) -> String {
    format!(r#"{{"message":"{marker}"}}"#)
}

/// Opens all of them, in order, so many at once.
pub(crate) async fn open(door: &Door, seats: Vec<Seat>, at_once: usize) -> Result<Vec<Socket>> {
    open_each(door, seats, at_once, Progress::of("sockets open", 0), |socket, _| async move { Ok(socket) }).await
}

/// Opens all of them, and does something with each before the next one takes its turn. In the order of the seats.
pub(crate) async fn open_each<T, F>(
    door: &Door,
    seats: Vec<Seat>,
    at_once: usize,
    progress: Progress,
    then: impl Fn(Socket, usize) -> F + Clone + Send + 'static,
) -> Result<Vec<T>>
where
    T: Send + 'static,
    F: Future<Output = Result<T>> + Send,
{
    let (count, seats, next) = (seats.len(), Arc::new(seats), Arc::new(AtomicUsize::new(0)));
    let mut tasks = JoinSet::new();
    for _ in 0..at_once.min(count).max(1) {
        let (door, seats, next) = (door.clone(), seats.clone(), next.clone());
        let (progress, then) = (progress.clone(), then.clone());
        tasks.spawn(async move {
            let mut open = Vec::new();
            loop {
                let n = next.fetch_add(1, Relaxed);
                let Some(seat) = seats.get(n) else { return anyhow::Ok(open) };
                let socket = door.enter(seat).await.with_context(|| format!("socket {n} of {}", seat.user_id))?;
                open.push((n, then(socket, n).await?));
                progress.add(1);
            }
        });
    }
    let mut open = Vec::with_capacity(count);
    while let Some(done) = tasks.join_next().await {
        open.extend(done??);
    }
    open.sort_unstable_by_key(|(n, _)| *n);
    Ok(open.into_iter().map(|(_, socket)| socket).collect())
}

/// Both sides of each pair's chat, the customer first.
pub(crate) async fn pairs(system: &System, pairs: usize) -> Result<Vec<(Socket, Socket)>> {
    let seats = (0..pairs).flat_map(|n| [chat(n, true), chat(n, false)]).collect();
    let mut sockets = open(&system.door, seats, CONNECTING_MAX).await?.into_iter();
    let mut both = Vec::with_capacity(pairs);
    while let (Some(customer), Some(therapist)) = (sockets.next(), sockets.next()) {
        both.push((customer, therapist));
    }
    Ok(both)
}

/// Says things, one after the other, and waits until each came back. How many did not in time.
pub(crate) async fn say_and_hear(
    (sender, receiver): &mut Socket,
    stream: usize,
    count: u64,
    patience: Duration,
) -> Result<u64> {
    let mut tally = Tally::default();
    for number in 0..count {
        sender.send(&said(&Marker::new(stream, number, Instant::now()))).await?;
        let _ = tokio::time::timeout(patience, hear(receiver, stream, number, &mut tally, None)).await;
    }
    Ok(tally.end(count).lost)
}

/// Reads until a message of a stream came, or a refusal.
pub(crate) async fn hear(
    receiver: &mut Receiver,
    stream: usize,
    number: u64,
    tally: &mut Tally,
    times: Option<&Times>,
) -> Result<()> {
    while !tally.has(number) {
        match receiver.next().await? {
            Frame::Text(frame) => match Marker::find(frame) {
                Some(marker) if marker.stream == stream as u64 => {
                    tally.hear(marker.number);
                    if let Some(times) = times {
                        times.record(marker.age());
                    }
                }
                Some(_) => {}
                None if is_refusal(frame) => {
                    tally.refuse();
                    return Ok(());
                }
                None => {}
            },
            Frame::Close(code, reason) => bail!("closed with {code} {reason}"),
        }
    }
    Ok(())
}

/// Reads a stream to its end: `count` messages, or `until` a time; then for a moment longer, for what should not come.
pub(crate) async fn listen(
    (_sender, mut receiver): Socket,
    stream: usize,
    count: u64,
    until: Instant,
    times: Option<Times>,
    progress: Progress,
) -> Result<Tally> {
    const LONGER: Duration = Duration::from_millis(300);
    let mut tally = Tally::default();
    let mut until = until;
    let mut is_longer = false;
    loop {
        if !is_longer && tally.heard() >= count {
            (until, is_longer) = (Instant::now() + LONGER, true);
        }
        let Ok(next) = tokio::time::timeout_at(until.into(), receiver.next()).await else { return Ok(tally) };
        let Frame::Text(frame) = next? else { bail!("closed while it listened") };
        match Marker::find(frame) {
            Some(marker) if marker.stream == stream as u64 => {
                if let Some(times) = &times {
                    times.record(marker.age());
                }
                tally.hear(marker.number);
                progress.add(1);
            }
            Some(_) => {}
            None if is_refusal(frame) => tally.refuse(),
            None => {}
        }
    }
}

/// Reads a stream until it is dropped, or the socket fails.
pub(crate) async fn listen_into(
    (_sender, mut receiver): Socket,
    stream: usize,
    tally: &Mutex<Tally>,
    times: Option<Times>,
    progress: Progress,
) -> anyhow::Error {
    let lock = || tally.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        match receiver.text().await {
            Ok(frame) => match Marker::find(frame) {
                Some(marker) if marker.stream == stream as u64 => {
                    if let Some(times) = &times {
                        times.record(marker.age());
                    }
                    lock().hear(marker.number);
                    progress.add(1);
                }
                Some(_) => {}
                None if is_refusal(frame) => lock().refuse(),
                None => {}
            },
            Err(failed) => return failed,
        }
    }
}
