//! What a running system exports: valid, complete, described, and what the dashboard and the alerts ask for.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    net::SocketAddr,
    path::Path,
    time::Instant,
};

use anyhow::{Context as _, ensure};
use serde_json::Value;
use switchboard_chassis::{config::environment, metrics::Described};
use switchboard_tests::{Backend, Client, PATIENCE, Sandbox, client, process::Machine};

use crate::every::{CLINIC, EVERY, LOCATION, PEOPLE, THERAPY, open};

const BEGIN: &str = "<!-- metrics: made by tests/suite/metrics.rs -->\n";
const END: &str = "<!-- /metrics -->";

/// Metrics as text, read as strictly as their format is written down (OpenMetrics 1.0).
struct Exported {
    text: String,
    /// Type and help of each family.
    families: BTreeMap<String, (String, String)>,
    /// The value of each series, by its name and its labels as they are written.
    series: BTreeMap<String, f64>,
}

impl Exported {
    async fn of(admin: SocketAddr) -> anyhow::Result<Self> {
        let answer = client::exchange(admin, "GET", "/metrics", &[], None).await?;
        ensure!(answer.status() == 200, "{}", answer.status());
        let kind = answer.headers().get("content-type").context("a content type")?.to_str()?.to_owned();
        ensure!(kind == "application/openmetrics-text; version=1.0.0; charset=utf-8", "{kind}");
        Self::read(String::from_utf8(answer.body().to_vec())?)
    }

    fn read(text: String) -> anyhow::Result<Self> {
        let mut exported = Self { text: String::new(), families: BTreeMap::new(), series: BTreeMap::new() };
        let body = text.strip_suffix("# EOF\n").context("it has no end")?;
        let mut family = String::new();
        for line in body.lines() {
            let said = || format!("line {line:?}");
            if let Some(meta) = line.strip_prefix("# ") {
                let (what, rest) = meta.split_once(' ').with_context(said)?;
                let (name, rest) = rest.split_once(' ').with_context(said)?;
                match what {
                    "HELP" => {
                        ensure!(!exported.families.contains_key(name), "{name} is there twice");
                        ensure!(rest.len() > 5 && rest.ends_with('.'), "{name} is not explained");
                        name.clone_into(&mut family);
                        exported.families.insert(family.clone(), (String::new(), rest.to_owned()));
                    }
                    "TYPE" => {
                        ensure!(["counter", "gauge", "histogram"].contains(&rest), "{line}");
                        exported.families.get_mut(name).with_context(said)?.0 = rest.to_owned();
                    }
                    "UNIT" => ensure!(name == family && name.ends_with(&format!("_{rest}")), "{line}"),
                    _ => anyhow::bail!("{line}"),
                }
                continue;
            }
            let (series, value) = line.rsplit_once(' ').with_context(said)?;
            let name = series.split('{').next().with_context(said)?;
            let kind = &exported.families.get(&family).with_context(said)?.0;
            let suffixes: &[&str] = match kind.as_str() {
                "counter" => &["_total"],
                "gauge" => &[""],
                _ => &["_bucket", "_sum", "_count"],
            };
            ensure!(suffixes.iter().any(|suffix| name == format!("{family}{suffix}")), "{line} under {family}");
            let value: f64 = value.parse().with_context(said)?;
            ensure!(kind == "gauge" || value >= 0.0, "{line}");
            ensure!(exported.series.insert(series.to_owned(), value).is_none(), "{series} is there twice");
        }
        exported.text = text;
        exported.check_histograms()?;
        Ok(exported)
    }

    /// Buckets hold what those before them hold, and the last holds everything.
    fn check_histograms(&self) -> anyhow::Result<()> {
        let mut last: Option<(String, f64)> = None;
        for line in self.text.lines().filter(|line| line.contains("_bucket{")) {
            let (series, value) = line.rsplit_once(' ').context("a value")?;
            let value: f64 = value.parse()?;
            let le = labels(series)?.into_iter().find(|(label, _)| label == "le").context("le")?.1;
            let others = series.replace(&format!("le=\"{le}\""), "");
            if let Some((same, before)) = &last {
                ensure!(*same != others || value >= *before, "{line} is below {before}");
            }
            last = Some((others, value));
            if le == "+Inf" {
                let count = series.replacen("_bucket{", "_count{", 1).replace("le=\"+Inf\"", "");
                let count = count.replace("{,", "{").replace(",}", "}");
                let of = self.series.get(&count).or_else(|| self.series.get(count.trim_end_matches("{}")));
                ensure!(of == Some(&value), "{count} is not {value}");
            }
        }
        Ok(())
    }

