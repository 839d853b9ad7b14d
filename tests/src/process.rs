//! The real binary, as a process of its own.

use std::{
    fs::File,
    io::{BufRead as _, BufReader},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use switchboard_chassis::{
    Secret,
    grpc::{Peer, remote_peer},
};
use tempfile::TempDir;

use crate::{Client, PATIENCE};

/// The binary beside this test's own.
///
/// # Errors
/// When it has not been built.
pub fn binary() -> anyhow::Result<PathBuf> {
    let ours = std::env::current_exe()?;
    // A test is in `deps`, one directory below.
    let mut beside = ours.ancestors().skip(1).take(2).map(|directory| directory.join("switchboard"));
    beside
        .find(|binary| binary.is_file())
        .with_context(|| format!("no switchboard beside {}: run ./tests/run, or cargo build first", ours.display()))
}

/// A port of this machine that is free now.
///
/// # Errors
/// When there is none.
pub fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

/// A running `switchboard`. Dropping it kills it.
pub struct Process {
    child: Child,
}

impl Process {
    /// Starts any program.
    ///
    /// # Errors
    /// When it cannot start.
    pub fn spawn(command: &mut Command) -> anyhow::Result<Self> {
        let child = command.spawn().with_context(|| format!("cannot start {:?}", command.get_program()))?;
        Ok(Self { child })
    }

    /// Starts it with arguments and settings, and no others from this environment.
    ///
    /// # Errors
    /// When it cannot start.
    pub fn start(arguments: &[&str], settings: &[(&str, String)]) -> anyhow::Result<Self> {
        let child = command(arguments, settings)?.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        Ok(Self { child })
    }

    /// The same, adding what it logs to a file.
    ///
    /// # Errors
    /// When it cannot start, or the file not be written.
    pub fn start_logging(arguments: &[&str], settings: &[(&str, String)], log: &Path) -> anyhow::Result<Self> {
        let log = File::options().create(true).append(true).open(log)?;
        Self::spawn(command(arguments, settings)?.stdout(Stdio::null()).stderr(log))
    }

    /// The same, giving back the first `lines` of its standard output.
    ///
    /// # Errors
    /// When it cannot start, or ends before.
    pub fn start_reading(
        arguments: &[&str],
        settings: &[(&str, String)],
        until: &str,
    ) -> anyhow::Result<(Self, String)> {
        let mut child = command(arguments, settings)?.stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let mut output = BufReader::new(child.stdout.take().context("its output")?);
        let mut text = String::new();
        while !text.contains(until) {
            if output.read_line(&mut text)? == 0 {
                bail!("it ended after saying: {text}");
            }
        }
        Ok((Self { child }, text))
    }

    /// Waits until something listens at an address.
    ///
    /// # Errors
    /// When nothing does in time, or the process ended.
    pub async fn listens(&mut self, address: SocketAddr) -> anyhow::Result<()> {
        let begun = Instant::now();
        while TcpStream::connect(address).is_err() {
            if let Some(status) = self.child.try_wait()? {
                bail!("it ended with {status}");
            }
            if begun.elapsed() > PATIENCE {
                bail!("nothing listens on {address}");
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }

    /// The process's id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Ends it as a power cut would: SIGKILL.
    ///
    /// # Errors
    /// When it has ended already.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Asks it to end: SIGTERM.
    ///
    /// # Errors
    /// When it has ended already.
    pub fn terminate(&self) -> anyhow::Result<()> {
        self.signal("TERM")
    }

    /// Sends it a signal, by its name: `STOP` freezes it, `CONT` lets it go on.
    ///
    /// # Errors
    /// When it has ended already.
    pub fn signal(&self, name: &str) -> anyhow::Result<()> {
        let done = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status()?;
        ensure!(done.success(), "cannot signal it");
        Ok(())
    }

    /// How it ended, if it has.
    ///
    /// # Errors
    /// When that cannot be told.
    pub fn ended(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Waits for its end; its exit code.
    ///
    /// # Errors
    /// When it does not end in time.
    pub async fn exit_code(&mut self) -> anyhow::Result<i32> {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                return status.code().context("it was killed");
            }
            if begun.elapsed() > PATIENCE {
                bail!("it does not end");
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs it to its end: exit code, standard output, standard error.
///
/// # Errors
/// When it cannot start.
pub fn run(arguments: &[&str], settings: &[(&str, String)]) -> anyhow::Result<(i32, String, String)> {
    let output = command(arguments, settings)?.output()?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok((output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr)))
}

fn command(arguments: &[&str], settings: &[(&str, String)]) -> anyhow::Result<Command> {
    let mut command = Command::new(binary()?);
    // Any port: processes of one test, and tests, must not meet on the default one. The log says which.
    command.env_clear().env("SWITCHBOARD_ADMIN__LISTEN", "127.0.0.1:0");
    command.args(arguments).envs(settings.iter().map(|(name, value)| (*name, value))).stdin(Stdio::null());
    Ok(command)
}

/// The token that the processes of a [`Machine`] show each other.
const GRPC_TOKEN: &str = "a-token-between-services";

/// One machine's worth of processes, which share a data directory and addresses over restarts.
pub struct Machine {
    directory: TempDir,
    /// Where its edge listens.
    pub edge: SocketAddr,
    /// Where its services listen.
    pub grpc: SocketAddr,
    /// Where an edge listens for operators that runs by itself.
    pub edge_grpc: SocketAddr,
}

impl Machine {
    /// Without a process yet.
    ///
    /// # Errors
    /// When there is no directory or port to be had.
    pub fn new() -> anyhow::Result<Self> {
        let directory = tempfile::tempdir()?;
        Ok(Self { directory, edge: free_address()?, grpc: free_address()?, edge_grpc: free_address()? })
    }

    /// What its processes are told, besides their roles.
    #[must_use]
    pub fn settings(&self) -> Vec<(&'static str, String)> {
        let url = format!("http://{}", self.grpc);
        let mut settings = vec![
            ("SWITCHBOARD_DATA_DIR", self.directory.path().join("data").display().to_string()),
            ("SWITCHBOARD_EDGE__LISTEN", self.edge.to_string()),
            ("SWITCHBOARD_GRPC__LISTEN", self.grpc.to_string()),
            ("SWITCHBOARD_GRPC__TOKEN", GRPC_TOKEN.to_owned()),
        ];
        settings.extend(
            [
                "SWITCHBOARD_SERVICES__IDENTITY",
                "SWITCHBOARD_SERVICES__CHAT",
                "SWITCHBOARD_SERVICES__LOCATION",
                "SWITCHBOARD_SERVICES__NOTIFICATION",
                "SWITCHBOARD_SERVICES__PRESENCE",
            ]
            .map(|name| (name, url.clone())),
        );
        settings
    }

    /// The same for one of its processes, which has addresses of its own.
    #[must_use]
    pub fn settings_for(&self, arguments: &[&str]) -> Vec<(&'static str, String)> {
        let mut settings = self.settings();
        if arguments.contains(&"edge") {
            settings.push(("SWITCHBOARD_GRPC__LISTEN", self.edge_grpc.to_string()));
        }
        settings
    }

    /// Starts a process and waits until it listens.
    ///
    /// # Errors
    /// When it does not.
    pub async fn start(&self, arguments: &[&str], address: SocketAddr) -> anyhow::Result<Process> {
        let mut process = Process::start_logging(arguments, &self.settings_for(arguments), &self.log())?;
        process.listens(address).await?;
        Ok(process)
    }

    /// Where the process that started last serves operators, as its log says. It must listen already.
    ///
    /// # Errors
    /// When the log does not say.
    pub async fn admin(&self) -> anyhow::Result<SocketAddr> {
        let begun = Instant::now();
        loop {
            let log = std::fs::read_to_string(self.log())?;
            let line = log.lines().rev().find(|line| line.contains(r#""message":"serving""#));
            let address = line.and_then(|line| line.split_once(r#""admin":""#)?.1.split('"').next()?.parse().ok());
            if let Some(address) = address {
                return Ok(address);
            }
            ensure!(begun.elapsed() < PATIENCE, "the log does not say where operators ask");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Runs a command to its end with the same settings: exit code, standard output, standard error.
    ///
    /// # Errors
    /// When it cannot start.
    pub fn run(&self, arguments: &[&str]) -> anyhow::Result<(i32, String, String)> {
        run(arguments, &self.settings())
    }

    /// What its processes log.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.directory.path().join("log")
    }

    /// Where its processes keep what they know.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// A token of a user.
    ///
    /// # Errors
    /// When none is made.
    pub fn token(&self, user: &str) -> anyhow::Result<String> {
        let (code, token, err) = run(&["token", "--user", user], &self.settings())?;
        ensure!(code == 0, "{err}");
        Ok(token.trim().to_owned())
    }

    /// Loads people and conversations: see `switchboard provision --help`.
    ///
    /// # Errors
    /// When a line is wrong, or nobody takes it.
    pub fn provision(&self, lines: &str) -> anyhow::Result<()> {
        let file = self.directory.path().join("people.jsonl");
        std::fs::write(&file, lines)?;
        let (code, _, err) = run(&["provision", &file.display().to_string()], &self.settings())?;
        ensure!(code == 0, "{err}");
        Ok(())
    }

    /// Connects to a path as a user.
    ///
    /// # Errors
    /// When the edge does not upgrade.
    pub async fn connect(&self, path: &str, user: &str) -> anyhow::Result<Client> {
        let (token, mark) = (self.token(user)?, if path.contains('?') { '&' } else { '?' });
        Client::connect(&format!("ws://{}{path}{mark}token={token}", self.edge), &[]).await
    }

    /// The way to its edge, when that runs by itself.
    ///
    /// # Errors
    /// When the address is not a URL.
    pub fn edge_peer(&self) -> anyhow::Result<Peer> {
        Ok(remote_peer(&format!("http://{}", self.edge_grpc), &Secret::new(GRPC_TOKEN))?)
    }

    /// The way to its services.
    ///
    /// # Errors
    /// When the address is not a URL.
    pub fn peer(&self) -> anyhow::Result<Peer> {
        Ok(remote_peer(&format!("http://{}", self.grpc), &Secret::new(GRPC_TOKEN))?)
    }
}

/// A script of `tests/clients`, run by an interpreter: its standard output.
///
/// # Errors
/// When the interpreter is missing or the script fails.
pub async fn script(interpreter: &str, name: &str, arguments: &[&str]) -> anyhow::Result<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients").join(name);
    let mut command = tokio::process::Command::new(interpreter);
    command.arg(&path).args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(PATIENCE, command.output())
        .await
        .with_context(|| format!("{name} does not end"))?
        .with_context(|| format!("{interpreter} is missing: run ./tests/run"))?;
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if !output.status.success() {
        bail!("{name} failed: {out}{err}");
    }
    Ok(out.into_owned())
}
