//! Measures any server that speaks these protocols: `cargo run --release -p switchboard-tests --bin load -- --help`.
//!
//! A run starts a fresh server (or takes one that runs), makes people known, opens sockets, measures, and prints one line
//! of JSON. Messages carry a marker, so that what is lost, doubled or out of order is counted.

mod fanout;
mod growth;
mod live;
mod marker;
mod options;
mod pace;
mod pairs;
#[expect(dead_code, reason = "the fault suite stops and starts it, too")]
#[path = "../faults/postgres.rs"]
mod postgres;
mod progress;
mod reconnect;
mod servers;
mod soak;
mod socket;
mod sockets;
mod system;
mod usage;

use std::time::Duration;

use anyhow::Result;
use clap::{Parser, Subcommand};
use serde_json::Value;

use options::Options;
use system::System;

/// Measures a chat server: a fresh Switchboard on this machine, or whatever `--layout` or `--url` names.
#[derive(Parser)]
#[command(after_long_help = EXAMPLES)]
struct Cli {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    scenario: Scenario,
}

const EXAMPLES: &str = "\
How to read the line:
  latency_ms           from the time at which a message was due to be sent, whatever the server did before (open loop),
                       or from its sending (closed loop: saturate, fanout)
  generator_late_ms    how late this program itself was: when it is near to latency_ms, the machine is too busy to tell
  cpu_us_per_delivery  CPU time of the server's processes for each message that reached one socket
  kib_per_socket       growth of the server's resident memory for each socket
  lost, doubled, disordered, refused   of the deliveries that were due

Examples:
  load steady --pairs 100 --rate 500              a fresh Switchboard, one process, SQLite
  load --layout cluster saturate                  edge and services on Postgres and NATS, which are started, too
  taskset -c 1 load --server-core 0 idle --sockets 10000
  load --url ws://127.0.0.1:8000 --jwt-secret \"$SECRET\" --process django=4711 steady
  ./tests/run bench                               all of it, next to other servers, into BENCHMARKS.md

What is installed by ./tests/run bench: Postgres, NATS, Redis, Python packages. `ulimit -n` bounds the sockets.";

#[derive(Subcommand)]
enum Scenario {
    /// A server that starts with empty data: time until a first message comes back.
    Start,
    /// Open sockets that exchange three messages each and then say nothing: memory per socket, sockets per second.
    Idle {
        /// How many.
        #[arg(long, default_value_t = 5000)]
        sockets: usize,
        /// How long they rest before memory is looked at, in seconds.
        #[arg(long, default_value_t = 2)]
        rest: u64,
    },
    /// Open sockets as fast as the server lets them in: sockets ready per second.
    Connect {
        /// How many.
        #[arg(long, default_value_t = 5000)]
        sockets: usize,
        /// Handshakes under way at once.
        #[arg(long, default_value_t = sockets::CONNECTING_MAX)]
        at_once: usize,
        /// Ready is who was upgraded, not who heard a first message come back.
        #[arg(long)]
        upgraded: bool,
    },
    /// Pairs that chat at a steady rate, whatever the answers do (open loop): time from send to the other side.
    Steady {
        /// How many pairs.
        #[arg(long, default_value_t = 100)]
        pairs: usize,
        /// Messages a second, all pairs together.
        #[arg(long, default_value_t = 500)]
        rate: u32,
        /// For how long, in seconds.
        #[arg(long, default_value_t = 20)]
        seconds: u64,
    },
    /// Pairs whose senders send again as soon as both sides heard (closed loop): deliveries per second.
    Saturate {
        /// How many pairs.
        #[arg(long, default_value_t = 100)]
        pairs: usize,
        /// For how long, in seconds.
        #[arg(long, default_value_t = 10)]
        seconds: u64,
    },
    /// One speaks to many sockets of one conversation (closed loop): deliveries per second.
    Fanout {
        /// How many listen.
        #[arg(long, default_value_t = 1000)]
        sockets: usize,
        /// How many messages may be on their way at once.
        #[arg(long, default_value_t = 8)]
        window: u64,
        /// For how long, in seconds.
        #[arg(long, default_value_t = 10)]
        seconds: u64,
    },
    /// Therapists on the way, each seen by one customer (open loop): time from a position to the customer.
    Walk {
        /// How many.
        #[arg(long, default_value_t = 200)]
        therapists: usize,
        /// Positions a second of each.
        #[arg(long, default_value_t = 10)]
        hertz: u32,
        /// For how long, in seconds.
        #[arg(long, default_value_t = 20)]
        seconds: u64,
    },
    /// Many come online at once: time until every watcher was told of all, and until a newcomer has the whole roster.
    Crowd {
        /// How many.
        #[arg(long, default_value_t = 10_000)]
        online: u64,
        /// Sockets that are told of each.
        #[arg(long, default_value_t = 20)]
        watchers: usize,
        /// Sockets that come afterwards.
        #[arg(long, default_value_t = 20)]
        newcomers: usize,
    },
    /// Services notify users at a steady rate (open loop): time from the call to the user's socket.
    Notify {
        /// How many users.
        #[arg(long, default_value_t = 100)]
        users: usize,
        /// Notifications a second, all users together.
        #[arg(long, default_value_t = 500)]
        rate: u32,
        /// For how long, in seconds.
        #[arg(long, default_value_t = 20)]
        seconds: u64,
    },
    /// All sockets are cut and come back at once: time until all are ready again, and whether anything was lost.
    Reconnect {
        /// How many.
        #[arg(long, default_value_t = 5000)]
        sockets: usize,
        /// How long they stay connected before, in seconds.
        #[arg(long, default_value_t = 1)]
        hold: u64,
    },
    /// The cost of a delivery over more and more sockets, a fresh server for each number.
    GrowthSockets {
        /// How many, with commas.
        #[arg(long, value_delimiter = ',', default_values_t = [100, 1_000, 10_000])]
        steps: Vec<usize>,
        /// Messages a second, all sockets together.
        #[arg(long, default_value_t = 2000)]
        rate: u32,
        /// For how long each, in seconds.
        #[arg(long, default_value_t = 10)]
        seconds: u64,
    },
    /// Joining, sending and reading in conversations with more and more stored messages. Needs gRPC.
    GrowthHistory {
        /// How many messages, with commas.
        #[arg(long, value_delimiter = ',', default_values_t = [10, 1_000, 1_000_000])]
        steps: Vec<u64>,
        /// How often each is measured.
        #[arg(long, default_value_t = 200)]
        repeat: u64,
    },
    /// Chats, comings and goings for a long time: memory, descriptors and threads.
    Soak {
        /// For how long.
        #[arg(long, default_value_t = 10.0)]
        minutes: f64,
        /// How many pairs.
        #[arg(long, default_value_t = 100)]
        pairs: usize,
        /// Messages a second, all pairs together.
        #[arg(long, default_value_t = 1000)]
        rate: u32,
        /// People a second who come, say a thing and go.
        #[arg(long, default_value_t = 50)]
        visits: u32,
    },
}

