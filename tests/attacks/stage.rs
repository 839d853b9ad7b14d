//! The process that is attacked, its people, and what it uses.

use std::{
    fmt::Write as _,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, ensure};
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

pub(crate) const GRPC_TOKEN: &str = "a-token-between-services";
const JWT_SECRET: &str = "the-attack-suite's-secret-of-32-bytes";
const TOKEN_TTL_S: i64 = 24 * 3600;
/// For the head of a request: short, so that the attacks on it are.
pub(crate) const HEADER_TIMEOUT_S: u64 = 2;
/// Pairs `p0` and `d0`, `p1` and `d1`, ..., who each have a clinic conversation.
const PAIRS: usize = 40;
/// Who has a conversation of every kind: `1`, `2` and the device `d`.
const EVERY_KIND: &str = r#"
{"user": {"id": "1", "roles": ["customer", "patient", "client", "student", "staff"], "assigned_mentor_id": "2"}}
{"user": {"id": "2", "roles": ["therapist", "professional", "expert", "teacher"]}}
{"device": {"device_id": "d"}}
{"conversation": {"kind": "CONVERSATION_KIND_THERAPY", "participants": [{"user_id": "1", "role": "customer"}, {"user_id": "2", "role": "therapist"}]}}
{"conversation": {"kind": "CONVERSATION_KIND_CLINIC", "id": "aaaaaaaa-0000-4000-8000-000000000000", "participants": [{"user_id": "1", "role": "patient"}, {"user_id": "2", "role": "professional"}]}}
{"conversation": {"kind": "CONVERSATION_KIND_CONSULTATION", "id": "bbbbbbbb-0000-4000-8000-000000000000", "participants": [{"user_id": "1", "role": "client"}, {"user_id": "2", "role": "expert"}]}}
{"conversation": {"kind": "CONVERSATION_KIND_MOBILE", "number": 7, "participants": [{"user_id": "d", "role": "device"}]}}
"#;

/// One `switchboard serve`, all services in it.
pub(crate) struct Stage {
    pub(crate) edge: SocketAddr,
    pub(crate) grpc: SocketAddr,
    pub(crate) peer: Peer,
    process: Process,
    log: PathBuf,
}

impl Stage {
    pub(crate) async fn start(directory: &Path) -> anyhow::Result<Self> {
        let (edge, grpc) = (process::free_address()?, process::free_address()?);
        let url = format!("http://{grpc}");
        let settings = [
            ("SWITCHBOARD_DATA_DIR", directory.join("data").display().to_string()),
            ("SWITCHBOARD_EDGE__LISTEN", edge.to_string()),
            ("SWITCHBOARD_EDGE__HEADER_TIMEOUT_S", HEADER_TIMEOUT_S.to_string()),
            ("SWITCHBOARD_GRPC__LISTEN", grpc.to_string()),
            ("SWITCHBOARD_GRPC__TOKEN", GRPC_TOKEN.to_owned()),
            ("SWITCHBOARD_AUTH__JWT__SECRET", JWT_SECRET.to_owned()),
        ];
        let log = directory.join("switchboard.log");
        let mut process = Process::start_logging(&["serve"], &settings, &log)?;
        process.listens(edge).await.with_context(|| tail(&log))?;
        process.listens(grpc).await?;
        let peer = remote_peer(&url, &Secret::new(GRPC_TOKEN))?;
        let mut people = EVERY_KIND.to_owned();
        for n in 0..PAIRS {
            writeln!(people, r#"{{"user": {{"id": "p{n}", "roles": ["patient", "customer"]}}}}"#)?;
            writeln!(people, r#"{{"user": {{"id": "d{n}", "roles": ["professional", "therapist"]}}}}"#)?;
            writeln!(
                people,
                r#"{{"conversation": {{"kind": "CONVERSATION_KIND_CLINIC", "id": "{}", "participants": [{{"user_id": "p{n}", "role": "patient"}}, {{"user_id": "d{n}", "role": "professional"}}]}}}}"#,
                conversation(n)
            )?;
        }
        provision(&people, peer.clone(), peer.clone()).await?;
        Ok(Self { edge, grpc, peer, process, log })
    }

    /// A socket's path for a user, with the user's token.
    pub(crate) fn path(&self, path: &str, user_id: &str) -> anyhow::Result<String> {
        let mark = if path.contains('?') { '&' } else { '?' };
        Ok(format!("{path}{mark}token={}", self.token(user_id)?))
    }

    pub(crate) fn token(&self, user_id: &str) -> anyhow::Result<String> {
        let user = User { id: user_id.to_owned(), ..User::default() };
        Ok(jwt::sign(&Secret::new(JWT_SECRET), &user, Clock::System.now(), TOKEN_TTL_S)?)
    }

    /// A well-behaved socket.
    pub(crate) async fn connect(&self, path: &str, user_id: &str) -> anyhow::Result<Client> {
        Client::connect(&format!("ws://{}{}", self.edge, self.path(path, user_id)?), &[]).await
    }

    /// What the process uses; an error when it has ended.
    pub(crate) fn usage(&self) -> anyhow::Result<Usage> {
        let process = Path::new("/proc").join(self.process.id().to_string());
        let status = std::fs::read_to_string(process.join("status"))?;
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let resident = resident.with_context(|| format!("switchboard has ended: {}", tail(&self.log)))?;
        let resident_kib: u64 = resident.trim().trim_end_matches(" kB").parse()?;
        let sockets = std::fs::read_dir(process.join("fd"))?
            .filter_map(|file| std::fs::read_link(file.ok()?.path()).ok())
            .filter(|file| file.as_os_str().as_encoded_bytes().starts_with(b"socket:"))
            .count();
        Ok(Usage { resident_mib: resident_kib / 1024, sockets })
    }

    /// Whether nothing panicked so far, not even in a task that nobody waits for.
    pub(crate) fn did_not_panic(&self) -> anyhow::Result<()> {
        let log = std::fs::read_to_string(&self.log)?;
        ensure!(!log.contains("panicked"), "something panicked: {}", tail(&self.log));
        Ok(())
    }

    /// Ends the process as an operator would.
    pub(crate) async fn end(mut self) -> anyhow::Result<()> {
        self.process.terminate()?;
        let code = self.process.exit_code().await?;
        ensure!(code == 0, "after all that it ended with {code}: {}", tail(&self.log));
        Ok(())
    }
}

/// What a process uses at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    pub(crate) resident_mib: u64,
    /// File descriptors of sockets. Those of databases come and go with their pools.
    pub(crate) sockets: usize,
}

impl Usage {
    pub(crate) fn max(self, other: Self) -> Self {
        Self { resident_mib: self.resident_mib.max(other.resident_mib), sockets: self.sockets.max(other.sockets) }
    }
}

/// The id of a pair's conversation.
pub(crate) fn conversation(pair: usize) -> String {
    format!("00000000-0000-4000-8000-{pair:012x}")
}

/// The path of a pair's conversation.
pub(crate) fn clinic(pair: usize) -> String {
    format!("/ws/chat/{}/", conversation(pair))
}

fn tail(log: &Path) -> String {
    let log = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}
