//! What is measured, on what, and which numbers of it are shown.

use serde_json::Value;

use crate::report::readable;

/// Systems in the order of their columns: the layout of `load`, and what readers are told.
pub(crate) const SYSTEMS: [System; 4] = [
    System { layout: "one-process", name: "Switchboard, one process, SQLite" },
    System { layout: "cluster", name: "Switchboard, roles apart, Postgres, NATS" },
    System { layout: "django", name: "Django Channels, Postgres, Redis" },
    System { layout: "floor", name: "floor: bare Rust, stores nothing" },
];
/// The one that others are compared with.
pub(crate) const OURS: usize = 0;
pub(crate) const DJANGO: usize = 2;
pub(crate) const FLOOR: usize = 3;

pub(crate) struct System {
    pub(crate) layout: &'static str,
    pub(crate) name: &'static str,
}

/// One scenario with its sizes.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) title: String,
    /// The arguments of `load`.
    pub(crate) arguments: Vec<String>,
    /// Others for the system that needs an hour for those.
    pub(crate) for_django: Option<(Vec<String>, String)>,
    /// The first decides which run is the median.
    pub(crate) metrics: Vec<Metric>,
}

pub(crate) struct Metric {
    pub(crate) title: &'static str,
    /// Where it is in a run's line, as a JSON pointer.
    pub(crate) at: &'static str,
    pub(crate) better: Better,
    pub(crate) is_pictured: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Better {
    More,
    Less,
    /// Should be zero.
    None,
}

/// What is told of Switchboard alone: how it starts, and what grows with what.
pub(crate) struct Study {
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    /// Of the whole, and of a quick one; none when it is measured only if it is asked for.
    pub(crate) arguments: &'static str,
    pub(crate) quick: Option<&'static str>,
    pub(crate) is_long: bool,
    /// Which of [`SYSTEMS`], by their layouts.
    pub(crate) layouts: &'static [&'static str],
    pub(crate) columns: &'static [&'static str],
    /// The rows of one system's line.
    pub(crate) rows: fn(&Value) -> Vec<Vec<String>>,
}

fn at(line: &Value, pointer: &str) -> String {
    match line.pointer(pointer) {
        Some(Value::String(words)) => words.clone(),
        Some(Value::Bool(is_so)) => if *is_so { "yes" } else { "no" }.to_owned(),
        Some(value) => value.as_f64().map_or_else(|| "-".to_owned(), readable),
        None => "-".to_owned(),
    }
}

/// A row for each step of a growth.
fn each(line: &Value, pointers: &[&str]) -> Vec<Vec<String>> {
    let rows = line["rows"].as_array().map(Vec::as_slice).unwrap_or_default();
    rows.iter().map(|row| pointers.iter().map(|pointer| at(row, pointer)).collect()).collect()
}

fn one(line: &Value, pointers: &[&str]) -> Vec<Vec<String>> {
    vec![pointers.iter().map(|pointer| at(line, pointer)).collect()]
}

/// In the order of the report.
pub(crate) const STUDIES: [Study; 5] = [
    Study {
        name: "start",
        title: "Cold start, with empty data",
        arguments: "start",
        quick: Some("start"),
        is_long: false,
        layouts: &["one-process", "cluster", "django", "floor"],
        columns: &["takes connections after, ms", "first message heard after, ms"],
        rows: |line| one(line, &["/serves_after_ms", "/first_message_after_ms"]),
    },
    Study {
        name: "growth-sockets",
        title: "More and more sockets, 2,000 messages a second over all of them",
        arguments: "growth-sockets",
        quick: Some("growth-sockets --steps 10,50 --rate 100 --seconds 2"),
        is_long: false,
        layouts: &["one-process", "cluster"],
        columns: &["sockets", "CPU µs a delivery", "p50, ms", "p99, ms", "lost"],
        rows: |line| {
            each(line, &["/sockets", "/cpu_us_per_delivery/total", "/latency_ms/p50", "/latency_ms/p99", "/lost"])
        },
    },
    Study {
        name: "growth-history",
        title: "More and more stored messages in a conversation",
        arguments: "growth-history",
        quick: Some("growth-history --steps 10,1000 --repeat 10"),
        is_long: false,
        layouts: &["one-process", "cluster"],
        columns: &[
            "stored",
            "stored a second, one stream",
            "join p50 / p99, ms",
            "",
            "send p50 / p99, ms",
            "",
            "newest page p50 / p99, ms",
            "",
            "page in the middle p50 / p99, ms",
            "",
        ],
        rows: |line| {
            each(
                line,
                &[
                    "/stored",
                    "/filled_per_second",
                    "/join_ms/p50",
                    "/join_ms/p99",
                    "/send_ms/p50",
                    "/send_ms/p99",
                    "/newest_page_ms/p50",
                    "/newest_page_ms/p99",
                    "/middle_page_ms/p50",
                    "/middle_page_ms/p99",
                ],
            )
        },
    },
    Study {
        name: "soak",
        title: "An hour at a steady load, on fresh sockets every 30 seconds, while others come, say a thing and go",
        arguments: "soak --minutes 60 --rate 400 --visits 20",
        quick: None,
        is_long: true,
        layouts: &["one-process"],
        columns: &[
            "minutes",
            "deliveries",
            "lost",
            "doubled",
            "visits",
            "memory before, MiB",
            "after, MiB",
            "trend, KiB a minute",
            "descriptors and threads back",
        ],
        rows: |line| {
            one(
                line,
                &[
                    "/minutes",
                    "/deliveries",
                    "/lost",
                    "/doubled",
                    "/visits",
                    "/rss_mib_before/total",
                    "/rss_mib_after/total",
                    "/memory_kib_a_minute",
                    "/back_to_the_level_of_before",
                ],
            )
        },
    },
    Study {
        name: "build",
        title: "A cold release build of the server, and what comes out",
        arguments: "",
        quick: None,
        is_long: true,
        layouts: &["one-process"],
        columns: &["build, minutes", "crates", "binary with line numbers, MiB", "stripped, MiB"],
        rows: |line| one(line, &["/minutes", "/crates", "/binary_mib", "/stripped_mib"]),
    },
];

