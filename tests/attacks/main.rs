//! A real process is attacked, from all sides, while others use it: is it up, bounded, and are they served?
//!
//! Every attack happens under the traffic of clients who behave well. After each, they must have lost nothing, nobody of
//! them may have been disconnected, the process must live with bounded memory, and have as few sockets open as before. How
//! long they had to wait is printed, not judged: machines are noisy.
//!
//! Without arguments, it is short: `cargo test` runs it so. `./tests/run attacks --long` is the long run.

mod cases;
mod chat;
mod flood;
mod grpc;
mod http;
mod http2;
mod oversized;
mod report;
mod slow;
mod stage;
mod websocket;
mod wire;

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use clap::Parser;
use switchboard_chassis::Lifecycle;

use cases::Tally;
use chat::Chat;
use flood::Flood;
use report::Row;
use stage::{Stage, Usage};

/// Resident memory at its worst, in MiB. Generous: a debug build with all services, its allocator and what the attacks
/// had stored took a quarter of it.
const MEMORY_MIB_MAX: u64 = 1_024;
const SAMPLE_EVERY: Duration = Duration::from_millis(20);

/// A real process under attack.
#[derive(Parser)]
struct Cli {
    /// More of everything, for minutes.
    #[arg(long)]
    long: bool,
    /// Only attacks whose name contains this.
    #[arg(long)]
    only: Option<String>,
    /// As other tests have it: only if `attacks` contains one of these.
    names: Vec<String>,
    /// As other tests have it.
    #[arg(long, hide = true)]
    nocapture: bool,
}

/// How much of everything.
#[derive(Clone, Copy)]
struct Scale {
    is_long: bool,
    connections: usize,
    readers: usize,
    /// For how long a socket floods, and with how many bytes at most.
    flood: (Duration, usize),
    frames: usize,
}

const SHORT: Scale = Scale {
    is_long: false,
    connections: 450,
    readers: 100,
    flood: (Duration::from_millis(500), 256 << 10),
    frames: 1_000,
};
const LONG: Scale = Scale {
    is_long: true,
    connections: 10_000,
    readers: 300,
    flood: (Duration::from_secs(5), usize::MAX),
    frames: 50_000,
};

/// What is done to the process.
#[derive(Clone, Copy)]
enum Attack {
    Conformance,
    Requests,
    Oversized,
    Loris,
    Abandoned,
    Readers,
    UnreadAnswers,
    Flood(Flood),
    Breaches,
    Calls,
    Http2(http2::Flood),
}

impl Attack {
    fn all() -> Vec<Self> {
        let mut all = vec![
            Self::Conformance,
            Self::Requests,
            Self::Oversized,
            Self::Loris,
            Self::Abandoned,
            Self::Readers,
            Self::UnreadAnswers,
        ];
        all.extend(Flood::ALL.map(Self::Flood));
        all.extend([Self::Breaches, Self::Calls]);
        all.extend(http2::Flood::ALL.map(Self::Http2));
        all
    }

    fn name(self) -> String {
        match self {
            Self::Conformance => "RFC 6455, case by case".to_owned(),
            Self::Requests => "odd requests".to_owned(),
            Self::Oversized => "oversized contents".to_owned(),
            Self::Loris => "slow requests".to_owned(),
            Self::Abandoned => "abandoned connections".to_owned(),
            Self::Readers => "sockets that do not read".to_owned(),
            Self::UnreadAnswers => "unread answers".to_owned(),
            Self::Flood(flood) => format!("flood of {}", flood.name()),
            Self::Breaches => "RFC 9113, case by case".to_owned(),
            Self::Calls => "odd calls".to_owned(),
            Self::Http2(flood) => format!("HTTP/2: {}", flood.name()),
        }
    }

