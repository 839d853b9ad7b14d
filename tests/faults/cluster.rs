//! The processes: two services, two edges, two NATS nodes, one Postgres.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::atomic::{AtomicU16, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use switchboard_chassis::{
    Clock, Secret,
    grpc::{Peer, remote_peer},
};
use switchboard_identity::jwt;
use switchboard_proto::{
    identity::v1::User,
    presence::v1::{ListOnlineRequest, presence_service_client::PresenceServiceClient},
};
use switchboard_tests::{client::call, process::Process};

use crate::{LIVENESS, postgres::Postgres, route::Route};

const GRPC_TOKEN: &str = "a-token-between-services";
const JWT_SECRET: &str = "the-fault-suite's-secret-of-32-bytes";
const TOKEN_TTL_S: i64 = 24 * 3600;
const SERVICES: &str = "identity,chat,location,notification,presence";
const SERVICES_SETTINGS: [&str; 5] = [
    "SWITCHBOARD_SERVICES__IDENTITY",
    "SWITCHBOARD_SERVICES__CHAT",
    "SWITCHBOARD_SERVICES__LOCATION",
    "SWITCHBOARD_SERVICES__NOTIFICATION",
    "SWITCHBOARD_SERVICES__PRESENCE",
];
/// How long a presence instance that is gone keeps its users online.
pub(crate) const LEASE: Duration = Duration::from_secs(5);
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// What a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Service,
    Edge,
    Nats,
}

/// A place for a process, which is started in it again and again.
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) address: SocketAddr,
    kind: Kind,
    arguments: Vec<String>,
    settings: Vec<(&'static str, String)>,
    log: PathBuf,
    /// How wrong its clock is: read by the library that tells it the time.
    clock: PathBuf,
    process: Option<Process>,
}

impl Node {
    /// Starts it, and waits until it serves.
    pub(crate) async fn start(&mut self) -> anyhow::Result<()> {
        let arguments: Vec<&str> = self.arguments.iter().map(String::as_str).collect();
        self.process = Some(match self.kind {
            Kind::Nats => {
                let mut command = Command::new("nats-server");
                command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
                Process::spawn(&mut command).context("run ./tests/run, which installs nats-server")?
            }
            _ => {
                self.set_clock(0)?;
                Process::start_logging(&arguments, &self.settings, &self.log)?
            }
        });
        let name = self.name.clone();
        let serving = async {
            while !self.is_serving().await {
                self.check()?;
                tokio::time::sleep(LOOK_AGAIN).await;
            }
            anyhow::Ok(())
        };
        tokio::time::timeout(LIVENESS, serving).await.with_context(|| format!("{name} does not begin to serve"))?
    }

    async fn is_serving(&self) -> bool {
        match self.kind {
            Kind::Nats => tokio::net::TcpStream::connect(self.address).await.is_ok(),
            Kind::Edge => call(self.address, "GET", "/readyz", None, None).await.is_ok_and(|(status, _)| status == 200),
            Kind::Service => match peer(self.address) {
                Ok(peer) => PresenceServiceClient::new(peer).list_online(ListOnlineRequest::default()).await.is_ok(),
                Err(_) => false,
            },
        }
    }

    /// That it has not ended by itself.
    pub(crate) fn check(&mut self) -> anyhow::Result<()> {
        if let Some(process) = &mut self.process
            && let Some(status) = process.ended()?
        {
            bail!("{} ended by itself: {status}; its log: {}", self.name, self.log.display());
        }
        Ok(())
    }

    fn process(&mut self) -> anyhow::Result<&mut Process> {
        self.process.as_mut().with_context(|| format!("{} does not run", self.name))
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) -> anyhow::Result<()> {
        self.process()?.kill()?;
        self.process = None;
        Ok(())
    }

    /// SIGTERM: it must end by itself, and well. Gives the time that it took.
    pub(crate) async fn terminate(&mut self) -> anyhow::Result<Duration> {
        let begun = Instant::now();
        let (name, is_ours) = (self.name.clone(), self.kind != Kind::Nats);
        let process = self.process()?;
        process.terminate()?;
        let code = process.exit_code().await.with_context(|| format!("{name} after SIGTERM"))?;
        ensure!(code == 0 || !is_ours, "{name} ended with {code} after SIGTERM; its log: {}", self.log.display());
        self.process = None;
        Ok(begun.elapsed())
    }

