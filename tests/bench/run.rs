//! Runs `load`, again and again.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs::File,
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::{
    machine,
    plan::{Better, SYSTEMS, Scenario, Study, System},
    results::{Measured, Outcome},
    say,
};

/// Not the servers themselves, but what they keep things in.
const STORES: [&str; 3] = ["postgres", "redis", "nats"];

#[derive(Clone, Copy, Debug)]
pub(crate) struct Cores {
    pub(crate) server: usize,
    pub(crate) load: usize,
}

/// Measures one thing after the other. Every run's line goes into a file, too.
pub(crate) struct Run {
    repeat: usize,
    cores: Cores,
    lines: File,
    commit: String,
}

impl Run {
    pub(crate) fn new(repeat: usize, cores: Cores, lines: &Path) -> Result<Self> {
        let lines = File::create(lines)?;
        Ok(Self { repeat, cores, lines, commit: machine::commit().unwrap_or_else(|| "not known".to_owned()) })
    }

    fn measured(&self, repeat: usize, systems: BTreeMap<String, Outcome>) -> Measured {
        Measured { commit: self.commit.clone(), repeat, systems }
    }

    fn note(&self, run: &Outcome) -> Result<()> {
        match run {
            Ok(line) => writeln!(&self.lines, "{line}")?,
            Err(error) => say(&format!("failed: {error}")),
        }
        Ok(())
    }

    /// On every system.
    pub(crate) fn scenario(&self, scenario: &Scenario) -> Result<Measured> {
        let mut systems = BTreeMap::new();
        for system in &SYSTEMS {
            let mut runs = Vec::with_capacity(self.repeat);
            for n in 1..=self.repeat {
                say(&format!("{} on {}, {n} of {}", scenario.name, system.name, self.repeat));
                let run = self.compared(scenario, system).map_err(|error| format!("{error:#}"));
                self.note(&run)?;
                runs.push(run);
            }
            systems.insert(system.layout.to_owned(), median(runs, scenario));
        }
        Ok(self.measured(self.repeat, systems))
    }

    /// Once, on the systems that it is about.
    pub(crate) fn study(&self, study: &Study, arguments: &str, root: &Path) -> Result<Measured> {
        let mut systems = BTreeMap::new();
        for layout in study.layouts {
            say(&format!("{} on {layout}", study.name));
            let run = if study.name == "build" {
                build(root)
            } else {
                self.load(layout, arguments.split(' ').filter(|word| !word.is_empty()))
            };
            let run = run.map_err(|error| format!("{error:#}"));
            self.note(&run)?;
            systems.insert((*layout).to_owned(), run);
        }
        Ok(self.measured(1, systems))
    }

    fn compared(&self, scenario: &Scenario, system: &System) -> Result<Value> {
        let arguments = match &scenario.for_django {
            Some((arguments, _)) if system.layout == "django" => arguments,
            _ => &scenario.arguments,
        };
        let mut line = self.load(system.layout, arguments)?;
        line["benchmark"] = json!(scenario.name);
        line["losses"] = json!(losses(&line));
        if let Some(parts) = line["kib_per_socket"].as_object() {
            let own = parts.iter().filter(|(name, _)| *name != "total" && !STORES.contains(&name.as_str()));
            line["servers_kib_per_socket"] = json!(own.filter_map(|(_, kib)| kib.as_f64()).sum::<f64>());
        }
        Ok(line)
    }

    fn load(&self, layout: &str, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Result<Value> {
        let load = std::env::current_exe()?.with_file_name("load");
        let mut command = Command::new("taskset");
        command.args(["-c", &self.cores.load.to_string()]).arg(load);
        command.args(["--layout", layout, "--server-core", &self.cores.server.to_string()]).args(arguments);
        // What it says on its way is shown.
        let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output().context("there is no taskset")?;
        ensure!(output.status.success(), "load ended with {}", output.status);
        serde_json::from_slice(&output.stdout).context("load printed no line of JSON")
    }
}

/// Builds the server as it is released, into an empty directory, with what was downloaded before.
fn build(root: &Path) -> Result<Value> {
    let target = tempfile::tempdir_in(root.join("target"))?;
    let mut command = Command::new("cargo");
    command.args(["build", "--locked", "--release", "-p", "switchboard", "--target-dir"]).arg(target.path());
    let begun = Instant::now();
    let output = command.current_dir(root).stdin(Stdio::null()).output()?;
    let told = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{told}");
    let crates = told.lines().filter(|line| line.trim_start().starts_with("Compiling ")).count();
    let rounded = |value: f64| (value * 10.0).round() / 10.0;
    let minutes = rounded(begun.elapsed().as_secs_f64() / 60.0);
    let (binary, stripped) = (target.path().join("release/switchboard"), target.path().join("stripped"));
    let done = Command::new("strip").arg("-o").args([&stripped, &binary]).status().context("there is no strip")?;
    ensure!(done.success(), "strip ended with {done}");
    let mib = |file: &Path| anyhow::Ok(rounded(std::fs::metadata(file)?.len() as f64 / 1024.0 / 1024.0));
    Ok(json!({
        "scenario": "build", "minutes": minutes, "crates": crates,
        "binary_mib": mib(&binary)?, "stripped_mib": mib(&stripped)?,
    }))
}

/// In words.
fn losses(line: &Value) -> String {
    let count = |name: &str| line[name].as_u64().unwrap_or_default();
    let (lost, heard) = (count("lost"), count("deliveries"));
    let mut words = match (lost, lost + heard) {
        (0, _) => "0".to_owned(),
        (lost, due) if heard > 0 => format!("{lost} ({:.1} %)", 100.0 * lost as f64 / due as f64),
        (lost, _) => lost.to_string(),
    };
    for name in ["doubled", "disordered", "refused"] {
        if count(name) > 0 {
            words += &format!(", {} {name}", count(name));
        }
    }
    words
}

/// By the first metric. A run that failed is worse than any.
fn median(runs: Vec<Outcome>, scenario: &Scenario) -> Outcome {
    let Some(metric) = scenario.metrics.first() else { return Err("nothing to compare by".to_owned()) };
    let (mut lines, failures): (Vec<_>, Vec<_>) = runs.into_iter().partition(Result::is_ok);
    let worse = if metric.better == Better::More { f64::NEG_INFINITY } else { f64::INFINITY };
    let value = |run: &Outcome| run.as_ref().ok().and_then(|line| line.pointer(metric.at)?.as_f64()).unwrap_or(worse);
    lines.sort_by(|one, other| value(one).total_cmp(&value(other)));
    let (middle, enough) = (lines.len() / 2, lines.len() > failures.len());
    match lines.into_iter().nth(middle) {
        Some(line) if enough => line,
        _ => failures.into_iter().next().unwrap_or_else(|| Err("it was not run".to_owned())),
    }
}
