//! Runs `load`, again and again.

use std::{
    fs::File,
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::{
    plan::{Better, SYSTEMS, Scenario, System},
    say,
};

/// Not the servers themselves, but what they keep things in.
const STORES: [&str; 3] = ["postgres", "redis", "nats"];

#[derive(Clone, Copy, Debug)]
pub(crate) struct Cores {
    pub(crate) server: usize,
    pub(crate) load: usize,
}

/// The median run of each scenario (first index) on each system (second), or why there is none.
pub(crate) type Measured = Vec<Vec<Result<Value, String>>>;

/// All of it. Every run's line goes into a file, too.
pub(crate) fn all(scenarios: &[Scenario], repeat: usize, cores: Cores, lines: &Path) -> Result<Measured> {
    let mut lines = File::create(lines)?;
    let mut measured = Vec::with_capacity(scenarios.len());
    for scenario in scenarios {
        let mut row = Vec::with_capacity(SYSTEMS.len());
        for system in &SYSTEMS {
            let mut runs = Vec::with_capacity(repeat);
            for n in 1..=repeat {
                say(&format!("{} on {}, {n} of {repeat}", scenario.name, system.name));
                let run = once(scenario, system, cores).map_err(|error| format!("{error:#}"));
                match &run {
                    Ok(line) => writeln!(lines, "{line}")?,
                    Err(error) => say(&format!("failed: {error}")),
                }
                runs.push(run);
            }
            row.push(median(runs, scenario));
        }
        measured.push(row);
    }
    Ok(measured)
}

fn once(scenario: &Scenario, system: &System, cores: Cores) -> Result<Value> {
    let load = std::env::current_exe()?.with_file_name("load");
    let arguments = match &scenario.for_django {
        Some((arguments, _)) if system.layout == "django" => arguments,
        _ => &scenario.arguments,
    };
    let mut command = Command::new("taskset");
    command.args(["-c", &cores.load.to_string()]).arg(load);
    command.args(["--layout", system.layout, "--server-core", &cores.server.to_string()]).args(arguments);
    // What it says on its way is shown.
    let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output().context("there is no taskset")?;
    ensure!(output.status.success(), "load ended with {}", output.status);
    let mut line: Value = serde_json::from_slice(&output.stdout).context("load printed no line of JSON")?;
    line["benchmark"] = json!(scenario.name);
    line["losses"] = json!(losses(&line));
    if let Some(parts) = line["kib_per_socket"].as_object() {
        let own = parts.iter().filter(|(name, _)| *name != "total" && !STORES.contains(&name.as_str()));
        line["servers_kib_per_socket"] = json!(own.filter_map(|(_, kib)| kib.as_f64()).sum::<f64>());
    }
    Ok(line)
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
fn median(runs: Vec<Result<Value, String>>, scenario: &Scenario) -> Result<Value, String> {
    let Some(metric) = scenario.metrics.first() else { return Err("nothing to compare by".to_owned()) };
    let (mut lines, failures): (Vec<_>, Vec<_>) = runs.into_iter().partition(Result::is_ok);
    let worse = if metric.better == Better::More { f64::NEG_INFINITY } else { f64::INFINITY };
    let value = |run: &Result<Value, String>| {
        run.as_ref().ok().and_then(|line| line.pointer(metric.at)?.as_f64()).unwrap_or(worse)
    };
    lines.sort_by(|one, other| value(one).total_cmp(&value(other)));
    let (middle, enough) = (lines.len() / 2, lines.len() > failures.len());
    match lines.into_iter().nth(middle) {
        Some(line) if enough => line,
        _ => failures.into_iter().next().unwrap_or_else(|| Err("it was not run".to_owned())),
    }
}
