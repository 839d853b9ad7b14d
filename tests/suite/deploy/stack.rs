//! Containers as processes.

use std::{
    collections::BTreeMap,
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::atomic::{AtomicU8, Ordering},
};

use anyhow::{Context as _, ensure};
use serde_json::Value;
use switchboard_tests::process::{self, Process};
use tempfile::TempDir;

use super::{PEOPLE, list_of, text, until_it_says_yes};

/// What the image says of every container of it.
pub(super) struct Image {
    pub(super) environment: Vec<(String, String)>,
    pub(super) entry_point: Vec<String>,
    pub(super) command: Vec<String>,
    pub(super) health: Vec<String>,
}

impl Image {
    /// Reads the Dockerfile's last stage.
    pub(super) fn read() -> anyhow::Result<Self> {
        let whole = text("deploy/Dockerfile")?;
        let lines = whole.lines().filter(|line| !line.trim_start().starts_with('#')).collect::<Vec<_>>().join("\n");
        let joined = lines.replace("\\\n", " ");
        let (_, stage) = joined.rsplit_once("\nFROM ").context("a last stage")?;
        let instruction = |name: &str| {
            let found = stage.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            found.with_context(|| format!("no {name}"))
        };
        let list = |text: &str| anyhow::Ok(list_of(&serde_json::from_str(text)?));
        let environment = instruction("ENV")?.split_whitespace().filter_map(|pair| pair.split_once('='));
        Ok(Self {
            environment: environment.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
            entry_point: list(instruction("ENTRYPOINT")?)?,
            command: list(instruction("CMD")?)?,
            health: list(instruction("HEALTHCHECK")?.split_once("CMD ").context("a command")?.1)?,
        })
    }
}

/// A machine on which every host has an address of its own, and a file system of its own under a directory.
pub(super) struct Stack {
    directory: TempDir,
    hosts: BTreeMap<String, Vec<Ipv4Addr>>,
    image: Image,
}

/// One container.
pub(super) struct Container {
    pub(super) address: Ipv4Addr,
    /// Where its files are.
    pub(super) root: PathBuf,
    settings: Vec<(String, String)>,
    pub(super) process: Process,
}

impl Stack {
    pub(super) fn new() -> anyhow::Result<Self> {
        Ok(Self { directory: tempfile::tempdir()?, hosts: BTreeMap::new(), image: Image::read()? })
    }