    /// Sets its clock so many seconds before or after the right time. It notices within a second.
    pub(crate) fn set_clock(&self, ahead_s: i64) -> anyhow::Result<()> {
        // Never half-written.
        let new = self.clock.with_extension("new");
        std::fs::write(&new, format!("{ahead_s:+}\n"))?;
        Ok(std::fs::rename(new, &self.clock)?)
    }

    /// SIGSTOP.
    pub(crate) fn freeze(&mut self) -> anyhow::Result<()> {
        self.process()?.signal("STOP")
    }

    /// SIGCONT.
    pub(crate) fn thaw(&mut self) -> anyhow::Result<()> {
        self.process()?.signal("CONT")
    }
}

/// All processes. Dropping it ends them.
pub(crate) struct Cluster {
    pub(crate) services: [Node; 2],
    pub(crate) edges: [Node; 2],
    pub(crate) nats: [Node; 2],
    pub(crate) postgres: Postgres,
    /// Between the NATS nodes.
    pub(crate) route: Route,
}

impl Cluster {
    /// Starts everything; data and logs are in the directory.
    pub(crate) async fn start(directory: &Path) -> anyhow::Result<Self> {
        let pair = || anyhow::Ok([free_address()?, free_address()?]);
        let postgres = Postgres::create(directory.join("postgres"), free_address()?.port()).await?;
        let (store, nats, routes) = (postgres.url(), pair()?, pair()?);
        let faketime = faketime()?;
        let layout = Layout {
            directory,
            faketime,
            store,
            grpc: pair()?,
            edges: pair()?,
            operators: pair()?,
            nats,
            routes,
            network: free_address()?,
        };
        // The first node dials the second through a network that can be cut; the second dials nobody.
        let route = Route::new(layout.network, layout.routes[1]).await?;
        let nats = [layout.nats(0), layout.nats(1)];
        let services = [layout.service(0), layout.service(1)];
        let edges = [layout.edge(0), layout.edge(1)];
        let mut cluster = Self { services, edges, nats, postgres, route };
        for node in cluster.nodes() {
            node.start().await?;
        }
        Ok(cluster)
    }

    /// In the order in which they need each other.
    pub(crate) fn nodes(&mut self) -> impl Iterator<Item = &mut Node> {
        self.nats.iter_mut().chain(&mut self.services).chain(&mut self.edges)
    }
}

/// Who listens where.
struct Layout<'a> {
    directory: &'a Path,
    faketime: PathBuf,
    store: String,
    grpc: [SocketAddr; 2],
    edges: [SocketAddr; 2],
    /// The edges, for operators.
    operators: [SocketAddr; 2],
    /// For the services.
    nats: [SocketAddr; 2],
    /// For each other.
    routes: [SocketAddr; 2],
    network: SocketAddr,
}