    /// The sum of the series of a name whose labels contain all of these.
    fn sum(&self, name: &str, with: &[(&str, &str)]) -> f64 {
        let is_meant = |series: &str| {
            let of = labels(series).unwrap_or_default();
            series.split('{').next() == Some(name)
                && with.iter().all(|(label, value)| of.iter().any(|(its, theirs)| its == label && theirs == value))
        };
        self.series.iter().filter(|(series, _)| is_meant(series)).map(|(_, value)| value).sum()
    }

    fn has(&self, name: &str) -> bool {
        self.series.keys().any(|series| series.split('{').next() == Some(name))
    }
}

/// The labels of a series. No value of ours has a comma, a quote or a backslash in it.
fn labels(series: &str) -> anyhow::Result<Vec<(String, String)>> {
    let Some((_, labels)) = series.split_once('{') else { return Ok(Vec::new()) };
    let labels = labels.strip_suffix('}').with_context(|| series.to_owned())?;
    labels
        .split(',')
        .filter(|label| !label.is_empty())
        .map(|label| {
            let (name, value) = label.split_once("=\"").with_context(|| series.to_owned())?;
            let value = value.strip_suffix('"').with_context(|| series.to_owned())?;
            let is_name = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
            ensure!(is_name && !value.contains(['"', '\\']), "{series}");
            Ok((name.to_owned(), value.to_owned()))
        })
        .collect()
}

