//! Sockets that send as fast as they can.

use std::time::{Duration, Instant};

use anyhow::ensure;
use futures_util::future::try_join_all;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::{sleep, timeout},
};

use crate::{
    cases::Tally,
    stage::{Stage, clinic},
    wire::{CONTINUATION, FIN, PING, PONG, Raw, TEXT, frame, text},
};

/// The pairs who do it.
const PAIRS: std::ops::Range<usize> = 20..30;
/// When nothing has come for so long, all is answered.
const EBB: Duration = Duration::from_millis(100);
/// What is not answered by then need not be waited for.
const EBB_MAX: Duration = Duration::from_secs(3);

/// What is sent again and again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flood {
    Typing,
    Pings,
    Pongs,
    BadJson,
    EmptyTexts,
    Fragments,
    Messages,
    BigMessages,
    UnknownFields,
}

impl Flood {
    pub(crate) const ALL: [Self; 9] = [
        Self::Typing,
        Self::Pings,
        Self::Pongs,
        Self::BadJson,
        Self::EmptyTexts,
        Self::Fragments,
        Self::Messages,
        Self::BigMessages,
        Self::UnknownFields,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Typing => "typing",
            Self::Pings => "pings",
            Self::Pongs => "pongs",
            Self::BadJson => "what is no JSON",
            Self::EmptyTexts => "empty texts",
            Self::Fragments => "empty fragments",
            Self::Messages => "messages",
            Self::BigMessages => "messages of 64 KiB",
            Self::UnknownFields => "1,000 unknown fields",
        }
    }

    fn frames(self) -> Vec<u8> {
        let of = |bytes: Vec<u8>, times| bytes.repeat(times);
        match self {
            Self::Typing => of(text(r#"{"type": "typing_indicator", "is_typing": true}"#), 50),
            Self::Pings => of(frame(FIN | PING, &[b'p'; 125]), 50),
            Self::Pongs => of(frame(FIN | PONG, &[b'p'; 125]), 50),
            Self::BadJson => of(text("{"), 200),
            Self::EmptyTexts => of(text(""), 500),
            Self::Fragments => of(frame(CONTINUATION, b""), 500),
            Self::Messages => of(text(r#"{"content": "flood"}"#), 50),
            Self::BigMessages => text(&format!(r#"{{"content": "{}"}}"#, "x".repeat((64 << 10) - 16))),
            Self::UnknownFields => {
                let fields: String = (0..1_000).map(|n| format!(r#""k{n}": [{n}], "#)).collect();
                text(&format!(r#"{{{fields} "content": 1}}"#))
            }
        }
    }

    async fn open(self, stage: &Stage, pair: usize) -> anyhow::Result<Raw> {
        match self {
            Self::Typing => Raw::open(stage.edge, "/ws/mobile/chat/7/?device_id=d").await,
            Self::Fragments => {
                let mut socket = Raw::open_as(stage, &clinic(pair), &format!("p{pair}")).await?;
                socket.write(&frame(TEXT, b"{")).await?;
                Ok(socket)
            }
            _ => Raw::open_as(stage, &clinic(pair), &format!("p{pair}")).await,
        }
    }
}

/// Ten sockets that read what they are told, and ten that do not; each for so long, or so many bytes.
pub(crate) async fn flood(stage: &Stage, flood: Flood, lasting: Duration, most: usize) -> anyhow::Result<Tally> {
    let until = Instant::now() + lasting;
    let frames = flood.frames();
    let done = PAIRS.flat_map(|pair| [(pair, true), (pair, false)]).map(async |(pair, is_reading)| {
        let mut socket = flood.open(stage, pair).await?;
        let mut sent = 0usize;
        let (mut reading, mut writing) = socket.stream.split();
        let mut sink = vec![0; 64 << 10];
        let sending = async {
            while Instant::now() < until && sent < most && writing.write_all(&frames).await.is_ok() {
                sent += frames.len();
            }
            sleep(until.saturating_duration_since(Instant::now())).await;
        };
        let hearing = async {
            while is_reading && matches!(reading.read(&mut sink).await, Ok(read) if read > 0) {}
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = sending => {}
            () = hearing => {}
            () = sleep(lasting) => {}
        }
        // Those who type are all in one conversation: each is told of all, and may be too slow for that.
        if is_reading && flood != Flood::Typing {
            stays(&mut socket).await?;
        }
        anyhow::Ok(sent)
    });
    let sent = try_join_all(done).await?;
    let kib = sent.iter().sum::<usize>() >> 10;
    let note = format!("flood of {}: {kib} KiB over {} sockets in {lasting:?}", flood.name(), sent.len());
    Ok(Tally::of("floods", 2).note(note))
}

/// Whoever reads was not dropped when the flood is over.
async fn stays(socket: &mut Raw) -> anyhow::Result<()> {
    let serving = async {
        let mut sink = vec![0; 64 << 10];
        loop {
            match timeout(EBB, socket.stream.read(&mut sink)).await {
                Ok(Ok(0) | Err(_)) => return false,
                Ok(Ok(_)) => {}
                Err(_) => return true,
            }
        }
    };
    ensure!(timeout(EBB_MAX, serving).await.unwrap_or(true), "a socket that reads was dropped");
    Ok(())
}
