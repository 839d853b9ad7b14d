//! The system that is measured.

use std::{fmt::Write as _, net::SocketAddr};

use anyhow::{Context as _, Result};
use switchboard::provision::provision;
use switchboard_chassis::{
    Clock, Secret,
    grpc::{Peer, remote_peer},
};
use switchboard_identity::jwt;
use switchboard_proto::identity::v1::User;
use switchboard_tests::{
    Client,
    process::{self, Process},
};

const GRPC_TOKEN: &str = "a-token-between-services";
const JWT_SECRET: &str = "the-load-generator's-secret-of-32-bytes";
const TOKEN_TTL_S: i64 = 24 * 3600;
const SERVICES: &str = "identity,chat,location,notification,presence";
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
    peer: Peer,
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
        let services = ["IDENTITY", "CHAT", "LOCATION", "NOTIFICATION", "PRESENCE"]
            .map(|service| (format!("SWITCHBOARD_SERVICES__{service}"), url.clone()));
        let mut settings = vec![
            ("SWITCHBOARD_DATA_DIR", directory.path().join("data").display().to_string()),
            ("SWITCHBOARD_EDGE__LISTEN", edge.to_string()),
            ("SWITCHBOARD_GRPC__LISTEN", grpc.to_string()),
            ("SWITCHBOARD_GRPC__TOKEN", GRPC_TOKEN.to_owned()),
            ("SWITCHBOARD_AUTH__JWT__SECRET", JWT_SECRET.to_owned()),
        ];
        settings.extend(services.iter().map(|(name, url)| (name.as_str(), url.clone())));
        let mut processes = match layout {
            Layout::OneProcess => vec![("all", Process::start(&["serve"], &settings)?)],
            Layout::Apart => vec![
                ("edge", Process::start(&["serve", "--role", "edge"], &settings)?),
                ("services", Process::start(&["serve", "--role", SERVICES], &settings)?),
            ],
        };
        processes[0].1.listens(edge).await?;
        processes.last_mut().context("a process")?.1.listens(grpc).await?;

        let mut lines = String::new();
        for n in 0..pairs {
            writeln!(lines, r#"{{"user": {{"id": "p{n}", "roles": ["patient", "customer"]}}}}"#)?;
            writeln!(lines, r#"{{"user": {{"id": "d{n}", "roles": ["professional", "therapist"]}}}}"#)?;
            writeln!(
                lines,
                r#"{{"conversation": {{"kind": "CONVERSATION_KIND_CLINIC", "id": "{}", "participants": [{{"user_id": "p{n}", "role": "patient"}}, {{"user_id": "d{n}", "role": "professional"}}]}}}}"#,
                conversation(n)
            )?;
        }
        let peer = remote_peer(&url, &Secret::new(GRPC_TOKEN))?;
        provision(&lines, peer.clone(), peer.clone()).await?;
        Ok(Self { edge, peer, processes, _directory: directory })
    }

    /// Connects one side of a pair to their conversation.
    pub(crate) async fn connect(&self, side: char, pair: usize) -> Result<Client> {
        self.socket(&format!("/ws/chat/{}/", conversation(pair)), &format!("{side}{pair}")).await
    }

    /// Connects a user to a path.
    pub(crate) async fn socket(&self, path: &str, user_id: &str) -> Result<Client> {
        let user = User { id: user_id.to_owned(), ..User::default() };
        let token = jwt::sign(&Secret::new(JWT_SECRET), &user, Clock::System.now(), TOKEN_TTL_S)?;
        Client::connect(&format!("ws://{}{path}?token={token}", self.edge), &[]).await
    }

    /// The way to its services.
    pub(crate) fn peer(&self) -> Peer {
        self.peer.clone()
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