/// Some of everything.
async fn live(sandbox: &Sandbox) -> anyhow::Result<Vec<Client>> {
    sandbox.provision(PEOPLE).await?;
    let mut sockets = Vec::new();
    for path in EVERY {
        sockets.push(open(sandbox, path).await?);
    }
    let mut clinic = open(sandbox, CLINIC).await?;
    clinic.send(r#"{"content": "hello", "role": "patient"}"#).await?;
    clinic.next().await?;
    clinic.close().await?;
    let mut therapy = sandbox.connect(THERAPY, "1").await?;
    therapy.send(r#"{"message": "hello"}"#).await?;
    therapy.next().await?;
    therapy.send("not json").await?;
    therapy.next().await?;
    sockets.push(therapy);
    let mut nobody = Client::connect(&format!("ws://{}{CLINIC}", sandbox.edge), &[]).await?;
    assert_eq!(nobody.closed().await?.0, 4001);
    let token = sandbox.token("1")?;
    for (path, status) in [("/chat/chats/", 200), ("/chat/chats/nobody-s/", 404), ("/nowhere/at-all", 404)] {
        assert_eq!(client::call(sandbox.edge, "GET", path, Some(&token), None).await?.0, status, "{path}");
    }
    Ok(sockets)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happens_is_counted() -> anyhow::Result<()> {
    let sandbox = Sandbox::start_with(Backend::Sqlite, |config| config.edge.sockets_per_user_max = 10).await?;
    let _sockets = live(&sandbox).await?;
    let expected = [
        ("switchboard_edge_sockets", &[("protocol", "therapy"), ("endpoint", "location")][..], 1.0),
        ("switchboard_edge_frames_received_total", &[("protocol", "clinic")], 1.0),
        ("switchboard_edge_frames_received_total", &[("protocol", "therapy")], 2.0),
        ("switchboard_edge_frames_sent_total", &[("protocol", "therapy"), ("endpoint", "chat")], 2.0),
        ("switchboard_edge_handshakes_total", &[("endpoint", "conversation"), ("result", "not_authenticated")], 1.0),
        ("switchboard_edge_handshakes_total", &[("endpoint", "presence"), ("result", "accepted")], 1.0),
        ("switchboard_edge_closes_total", &[("protocol", "clinic"), ("code", "client")], 1.0),
        ("switchboard_edge_http_requests_total", &[("route", "/chat/chats/{id}/"), ("status", "404")], 1.0),
        ("switchboard_edge_http_requests_total", &[("route", "unknown"), ("status", "404")], 1.0),
        ("switchboard_edge_link_streams", &[("service", "chat")], 1.0),
        ("switchboard_edge_link_sessions", &[("service", "notification")], 1.0),
        ("switchboard_edge_link_round_trip_seconds_count", &[("service", "chat")], 1.0),
        ("switchboard_edge_roster_users", &[], 1.0),
        ("switchboard_service_sessions", &[("service", "location")], 1.0),
        ("switchboard_chat_messages_stored_total", &[("kind", "clinic")], 1.0),
        ("switchboard_chat_rooms", &[], 4.0),
        ("switchboard_presence_users", &[("where", "here")], 1.0),
        ("switchboard_store_commit_batch_items_sum", &[("writer", "chat writer")], 2.0),
        ("switchboard_store_info", &[("service", "identity"), ("backend", "sqlite")], 1.0),
        ("switchboard_identity_authentications_total", &[("credential", "token"), ("result", "ok")], 5.0),
        ("switchboard_identity_authentications_total", &[("credential", "device"), ("result", "ok")], 1.0),
        ("switchboard_grpc_requests_total", &[("method", "Authenticate"), ("code", "Ok")], 5.0),
        ("switchboard_role", &[], 6.0),
        ("process_open_fds", &[], 10.0),
    ];
    // Who is online is told a moment later.
    let begun = Instant::now();
    loop {
        let now = Exported::of(sandbox.admin).await?;
        match expected.iter().find(|(name, with, least)| now.sum(name, with) < *least) {
            None => break,
            Some((name, with, least)) => {
                ensure!(begun.elapsed() < PATIENCE, "{name}{with:?} stays below {least}: {}", now.sum(name, with));
            }
        }
    }

    // More than the user may have.
    let mut more = Vec::new();
    for _ in 0..10 {
        more.push(sandbox.connect(LOCATION, "1").await?);
    }
    let after = Exported::of(sandbox.admin).await?;
    let refused = after.sum("switchboard_edge_room_refusals_total", &[("limit", "sockets_per_user_max")]);
    assert!((1.0..10.0).contains(&refused), "{refused}");
    let told = [("endpoint", "location"), ("result", "too_many_sockets_of_this_user")];
    assert_eq!(after.sum("switchboard_edge_handshakes_total", &told), refused);
    Ok(())
}

/// What the reference, the dashboard and the alerts name is there, and nothing is there that they do not explain.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_named_is_exported() -> anyhow::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let sandbox = Sandbox::start(Backend::Sqlite).await?;
    let _sockets = live(&sandbox).await?;
    let exported = Exported::of(sandbox.admin).await?;
    let described = sandbox.lifecycle.metrics().described();

    // The reference.
    let path = root.join("docs/METRICS.md");
    let document = fs::read_to_string(&path)?;
    let (before, rest) = document.split_once(BEGIN).context("the table's beginning")?;
    let (_, after) = rest.split_once(END).context("the table's end")?;
    let whole = format!("{before}{BEGIN}{}{END}{after}", table(&described));
    if environment().iter().any(|(name, _)| name == "SWITCHBOARD_REGENERATE") {
        fs::write(&path, &whole)?;
    }
    assert!(
        fs::read_to_string(&path)? == whole,
        "docs/METRICS.md is not what is exported: run SWITCHBOARD_REGENERATE=1 ./tests/run what_is_named_is_exported"
    );
    let names: BTreeSet<&str> = described.iter().map(|metric| metric.name.trim_end_matches("_total")).collect();
    assert_eq!(exported.families.keys().map(String::as_str).collect::<BTreeSet<_>>(), names);
    for metric in &described {
        let (kind, help) = &exported.families[metric.name.trim_end_matches("_total")];
        assert_eq!((kind.clone(), help.clone()), (metric.kind.to_string(), format!("{}.", metric.help)));
    }
    for series in exported.series.keys() {
        let metric = of(&described, series.split('{').next().unwrap_or_default()).with_context(|| series.clone())?;
        for (label, value) in labels(series)? {
            assert!(label == "le" || metric.labels.contains(&label.as_str()), "{series}");
            assert!(value.len() <= 64, "{series}");
        }
    }
    // Nobody is in it, and it does not grow with them.
    for marker in ["aaaaaaaa-0000", "nobody-s", "at-all", "hello"] {
        assert!(!exported.text.contains(marker), "{marker}");
    }
    assert!(exported.series.len() < 2_500, "{} series", exported.series.len());

    // The dashboard and the alerts.
    let alerts = fs::read_to_string(root.join("deploy/prometheus/alerts.yaml"))?;
    let dashboard: Value = serde_json::from_str(&fs::read_to_string(root.join("deploy/grafana/switchboard.json"))?)?;
    let mut expressions = vec![alerts];
    expressions_of(&dashboard, &mut expressions);
    assert!(expressions.len() > 60, "{} expressions", expressions.len());
    let mut named = BTreeSet::new();
    for expression in &expressions {
        for (name, selected) in selectors(expression) {
            let metric = of(&described, name).with_context(|| format!("{name} is nowhere counted"))?;
            assert!(exported.has(name), "{name} is not exported");
            for label in selected {
                assert!(
                    ["instance", "job", "le"].contains(&label) || metric.labels.contains(&label),
                    "{name} has no label {label}"
                );
            }
            named.insert(metric.name);
        }
    }
    let unnamed: Vec<_> = described.iter().filter(|metric| !named.contains(metric.name)).map(|m| m.name).collect();
    assert!(unnamed.len() <= 3, "who looks at these? {unnamed:?}");
    Ok(())
}

/// The metric that an exported name is of.
fn of<'a>(described: &'a [Described], name: &str) -> Option<&'a Described> {
    described.iter().find(|metric| {
        name == metric.name
            || metric.kind.to_string() == "histogram"
                && ["_bucket", "_sum", "_count"].iter().any(|suffix| name == format!("{}{suffix}", metric.name))
    })
}

