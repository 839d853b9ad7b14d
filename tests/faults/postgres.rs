//! A Postgres of its own, which is stopped, killed and started.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, ensure};

/// A server that keeps its data in a directory. Dropping it ends it.
pub(crate) struct Postgres {
    binaries: PathBuf,
    directory: PathBuf,
    port: u16,
}

/// How a server ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Clients are disconnected, and what is in memory is written.
    Fast,
    /// As a crash: it recovers at the next start.
    Immediate,
}

impl Postgres {
    /// Makes a server in an empty directory, and starts it.
    pub(crate) async fn create(directory: PathBuf, port: u16) -> anyhow::Result<Self> {
        std::fs::create_dir(&directory)?;
        if is_root() {
            let chown = Command::new("chown").arg("postgres").arg(&directory).status()?;
            ensure!(chown.success(), "there is no user postgres to run Postgres as");
        }
        let postgres = Self { binaries: binaries()?, directory, port };
        postgres.run("initdb", &["-A", "trust", "-U", "postgres", "-E", "UTF8"]).await?;
        postgres.start().await?;
        Ok(postgres)
    }

    /// Its database.
    pub(crate) fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }

    pub(crate) async fn start(&self) -> anyhow::Result<()> {
        let options = format!(
            "-p {} -c listen_addresses=127.0.0.1 -c unix_socket_directories={} -c max_connections=400",
            self.port,
            self.directory.display()
        );
        let log = self.directory.join("log").display().to_string();
        self.run("pg_ctl", &["-w", "-l", &log, "-o", &options, "start"]).await
    }

    pub(crate) async fn stop(&self, ending: Ending) -> anyhow::Result<()> {
        let mode = match ending {
            Ending::Fast => "fast",
            Ending::Immediate => "immediate",
        };
        self.run("pg_ctl", &["-w", "-m", mode, "stop"]).await
    }

    async fn run(&self, program: &str, arguments: &[&str]) -> anyhow::Result<()> {
        const PROGRAM_MAX: Duration = Duration::from_secs(60);
        let mut command = tokio::process::Command::from(self.command(program, arguments));
        let status = tokio::time::timeout(PROGRAM_MAX, command.status())
            .await
            .with_context(|| format!("{program} does not end"))??;
        ensure!(status.success(), "{program} {arguments:?} failed: see {}", self.directory.join("log").display());
        Ok(())
    }

    /// It does not run as root.
    fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let program = self.binaries.join(program);
        let mut command = if is_root() {
            let mut command = Command::new("runuser");
            command.args(["-u", "postgres", "--"]).arg(program);
            command
        } else {
            Command::new(program)
        };
        command.arg("-D").arg(self.directory.join("db")).args(arguments).current_dir(&self.directory);
        // The server outlives the program that starts it, and must not hold our pipes.
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // It may be stopped already.
        let _ = self.command("pg_ctl", &["-w", "-m", "immediate", "stop"]).status();
    }
}

/// The newest that Debian's packages installed, else those on the path.
fn binaries() -> anyhow::Result<PathBuf> {
    let version = |directory: &Path| directory.file_name()?.to_str()?.parse::<u32>().ok();
    let installed = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten().map(|entry| entry.path());
    if let Some(newest) = installed.max_by_key(|directory| version(directory)) {
        return Ok(newest.join("bin"));
    }
    let found = Command::new("sh").args(["-c", "command -v initdb"]).output()?;
    let initdb = PathBuf::from(String::from_utf8(found.stdout)?.trim());
    let directory = initdb.parent().filter(|directory| directory.is_absolute());
    Ok(directory.context("there is no Postgres server: run ./tests/run, which installs one")?.to_owned())
}

fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout == b"0\n")
}