    /// A path of this test.
    pub(super) fn at(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// One more host by this name.
    pub(super) fn host(&mut self, name: &str) -> anyhow::Result<Ipv4Addr> {
        static NEXT: AtomicU8 = AtomicU8::new(1);
        let last = NEXT.fetch_add(1, Ordering::Relaxed);
        ensure!(last < u8::MAX, "more hosts than addresses");
        let [.., high, low] = std::process::id().to_be_bytes();
        // Another one for each program that may run beside this one.
        let address = Ipv4Addr::new(127, 64 | high & 63, low, last);
        self.hosts.entry(name.to_owned()).or_default().push(address);
        Ok(address)
    }

    /// The only address of a host.
    pub(super) fn address(&self, name: &str) -> anyhow::Result<Ipv4Addr> {
        self.hosts.get(name).and_then(|known| known.first()).copied().with_context(|| format!("no host {name}"))
    }

    /// A setting's value, with names as their addresses, "here" as the container's own, and its files under its root.
    pub(super) fn mapped(&self, value: &str, own: Ipv4Addr) -> String {
        if value.starts_with('/') {
            return format!("{}{value}", self.root(own).display());
        }
        let separator = if value.contains(' ') { " " } else { "," };
        let one = |entry: &str| -> Vec<String> {
            let (scheme, rest) = entry.split_once("://").map_or(("", entry), |(scheme, rest)| (scheme, rest));
            let Some((host, port)) = rest.split_once(':') else { return vec![entry.to_owned()] };
            let own = (host == "0.0.0.0").then(|| vec![own]);
            let Some(addresses) = own.as_ref().or_else(|| self.hosts.get(host)) else { return vec![entry.to_owned()] };
            let scheme = if scheme.is_empty() { String::new() } else { format!("{scheme}://") };
            addresses.iter().map(|address| format!("{scheme}{address}:{port}")).collect()
        };
        value.split(separator).flat_map(one).collect::<Vec<_>>().join(separator)
    }

    /// Where a container's files are.
    pub(super) fn root(&self, own: Ipv4Addr) -> PathBuf {
        self.at(&format!("host-{own}"))
    }

    /// Puts a file into a container.
    pub(super) fn put(&self, own: Ipv4Addr, path: &str, content: &str) -> anyhow::Result<()> {
        let file = PathBuf::from(format!("{}{path}", self.root(own).display()));
        fs::create_dir_all(file.parent().context("a directory")?)?;
        Ok(fs::write(file, content)?)
    }

    /// Starts a container of our image: `command` in the place of the image's, `environment` over the image's.
    pub(super) fn start(
        &self,
        own: Ipv4Addr,
        command: Option<Vec<String>>,
        environment: &[(String, String)],
    ) -> anyhow::Result<Container> {
        let mut settings: BTreeMap<String, String> = self.image.environment.iter().cloned().collect();
        settings.extend(environment.iter().cloned());
        let settings: Vec<(String, String)> =
            settings.into_iter().map(|(name, value)| (name, self.mapped(&value, own))).collect();
        ensure!(self.image.entry_point == ["/usr/bin/switchboard"], "{:?}", self.image.entry_point);
        let command = command.unwrap_or_else(|| self.image.command.clone());
        let arguments: Vec<&str> = command.iter().map(String::as_str).collect();
        fs::create_dir_all(self.root(own))?;
        let log = self.at(&format!("{own}.log"));
        let process = Process::start_logging(&arguments, &borrowed(&settings), &log)?;
        Ok(Container { address: own, root: self.root(own), settings, process })
    }

    /// Everything that containers of our image logged.
    pub(super) fn logs(&self) -> anyhow::Result<String> {
        let mut all = String::new();
        for entry in fs::read_dir(self.directory.path())? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "log") {
                all += &fs::read_to_string(path)?;
            }
        }
        Ok(all)
    }

    /// Runs the image's health check in a container until it passes.
    pub(super) async fn healthy(&self, container: &mut Container) -> anyhow::Result<()> {
        let check: Vec<&str> = self.image.health.iter().skip(1).map(String::as_str).collect();
        let checked = until_it_says_yes(&check, &borrowed(&container.settings)).await;
        if let Some(status) = container.process.ended()? {
            let log = fs::read_to_string(self.at(&format!("{}.log", container.address)))?;
            anyhow::bail!("it ended with {status}: {log}");
        }
        checked
    }
}

impl Container {
    pub(super) fn at(&self, port: u16) -> SocketAddr {
        SocketAddr::new(IpAddr::V4(self.address), port)
    }

    /// Runs `switchboard` in it: standard output.
    pub(super) fn execute(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let (code, out, err) = process::run(arguments, &borrowed(&self.settings))?;
        ensure!(code == 0, "{arguments:?}: {err}");
        Ok(out.trim().to_owned())
    }

    /// Loads the demo's people, as an operator would.
    pub(super) fn provision(&self) -> anyhow::Result<()> {
        let people = self.root.join("people.jsonl");
        fs::write(&people, PEOPLE)?;
        self.execute(&["provision", &people.display().to_string()])?;
        Ok(())
    }

    pub(super) fn token(&self, user: &str) -> anyhow::Result<String> {
        self.execute(&["token", "--user", user])
    }
}

fn borrowed(settings: &[(String, String)]) -> Vec<(&str, String)> {
    settings.iter().map(|(name, value)| (name.as_str(), value.clone())).collect()
}

/// A mapping of variables, as Compose and ConfigMaps have it.
pub(super) fn variables(value: &Value) -> Vec<(String, String)> {
    let pairs = value.as_object().into_iter().flatten();
    pairs.map(|(name, value)| (name.clone(), value.as_str().map_or_else(|| value.to_string(), str::to_owned))).collect()
}
