//! The units: read by systemd's own tools, and started as it would start them, with its variables and its socket.

use std::{fs, os::unix::net::UnixDatagram, path::Path, process::Command};

use anyhow::{Context as _, ensure};
use switchboard_chassis::testing::new_postgres_database;
use switchboard_tests::{
    Client, PATIENCE,
    process::{self, Process},
};
use tempfile::TempDir;

use super::{CHAT, PEOPLE, passes, text, until_it_answers};

const UNITS: [&str; 2] = ["switchboard.service", "switchboard@.service"];
/// In tenths: `OK` to systemd is below 2.0.
const EXPOSURE_MAX: &str = "15";

/// A machine's directories, and what systemd would put into variables.
struct Machine {
    directory: TempDir,
    /// Of the unit, behind the @.
    instance: &'static str,
}

impl Machine {
    fn at(&self, path: &str) -> String {
        format!("{}{path}", self.directory.path().display())
    }

    /// A unit's `[Service]`, with what systemd would fill in.
    fn read(&self, unit: &str) -> anyhow::Result<Vec<(String, String)>> {
        let whole = text(&format!("deploy/systemd/{unit}"))?;
        let lines = whole.lines().filter(|line| !line.starts_with(['#', '[']));
        let pairs = lines.filter_map(|line| line.split_once('='));
        Ok(pairs
            .map(|(name, value)| {
                let value = value.replace("%S", &self.at("/var/lib")).replace("%d", &self.at("/run/credentials"));
                (name.to_owned(), value.replace("%i", self.instance).replace("/etc/", &self.at("/etc/")))
            })
            .collect())
    }

    /// Starts a unit and waits until it says that it is ready.
    fn start(&self, unit: &str) -> anyhow::Result<(Process, UnixDatagram)> {
        let entries = self.read(unit)?;
        let all = |wanted: &str| {
            entries.iter().filter(|(name, _)| *name == wanted).map(|(_, value)| value.clone()).collect::<Vec<_>>()
        };
        let one = |wanted: &str| all(wanted).pop().with_context(|| format!("no {wanted}"));
        ensure!(one("Type")? == "notify");
        for directory in all("StateDirectory") {
            fs::create_dir_all(self.at(&format!("/var/lib/{directory}")))?;
        }
        for credential in all("LoadCredential") {
            let (name, file) = credential.split_once(':').context("a file")?;
            fs::create_dir_all(self.at("/run/credentials"))?;
            fs::copy(file, self.at(&format!("/run/credentials/{name}"))).with_context(|| file.to_owned())?;
        }
        let pair = |line: &str| line.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
        let mut environment: Vec<_> = all("Environment").iter().filter_map(|line| pair(line)).collect();
        for file in all("EnvironmentFile") {
            let file = file.trim_start_matches('-');
            if Path::new(file).exists() {
                environment.extend(fs::read_to_string(file)?.lines().filter_map(pair));
            }
        }
        let socket = self.at(&format!("/notify-{}", self.instance));
        let told = UnixDatagram::bind(&socket)?;
        told.set_read_timeout(Some(PATIENCE))?;
        environment.push(("NOTIFY_SOCKET".to_owned(), socket));

        let mut command = one("ExecStart")?;
        // The last one is good.
        for (name, value) in environment.iter().rev() {
            command = command.replace(&format!("${{{name}}}"), value);
        }
        let words: Vec<&str> = command.split_whitespace().collect();
        ensure!(words.first() == Some(&"/usr/bin/switchboard"), "{command}");
        let settings: Vec<(&str, String)> =
            environment.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
        let process = Process::start_logging(&words[1..], &settings, Path::new(&self.at("/log")))?;
        says(&told, "READY=1").with_context(|| fs::read_to_string(self.at("/log")).unwrap_or_default())?;
        Ok((process, told))
    }

    fn write(&self, path: &str, content: &str) -> anyhow::Result<()> {
        let path = self.at(path);
        fs::create_dir_all(Path::new(&path).parent().context("a directory")?)?;
        Ok(fs::write(path, content)?)
    }
}

fn says(told: &UnixDatagram, expected: &str) -> anyhow::Result<()> {
    let mut buffer = [0; 256];
    let length = told.recv(&mut buffer).with_context(|| format!("{expected} is not said"))?;
    let said = String::from_utf8_lossy(&buffer[..length]);
    ensure!(said.trim() == expected, "{said}");
    Ok(())
}

