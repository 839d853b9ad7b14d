//! Switchboard and its peers side by side, on one machine, in one go: `./tests/run bench`, which installs what it needs.
//!
//! Every run is a fresh server on one core and the load generator on another. Each scenario is run several times, and the
//! median counts. What comes out is `BENCHMARKS.md` with its pictures in `docs/bench`; a quick run, which proves only that
//! everything works, leaves them alone and writes into `target/bench`.

mod chart;
mod machine;
mod plan;
mod report;
mod run;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use clap::Parser;

/// Measures Switchboard and its peers and writes BENCHMARKS.md.
#[derive(Parser)]
struct Cli {
    /// Small numbers, once each: does it all work? Writes into target/bench.
    #[arg(long)]
    quick: bool,
    /// How often each is measured.
    #[arg(long, default_value_t = 3)]
    repeat: usize,
    /// Only scenarios whose name contains this. Writes into target/bench.
    #[arg(long, value_name = "PART")]
    only: Option<String>,
    /// The core of the servers.
    #[arg(long, default_value_t = 0)]
    server_core: usize,
    /// The core of the load generator.
    #[arg(long, default_value_t = 1)]
    load_core: usize,
}

fn main() -> Result<()> {
    let cli = Cli::parse();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the workspace")?;
    let scratch = root.join("target/bench");
    std::fs::create_dir_all(&scratch)?;
    let cores = run::Cores { server: cli.server_core, load: cli.load_core };
    ensure!(cores.server != cores.load, "the servers and the load need a core each");

    let scenarios: Vec<plan::Scenario> = plan::scenarios(cli.quick)
        .into_iter()
        .filter(|scenario| cli.only.as_ref().is_none_or(|only| scenario.name.contains(only.as_str())))
        .collect();
    ensure!(!scenarios.is_empty(), "no scenario has such a name");
    let repeat = if cli.quick { 1 } else { cli.repeat.max(1) };
    let measured = run::all(&scenarios, repeat, cores, &scratch.join("runs.jsonl"))?;

    let is_whole = !cli.quick && cli.only.is_none();
    let (text, pictures) = if is_whole {
        (root.join("BENCHMARKS.md"), root.join("docs/bench"))
    } else {
        (scratch.join("BENCHMARKS.md"), scratch.join("docs/bench"))
    };
    write(&text, &pictures, &report::Report { scenarios: &scenarios, measured: &measured, repeat, is_whole })
}

fn write(text: &Path, pictures: &PathBuf, report: &report::Report<'_>) -> Result<()> {
    std::fs::create_dir_all(pictures)?;
    for (name, svg) in report.pictures() {
        std::fs::write(pictures.join(format!("{name}.svg")), svg)?;
    }
    std::fs::write(text, report.text(&machine::facts()))?;
    say(&format!("wrote {} and {}", text.display(), pictures.display()));
    Ok(())
}

#[expect(clippy::print_stderr, reason = "the progress of a command")]
fn say(line: &str) {
    eprintln!("bench: {line}");
}
