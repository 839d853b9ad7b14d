//! What HTTP/2 allows once, by the thousand.

use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::{sleep, timeout},
};

use super::{
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, HEALTH, PADDED, PING, PRIORITY, RST_STREAM, Raw,
    SETTINGS, WATCH, WINDOW_UPDATE, fields, frame, good_call, head, message, nth,
};
use crate::{
    cases::Tally,
    stage::{GRPC_TOKEN, Stage, conversation},
};

const CONNECTIONS: usize = 8;
/// In one write.
const BATCH: usize = 50;
const NO_WINDOW: (u16, u32) = (4, 0);
/// A server need not read what comes after it has ended a connection.
const FLOOD_MAX: Duration = Duration::from_secs(3);
/// How long a connection stays after its flood, unread.
const STAYS: Duration = Duration::from_millis(500);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flood {
    RapidReset,
    /// The same, made the server's doing: it must reset what breaks the rules.
    MadeReset,
    Settings,
    Pings,
    EmptyData,
    PaddedData,
    Priorities,
    Windows,
    Continuations,
    HugeHeads,
    NoWindow,
    Watches,
    OpenCalls,
    Unauthenticated,
    HalfOpen,
}

impl Flood {
    pub(crate) const ALL: [Self; 15] = [
        Self::RapidReset,
        Self::MadeReset,
        Self::Settings,
        Self::Pings,
        Self::EmptyData,
        Self::PaddedData,
        Self::Priorities,
        Self::Windows,
        Self::Continuations,
        Self::HugeHeads,
        Self::NoWindow,
        Self::Watches,
        Self::OpenCalls,
        Self::Unauthenticated,
        Self::HalfOpen,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::RapidReset => "rapid reset",
            Self::MadeReset => "resets made by the server",
            Self::Settings => "settings",
            Self::Pings => "pings",
            Self::EmptyData => "empty data",
            Self::PaddedData => "data that is padding",
            Self::Priorities => "priorities",
            Self::Windows => "window updates",
            Self::Continuations => "continuations",
            Self::HugeHeads => "huge heads",
            Self::NoWindow => "a window that stays shut",
            Self::Watches => "streams that stay open",
            Self::OpenCalls => "calls without their message",
            Self::Unauthenticated => "calls without a token",
            Self::HalfOpen => "connections that say nothing",
        }
    }

    /// What is sent first.
    fn first(self) -> Vec<u8> {
        match self {
            Self::EmptyData | Self::PaddedData => head(1, 0, HEALTH),
            Self::Continuations => frame(HEADERS, 0, 1, &fields(HEALTH, &[])),
            _ => Vec::new(),
        }
    }

    /// The n-th thing that is sent.
    fn nth(self, n: usize) -> Vec<u8> {
        let stream = nth(n);
        match self {
            Self::RapidReset => [head(stream, 0, HEALTH), frame(RST_STREAM, 0, stream, &[0, 0, 0, 8])].concat(),
            Self::MadeReset => [head(stream, 0, HEALTH), frame(WINDOW_UPDATE, 0, stream, &[0; 4])].concat(),
            Self::Settings => frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 100]),
            Self::Pings => frame(PING, 0, 0, &[7; 8]),
            Self::EmptyData => frame(DATA, 0, 1, b""),
            Self::PaddedData => frame(DATA, PADDED, 1, &[vec![255], vec![0; 255]].concat()),
            Self::Priorities => frame(PRIORITY, 0, stream, &[0, 0, 0, 0, 1]),
            Self::Windows => frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]),
            Self::Continuations => frame(CONTINUATION, 0, 1, &super::field("x", "y")),
            Self::HugeHeads => {
                let value = "y".repeat(15_000);
                let more = |_| frame(CONTINUATION, 0, stream, &super::field("x", &value));
                let first = frame(HEADERS, END_STREAM, stream, &fields(HEALTH, &[]));
                let last = frame(CONTINUATION, END_HEADERS, stream, b"");
                [first, (0..60).flat_map(more).collect(), last].concat()
            }
            Self::NoWindow => {
                let bearer = format!("Bearer {GRPC_TOKEN}");
                let path = "/switchboard.chat.v1.ChatService/ListMessages";
                let head = frame(HEADERS, END_HEADERS, stream, &fields(path, &[("authorization", &bearer)]));
                let id = conversation(16);
                let body = [&[0x0a, u8::try_from(id.len()).unwrap_or_default()], id.as_bytes()].concat();
                [head, message(stream, &body)].concat()
            }
            Self::Watches => [head(stream, 0, WATCH), message(stream, b"")].concat(),
            Self::OpenCalls => head(stream, 0, "/grpc.health.v1.Health/Check"),
            Self::Unauthenticated => head(stream, 0, "/switchboard.chat.v1.ChatService/Converse"),
            Self::HalfOpen => Vec::new(),
        }
    }

    fn is_read(self) -> bool {
        matches!(self, Self::RapidReset | Self::MadeReset | Self::EmptyData | Self::Watches | Self::Unauthenticated)
    }
}

