//! Starts what is measured, with fresh data, on free ports of this machine.

use std::{
    ffi::OsStr,
    fs::{File, Permissions},
    net::SocketAddr,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use switchboard_chassis::config::environment;
use switchboard_tests::process::{Process, binary, free_address};
use tempfile::TempDir;

use crate::{
    postgres::Postgres,
    system::{CUSTOMERS_FROM, Layout, THERAPISTS_FROM},
    usage::Watched,
};

pub(crate) const GRPC_TOKEN: &str = "a-token-between-services";
pub(crate) const JWT_SECRET: &str = "the-load-generator's-secret-of-32-bytes";
const SERVICES: &str = "identity,chat,location,notification,presence";
/// Load comes from one address, and in some scenarios from one user.
const NO_LIMITS: [&str; 5] = [
    "edge.sockets_per_user_max=0",
    "edge.sockets_per_address_max=0",
    "edge.handshakes_per_address_s=0",
    "edge.sockets_max=1000000",
    "edge.handshakes_max=100000",
];

/// A running system. Dropping it ends it.
pub(crate) struct Started {
    pub(crate) edge: SocketAddr,
    pub(crate) grpc: Option<SocketAddr>,
    /// The one that clients connect to first.
    pub(crate) watched: Vec<Watched>,
    /// From the start of its own processes until all of them take connections.
    pub(crate) serves_after: Duration,
    // They end in this order, and then their files go.
    _processes: Vec<Process>,
    _postgres: Option<Postgres>,
    _directory: TempDir,
}

/// Starts it, with so many pairs of people where they cannot be told of by gRPC.
pub(crate) async fn start(layout: Layout, core: Option<usize>, pairs: usize) -> Result<Started> {
    // Postgres runs as another user, who must find its directory.
    let directory = tempfile::Builder::new().permissions(Permissions::from_mode(0o711)).tempdir()?;
    let (edge, serves_after) = (free_address()?, Duration::ZERO);
    let start = Start { core, edge, directory, processes: Vec::new(), watched: Vec::new(), begun: None, serves_after };
    match layout {
        Layout::OneProcess | Layout::Apart => start.switchboard(layout == Layout::Apart, &[]).await,
        Layout::Cluster => start.cluster().await,
        Layout::Floor => start.floor().await,
        Layout::Django => start.django(pairs).await,
    }
}

struct Start {
    core: Option<usize>,
    edge: SocketAddr,
    directory: TempDir,
    processes: Vec<Process>,
    watched: Vec<Watched>,
    begun: Option<Instant>,
    serves_after: Duration,
}

impl Start {
    async fn switchboard(mut self, is_apart: bool, more: &[(&str, String)]) -> Result<Started> {
        let grpc = self.switchboard_processes(is_apart, more).await?;
        Ok(self.done(Some(grpc), None))
    }

    async fn switchboard_processes(&mut self, is_apart: bool, more: &[(&str, String)]) -> Result<SocketAddr> {
        let grpc = free_address()?;
        let roles: &[(&str, &[&str])] = match is_apart {
            false => &[("switchboard", &[])],
            true => &[("edge", &["--role", "edge"]), ("services", &["--role", SERVICES])],
        };
        // Versions with a listener for operators: each process has its own.
        let has_admin =
            String::from_utf8_lossy(&Command::new(binary()?).arg("config").output()?.stdout).contains("[admin]");
        for (name, arguments) in roles {
            // An edge by itself has a listener for operators.
            let listen = if *name == "edge" { free_address()? } else { grpc };
            let mut command = self.command(binary()?);
            command.arg("serve").args(*arguments);
            for setting in NO_LIMITS {
                command.args(["--set", setting]);
            }
            for (variable, _) in environment().iter().filter(|(variable, _)| variable.starts_with("SWITCHBOARD_")) {
                command.env_remove(variable);
            }
            command
                .env("SWITCHBOARD_DATA_DIR", self.directory.path().join("data"))
                .env("SWITCHBOARD_EDGE__LISTEN", self.edge.to_string())
                .env("SWITCHBOARD_GRPC__LISTEN", listen.to_string())
                .env("SWITCHBOARD_GRPC__TOKEN", GRPC_TOKEN)
                .env("SWITCHBOARD_AUTH__JWT__SECRET", JWT_SECRET)
                .envs(more.iter().map(|(name, value)| (*name, value)));
            if has_admin {
                command.env("SWITCHBOARD_ADMIN__LISTEN", free_address()?.to_string());
            }
            for service in ["IDENTITY", "CHAT", "LOCATION", "NOTIFICATION", "PRESENCE"] {
                command.env(format!("SWITCHBOARD_SERVICES__{service}"), format!("http://{grpc}"));
            }
            self.spawn(name, command)?;
        }
        for ((name, _), address) in [(roles[0], self.edge), (roles[roles.len() - 1], grpc)] {
            self.listens(name, address).await?;
        }
        Ok(grpc)
    }

    async fn cluster(mut self) -> Result<Started> {
        let postgres = self.postgres().await?;
        let nats = free_address()?;
        let mut command = self.command("nats-server");
        command.args(["-a", "127.0.0.1", "-p", &nats.port().to_string()]);
        let more = [("SWITCHBOARD_STORE__URL", postgres.url()), ("SWITCHBOARD_BUS__URL", format!("nats://{nats}"))];
        // Before whom it serves; listed after.
        let nats_process = self.spawn_unlisted("nats", &mut command)?;
        wait_for(nats).await?;
        let grpc = self.switchboard_processes(true, &more).await?;
        self.list("nats", nats_process);
        self.list_postgres()?;
        Ok(self.done(Some(grpc), Some(postgres)))
    }

    async fn floor(mut self) -> Result<Started> {
        let floor = std::env::current_exe()?.with_file_name("floor");
        ensure!(
            floor.is_file(),
            "no floor beside load: build it by `cargo build --release -p switchboard-tests --bins`"
        );
        let mut command = self.command(floor);
        command.arg(self.edge.to_string());
        self.spawn("floor", command)?;
        self.listens("floor", self.edge).await?;
        Ok(self.done(None, None))
    }

    /// Daphne serves; its Postgres and its Redis are made for it.
    async fn django(mut self, pairs: usize) -> Result<Started> {
        let project = Path::new(env!("CARGO_MANIFEST_DIR")).join("bench/django");
        let postgres = self.postgres().await?;
        let redis = free_address()?;
        let mut command = self.command("redis-server");
        command.args(["--port", &redis.port().to_string(), "--bind", "127.0.0.1"]);
        command.args(["--save", "", "--appendonly", "no", "--dir"]).arg(self.directory.path());
        let redis_process = self.spawn_unlisted("redis", &mut command)?;
        wait_for(redis).await?;
        let in_project = |mut command: Command| {
            command.current_dir(&project).env("DJANGO_SETTINGS_MODULE", "chat.settings");
            command.env("DATABASE_URL", postgres.url()).env("REDIS_URL", format!("redis://{redis}/0"));
            command.env("SECRET_KEY", JWT_SECRET).env("PYTHONDONTWRITEBYTECODE", "1");
            command
        };
        let (customers, therapists) = (CUSTOMERS_FROM.to_string(), THERAPISTS_FROM.to_string());
        let pairs = pairs.to_string();
        for arguments in [&["migrate"][..], &["people", &customers, &therapists, &pairs]] {
            let mut command = in_project(self.command("python3"));
            let output = command.arg("manage.py").args(arguments).stdin(Stdio::null()).output()?;
            let told = String::from_utf8_lossy(&output.stderr);
            ensure!(
                output.status.success(),
                "manage.py {arguments:?}: {told}\nrun ./tests/run bench, which installs it"
            );
        }
        let mut command = in_project(self.command("daphne"));
        command.args(["-b", "127.0.0.1", "-p", &self.edge.port().to_string(), "-v", "0", "chat.asgi:application"]);
        self.spawn("daphne", command)?;
        self.listens("daphne", self.edge).await?;
        self.list("redis", redis_process);
        self.list_postgres()?;
        Ok(self.done(None, Some(postgres)))
    }

    async fn postgres(&self) -> Result<Postgres> {
        Postgres::create(self.postgres_directory(), free_address()?.port()).await
    }

    fn postgres_directory(&self) -> PathBuf {
        self.directory.path().join("postgres")
    }

    fn list_postgres(&mut self) -> Result<()> {
        let pid_file = self.postgres_directory().join("db/postmaster.pid");
        let text = std::fs::read_to_string(&pid_file).with_context(|| pid_file.display().to_string())?;
        self.list("postgres", text.lines().next().and_then(|line| line.parse().ok()).context("a process id")?);
        Ok(())
    }

    /// On the core of servers, if there is one: a program sees as many cores as it may use when it starts.
    fn command(&self, program: impl AsRef<OsStr>) -> Command {
        match self.core {
            None => Command::new(program),
            Some(core) => {
                let mut command = Command::new("taskset");
                command.args(["-c", &core.to_string()]).arg(program);
                command
            }
        }
    }

    fn spawn(&mut self, name: &str, mut command: Command) -> Result<()> {
        self.begun.get_or_insert_with(Instant::now);
        let process = self.spawn_unlisted(name, &mut command)?;
        self.list(name, process);
        Ok(())
    }

    fn spawn_unlisted(&mut self, name: &str, command: &mut Command) -> Result<u32> {
        let log = File::create(self.log(name))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let process = Process::spawn(command).context("run ./tests/run bench, which installs what is missing")?;
        let id = process.id();
        self.processes.push(process);
        Ok(id)
    }

    fn list(&mut self, name: &str, process: u32) {
        self.watched.push(Watched { name: name.to_owned(), process });
    }

    fn log(&self, name: &str) -> PathBuf {
        self.directory.path().join(format!("{name}.log"))
    }

    /// Waits until a process serves.
    async fn listens(&mut self, name: &str, address: SocketAddr) -> Result<()> {
        let watched = self.watched.iter().find(|watched| watched.name == name).context("a process that is listed")?;
        let process = self.processes.iter_mut().find(|process| process.id() == watched.process);
        if let Err(error) = process.context("a process that was started")?.listens(address).await {
            let log = std::fs::read_to_string(self.log(name)).unwrap_or_default();
            return Err(error.context(format!("{name} does not serve: {log}")));
        }
        self.serves_after = self.begun.map(|begun| begun.elapsed()).unwrap_or_default();
        Ok(())
    }

    fn done(self, grpc: Option<SocketAddr>, postgres: Option<Postgres>) -> Started {
        Started {
            edge: self.edge,
            grpc,
            watched: self.watched,
            serves_after: self.serves_after,
            _processes: self.processes,
            _postgres: postgres,
            _directory: self.directory,
        }
    }
}

async fn wait_for(address: SocketAddr) -> Result<()> {
    for _ in 0..500 {
        if tokio::net::TcpStream::connect(address).await.is_ok() {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    anyhow::bail!("nothing listens on {address}")
}
