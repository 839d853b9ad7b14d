//! `switchboard ctl`: what an operator asks of processes that run, over gRPC.
//!
//! People get tables, scripts (`--json`) one object a line, with fields named as in the protos and the address of the
//! process that said it.

mod ask;
mod show;

use std::{fmt, net::IpAddr, path::PathBuf};

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand, ValueEnum};
use switchboard_chassis::{
    Directory, Lifecycle, Secret,
    grpc::{Access, Peer, any_peer, remote_peer},
    tls::ClientTls,
};
use switchboard_proto::edge::v1::Protocol;

use crate::config::Config;

/// The exit code when nothing was found that was named.
pub const NOTHING_FOUND: u8 = 3;

/// The command: whom to ask, and what.
#[derive(Args)]
pub struct Ctl {
    /// The processes to ask, as `host:port` or a URL; may be repeated, or given with commas. By default the one on this
    /// machine, at the port of grpc.listen.
    #[arg(long = "address", global = true, value_name = "ADDRESS", value_delimiter = ',')]
    addresses: Vec<String>,
    /// The token to show; by default grpc.token, or else the one in the data directory.
    #[arg(long, global = true, value_name = "TOKEN", conflicts_with = "token_file")]
    token: Option<String>,
    /// A file with the token to show.
    #[arg(long, global = true, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// One JSON object a line, for scripts.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Asked,
}

#[derive(Subcommand)]
enum Asked {
    /// Sockets of edges.
    Connections {
        #[command(subcommand)]
        command: Connections,
    },
    /// Show what happens in a conversation, until it is interrupted. Needs the scope `admin`, and is in the log.
    Tail {
        /// The conversation's UUID.
        conversation: String,
        /// Show what is said, too.
        #[arg(long)]
        text: bool,
        /// End after so many events.
        #[arg(long, value_name = "EVENTS")]
        count: Option<u64>,
    },
    /// Say who is online: everybody, or whether these users are.
    Online {
        /// Users' ids.
        users: Vec<String>,
    },
    /// Send everybody away from edges, which stay, and take nobody until they are told to resume.
    Drain {
        /// Over how long people are sent away: 30s, 5m; by default edge.drain_spread_s.
        #[arg(long, value_name = "DURATION", value_parser = seconds)]
        over: Option<i64>,
        /// Wait until the last socket is gone.
        #[arg(long)]
        wait: bool,
    },
    /// Let edges that drain take sockets again.
    Resume,
    /// What processes log.
    Log {
        #[command(subcommand)]
        command: Log,
    },
}

#[derive(Subcommand)]
enum Connections {
    /// List sockets, the oldest first.
    List(Which),
    /// Show everything about one socket.
    Describe {
        /// Its id.
        id: String,
    },
    /// Close sockets: by id, or all that fit.
    Disconnect {
        /// Their ids.
        ids: Vec<String>,
        #[command(flatten)]
        which: Which,
        /// The close code: 1000, 1001, 1008, 1011, 1012, 1013, or 3000 to 4999.
        #[arg(long, default_value_t = 1008)]
        code: i32,
        /// What clients are told with it, at most 123 bytes.
        #[arg(long, default_value = "closed by an operator")]
        reason: String,
    },
}

#[derive(Subcommand)]
enum Log {
    /// Show what is logged.
    Get,
    /// Log something else: a level, or levels of targets (`info,switchboard_edge=debug`).
    Set {
        /// What to log.
        filter: String,
        /// For how long: 10m, 1h; by default until the process ends.
        #[arg(long = "for", value_name = "DURATION", value_parser = seconds)]
        lasting: Option<i64>,
    },
    /// Log what was configured.
    Reset,
}

