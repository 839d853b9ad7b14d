//! NATS servers for tests.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, bail};
use switchboard_chassis::{Clock, config::environment};
use tokio::sync::oneshot;

use crate::{Bus, BusConfig};

/// Where the tests' NATS is; `tests/run` starts one.
const NATS_VARIABLE: &str = "SWITCHBOARD_TEST_NATS_URL";

/// The first member of a new bus on the server that `SWITCHBOARD_TEST_NATS_URL` names.
///
/// # Errors
/// When there is no server: a test must not pass without.
pub async fn nats() -> anyhow::Result<Bus> {
    Ok(Bus::connect(&nats_config()?, &Clock::System).await?)
}

/// How to reach a new bus there, also from several processes.
///
/// # Errors
/// When the variable is not set.
pub fn nats_config() -> anyhow::Result<BusConfig> {
    let url =
        environment().into_iter().find(|(name, _)| name == NATS_VARIABLE).map(|(_, url)| url).with_context(|| {
            format!("{NATS_VARIABLE} is not set: run ./tests/run, which starts a NATS server for the tests")
        })?;
    Ok(new_bus_at(url))
}

/// How to reach a new bus on a server: a subject prefix that no other test has.
#[must_use]
pub fn new_bus_at(url: String) -> BusConfig {
    let subject_prefix = format!("test-{}", Clock::System.new_id().simple());
    BusConfig { url, subject_prefix, ..BusConfig::default() }
}

/// A NATS server of the test's own, which ends with it.
#[derive(Debug)]
pub struct NatsServer {
    arguments: Vec<String>,
    port: u16,
    process: Child,
}

impl NatsServer {
    /// Starts `nats-server` on a free port of 127.0.0.1, with more arguments.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn start(arguments: &[&str]) -> anyhow::Result<Self> {
        let arguments: Vec<String> = arguments.iter().map(|&argument| argument.to_owned()).collect();
        let (process, port) = start(&arguments, None).await?;
        Ok(Self { arguments, port, process })
    }

    /// Where it listens.
    #[must_use]
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Kills it.
    ///
    /// # Errors
    /// When it cannot be killed.
    pub fn kill(&mut self) -> std::io::Result<()> {
        self.process.kill()?;
        self.process.wait().map(drop)
    }

    /// Stops it without ending it: it answers nothing, and its connections stay.
    ///
    /// # Errors
    /// When it cannot be stopped.
    pub fn freeze(&self) -> std::io::Result<()> {
        self.signal("STOP")
    }

    /// Lets it go on after [`Self::freeze`].
    ///
    /// # Errors
    /// When it cannot be told.
    pub fn thaw(&self) -> std::io::Result<()> {
        self.signal("CONT")
    }

    fn signal(&self, name: &str) -> std::io::Result<()> {
        let status = Command::new("kill").args(["-s", name, &self.process.id().to_string()]).status()?;
        if status.success() { Ok(()) } else { Err(std::io::Error::other(format!("kill -s {name}: {status}"))) }
    }

    /// Starts it again on the same port after [`Self::kill`].
    ///
    /// # Errors
    /// When it does not start.
    pub async fn start_again(&mut self) -> anyhow::Result<()> {
        (self.process, self.port) = start(&self.arguments, Some(self.port)).await?;
        Ok(())
    }
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        // It may have been killed.
        let _ = self.kill();
    }
}

async fn start(arguments: &[String], port: Option<u16>) -> anyhow::Result<(Child, u16)> {
    let mut process = Command::new("nats-server")
        .args(["-a", "127.0.0.1", "-p", &port.map_or("-1".to_owned(), |port| port.to_string())])
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot run nats-server: run ./tests/run, which installs it")?;
    let log = BufReader::new(process.stderr.take().context("its log")?);
    let (ready, is_ready) = oneshot::channel();
    std::thread::spawn(move || {
        let (mut port, mut ready, mut told) = (None, Some(ready), String::new());
        // To its end, so that the server never waits for a reader.
        for line in log.lines().map_while(Result::ok) {
            if let Some((_, address)) = line.split_once("Listening for client connections on ") {
                port = address.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
            }
            told = told + &line + "\n";
            if line.contains("Server is ready")
                && let Some(ready) = ready.take()
            {
                let _ = ready.send(port.ok_or_else(|| std::mem::take(&mut told)));
            }
        }
        if let Some(ready) = ready {
            let _ = ready.send(Err(told));
        }
    });
    match is_ready.await {
        Ok(Ok(port)) => Ok((process, port)),
        Ok(Err(log)) => {
            process.kill()?;
            process.wait()?;
            bail!("nats-server does not start:\n{log}")
        }
        Err(_) => bail!("nobody reads the log of nats-server"),
    }
}
