//! The system that is measured.

use std::{fmt::Write as _, net::SocketAddr};

use anyhow::{Context as _, Result};
use switchboard::provision::provision;
use switchboard_chassis::{Clock, Secret, grpc::remote_peer};
use switchboard_identity::jwt;
use switchboard_proto::identity::v1::User;
use switchboard_tests::{
    Client,
    process::{self, Process},
};

const GRPC_TOKEN: &str = "a-token-between-services";
const JWT_SECRET: &str = "the-load-generator's-secret-of-32-bytes";
const TOKEN_TTL_S: i64 = 24 * 3600;
/// Of `/proc/*/stat`, on every Linux that we run on.
const CLOCK_TICKS_PER_SECOND: f64 = 100.0;

/// How the processes are cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    OneProcess,
    Apart,
}

impl Layout {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::OneProcess => "one process",
            Self::Apart => "edge and services apart",
        }
    }
}

/// What a process has used.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    pub(crate) resident_kib: u64,
    pub(crate) cpu_seconds: f64,
}

pub(crate) struct Machine {
    edge: SocketAddr,
    /// With their names; the edge first.
    processes: Vec<(&'static str, Process)>,
    _directory: tempfile::TempDir,
}

impl Machine {
    /// Starts it with pairs of people `p0`, `d0`, `p1`, ... who each have a clinic conversation.
    pub(crate) async fn start(layout: Layout, pairs: usize) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let (edge, grpc) = (process::free_address()?, process::free_address()?);
        let url = format!("http://{grpc}");
        let settings = [
            ("SWITCHBOARD_DATA_DIR", directory.path().join("data").display().to_string()),
            ("SWITCHBOARD_EDGE__LISTEN", edge.to_string()),
            ("SWITCHBOARD_GRPC__LISTEN", grpc.to_string()),
            ("SWITCHBOARD_GRPC__TOKEN", GRPC_TOKEN.to_owned()),
            ("SWITCHBOARD_AUTH__JWT__SECRET", JWT_SECRET.to_owned()),
            ("SWITCHBOARD_SERVICES__IDENTITY", url.clone()),
            ("SWITCHBOARD_SERVICES__CHAT", url.clone()),
        ];
        let mut processes = match layout {
            Layout::OneProcess => vec![("all", Process::start(&["serve"], &settings)?)],
            Layout::Apart => vec![
                ("edge", Process::start(&["serve", "--role", "edge"], &settings)?),
                ("services", Process::start(&["serve", "--role", "identity,chat"], &settings)?),
            ],
        };
        processes[0].1.listens(edge).await?;
        processes.last_mut().context("a process")?.1.listens(grpc).await?;

        let mut lines = String::new();
        for n in 0..pairs {
            writeln!(lines, r#"{{"user": {{"id": "p{n}", "roles": ["patient"]}}}}"#)?;
            writeln!(lines, r#"{{"user": {{"id": "d{n}", "roles": ["professional"]}}}}"#)?;
            writeln!(
                lines,
                r#"{{"conversation": {{"kind": "CONVERSATION_KIND_CLINIC", "id": "{}", "participants": [{{"user_id": "p{n}", "role": "patient"}}, {{"user_id": "d{n}", "role": "professional"}}]}}}}"#,
                conversation(n)
            )?;
        }
        let peer = remote_peer(&url, &Secret::new(GRPC_TOKEN))?;
        provision(&lines, peer.clone(), peer).await?;
        Ok(Self { edge, processes, _directory: directory })
    }

    /// Connects one side of a pair.
    pub(crate) async fn connect(&self, side: char, pair: usize) -> Result<Client> {
        let user = User { id: format!("{side}{pair}"), ..User::default() };
        let token = jwt::sign(&Secret::new(JWT_SECRET), &user, Clock::System.now(), TOKEN_TTL_S)?;
        Client::connect(&format!("ws://{}/ws/chat/{}/?token={token}", self.edge, conversation(pair)), &[]).await
    }

    pub(crate) fn usage(&self) -> Result<Vec<(&'static str, Usage)>> {
        self.processes.iter().map(|(name, process)| Ok((*name, usage(process.id())?))).collect()
    }
}

fn conversation(pair: usize) -> String {
    format!("00000000-0000-4000-8000-{pair:012x}")
}

fn usage(process: u32) -> Result<Usage> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS")?;
    let resident_kib = resident.trim().trim_end_matches(" kB").parse()?;
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    // The second field may hold blanks: count from behind its closing parenthesis.
    let (_, rest) = stat.rsplit_once(") ").context("a stat line")?;
    let ticks = |field: usize| rest.split(' ').nth(field).and_then(|ticks| ticks.parse::<f64>().ok()).context("ticks");
    Ok(Usage { resident_kib, cpu_seconds: (ticks(11)? + ticks(12)?) / CLOCK_TICKS_PER_SECOND })
}