/// Several connections at once, of so many each.
pub(crate) async fn flood(stage: &Stage, flood: Flood, count: usize) -> anyhow::Result<Tally> {
    let begun = Instant::now();
    let sent =
        if flood == Flood::HalfOpen { half_open(stage, count / 10).await? } else { send(stage, flood, count).await? };
    good_call(stage).await?;
    let note = format!("HTTP/2, {}: {sent} in {:.1?}", flood.name(), begun.elapsed());
    Ok(Tally::of("floods of HTTP/2", 1).note(note))
}

async fn send(stage: &Stage, flood: Flood, count: usize) -> anyhow::Result<String> {
    let count = if flood == Flood::HugeHeads { (count / 20).max(20) } else { count };
    let batch_size = if flood == Flood::HugeHeads { 1 } else { BATCH };
    let settings = if flood == Flood::NoWindow { &[NO_WINDOW][..] } else { &[] };
    let sent = try_join_all((0..CONNECTIONS).map(async |_| {
        let mut raw = Raw::open(stage.grpc, settings).await?;
        raw.stream.write_all(&frame(SETTINGS, ACK, 0, b"")).await?;
        let (mut reading, mut writing) = raw.stream.split();
        let mut sent = 0;
        let writing = async {
            let _ = writing.write_all(&flood.first()).await;
            while sent < count {
                let batch: Vec<u8> = (sent..count.min(sent + batch_size)).flat_map(|n| flood.nth(n)).collect();
                if writing.write_all(&batch).await.is_err() {
                    break;
                }
                sent = count.min(sent + batch_size);
            }
            sleep(STAYS).await;
        };
        let hearing = async {
            let mut sink = vec![0; 64 << 10];
            while flood.is_read() && matches!(reading.read(&mut sink).await, Ok(read) if read > 0) {}
            std::future::pending::<()>().await;
        };
        let _ = timeout(FLOOD_MAX, async {
            tokio::select! { () = writing => {}, () = hearing => {} }
        })
        .await;
        anyhow::Ok((sent, raw.outcome(&[]).await.ok()))
    }))
    .await?;
    let (least, most) = (sent.iter().map(|(sent, _)| sent).min(), sent.iter().map(|(sent, _)| sent).max());
    let last = sent.first().and_then(|(_, outcome)| *outcome);
    Ok(format!("{CONNECTIONS} connections sent {} to {} each, then {last:?}", least.unwrap_or(&0), most.unwrap_or(&0)))
}

/// Connections that never come to HTTP/2. tonic has no time limit for them: what they hold is seen, and that it returns.
async fn half_open(stage: &Stage, count: usize) -> anyhow::Result<String> {
    let opened = try_join_all((0..count).map(async |n| {
        let mut raw = Raw::open_bare(stage.grpc).await?;
        raw.stream.write_all(&super::PREFACE[..n % super::PREFACE.len()]).await?;
        anyhow::Ok(raw)
    }))
    .await?;
    sleep(STAYS).await;
    let still = stage.usage()?.sockets;
    drop(opened);
    Ok(format!("{count} connections, {still} sockets of the process open meanwhile"))
}
