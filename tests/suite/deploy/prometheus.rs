//! The shipped alerts and the dashboard's queries, read by the real Prometheus' `promtool`.

use std::{fs, process::Command};

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};

use super::{passes, shipped, str_of, text, yaml};

const ALERTS: &str = "deploy/prometheus/alerts.yaml";
const PLAYED: &str = "tests/fixtures/alerts.yaml";

fn promtool(arguments: &[&str]) -> anyhow::Result<String> {
    passes(Command::new("promtool").args(arguments))
}

#[test]
fn alerts_fire_when_they_should_and_only_then() -> anyhow::Result<()> {
    let path = |name| shipped(name).display().to_string();
    promtool(&["check", "rules", "--lint-fatal", &path(ALERTS)])?;
    promtool(&["test", "rules", &path(PLAYED)])?;

    // A changed rule is noticed: else the test would prove nothing.
    let directory = tempfile::tempdir()?;
    let (alerts, played) = (directory.path().join("alerts.yaml"), directory.path().join("played.yaml"));
    fs::write(&played, text(PLAYED)?.replace("../../deploy/prometheus/alerts.yaml", "alerts.yaml"))?;
    let rules = text(ALERTS)?;
    for (right, wrong) in [("commit_queue_items > 4096", "commit_queue_items > 3999"), ("for: 30s", "for: 30m")] {
        ensure!(rules.contains(right), "{right} is nowhere");
        fs::write(&alerts, rules.replacen(right, wrong, 1))?;
        let told = promtool(&["test", "rules", &played.display().to_string()]);
        ensure!(told.is_err(), "{wrong}: {told:?}");
    }

    let alerts = &yaml(ALERTS)?[0]["groups"][0]["rules"];
    let played = text(PLAYED)?;
    for alert in alerts.as_array().context("rules")? {
        let name = str_of(&alert["alert"], "an alert's name")?;
        ensure!(played.contains(name), "{name} is not played in {PLAYED}");
    }
    Ok(())
}

/// Each query becomes a recording rule, which `promtool` reads.
#[test]
fn the_dashboard_asks_what_prometheus_understands() -> anyhow::Result<()> {
    let dashboard: Value = serde_json::from_str(&text("deploy/grafana/switchboard.json")?)?;
    let mut rules = Vec::new();
    for panel in dashboard["panels"].as_array().context("panels")? {
        for target in panel["targets"].as_array().into_iter().flatten() {
            let query = str_of(&target["expr"], "a query")?;
            let query = query.replace("$__rate_interval", "1m").replace("$instance", ".*");
            ensure!(!query.contains('$'), "{}: {query}", panel["title"]);
            // A name of its own: the same rule may not be there twice.
            rules.push(json!({"record": format!("panel:query{}", rules.len()), "expr": query}));
        }
    }
    assert!(rules.len() > 60, "{} queries", rules.len());
    let directory = tempfile::tempdir()?;
    let check = |rules: &[Value]| {
        let file = directory.path().join("rules.yaml");
        fs::write(&file, json!({"groups": [{"name": "dashboard", "rules": rules}]}).to_string())?;
        promtool(&["check", "rules", &file.display().to_string()])
    };
    let told = check(&rules)?;
    ensure!(told.contains(&format!("{} rules found", rules.len())), "{told}");
    rules.push(json!({"record": "panel:wrong", "expr": "sum by (instance) rate(switchboard_edge_sockets[1m])"}));
    ensure!(check(&rules).is_err(), "a wrong query is let through");
    Ok(())
}
