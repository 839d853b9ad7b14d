//! `BENCHMARKS.md`.

use serde_json::Value;

use crate::{
    chart::{self, Bar},
    plan::{Better, DJANGO, FLOOR, Metric, OURS, SYSTEMS, Scenario},
    run::Measured,
};

pub(crate) struct Report<'a> {
    pub(crate) scenarios: &'a [Scenario],
    pub(crate) measured: &'a Measured,
    pub(crate) repeat: usize,
    /// Else it is a proof that everything works.
    pub(crate) is_whole: bool,
}

const ABOUT: &str = "\
Made by `./tests/run bench`, which installs what it needs, and takes about half an hour. Every number is of this one run on
this one machine: compare columns, never these numbers with those of another machine.

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
./tests/run bench --only steady
cargo run --release -p switchboard-tests --bin load -- --help    # one scenario, any server that speaks the protocols
```

Each run's line is in `target/bench/runs.jsonl`. What grows with sockets, with stored messages and with time is measured by
`load growth-sockets`, `load growth-history` and `load soak`.
";

impl Report<'_> {
    pub(crate) fn text(&self, machine: &str) -> String {
        let mut text = "# Benchmarks\n\n".to_owned();
        if !self.is_whole {
            text += "**Not a measurement**: a quick or partial run.\n\n";
        }
        text += ABOUT;
        text += &match self.repeat {
            1 => "\nEach number is of one run.\n\n".to_owned(),
            runs => format!("\nEach number is of the median of {runs} runs.\n\n"),
        };
        text += &format!("{PEERS}\n## The machine\n\n{machine}\n## Durability\n\n");
        text += "What a message has survived before anyone is told of it:\n\n";
        text += &header("", &[]);
        text += &row("durability", &self.each(|line| line["durability"].as_str().map(str::to_owned)), &[]);
        for (scenario, measured) in self.scenarios.iter().zip(self.measured) {
            text += &section(scenario, measured);
        }
        text += "\n## Again\n\n";
        text + REPEAT
    }

    /// Something that every scenario says of a system.
    fn each(&self, find: impl Fn(&Value) -> Option<String>) -> Vec<String> {
        let of = |system: usize| self.measured.iter().find_map(|row| find(row[system].as_ref().ok()?));
        (0..SYSTEMS.len()).map(|system| of(system).unwrap_or_else(|| "-".to_owned())).collect()
    }

    /// By name.
    pub(crate) fn pictures(&self) -> Vec<(&'static str, String)> {
        let mut pictures = Vec::new();
        for (scenario, measured) in self.scenarios.iter().zip(self.measured) {
            for metric in scenario.metrics.iter().filter(|metric| metric.is_pictured) {
                let bars: Vec<Bar> = SYSTEMS
                    .iter()
                    .zip(measured)
                    .map(|(system, run)| Bar {
                        name: system.name,
                        value: number(metric, run),
                        is_ours: is_ours(system.layout),
                    })
                    .collect();
                let better = if metric.better == Better::More { "more is better" } else { "less is better" };
                let subtitle = format!("{} ({better})", metric.title);
                pictures.push((scenario.name, chart::bars(&scenario.title, &subtitle, &bars)));
            }
        }
        pictures
    }
}

fn is_ours(layout: &str) -> bool {
    !matches!(layout, "django" | "floor")
}

fn section(scenario: &Scenario, measured: &[Result<Value, String>]) -> String {
    let mut text = format!("\n## {}\n\n", scenario.title);
    text += &header(scenario.name, &["one process against Django", "against the floor"]);
    for metric in &scenario.metrics {
        let cells: Vec<String> = measured.iter().map(|run| cell(metric, run)).collect();
        let ratios = [DJANGO, FLOOR].map(|other| ratio(metric, &measured[OURS], &measured[other]));
        text += &row(metric.title, &cells, &ratios);
    }
    if let Some((_, note)) = &scenario.for_django {
        text += &format!("\nDjango Channels with {note} only: it takes too long for more.\n");
    }
    for (system, run) in SYSTEMS.iter().zip(measured) {
        if let Err(why) = run {
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

fn number(metric: &Metric, run: &Result<Value, String>) -> Option<f64> {
    run.as_ref().ok()?.pointer(metric.at)?.as_f64()
}

fn cell(metric: &Metric, run: &Result<Value, String>) -> String {
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
fn ratio(metric: &Metric, ours: &Result<Value, String>, other: &Result<Value, String>) -> String {
    match (metric.better, number(metric, ours), number(metric, other)) {
        (Better::More, Some(ours), Some(other)) if other > 0.0 => times(ours / other),
        (Better::Less, Some(ours), Some(other)) if ours > 0.0 => times(other / ours),
        _ => String::new(),
    }
}

fn times(ratio: f64) -> String {
    if ratio >= 10.0 { format!("{ratio:.0}x") } else { format!("{ratio:.2}x") }
}

/// Three digits, and thousands apart.
pub(crate) fn readable(value: f64) -> String {
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