    async fn strike(self, stage: &Stage, scale: Scale) -> anyhow::Result<Tally> {
        match self {
            Self::Conformance => websocket::conformance(stage).await,
            Self::Requests => http::requests(stage).await,
            Self::Oversized => oversized::oversized(stage).await,
            Self::Loris => slow::loris(stage, scale.connections).await,
            Self::Abandoned => slow::abandoned(stage, scale.connections).await,
            Self::Readers => slow::readers(stage, scale.readers).await,
            Self::UnreadAnswers => slow::unread_answers(stage, scale.is_long).await,
            Self::Flood(flood) => flood::flood(stage, flood, scale.flood.0, scale.flood.1).await,
            Self::Breaches => http2::breaches(stage).await,
            Self::Calls => grpc::calls(stage).await,
            Self::Http2(flood) => http2::flood(stage, flood, scale.frames).await,
        }
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let Cli { long, only, names, .. } = Cli::parse();
    if !names.is_empty() && !names.iter().any(|name| "attacks".contains(name.as_str())) {
        return ExitCode::SUCCESS;
    }
    let lifecycle = Lifecycle::new();
    let (mut rows, mut tally) = (Vec::new(), Tally::default());
    let run = async {
        if let Err(error) = lifecycle.obey_signals() {
            bail!("no signals can be heard: {error}");
        }
        let mut attacks = Attack::all();
        attacks.retain(|attack| only.as_ref().is_none_or(|only| attack.name().contains(only)));
        attack_all(&attacks, if long { LONG } else { SHORT }, &mut rows, &mut tally).await
    };
    let done = tokio::select! {
        done = run => done,
        () = lifecycle.drained() => Err(anyhow::anyhow!("interrupted")),
    };
    report::summary(&tally);
    report::table(rows);
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report::line(&format!("\nFAILED: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

async fn attack_all(attacks: &[Attack], scale: Scale, rows: &mut Vec<Row>, tally: &mut Tally) -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let stage = Stage::start(directory.path()).await?;
    let chat = Chat::begin(&stage).await?;
    let mut failures = Vec::new();
    for attack in attacks {
        let (row, done) = one_attack(&stage, &chat, *attack, scale).await;
        rows.extend(row);
        match done {
            Ok(done) => tally.add(done),
            Err(error) => failures.push(format!("{}: {error:#}", attack.name())),
        }
        // Without the process, or without those who behave well, there is nothing left to see.
        if let Err(error) = stage.usage().map(drop).and(chat.settle().await.map(drop)) {
            failures.push(format!("after {}: {error:#}", attack.name()));
            break;
        }
    }
    if failures.is_empty() {
        report::line(&format!("{} messages in {:.0?}, none lost", chat.said(), chat.lasted()));
        drop(chat);
        stage.end().await?;
    }
    ensure!(failures.is_empty(), "{}", failures.join("\n\n"));
    Ok(())
}

/// An attack, and a look at the process and at those who behave well.
async fn one_attack(stage: &Stage, chat: &Chat, attack: Attack, scale: Scale) -> (Option<Row>, anyhow::Result<Tally>) {
    let begun = Instant::now();
    let mut row = None;
    let done = async {
        let before = stage.usage()?;
        let mut peak = before;
        let struck = tokio::select! {
            struck = attack.strike(stage, scale) => struck,
            died = watch(stage, &mut peak) => died.map(|()| Tally::default()),
        };
        let cases = struck.as_ref().map_or(0, Tally::cases);
        let took = begun.elapsed();
        let latencies = chat.settle().await.context("those who behave well")?;
        // Visitors come and go.
        let returned = slow::sockets_return(stage, before.sockets).await;
        let after = stage.usage()?;
        row = Some(Row { attack: attack.name(), cases, took, before, peak, after, latencies });
        let struck = match (stage.did_not_panic(), struck) {
            (Err(panicked), Err(failed)) => bail!("{failed:#}\n{panicked:#}"),
            (panicked, struck) => panicked.and(struck)?,
        };
        returned?;
        let worst = peak.resident_mib;
        ensure!(worst <= MEMORY_MIB_MAX, "{worst} MiB of memory, of {MEMORY_MIB_MAX} at most");
        Ok(struck)
    }
    .await;
    (row, done)
}

/// Until the process ends.
async fn watch(stage: &Stage, peak: &mut Usage) -> anyhow::Result<()> {
    loop {
        *peak = peak.max(stage.usage()?);
        tokio::time::sleep(SAMPLE_EVERY).await;
    }
}