/// The reference's table.
fn table(described: &[Described]) -> String {
    let mut table = "\n| name | type | labels | |\n|---|---|---|---|\n".to_owned();
    for Described { name, kind, labels, help, .. } in described {
        let labels: Vec<String> = labels.iter().map(|label| format!("`{label}`")).collect();
        let _ = writeln!(table, "| `{name}` | {kind} | {} | {help} |", labels.join(", "));
    }
    table.push('\n');
    table
}

/// Every `expr` below a value.
fn expressions_of(value: &Value, expressions: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                match value {
                    Value::String(text) if ["expr", "definition", "query"].contains(&key.as_str()) => {
                        expressions.push(text.clone());
                    }
                    other => expressions_of(other, expressions),
                }
            }
        }
        Value::Array(values) => values.iter().for_each(|value| expressions_of(value, expressions)),
        _ => {}
    }
}

/// The metrics that a text names, and the labels by which each is selected.
fn selectors(text: &str) -> Vec<(&str, Vec<&str>)> {
    let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(at) = ["switchboard_", "process_"].iter().filter_map(|prefix| rest.find(prefix)).min() {
        let is_whole = !rest[..at].ends_with(is_name);
        let length = rest[at..].find(|c| !is_name(c)).unwrap_or(rest.len() - at);
        let (name, after) = rest[at..].split_at(length);
        if is_whole {
            let inside =
                after.strip_prefix('{').and_then(|inside| inside.split_once('}')).map_or("", |(inside, _)| inside);
            let labels = inside.split(',').filter_map(|part| part.split(['=', '!']).next());
            found.push((name, labels.map(str::trim).filter(|label| !label.is_empty()).collect()));
        }
        rest = after;
    }
    found
}

/// Each process has its own port for operators, whatever its role, and the edge's port does not tell.
#[tokio::test(flavor = "multi_thread")]
async fn every_process_can_be_looked_into() -> anyhow::Result<()> {
    let sandbox = Sandbox::start(Backend::Sqlite).await?;
    let ask = async |address, path: &str| client::call(address, "GET", path, None, None).await;
    assert_eq!(ask(sandbox.edge, "/metrics").await?.0, 404);
    for address in [sandbox.edge, sandbox.admin] {
        assert_eq!(ask(address, "/healthz").await?, (200, Value::from("ok\n")));
        let begun = Instant::now();
        // When all links are there, which takes a moment.
        while ask(address, "/readyz").await? != (200, Value::from("ready\n")) {
            ensure!(begun.elapsed() < PATIENCE, "it is never ready");
        }
    }
    assert_eq!(ask(sandbox.admin, "/elsewhere").await?.0, 404);
    assert_eq!(client::call(sandbox.admin, "POST", "/metrics", None, None).await?.0, 405);

    let machine = Machine::new()?;
    let _chat = machine.start(&["serve", "--role", "chat"], machine.grpc).await?;
    let admin = machine.admin().await?;
    assert_eq!(ask(admin, "/readyz").await?, (200, Value::from("ready\n")));
    let exported = Exported::of(admin).await?;
    assert_eq!(exported.sum("switchboard_role", &[("role", "chat")]), 1.0);
    assert!(exported.has("switchboard_chat_rooms") && !exported.text.contains("switchboard_edge_"));

    // An edge whose services are nowhere runs, and wants no visitors.
    let machine = Machine::new()?;
    let mut edge = machine.start(&["serve", "--role", "edge"], machine.edge).await?;
    let admin = machine.admin().await?;
    assert_eq!(ask(admin, "/healthz").await?.0, 200);
    let (status, why) = ask(admin, "/readyz").await?;
    assert_eq!((status, why), (503, Value::from("no link to: chat, location, notification, presence\n")));
    assert_eq!(Exported::of(admin).await?.sum("switchboard_edge_link_streams", &[]), 0.0);
    edge.kill()
}
