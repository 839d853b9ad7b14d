//! What `deploy/` ships: checked as it stands, and started as it says, though without containers: each becomes a process
//! with the same command, environment and files, at an address of its own with the same ports.

mod checks;
mod compose;
mod image;
mod kubernetes;
mod nginx;
mod prometheus;
mod stack;
mod systemd;
mod visitor;

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, ensure};
use serde_json::Value;
use switchboard_tests::{PATIENCE, client, process};

use crate::transport::until;

const PEOPLE: &str = include_str!("../../deploy/switchboard/demo/people.jsonl");
/// Of Pat (701) and Dora (702).
const CHAT: &str = "550e8400-e29b-41d4-a716-446655440000";

/// A file of this repository.
fn shipped(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name)
}

fn text(name: &str) -> anyhow::Result<String> {
    std::fs::read_to_string(shipped(name)).with_context(|| name.to_owned())
}

/// The documents of a YAML file.
fn yaml(name: &str) -> anyhow::Result<Vec<Value>> {
    const READ: &str = "import json, sys, yaml; json.dump(list(yaml.safe_load_all(open(sys.argv[1]))), sys.stdout)";
    let read = passes(Command::new("python3").args(["-c", READ]).arg(shipped(name)))?;
    Ok(serde_json::from_str(&read)?)
}

/// What a program says that must succeed; missing ones are installed by `tests/run`.
fn passes(command: &mut Command) -> anyhow::Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("{program} does not run: see ./tests/run"))?;
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    ensure!(output.status.success(), "{program}: {}{}", said(&output.stdout), said(&output.stderr));
    Ok(said(&output.stdout))
}

/// The text of a value that must be one.
fn str_of<'a>(value: &'a Value, name: &str) -> anyhow::Result<&'a str> {
    value.as_str().with_context(|| format!("{name} is no text: {value}"))
}

/// The texts of a list.
fn list_of(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// Waits until `switchboard` with these arguments ends well.
async fn until_it_says_yes(arguments: &[&str], settings: &[(&str, String)]) -> anyhow::Result<()> {
    let begun = std::time::Instant::now();
    loop {
        let (code, _, err) = process::run(arguments, settings)?;
        if code == 0 {
            return Ok(());
        }
        ensure!(begun.elapsed() < PATIENCE, "{arguments:?} {settings:?}: {err}");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

/// Waits until an HTTP page is there.
async fn until_it_answers(address: std::net::SocketAddr, path: &str) -> anyhow::Result<()> {
    until(path, || async move {
        Ok(client::call(address, "GET", path, None, None).await.is_ok_and(|(status, _)| status == 200))
    })
    .await
}
