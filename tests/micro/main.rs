//! Counts the instructions of the hot path with valgrind, which gives the same number whatever else the machine does, and
//! holds them against those that are on record: `./tests/run micro`.

mod cases;

use std::{collections::BTreeMap, fs, path::Path, process::Command};

use anyhow::{Context as _, bail, ensure};
use cases::{BATCH, Commits, FRAMES, RoundTrips};
use switchboard_chassis::config::environment;

/// What a pure function may cost more than it did, in percent: a compiler's whims.
const PURE_MORE: u64 = 12;
/// The same for a whole system, with its threads and its clock.
const SYSTEM_MORE: u64 = 30;

/// Names of cases, how often each is repeated while it is counted, and what it may cost more than before in percent.
fn cases() -> Vec<(String, u64, u64)> {
    let pure = |name: String| (name, 2_000, PURE_MORE);
    let mut all: Vec<_> = FRAMES.map(|(protocol, _)| pure(format!("decode {protocol}"))).into();
    all.extend(FRAMES.map(|(protocol, _)| pure(format!("encode {protocol}"))));
    all.extend(["link request", "link response"].map(|name| pure(name.to_owned())));
    all.push(("group commit".to_owned(), 40, SYSTEM_MORE));
    all.push(("round trip".to_owned(), 400, SYSTEM_MORE));
    all
}

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.as_slice() {
        [] => check(),
        [name, times] => run(name, times.parse()?),
        _ => bail!("no arguments, or a case and how often"),
    }
}

/// What valgrind runs.
fn run(name: &str, times: u64) -> anyhow::Result<()> {
    if let Some((protocol, frame)) = FRAMES.iter().find(|(protocol, _)| name == format!("decode {protocol}")) {
        (0..times).for_each(|_| cases::decode(protocol, frame));
    } else if let Some((protocol, _)) = FRAMES.iter().find(|(protocol, _)| name == format!("encode {protocol}")) {
        (0..times).for_each(|_| cases::encode(protocol));
    } else {
        match name {
            "link request" => (0..times).for_each(|_| cases::link_request()),
            "link response" => (0..times).for_each(|_| cases::link_response()),
            "group commit" => {
                let commits = Commits::new()?;
                (0..times).try_for_each(|_| commits.store())?;
            }
            "round trip" => {
                let mut trips = RoundTrips::new()?;
                (0..times).try_for_each(|_| trips.talk())?;
            }
            other => bail!("there is no case `{other}`"),
        }
    }
    Ok(())
}

#[expect(clippy::print_stderr, reason = "the progress of a command")]
fn check() -> anyhow::Result<()> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("micro/instructions.json");
    let before: BTreeMap<String, u64> = match fs::read(&file) {
        Ok(json) => serde_json::from_slice(&json)?,
        Err(_) => BTreeMap::new(),
    };
    let directory = tempfile::tempdir()?;
    let mut now = BTreeMap::new();
    let mut worse = Vec::new();
    for (name, times, more) in cases() {
        // What starting costs is in both.
        let few = count(&directory.path().join("out"), &name, times / 4)?;
        let many = count(&directory.path().join("out"), &name, times)?;
        let each = many.saturating_sub(few) / (times - times / 4);
        // A batch is told of by the message.
        let each = if name == "group commit" { each / BATCH } else { each };
        let was = before.get(&name).copied();
        eprintln!("{name:22} {each:>9} instructions, {}", was.map_or("new".to_owned(), |was| format!("were {was}")));
        if was.is_none_or(|was| each > was + was * more / 100) {
            worse.push(name.clone());
        }
        now.insert(name, each);
    }
    if environment().iter().any(|(name, _)| name == "SWITCHBOARD_REGENERATE") {
        fs::write(&file, serde_json::to_string_pretty(&now)? + "\n")?;
        return Ok(());
    }
    ensure!(
        worse.is_empty(),
        "more instructions than on record: {}; if they are worth it, SWITCHBOARD_REGENERATE=1 ./tests/run micro",
        worse.join(", ")
    );
    Ok(())
}

/// Instructions of a whole run.
fn count(out: &Path, name: &str, times: u64) -> anyhow::Result<u64> {
    let ran = Command::new("valgrind")
        .arg("--tool=callgrind")
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(std::env::current_exe()?)
        .args([name, &times.to_string()])
        // The system's own log.
        .env("RUST_LOG", "off")
        .output()
        .context("valgrind does not run")?;
    let told = String::from_utf8_lossy(&ran.stderr);
    ensure!(ran.status.success(), "{name} failed:\n{told}");
    let collected =
        told.lines().find_map(|line| line.split("Collected :").nth(1)).context("valgrind counted nothing")?;
    Ok(collected.trim().parse()?)
}