#[test]
fn systemd_finds_no_fault_in_the_units_and_little_exposed() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    for unit in UNITS {
        let file = directory.path().join(unit);
        // It looks whether the program is there.
        let here = text(&format!("deploy/systemd/{unit}"))?
            .replace("/usr/bin/switchboard", &process::binary()?.canonicalize()?.display().to_string());
        fs::write(&file, here)?;
        let output = Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&file).output();
        let output = output.context("systemd-analyze is missing: run ./tests/run")?;
        let said = String::from_utf8_lossy(&output.stderr);
        let ours: Vec<_> = said.lines().filter(|line| line.contains("switchboard")).collect();
        assert!(output.status.success() && ours.is_empty(), "{unit}: {said}");
        let threshold = format!("--threshold={EXPOSURE_MAX}");
        passes(Command::new("systemd-analyze").args(["security", "--offline=true", &threshold]).arg(&file))?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_unit_says_when_it_is_ready_and_when_it_stops() -> anyhow::Result<()> {
    let machine = Machine { directory: tempfile::tempdir()?, instance: "" };
    let (edge, grpc) = (process::free_address()?, process::free_address()?);
    machine.write("/etc/switchboard/switchboard.toml", &format!("[edge]\nlisten = '{edge}'\n"))?;
    machine.write("/etc/switchboard/switchboard.env", &format!("SWITCHBOARD_GRPC__LISTEN={grpc}\n"))?;
    let (mut process, told) = machine.start("switchboard.service")?;
    // Ready means that nobody has to try twice.
    let (status, _) = switchboard_tests::client::call(edge, "GET", "/healthz", None, None).await?;
    assert_eq!(status, 200);
    assert!(Path::new(&machine.at("/var/lib/switchboard/grpc-token")).exists());
    process.terminate()?;
    says(&told, "STOPPING=1")?;
    assert_eq!(process.exit_code().await?, 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn instances_of_the_template_are_roles_with_credentials() -> anyhow::Result<()> {
    let machine = |instance| anyhow::Ok(Machine { directory: tempfile::tempdir()?, instance });
    let (services, porch) = (machine("services")?, machine("edge")?);
    let (edge, grpc) = (process::free_address()?, process::free_address()?);
    let database = new_postgres_database().await?;
    let url = format!("http://{grpc}");
    let toml = format!(
        "[edge]\nlisten = '{edge}'\n[grpc]\nlisten = '{grpc}'\n[services]\nidentity = '{url}'\nchat = '{url}'\n\
         location = '{url}'\nnotification = '{url}'\npresence = '{url}'\n"
    );
    for machine in [&services, &porch] {
        machine.write("/etc/switchboard/switchboard.toml", &toml)?;
        machine.write("/etc/switchboard/secrets/grpc-token", "a-token-between-services\n")?;
        machine.write("/etc/switchboard/secrets/jwt-secret", "a-secret-of-at-least-thirty-two-bytes\n")?;
        machine.write("/etc/switchboard/secrets/store-url", &format!("{database}\n"))?;
    }
    services.write("/etc/switchboard/services.env", "ROLES=identity,chat,location,notification,presence\n")?;
    // Two processes of one machine listen at addresses of their own.
    porch.write("/etc/switchboard/edge.env", &format!("SWITCHBOARD_GRPC__LISTEN={}\n", process::free_address()?))?;
    let (mut backend, _) = services.start("switchboard@.service")?;
    let (mut process, _) = porch.start("switchboard@.service")?;
    until_it_answers(edge, "/readyz").await?;

    let settings = [
        ("SWITCHBOARD_DATA_DIR", services.at("/var/lib/switchboard-services")),
        ("SWITCHBOARD_GRPC__TOKEN_FILE", services.at("/run/credentials/grpc-token")),
        ("SWITCHBOARD_AUTH__JWT__SECRET_FILE", services.at("/run/credentials/jwt-secret")),
    ];
    services.write("/people.jsonl", PEOPLE)?;
    let config = services.at("/etc/switchboard/switchboard.toml");
    let run = |arguments: &[&str]| -> anyhow::Result<String> {
        let (code, out, err) = process::run(&[arguments, &["--config", &config]].concat(), &settings)?;
        ensure!(code == 0, "{err}");
        Ok(out.trim().to_owned())
    };
    run(&["provision", &services.at("/people.jsonl")])?;
    let token = run(&["token", "--user", "701"])?;
    let mut pat = Client::connect(&format!("ws://{edge}/ws/chat/{CHAT}/?token={token}"), &[]).await?;
    pat.send(r#"{"content": "from unit to unit"}"#).await?;
    assert_eq!(pat.next().await?["message"]["content"], "from unit to unit");
    for (process, machine) in [(&mut process, &porch), (&mut backend, &services)] {
        process.terminate()?;
        let code = process.exit_code().await?;
        ensure!(code == 0, "{code}: {}", fs::read_to_string(machine.at("/log"))?);
    }
    Ok(())
}