const fn metric(title: &'static str, at: &'static str, better: Better) -> Metric {
    Metric { title, at, better, is_pictured: false }
}

const fn pictured(title: &'static str, at: &'static str, better: Better) -> Metric {
    Metric { title, at, better, is_pictured: true }
}

fn losses(title: &'static str) -> Metric {
    metric(title, "/losses", Better::None)
}

/// In the order of the report.
pub(crate) fn scenarios(is_quick: bool) -> Vec<Scenario> {
    let pick = |full: u32, quick: u32| if is_quick { quick } else { full };
    let words = |text: String| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let (idle, idle_django) = (pick(10_000, 200), pick(2_000, 100));
    let (connect, connect_django) = (pick(5_000, 200), pick(1_000, 100));
    let (pairs, rate, long, short) = (pick(100, 20), pick(500, 100), pick(20, 2), pick(10, 2));
    let (listeners, walkers) = (pick(1_000, 50), pick(200, 20));
    vec![
        Scenario {
            name: "idle",
            title: format!("Memory of idle sockets: {idle} open, each of which has said three things"),
            arguments: words(format!("idle --sockets {idle}")),
            for_django: Some((words(format!("idle --sockets {idle_django}")), format!("{idle_django} sockets"))),
            metrics: vec![
                pictured("KiB a socket, the servers", "/servers_kib_per_socket", Better::Less),
                metric("KiB a socket, with database and broker", "/kib_per_socket/total", Better::Less),
                losses("lost"),
            ],
        },
        Scenario {
            name: "connect",
            title: format!("Coming in: {connect} sockets, 64 handshakes at once, ready when a first message came back"),
            arguments: words(format!("connect --sockets {connect}")),
            for_django: Some((
                words(format!("connect --sockets {connect_django}")),
                format!("{connect_django} sockets"),
            )),
            metrics: vec![
                pictured("sockets ready a second", "/sockets_per_second", Better::More),
                metric("CPU µs a socket", "/cpu_us_per_socket/total", Better::Less),
                losses("first messages lost"),
            ],
        },
        Scenario {
            name: "upgrade",
            title: format!("Coming in: {connect} sockets, ready when upgraded"),
            arguments: words(format!("connect --upgraded --sockets {connect}")),
            for_django: Some((
                words(format!("connect --upgraded --sockets {connect_django}")),
                format!("{connect_django} sockets"),
            )),
            metrics: vec![
                metric("sockets upgraded a second", "/sockets_per_second", Better::More),
                metric("CPU µs a socket", "/cpu_us_per_socket/total", Better::Less),
            ],
        },
        Scenario {
            name: "steady",
            title: format!(
                "Chat at {rate} messages a second over {pairs} pairs, open loop: from due to the other side"
            ),
            arguments: words(format!("steady --pairs {pairs} --rate {rate} --seconds {long}")),
            for_django: None,
            metrics: vec![
                metric("p50, ms", "/latency_ms/p50", Better::Less),
                pictured("p99, ms", "/latency_ms/p99", Better::Less),
                metric("longest, ms", "/latency_ms/max", Better::Less),
                metric("CPU µs a delivery", "/cpu_us_per_delivery/total", Better::Less),
                losses("lost"),
            ],
        },
        Scenario {
            name: "saturate",
            title: format!("Chat as fast as it goes: {pairs} pairs, closed loop"),
            arguments: words(format!("saturate --pairs {pairs} --seconds {short}")),
            for_django: None,
            metrics: vec![
                pictured("deliveries a second", "/deliveries_per_second", Better::More),
                metric("CPU µs a delivery", "/cpu_us_per_delivery/total", Better::Less),
                metric("p99, ms", "/latency_ms/p99", Better::Less),
                losses("lost"),
            ],
        },
        Scenario {
            name: "fanout",
            title: format!("One speaks to {listeners} sockets, closed loop, 8 messages at once"),
            arguments: words(format!("fanout --sockets {listeners} --seconds {short}")),
            for_django: None,
            metrics: vec![
                pictured("deliveries a second", "/deliveries_per_second", Better::More),
                metric("CPU µs a delivery", "/cpu_us_per_delivery/total", Better::Less),
                metric("p99, ms", "/latency_ms/p99", Better::Less),
                losses("lost"),
            ],
        },
        Scenario {
            name: "walk",
            title: format!("Location: {walkers} pairs at 10 Hz, open loop"),
            arguments: words(format!("walk --therapists {walkers} --seconds {long}")),
            for_django: None,
            metrics: vec![
                metric("p50, ms", "/latency_ms/p50", Better::Less),
                pictured("p99, ms", "/latency_ms/p99", Better::Less),
                metric("CPU µs a delivery", "/cpu_us_per_delivery/total", Better::Less),
                metric("positions not told, %", "/not_told_percent", Better::None),
                metric("sockets that the server closed", "/closed", Better::None),
            ],
        },
    ]
}
