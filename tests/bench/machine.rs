//! What the numbers were measured on.

use std::{fs, process::Command};

/// As a Markdown list.
pub(crate) fn facts() -> String {
    let mut facts = Vec::new();
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ").map(|(_, name)| name));
    let count = cpus.lines().filter(|line| line.starts_with("processor")).count();
    facts.push(format!("{count} cores, {}, Linux {}", model.unwrap_or(std::env::consts::ARCH), kernel()));
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    if let Some(kib) = memory.lines().find_map(|line| line.strip_prefix("MemTotal:")) {
        let kib: f64 = kib.trim().trim_end_matches(" kB").parse().unwrap_or_default();
        facts.push(format!("{:.0} GiB of memory", kib / 1024.0 / 1024.0));
    }
    for (name, program, arguments) in [
        ("Rust", "rustc", &["--version"][..]),
        ("Postgres", "postgres", &["--version"]),
        ("Redis", "redis-server", &["--version"]),
        ("NATS", "nats-server", &["--version"]),
        ("Python", "python3", &["--version"]),
        (
            "Django, Channels, Daphne",
            "python3",
            &[
                "-c",
                "import channels, daphne, django; print(django.__version__, channels.__version__, daphne.__version__)",
            ],
        ),
    ] {
        if let Some(version) = output(program, arguments) {
            facts.push(format!("{name}: {version}"));
        }
    }
    facts.iter().map(|fact| format!("- {fact}\n")).collect()
}

/// Of Switchboard.
pub(crate) fn commit() -> Option<String> {
    output("git", &["rev-parse", "--short", "HEAD"])
}

fn kernel() -> String {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    // What follows the version is the name of a provider.
    release.trim().split(['-', '+']).next().unwrap_or_default().to_owned()
}

fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}
