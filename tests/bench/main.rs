//! Switchboard and its peers side by side, on one machine, in one go: `./tests/run bench`, which installs what it needs.
//!
//! Every run is a fresh server on one core and the load generator on another. Each scenario is run several times, and the
//! median counts. What comes out is `BENCHMARKS.md` with its pictures and results in `docs/bench`; a quick or partial run
//! leaves them alone and writes into `target/bench`, unless a part is to be recorded.

mod chart;
mod machine;
mod plan;
mod report;
mod results;
mod run;

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use clap::Parser;

use results::Results;

/// Measures Switchboard and its peers and writes BENCHMARKS.md.
#[derive(Parser)]
struct Cli {
    /// Small numbers, once each: does it all work? Writes into target/bench.
    #[arg(long)]
    quick: bool,
    /// How often each is measured.
    #[arg(long, default_value_t = 3)]
    repeat: usize,
    /// Only what has this in its name; `soak` and `build` are measured only if named so. Writes into target/bench.
    #[arg(long, value_name = "PART")]
    only: Option<String>,
    /// With `--only`: writes into BENCHMARKS.md, beside what was measured before.
    #[arg(long, requires = "only", conflicts_with = "quick")]
    record: bool,
    /// Measures nothing: writes BENCHMARKS.md again from what was recorded.
    #[arg(long, conflicts_with_all = ["quick", "only"])]
    render: bool,
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
    let is_wanted = |name: &str, is_long: bool| match &cli.only {
        Some(only) if is_long => name == only,
        Some(only) => name.contains(only.as_str()),
        None => !is_long,
    };
    let is_recorded = cli.record || !cli.quick && cli.only.is_none();
    let (text, directory) = if is_recorded {
        (root.join("BENCHMARKS.md"), root.join("docs/bench"))
    } else {
        (scratch.join("BENCHMARKS.md"), scratch.join("docs/bench"))
    };
    std::fs::create_dir_all(&directory)?;

    let scenarios = plan::scenarios(cli.quick);
    let file = directory.join("results.json");
    let mut results = if is_recorded { Results::load(&file)? } else { Results::default() };
    if cli.render {
        return write(&text, &directory, &report::Report { scenarios: &scenarios, results: &results, is_recorded });
    }
    let run = run::Run::new(if cli.quick { 1 } else { cli.repeat.max(1) }, cores, &scratch.join("runs.jsonl"))?;
    let mut measured = 0;
    for scenario in scenarios.iter().filter(|scenario| is_wanted(scenario.name, false)) {
        results.0.insert(scenario.name.to_owned(), run.scenario(scenario)?);
        measured += 1;
    }
    for study in plan::STUDIES.iter().filter(|study| is_wanted(study.name, study.is_long)) {
        let arguments = if cli.quick { study.quick } else { Some(study.arguments) };
        if let Some(arguments) = arguments {
            results.0.insert(study.name.to_owned(), run.study(study, arguments, root)?);
            measured += 1;
        }
    }
    ensure!(measured > 0, "nothing to measure has such a name");
    results.save(&file)?;
    write(&text, &directory, &report::Report { scenarios: &scenarios, results: &results, is_recorded })
}

fn write(text: &Path, pictures: &Path, report: &report::Report<'_>) -> Result<()> {
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
