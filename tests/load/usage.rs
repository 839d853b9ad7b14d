//! What processes use, by `/proc`.

use std::{collections::HashMap, fs};

use anyhow::{Context as _, Result};
use serde_json::{Map, Value, json};

use crate::marker::rounded;

/// Of `/proc/*/stat`, on every Linux that we run on.
const CLOCK_TICKS_PER_SECOND: f64 = 100.0;

/// A process with all that come from it, by a name.
#[derive(Clone, Debug)]
pub(crate) struct Watched {
    pub(crate) name: String,
    pub(crate) process: u32,
}

/// Looks at processes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Watcher(pub(crate) Vec<Watched>);

impl Watcher {
    pub(crate) fn usages(&self) -> Result<Usages> {
        let children = children()?;
        let usage = |watched: &Watched| {
            let usage = usage(&tree(watched.process, &children)).with_context(|| format!("{} has ended", watched.name));
            Ok((watched.name.clone(), usage?))
        };
        Ok(Usages(self.0.iter().map(usage).collect::<Result<_>>()?))
    }
}

/// What a process and its descendants have used.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    /// Of several processes, what they share is counted once.
    pub(crate) resident_kib: u64,
    pub(crate) cpu_seconds: f64,
    pub(crate) descriptors: usize,
    pub(crate) threads: usize,
}

/// What all of them have used until now, by name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Usages(pub(crate) Vec<(String, Usage)>);

impl Usages {
    fn parts(&self, value: impl Fn(&Usage) -> f64) -> Value {
        let mut parts: Map<String, Value> =
            self.0.iter().map(|(name, usage)| (name.clone(), json!(rounded(value(usage))))).collect();
        parts.insert("total".to_owned(), json!(rounded(self.0.iter().map(|(_, usage)| value(usage)).sum())));
        Value::Object(parts)
    }

    /// CPU time since `before` for each of `count` things, in microseconds, by process and in all.
    pub(crate) fn cpu_us(&self, before: &Self, count: u64) -> Value {
        self.since(before).parts(|usage| usage.cpu_seconds * 1e6 / count.max(1) as f64)
    }

    /// Memory since `before` for each of `count` things, in KiB, by process and in all.
    pub(crate) fn kib_each(&self, before: &Self, count: usize) -> Value {
        self.since(before).parts(|usage| usage.resident_kib as f64 / count.max(1) as f64)
    }

    /// Memory in MiB, by process and in all.
    pub(crate) fn mib(&self) -> Value {
        self.parts(|usage| usage.resident_kib as f64 / 1024.0)
    }

    pub(crate) fn resident_kib(&self) -> u64 {
        self.0.iter().map(|(_, usage)| usage.resident_kib).sum()
    }

    pub(crate) fn descriptors(&self) -> Value {
        self.parts(|usage| usage.descriptors as f64)
    }

    pub(crate) fn threads(&self) -> Value {
        self.parts(|usage| usage.threads as f64)
    }

    fn since(&self, before: &Self) -> Self {
        let since = self.0.iter().zip(&before.0).map(|((name, after), (_, before))| {
            let usage = Usage {
                resident_kib: after.resident_kib.saturating_sub(before.resident_kib),
                cpu_seconds: after.cpu_seconds - before.cpu_seconds,
                ..*after
            };
            (name.clone(), usage)
        });
        Self(since.collect())
    }
}

/// Keeps a process and its descendants to one core.
pub(crate) fn pin(process: u32, core: usize) -> Result<()> {
    for process in tree(process, &children()?) {
        let mut taskset = std::process::Command::new("taskset");
        taskset.args(["-acp", &core.to_string(), &process.to_string()]).stdout(std::process::Stdio::null());
        // It may have ended meanwhile.
        taskset.status().context("there is no taskset")?;
    }
    Ok(())
}

/// Who has which children.
fn children() -> Result<HashMap<u32, Vec<u32>>> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for entry in fs::read_dir("/proc")? {
        let Some(process) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let Ok(stat) = stat(process) else { continue };
        if let Some(parent) = stat.get(1).and_then(|parent| parent.parse().ok()) {
            children.entry(parent).or_default().push(process);
        }
    }
    Ok(children)
}

fn tree(root: u32, children: &HashMap<u32, Vec<u32>>) -> Vec<u32> {
    let mut all = vec![root];
    let mut at = 0;
    while let Some(process) = all.get(at) {
        all.extend(children.get(process).into_iter().flatten());
        at += 1;
    }
    all
}

fn usage(processes: &[u32]) -> Result<Usage> {
    let mut sum = Usage::default();
    for process in processes {
        let Ok(stat) = stat(*process) else {
            // A child that has ended counts among its parent's.
            anyhow::ensure!(Some(process) != processes.first(), "it has ended");
            continue;
        };
        // utime, stime, and those of children that have ended.
        let ticks = |field: usize| stat.get(field).and_then(|ticks| ticks.parse::<f64>().ok()).context("ticks");
        sum.cpu_seconds += (ticks(11)? + ticks(12)? + ticks(13)? + ticks(14)?) / CLOCK_TICKS_PER_SECOND;
        sum.resident_kib += resident_kib(*process, processes.len() > 1).unwrap_or_default();
        sum.descriptors += entries(&format!("/proc/{process}/fd"));
        sum.threads += entries(&format!("/proc/{process}/task"));
    }
    Ok(sum)
}

fn resident_kib(process: u32, is_shared: bool) -> Option<u64> {
    let (file, field) = if is_shared { ("smaps_rollup", "Pss:") } else { ("status", "VmRSS:") };
    let text = fs::read_to_string(format!("/proc/{process}/{file}")).ok()?;
    text.lines().find_map(|line| line.strip_prefix(field))?.trim().trim_end_matches(" kB").parse().ok()
}

fn entries(directory: &str) -> usize {
    fs::read_dir(directory).map_or(0, Iterator::count)
}

/// The fields from the third on.
fn stat(process: u32) -> Result<Vec<String>> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
    // The second field may hold blanks: count from behind its closing parenthesis.
    let (_, rest) = stat.rsplit_once(") ").context("a stat line")?;
    Ok(rest.split(' ').map(str::to_owned).collect())
}
