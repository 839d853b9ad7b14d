//! `BENCHMARKS.md`.

use serde_json::Value;

use crate::{
    chart::{self, Bar},
    plan::{Better, DJANGO, FLOOR, Metric, OURS, STUDIES, SYSTEMS, Scenario, Study},
    results::{Measured, Outcome, Results},
};

pub(crate) struct Report<'a> {
    pub(crate) scenarios: &'a [Scenario],
    pub(crate) results: &'a Results,
    /// Else it is a proof that everything works.
    pub(crate) is_recorded: bool,
}

const ABOUT: &str = "\
Made by `./tests/run bench`, which installs what it needs, and takes about half an hour. The columns of a table were measured
one after the other on one machine: compare columns, never these numbers with those of another machine.

Every measurement starts a fresh server with empty data, all of its processes (its database and broker, too) on one core,
and the load generator on the other. The clients speak therapy's chat and location over plain WebSockets, with tokens that
are checked (the floor checks none). Where a load is called *open loop*, messages are sent at fixed times whatever the server
does, and time runs from when a message was due. A delivery is one message that reached one socket; each carries a number, so
what is lost, doubled or out of order is counted, on the sockets of both sides.
";

const PEERS: &str = "\
- **Switchboard, one process, SQLite**: `switchboard serve` as it comes, limits on sockets of one user and one address off.
- **Switchboard, roles apart, Postgres, NATS**: `--role edge` and `--role identity,chat,...`, on the same core.
- **Django Channels, Postgres, Redis**: [tests/bench/django](tests/bench/django): Daphne (one process), channels_redis with its
  defaults and a redis-py that waits (as it comes, its version 8 ends sockets when Redis takes 5 s or 100 connections),
  SimpleJWT, an `AsyncWebsocketConsumer` that stores a message by the ORM and then does `group_send`.
- **floor**: [tests/bench/floor.rs](tests/bench/floor.rs): tokio-tungstenite and a map of rooms, one process. It stores
  nothing and checks nobody: what is left of a server when everything is taken away but the sockets.
";

