//! Measures a fresh Switchboard on this machine: `cargo run --release -p switchboard-tests --bin load -- --help`.
//!
//! Each run starts the binary beside it with SQLite and commit durability, loads people, opens sockets, measures, and
//! prints one JSON line. Messages carry a marker, so that what is lost, doubled or out of order is counted.

mod live;
mod machine;
mod pairs;

use anyhow::Result;
use clap::{Parser, Subcommand};
use serde_json::json;

use machine::{Layout, Machine};

/// Measures a fresh Switchboard on this machine.
#[derive(Parser)]
struct Cli {
    /// Edge and services in two processes instead of one.
    #[arg(long, global = true)]
    apart: bool,
    #[command(subcommand)]
    scenario: Scenario,
}

#[derive(Subcommand)]
enum Scenario {
    /// Open sockets that exchange three messages each and then say nothing: memory per socket, sockets per second.
    Idle {
        /// How many.
        #[arg(long, default_value_t = 5000)]
        sockets: usize,
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
    /// Pairs whose senders send again as soon as they hear themselves (closed loop): deliveries per second.
    Saturate {
        /// How many pairs.
        #[arg(long, default_value_t = 100)]
        pairs: usize,
        /// For how long, in seconds.
        #[arg(long, default_value_t = 10)]
        seconds: u64,
    },
}

#[tokio::main]
async fn main() -> Result<()> {
    let Cli { apart, scenario } = Cli::parse();
    let layout = if apart { Layout::Apart } else { Layout::OneProcess };
    let mut result = match scenario {
        Scenario::Idle { sockets } => {
            let machine = Machine::start(layout, sockets.div_ceil(2)).await?;
            pairs::idle(&machine, sockets).await?
        }
        Scenario::Steady { pairs, rate, seconds } => {
            let machine = Machine::start(layout, pairs).await?;
            pairs::steady(&machine, pairs, rate, seconds).await?
        }
        Scenario::Walk { therapists, hertz, seconds } => {
            let machine = Machine::start(layout, therapists).await?;
            live::walk(&machine, therapists, hertz, seconds).await?
        }
        Scenario::Crowd { online, watchers, newcomers } => {
            let machine = Machine::start(layout, watchers.max(newcomers)).await?;
            live::crowd(&machine, online, watchers, newcomers).await?
        }
        Scenario::Notify { users, rate, seconds } => {
            let machine = Machine::start(layout, users).await?;
            live::notify(&machine, users, rate, seconds).await?
        }
        Scenario::Saturate { pairs, seconds } => {
            let machine = Machine::start(layout, pairs).await?;
            pairs::saturate(&machine, pairs, seconds).await?
        }
    };
    result["layout"] = json!(layout.name());
    result["durability"] = json!("commit");
    show(&result.to_string());
    Ok(())
}

#[expect(clippy::print_stdout, reason = "the answer of a command")]
fn show(line: &str) {
    println!("{line}");
}
