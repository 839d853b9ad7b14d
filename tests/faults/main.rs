//! Real processes under real faults: is anything lost, doubled or out of order, is anybody wrongly online or offline?
//!
//! Two services, two edges, two NATS nodes and a Postgres serve people who chat, are notified and are online. One after
//! the other, something is done to the cluster under that traffic, and healed. Then everybody falls silent, and what
//! everybody saw is compared with what is stored.
//!
//! Without arguments, it is short: `cargo test` runs it so. `./tests/run faults --seeds 20` is the long run.

mod audit;
mod calls;
mod cluster;
mod disk;
mod faults;
mod inbox;
mod postgres;
mod presence;
mod report;
mod route;
mod scene;
mod socket;
mod traffic;
mod world;

use std::{
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use clap::Parser;
use switchboard_chassis::Lifecycle;

use audit::{Findings, audit};
use faults::Fault;
use report::{Cost, Report, Tally};
use scene::Dice;
use world::World;

/// How long anything may take before it counts as lost.
const LIVENESS: Duration = Duration::from_secs(60);
/// Before a fault, at most: so that it comes at any moment of the traffic.
const BEFORE_STRIKE_MAX: Duration = Duration::from_millis(500);
const LOOK_AGAIN: Duration = Duration::from_millis(200);
/// Of what was found, in the explanation.
const SHOWN_MAX: usize = 12;

/// Real processes under real faults.
#[derive(Parser)]
struct Cli {
    /// Every fault, in an order that the seed chooses, for so many seeds; without it, a few faults once. 0 leaves the full
    /// disk, which comes last.
    #[arg(long)]
    seeds: Option<u64>,
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    first_seed: u64,
    /// Each seed repeats its faults until so many seconds have passed; 0 does each fault once.
    #[arg(long, default_value_t = 0)]
    seconds: u64,
    /// Keep the logs of what passed, too.
    #[arg(long)]
    keep: bool,
    /// As other tests have it: only if `faults` contains one of these.
    names: Vec<String>,
    /// As other tests have it.
    #[arg(long, hide = true)]
    nocapture: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    let Cli { seeds, first_seed, seconds, keep, names, .. } = Cli::parse();
    if !names.is_empty() && !names.iter().any(|name| "faults".contains(name.as_str())) {
        return ExitCode::SUCCESS;
    }
    let lifecycle = Lifecycle::new();
    let mut report = Report::default();
    let run = async {
        if let Err(error) = lifecycle.obey_signals() {
            bail!("no signals can be heard: {error}");
        }
        for seed in first_seed..first_seed + seeds.unwrap_or(1) {
            let mut dice = Dice::new(seed, u64::from(u16::MAX));
            let least = Duration::from_secs(seconds);
            let report = &mut report;
            let seed_run = async |directory: &Path| {
                let faults = if seeds.is_some() { Fault::all(&mut dice) } else { Fault::few() };
                run_seed(seed, &faults, least, &mut dice, directory, report).await
            };
            in_directory(&format!("seed-{seed}"), keep, seed_run).await?;
        }
        in_directory("disk", keep, async |directory| disk::full(directory).await).await?;
        report.line("SQLite on a full disk: nothing that was acknowledged is lost");
        Ok(())
    };
    let done = tokio::select! {
        done = run => done,
        () = lifecycle.drained() => Err(anyhow::anyhow!("interrupted")),
    };
    report.table();
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report.line(&format!("\nFAILED: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Does something with a new directory, which stays if that fails.
async fn in_directory(
    name: &str,
    keep: bool,
    run: impl AsyncFnOnce(&Path) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let prefix = format!("switchboard-faults-{name}-");
    let directory: PathBuf = tempfile::Builder::new().prefix(&prefix).tempdir()?.keep();
    // Postgres, as another user, has its directory in it.
    std::fs::set_permissions(&directory, std::fs::Permissions::from_mode(0o711))?;
    run(&directory).await.with_context(|| format!("{name}: logs and data are in {}", directory.display()))?;
    if !keep {
        std::fs::remove_dir_all(&directory)?;
    }
    Ok(())
}

async fn run_seed(
    seed: u64,
    faults: &[Fault],
    least: Duration,
    dice: &mut Dice,
    directory: &Path,
    report: &mut Report,
) -> anyhow::Result<()> {
    let begun = Instant::now();
    let mut world = World::begin(directory, seed).await.context("the cluster does not begin")?;
    loop {
        for fault in faults {
            let (tally, done) = one_fault(&mut world, *fault, dice).await;
            report.fault(seed, *fault, tally);
            done.with_context(|| format!("seed {seed}, {fault}"))?;
        }
        if begun.elapsed() >= least {
            return Ok(());
        }
    }
}

/// A fault under traffic, healed and audited.
async fn one_fault(world: &mut World, fault: Fault, dice: &mut Dice) -> (Tally, anyhow::Result<()>) {
    let begun = Instant::now();
    let ended = report::sockets_ended(world);
    let mut findings = Findings::default();
    let mut cost = Cost::default();
    let done = async {
        world.scene.note(&format!("everybody talks; next: {fault}"));
        world.scene.go_home();
        world.scene.talk();
        world.flows().await.context("before the fault")?;
        tokio::time::sleep(dice.between(Duration::ZERO, BEFORE_STRIKE_MAX)).await;
        world.scene.strikes(fault.edges(), fault.spares_sockets());
        world.scene.note(&format!("STRIKE {fault}"));
        cost.left_in = fault.strike(&mut world.cluster).await?;
        world.scene.note("healed");
        world.flows().await.context("after the fault")?;
        world.scene.hush();
        world.scene.note("quiet");
        let quiet = Instant::now();
        findings = settle(world).await?;
        cost.settled_in = quiet.elapsed();
        world.scene.note("audited");
        findings.wrong.iter().for_each(|wrong| world.scene.note(&format!("FOUND {wrong}")));
        let found = findings.wrong.len();
        findings.wrong.truncate(SHOWN_MAX);
        ensure!(found == 0, "{found} findings, the first of them:\n{}", findings.wrong.join("\n"));
        Ok(())
    }
    .await;
    (Tally::of(world, begun, ended, &findings, cost), done)
}

/// Audits until nothing is missing; what is still missing in the end is lost.
async fn settle(world: &mut World) -> anyhow::Result<Findings> {
    let begun = Instant::now();
    loop {
        world.check()?;
        let is_late = begun.elapsed() > LIVENESS;
        // What is on its way may be seen after what is stored was read.
        if !is_late && !world.is_all_answered() {
            tokio::time::sleep(LOOK_AGAIN).await;
            continue;
        }
        let mut findings = audit(world).await?;
        if is_late {
            let late = findings.missing.drain(..).map(|missing| format!("after {LIVENESS:?}: {missing}"));
            findings.wrong.extend(late);
        }
        if findings.missing.is_empty() || !findings.wrong.is_empty() {
            world.check()?;
            return Ok(findings);
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}