const REPEAT: &str = "\
```
./tests/run bench            # all of it
./tests/run bench --quick    # small numbers, once each, into target/bench: does it work here?
./tests/run bench --only steady            # a part, into target/bench; with --record into BENCHMARKS.md
./tests/run bench --only soak --record     # an hour; and `build`, which takes minutes: only if they are named
./tests/run bench --render                 # these pages again, from what was recorded
cargo run --release -p switchboard-tests --bin load -- --help    # one scenario, any server that speaks the protocols
```

The lines that the tables are made of are in `docs/bench/results.json`, all others in `target/bench/runs.jsonl`.
";

impl Report<'_> {
    pub(crate) fn text(&self, machine: &str) -> String {
        let mut text = "# Benchmarks\n\n".to_owned();
        if !self.is_recorded {
            text += "**Not a measurement**: a quick or partial run.\n\n";
        }
        text += ABOUT;
        text += &format!("\n{PEERS}\n## The machine\n\n{machine}\n## Durability\n\n");
        text += "What a message has survived before anyone is told of it:\n\n";
        text += &header("", &[]);
        text += &row("durability", &self.each(|line| line["durability"].as_str().map(str::to_owned)), &[]);
        for (scenario, measured) in self.compared() {
            text += &section(scenario, measured);
        }
        for study in &STUDIES {
            text += &self.results.0.get(study.name).map(|measured| studied(study, measured)).unwrap_or_default();
        }
        text += "\n## Again\n\n";
        text + REPEAT
    }

    fn compared(&self) -> impl Iterator<Item = (&Scenario, &Measured)> {
        self.scenarios.iter().filter_map(|scenario| Some((scenario, self.results.0.get(scenario.name)?)))
    }

    /// Something that every scenario says of a system.
    fn each(&self, find: impl Fn(&Value) -> Option<String>) -> Vec<String> {
        let of = |layout: &str| {
            let mut lines = self.compared().filter_map(|(_, measured)| measured.of(layout)?.as_ref().ok());
            lines.find_map(&find).unwrap_or_else(|| "-".to_owned())
        };
        SYSTEMS.iter().map(|system| of(system.layout)).collect()
    }

    /// By name.
    pub(crate) fn pictures(&self) -> Vec<(&'static str, String)> {
        let mut pictures = Vec::new();
        for (scenario, measured) in self.compared() {
            for metric in scenario.metrics.iter().filter(|metric| metric.is_pictured) {
                let bars: Vec<Bar> = SYSTEMS
                    .iter()
                    .map(|system| Bar {
                        name: system.name,
                        value: measured.of(system.layout).and_then(|run| number(metric, run)),
                        is_ours: is_ours(system.layout),
                    })
                    .collect();
                let better = if metric.better == Better::More { "more is better" } else { "less is better" };
                let subtitle = format!("{} ({better})", metric.title);
                pictures.push((scenario.name, chart::bars(&scenario.title, &subtitle, &bars)));
            }
        }
        if let Some((title, memory)) = self.memory() {
            pictures.push(("soak", chart::line(title, "MiB of memory, over time", &memory)));
        }
        pictures
    }

    /// Over a soak.
    fn memory(&self) -> Option<(&'static str, Vec<f64>)> {
        let study = STUDIES.iter().find(|study| study.name == "soak")?;
        let line = self.results.0.get(study.name)?.of(study.layouts.first()?)?.as_ref().ok()?;
        let samples: Vec<f64> = line["memory_mib"].as_array()?.iter().filter_map(Value::as_f64).collect();
        (samples.len() > 1).then_some((study.title, samples))
    }
}

/// How it was measured.
fn provenance(measured: &Measured) -> String {
    let runs = match measured.repeat {
        1 => "One run".to_owned(),
        runs => format!("Medians of {runs} runs"),
    };
    format!("\n{runs}; Switchboard at commit {}.\n", measured.commit)
}

fn studied(study: &Study, measured: &Measured) -> String {
    let mut text = format!("\n## {}\n\n", study.title);
    let columns = study.columns;
    text += &format!("| {} | {} |\n|---|{}\n", study.name, columns.join(" | "), "---|".repeat(columns.len()));
    for layout in study.layouts {
        let name = SYSTEMS.iter().find(|system| system.layout == *layout).map_or(*layout, |system| system.name);
        match measured.of(layout) {
            Some(Ok(line)) => (study.rows)(line).iter().for_each(|cells| text += &row(name, cells, &[])),
            Some(Err(why)) => text += &format!("| {name} | failed: {} |\n", why.lines().next().unwrap_or_default()),
            None => {}
        }
    }
    text += &provenance(measured);
    if study.name == "soak" {
        text += &format!("\n![{}](docs/bench/soak.svg)\n", study.title);
    }
    text
}

fn is_ours(layout: &str) -> bool {
    !matches!(layout, "django" | "floor")
}

fn section(scenario: &Scenario, measured: &Measured) -> String {
    let none = Err("it was not run".to_owned());
    let run = |place: usize| measured.of(SYSTEMS[place].layout).unwrap_or(&none);
    let mut text = format!("\n## {}\n\n", scenario.title);
    text += &header(scenario.name, &["one process against Django", "against the floor"]);
    for metric in &scenario.metrics {
        let cells: Vec<String> = (0..SYSTEMS.len()).map(|place| cell(metric, run(place))).collect();
        let ratios = [DJANGO, FLOOR].map(|other| ratio(metric, run(OURS), run(other)));
        text += &row(metric.title, &cells, &ratios);
    }
    if let Some((_, note)) = &scenario.for_django {
        text += &format!("\nDjango Channels with {note} only: it takes too long for more.\n");
    }
    text += &provenance(measured);
    for (place, system) in SYSTEMS.iter().enumerate() {
        if let Err(why) = run(place) {
            text += &format!("\n{} failed: {}.\n", system.name, why.lines().next().unwrap_or_default());
        }
    }
    if scenario.metrics.iter().any(|metric| metric.is_pictured) {
        text += &format!("\n![{}](docs/bench/{}.svg)\n", scenario.title, scenario.name);
    }
    text
}

fn header(first: &str, more: &[&str]) -> String {
    let names: Vec<&str> = SYSTEMS.iter().map(|system| system.name).chain(more.iter().copied()).collect();
    format!("| {first} | {} |\n|---|{}\n", names.join(" | "), "---|".repeat(names.len()))
}

fn row(title: &str, cells: &[String], more: &[String]) -> String {
    let cells: Vec<&str> = cells.iter().chain(more).map(String::as_str).collect();
    format!("| {title} | {} |\n", cells.join(" | "))
}

fn number(metric: &Metric, run: &Outcome) -> Option<f64> {
    run.as_ref().ok()?.pointer(metric.at)?.as_f64()
}

fn cell(metric: &Metric, run: &Outcome) -> String {
    match run {
        Err(_) => "failed".to_owned(),
        Ok(line) => match line.pointer(metric.at) {
            Some(Value::String(words)) => words.clone(),
            Some(Value::Number(value)) => value.as_f64().map_or_else(|| "-".to_owned(), readable),
            _ => "-".to_owned(),
        },
    }
}

/// How much better one is: 2 is twice as good, whatever good is.
fn ratio(metric: &Metric, ours: &Outcome, other: &Outcome) -> String {
    match (metric.better, number(metric, ours), number(metric, other)) {
        (Better::More, Some(ours), Some(other)) if other > 0.0 => times(ours / other),
        (Better::Less, Some(ours), Some(other)) if ours > 0.0 => times(other / ours),
        _ => String::new(),
    }
}

fn times(ratio: f64) -> String {
    if ratio >= 10.0 { format!("{ratio:.0}x") } else { format!("{ratio:.2}x") }
}

/// Three digits, and thousands apart; whole numbers whole.
pub(crate) fn readable(value: f64) -> String {
    if value.fract() == 0.0 && value.abs() < 100.0 {
        return format!("{value:.0}");
    }
    if value.abs() < 10.0 {
        return format!("{value:.2}");
    }
    if value.abs() < 100.0 {
        return format!("{value:.1}");
    }
    let digits = format!("{value:.0}");
    let begin = digits.len() % 3;
    let mut parts: Vec<&str> = if begin > 0 { vec![&digits[..begin]] } else { Vec::new() };
    parts.extend((begin..digits.len()).step_by(3).map(|at| &digits[at..at + 3]));
    parts.join(",")
}