/// Which sockets: all that is given must hold.
#[derive(Args, Clone, Default)]
struct Which {
    /// A user's.
    #[arg(long, value_name = "ID")]
    user: Option<String>,
    /// A device's.
    #[arg(long, value_name = "ID")]
    device: Option<String>,
    /// Those in a conversation.
    #[arg(long, value_name = "UUID")]
    conversation: Option<String>,
    /// Those from an address, or a network as 10.0.0.0/8.
    #[arg(long, value_name = "ADDRESS")]
    from: Option<String>,
    /// Those of a protocol.
    #[arg(long)]
    protocol: Option<Spoken>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Spoken {
    Therapy,
    Clinic,
    Mobile,
    Mentoring,
    Consultation,
}

impl From<Spoken> for Protocol {
    fn from(spoken: Spoken) -> Self {
        match spoken {
            Spoken::Therapy => Self::Therapy,
            Spoken::Clinic => Self::Clinic,
            Spoken::Mobile => Self::Mobile,
            Spoken::Mentoring => Self::Mentoring,
            Spoken::Consultation => Self::Consultation,
        }
    }
}

/// Nothing was found that was named.
#[derive(Debug)]
pub struct NothingFound(String);

impl fmt::Display for NothingFound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NothingFound {}

/// A process, and the way to it.
#[derive(Clone)]
struct Process {
    address: String,
    peer: Peer,
}

/// Does what was asked.
///
/// # Errors
/// When it cannot be asked, or somebody did not answer or refused; [`NothingFound`] when there was nothing to do it to.
pub async fn run(ctl: Ctl, config: &Config) -> anyhow::Result<()> {
    let lifecycle = Lifecycle::new();
    let access = access(&ctl, config, &lifecycle)?;
    let is_everywhere = ctl.addresses.is_empty();
    let addresses = if is_everywhere { vec![own_address(config)] } else { ctl.addresses };
    let reach = |address: String| -> anyhow::Result<Process> {
        let address = if address.contains("://") { address } else { format!("http://{address}") };
        let peer = remote_peer(&address, &access).with_context(|| format!("--address {address}"))?;
        Ok(Process { address, peer })
    };
    let processes = || addresses.iter().cloned().map(reach).collect::<anyhow::Result<Vec<_>>>();
    let show = show::Show::new(ctl.json);
    match ctl.command {
        Asked::Connections { command: Connections::List(which) } => ask::list(&processes()?, which, &show).await,
        Asked::Connections { command: Connections::Describe { id } } => ask::describe(&processes()?, &id, &show).await,
        Asked::Connections { command: Connections::Disconnect { ids, which, code, reason } } => {
            ask::disconnect(&processes()?, (ids, which), (code, reason), &show).await
        }
        Asked::Tail { conversation, text, count } => ask::tail(&processes()?, (conversation, text), count, &show).await,
        Asked::Online { users } if is_everywhere => {
            // Whoever has the service: the same place where `provision` would find it.
            let directory = Directory::new(&config.services.presence, &lifecycle).map_err(anyhow::Error::msg)?;
            let process =
                Process { address: config.services.presence.clone(), peer: any_peer(directory, access.clone()) };
            ask::online(&process, users, &show).await
        }
        // Each instance knows everybody.
        Asked::Online { users } => ask::online(&processes()?[0], users, &show).await,
        Asked::Drain { over, wait } => ask::drain(&processes()?, over, wait, &show).await,
        Asked::Resume => ask::resume(&processes()?, &show).await,
        Asked::Log { command: Log::Get } => ask::log_get(&processes()?, &show).await,
        Asked::Log { command: Log::Set { filter, lasting } } => {
            ask::log_set(&processes()?, &filter, lasting, &show).await
        }
        Asked::Log { command: Log::Reset } => ask::log_set(&processes()?, "", None, &show).await,
    }
}

fn access(ctl: &Ctl, config: &Config, lifecycle: &Lifecycle) -> anyhow::Result<Access> {
    let tls = ClientTls::new(&config.services.tls, lifecycle).map_err(anyhow::Error::msg)?;
    let read = |file: &PathBuf| -> anyhow::Result<Secret> {
        let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        Ok(Secret::new(text.trim()))
    };
    let token = match (&ctl.token, &ctl.token_file) {
        (Some(token), _) => Secret::new(token),
        (None, Some(file)) => read(file)?,
        (None, None) if !config.grpc.token.is_empty() => config.grpc.token.clone(),
        (None, None) => {
            let file = config.data_dir.join("grpc-token");
            read(&file).context("no token to show: give --token-file, grpc.token or the --data-dir of the process")?
        }
    };
    Ok(Access::new(token, tls))
}

/// The process on this machine that has the same settings.
fn own_address(config: &Config) -> String {
    let mut listens = config.grpc.listen;
    if listens.ip().is_unspecified() {
        let loopback: IpAddr =
            if listens.is_ipv4() { [127, 0, 0, 1].into() } else { std::net::Ipv6Addr::LOCALHOST.into() };
        listens.set_ip(loopback);
    }
    let scheme = if config.grpc.tls.is_empty() { "http" } else { "https" };
    format!("{scheme}://{listens}")
}

/// Reads `30s`, `15m`, `1h`, `7d`; a number alone is seconds.
///
/// # Errors
/// What is wrong with it.
pub fn seconds(text: &str) -> Result<i64, String> {
    let unit = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: i64 = text[..unit].parse().map_err(|_| "a number with s, m, h or d is wanted, as 90m")?;
    let scale = match &text[unit..] {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 24 * 3600,
        _ => return Err("the unit is s, m, h or d".to_owned()),
    };
    number.checked_mul(scale).filter(|seconds| *seconds > 0).ok_or_else(|| "too long, or nothing".to_owned())
}

/// Fails when somebody did not answer.
fn all_answered(processes: &[Process], failed: usize) -> anyhow::Result<()> {
    match (failed, processes.len()) {
        (0, _) => Ok(()),
        (_, 1) => bail!("it was not done"),
        (failed, all) => bail!("{failed} of {all} did not do it"),
    }
}