impl Layout<'_> {
    fn nats(&self, n: usize) -> Node {
        let mut node = self.node(Kind::Nats, n, self.nats[n]);
        let port = self.nats[n].port().to_string();
        let (cluster, log) = (format!("nats://{}", self.routes[n]), node.log.display().to_string());
        node.arguments = ["-a", "127.0.0.1", "-p", &port, "-l", &log, "--server_name", &node.name, "--cluster_name"]
            .into_iter()
            .chain(["faults", "--cluster", &cluster])
            .map(str::to_owned)
            .collect();
        if n == 0 {
            node.arguments.extend(["--routes".to_owned(), format!("nats://{}", self.network)]);
        }
        node
    }

    fn service(&self, n: usize) -> Node {
        let mut node = self.node(Kind::Service, n, self.grpc[n]);
        node.arguments = ["serve", "--role", SERVICES].map(str::to_owned).to_vec();
        node.settings.push(("SWITCHBOARD_GRPC__LISTEN", self.grpc[n].to_string()));
        node.settings.push(("SWITCHBOARD_STORE__URL", self.store.clone()));
        node.settings.push(("SWITCHBOARD_BUS__URL", self.nats.map(|address| format!("nats://{address}")).join(",")));
        node.settings.push(("SWITCHBOARD_PRESENCE__LEASE_S", LEASE.as_secs().to_string()));
        node
    }

    fn edge(&self, n: usize) -> Node {
        let mut node = self.node(Kind::Edge, n, self.edges[n]);
        node.arguments = ["serve", "--role", "edge"].map(str::to_owned).to_vec();
        node.settings.push(("SWITCHBOARD_EDGE__LISTEN", self.edges[n].to_string()));
        node.settings.push(("SWITCHBOARD_GRPC__LISTEN", self.operators[n].to_string()));
        node.settings.push(("SWITCHBOARD_EDGE__DRAIN_SPREAD_S", "1".to_owned()));
        // The checkers send more than a person would.
        node.settings.push(("SWITCHBOARD_EDGE__RATE_LIMITS__CONSULTATION", "0".to_owned()));
        node
    }

    /// What all have in common.
    fn node(&self, kind: Kind, n: usize, address: SocketAddr) -> Node {
        let what = match kind {
            Kind::Service => "service",
            Kind::Edge => "edge",
            Kind::Nats => "nats",
        };
        let name = format!("{what}-{}", ["a", "b"][n]);
        let log = self.directory.join(format!("{name}.log"));
        let data = self.directory.join("data").join(&name).display().to_string();
        let clock = self.directory.join(format!("{name}.clock"));
        let mut settings = vec![
            ("SWITCHBOARD_DATA_DIR", data),
            ("LD_PRELOAD", self.faketime.display().to_string()),
            ("FAKETIME_TIMESTAMP_FILE", clock.display().to_string()),
            ("SWITCHBOARD_ADMIN__LISTEN", "127.0.0.1:0".to_owned()),
            ("FAKETIME_CACHE_DURATION", "1".to_owned()),
            // Timers are not of the clock on the wall.
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
            // Processes that are killed would leave it behind.
            ("FAKETIME_DISABLE_SHM", "1".to_owned()),
        ];
        settings.extend(credentials());
        let urls = self.grpc.map(|address| format!("http://{address}")).join(",");
        settings.extend(SERVICES_SETTINGS.map(|setting| (setting, urls.clone())));
        Node { name, address, kind, arguments: Vec::new(), settings, log, clock, process: None }
    }
}

/// The library by which a process can be told another time than others.
fn faketime() -> anyhow::Result<PathBuf> {
    let architectures = std::fs::read_dir("/usr/lib").context("/usr/lib")?;
    let libraries = architectures.flatten().map(|directory| directory.path().join("faketime/libfaketimeMT.so.1"));
    libraries.into_iter().find(|library| library.exists()).context("run ./tests/run, which installs faketime")
}

/// The secrets that all processes share.
pub(crate) fn credentials() -> [(&'static str, String); 2] {
    [("SWITCHBOARD_GRPC__TOKEN", GRPC_TOKEN.to_owned()), ("SWITCHBOARD_AUTH__JWT__SECRET", JWT_SECRET.to_owned())]
}

/// The way to the services at an address.
pub(crate) fn peer(address: SocketAddr) -> anyhow::Result<Peer> {
    Ok(remote_peer(&format!("http://{address}"), &Secret::new(GRPC_TOKEN))?)
}

/// A token for a user.
pub(crate) fn token(user: &str) -> anyhow::Result<String> {
    let user = User { id: user.to_owned(), ..User::default() };
    Ok(jwt::sign(&Secret::new(JWT_SECRET), &user, Clock::System.now(), TOKEN_TTL_S)?)
}

/// A port that is free now, and that nobody is given by chance while its process is away: the system takes the ports of
/// outgoing connections from above these. One that dials a port of its own range may even reach itself.
pub(crate) fn free_address() -> anyhow::Result<SocketAddr> {
    const FIRST: u16 = 10_000;
    const COUNT: u16 = 20_000;
    static TAKEN: AtomicU16 = AtomicU16::new(0);
    let start = u16::try_from(std::process::id() * 97 % u32::from(COUNT))?;
    for _ in 0..COUNT {
        let offset = (start + TAKEN.fetch_add(1, Ordering::Relaxed) % COUNT) % COUNT;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, FIRST + offset));
        if TcpListener::bind(address).is_ok() {
            return Ok(address);
        }
    }
    bail!("there is no free port")
}