#[tokio::main]
async fn main() -> Result<()> {
    let Cli { options, scenario } = Cli::parse();
    marker::begin();
    let line = run(&options, scenario).await?;
    show(&line.to_string());
    Ok(())
}

async fn run(options: &Options, scenario: Scenario) -> Result<Value> {
    let start = |pairs| System::start(options, pairs);
    let (system, mut line) = match scenario {
        Scenario::GrowthSockets { steps, rate, seconds } => {
            return growth::sockets(options, &steps, rate, seconds).await;
        }
        Scenario::GrowthHistory { steps, repeat } => return growth::history(options, &steps, repeat).await,
        Scenario::Start => {
            let system = start(1).await?;
            let line = pairs::first(&system).await?;
            (system, line)
        }
        Scenario::Idle { sockets, rest } => {
            let system = start(sockets.div_ceil(2)).await?;
            let line = pairs::idle(&system, sockets, Duration::from_secs(rest)).await?;
            (system, line)
        }
        Scenario::Connect { sockets, at_once, upgraded } => {
            let system = start(sockets.div_ceil(2)).await?;
            let line = pairs::connect(&system, sockets, at_once, !upgraded).await?;
            (system, line)
        }
        Scenario::Steady { pairs, rate, seconds } => {
            let system = start(pairs).await?;
            let line = pairs::steady(&system, pairs, rate, seconds).await?;
            (system, line)
        }
        Scenario::Saturate { pairs, seconds } => {
            let system = start(pairs).await?;
            let line = pairs::saturate(&system, pairs, seconds).await?;
            (system, line)
        }
        Scenario::Fanout { sockets, window, seconds } => {
            let system = start(1).await?;
            let line = fanout::fanout(&system, sockets, window.max(1), seconds).await?;
            (system, line)
        }
        Scenario::Walk { therapists, hertz, seconds } => {
            let system = start(therapists).await?;
            let line = live::walk(&system, therapists, hertz, seconds).await?;
            (system, line)
        }
        Scenario::Crowd { online, watchers, newcomers } => {
            let system = start(watchers.max(newcomers)).await?;
            let line = live::crowd(&system, online, watchers, newcomers).await?;
            (system, line)
        }
        Scenario::Notify { users, rate, seconds } => {
            let system = start(users).await?;
            let line = live::notify(&system, users, rate, seconds).await?;
            (system, line)
        }
        Scenario::Reconnect { sockets, hold } => {
            let system = start(sockets.div_ceil(2)).await?;
            let line = reconnect::reconnect(&system, sockets, Duration::from_secs(hold)).await?;
            (system, line)
        }
        Scenario::Soak { minutes, pairs, rate, visits } => {
            let system = start(pairs).await?;
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a few minutes")]
            let seconds = (minutes * 60.0) as u64;
            let line = soak::soak(&system, pairs, rate, visits, seconds).await?;
            (system, line)
        }
    };
    system.put(&mut line)?;
    Ok(line)
}

#[expect(clippy::print_stdout, reason = "the answer of a command")]
fn show(line: &str) {
    println!("{line}");
}
