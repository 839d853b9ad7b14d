//! What can be told by reading.

use std::{collections::BTreeSet, process::Command};

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use switchboard::config::{Config, Role};

use super::{list_of, passes, shipped, stack::Image, str_of, text, yaml};

#[test]
fn the_dockerfile_has_no_fault_that_a_linter_knows() -> anyhow::Result<()> {
    let said = passes(Command::new("hadolint").arg("--no-color").arg(shipped("deploy/Dockerfile")))?;
    assert_eq!(said, "");
    Ok(())
}

#[test]
fn an_image_is_built_from_the_whole_workspace_and_no_more() -> anyhow::Result<()> {
    let ignored = text(".dockerignore")?;
    assert!(ignored.lines().any(|line| line == "*"), "everything is left out");
    let taken: Vec<&str> = ignored.lines().filter_map(|line| line.strip_prefix('!')).collect();
    let manifest = text("Cargo.toml")?;
    let (_, rest) = manifest.split_once("\nmembers = [").context("members")?;
    let members: Vec<&str> = rest.split_once(']').context("their end")?.0.split('"').skip(1).step_by(2).collect();
    assert!(members.contains(&"deploy/switchboard"), "{members:?}");
    for needed in members.into_iter().chain(["Cargo.toml", "Cargo.lock"]) {
        assert!(taken.iter().any(|taken| needed == *taken || needed.starts_with(&format!("{taken}/"))), "{needed}");
    }
    for secret in ["deploy/compose/secrets", "switchboard-data", ".git", "."] {
        assert!(!taken.iter().any(|taken| secret.starts_with(taken)), "{secret}");
    }
    Ok(())
}

#[test]
fn compose_yaml_is_what_compose_reads() -> anyhow::Result<()> {
    let file = shipped("deploy/compose.yaml");
    passes(Command::new("check-jsonschema").args(["--builtin-schema", "vendor.compose-spec"]).arg(file))?;
    Ok(())
}

#[test]
fn compose_s_containers_are_hardened_and_have_time_to_drain() -> anyhow::Result<()> {
    let file = yaml("deploy/compose.yaml")?.remove(0);
    let services = file["services"].as_object().context("services")?;
    let mut roles = BTreeSet::new();
    for (name, service) in services {
        assert_eq!(service["read_only"], true, "{name}");
        assert_eq!(service["cap_drop"], json!(["ALL"]), "{name}");
        assert_eq!(service["security_opt"], json!(["no-new-privileges:true"]), "{name}");
        assert!(service["deploy"]["resources"]["limits"]["memory"].is_string(), "{name}");
        assert!(str_of(&service["image"], name)?.contains(':') || service["image"] == "switchboard", "{name}");
        for secret in list_of(&service["secrets"]) {
            assert!(file["secrets"][&secret]["file"].is_string(), "{name}: {secret}");
        }
        if service["image"] == "switchboard" {
            let grace = str_of(&service["stop_grace_period"], name)?;
            let grace: u64 = grace.strip_suffix('s').context("seconds")?.parse()?;
            assert!(grace >= Config::default().drain_timeout_s + 5, "{name}");
            roles.extend(roles_of(&service["command"])?);
        }
    }
    assert_eq!(roles, Role::ALL.map(|role| role.name().to_owned()).into());
    let believed = &services["edge-1"]["environment"]["SWITCHBOARD_EDGE__TRUSTED_PROXIES"];
    assert_eq!(believed, &file["networks"]["front"]["ipam"]["config"][0]["subnet"]);
    Ok(())
}

#[test]
fn kubernetes_manifests_are_what_kubernetes_reads() -> anyhow::Result<()> {
    passes(
        Command::new("kubernetes-validate")
            .args(["--strict", "--quiet"])
            .args(manifests()?.iter().map(|name| shipped(&format!("deploy/kubernetes/{name}")))),
    )?;
    Ok(())
}

#[test]
fn kubernetes_pods_are_hardened_probed_and_have_time_to_drain() -> anyhow::Result<()> {
    let settings = &yaml("deploy/kubernetes/settings.yaml")?[0]["data"];
    let drain: u64 = str_of(&settings["SWITCHBOARD_DRAIN_TIMEOUT_S"], "drain")?.parse()?;
    let spread: u64 = str_of(&settings["SWITCHBOARD_EDGE__DRAIN_SPREAD_S"], "spread")?.parse()?;
    assert!(spread < drain);
    let mut roles = BTreeSet::new();
    for role in Role::ALL.map(Role::name) {
        let documents = yaml(&format!("deploy/kubernetes/{role}.yaml"))?;
        let of = |kind: &str| {
            documents.iter().find(|document| document["kind"] == kind).with_context(|| format!("{role}: no {kind}"))
        };
        let (deployment, service, budget, scaler) =
            (of("Deployment")?, of("Service")?, of("PodDisruptionBudget")?, of("HorizontalPodAutoscaler")?);
        let template = &deployment["spec"]["template"];
        let labels = &template["metadata"]["labels"];
        for selector in [
            &deployment["spec"]["selector"]["matchLabels"],
            &service["spec"]["selector"],
            &budget["spec"]["selector"]["matchLabels"],
        ] {
            assert_eq!(selector, labels, "{role}");
        }
        assert_eq!(scaler["spec"]["scaleTargetRef"]["name"], deployment["metadata"]["name"], "{role}");
        assert_eq!(service["spec"]["clusterIP"] == "None", role != "edge", "{role}: services are seen one by one");
        assert!(deployment["spec"]["replicas"].is_null(), "{role}: the autoscaler decides");

        let pod = &template["spec"];
        let container = &pod["containers"][0];
        roles.extend(roles_of(&container["args"])?);
        let grace = pod["terminationGracePeriodSeconds"].as_u64().context("a grace period")?;
        let sleep = container["lifecycle"]["preStop"]["sleep"]["seconds"].as_u64().context("a sleep")?;
        assert!(sleep > 5, "{role}: names are looked up every five seconds");
        assert!(grace >= sleep + drain + 5, "{role}: {grace} s for {sleep} and {drain}");
        for (what, expected) in [("runAsNonRoot", json!(true)), ("seccompProfile", json!({"type": "RuntimeDefault"}))] {
            assert_eq!(pod["securityContext"][what], expected, "{role}");
        }
        assert_eq!(
            container["securityContext"],
            json!({
                "allowPrivilegeEscalation": false,
                "readOnlyRootFilesystem": true,
                "capabilities": {"drop": ["ALL"]},
            }),
            "{role}"
        );
        for probe in ["startupProbe", "readinessProbe", "livenessProbe"] {
            assert!(container[probe].is_object(), "{role}: {probe}");
        }
    }
    assert_eq!(roles, Role::ALL.map(|role| role.name().to_owned()).into());
    Ok(())
}

/// Where Prometheus and the autoscaler's adapter ask, as soon as there is such a listener.
#[test]
fn metrics_are_served_where_the_manifests_have_them_scraped() -> anyhow::Result<()> {
    let has_listener = serde_json::to_value(Config::default())?.get("admin").is_some();
    let listens = Image::read()?.environment.contains(&("SWITCHBOARD_ADMIN__LISTEN".into(), "0.0.0.0:8001".into()));
    assert_eq!(listens, has_listener, "deploy/Dockerfile");
    for role in Role::ALL.map(Role::name) {
        let documents = yaml(&format!("deploy/kubernetes/{role}.yaml"))?;
        let deployment = documents.iter().find(|document| document["kind"] == "Deployment").context("a Deployment")?;
        let template = &deployment["spec"]["template"];
        assert_eq!(template["metadata"]["annotations"]["prometheus.io/port"], "8001", "{role}");
        let ports = template["spec"]["containers"][0]["ports"].as_array().context("ports")?;
        assert!(ports.contains(&json!({"name": "admin", "containerPort": 8001})), "{role}");
    }
    Ok(())
}

#[test]
fn kubernetes_services_differ_in_their_names_alone() -> anyhow::Result<()> {
    let without_comment = |name: &str| {
        let whole = text(&format!("deploy/kubernetes/{name}.yaml"))?;
        anyhow::Ok(whole.split_once('\n').context("a comment")?.1.replace(name, "ROLE"))
    };
    let chat = without_comment("chat")?;
    for role in ["identity", "location", "notification", "presence"] {
        assert_eq!(without_comment(role)?, chat, "{role}");
    }
    Ok(())
}

#[test]
fn nginx_leaves_it_to_switchboard_to_call_a_socket_idle() -> anyhow::Result<()> {
    let edge = Config::default().edge;
    let longest = |name: &str, text: &str, opening: &str| -> anyhow::Result<u64> {
        let (_, rest) = text.split_once(opening).with_context(|| format!("{name}: no {opening}"))?;
        let digits: String = rest.trim_start_matches([' ', '"']).chars().take_while(char::is_ascii_digit).collect();
        Ok(digits.parse()?)
    };
    let (nginx, ingress) = (text("deploy/nginx/switchboard.conf")?, text("deploy/kubernetes/ingress.yaml")?);
    for (name, text, opening) in [
        ("nginx", &nginx, "proxy_read_timeout"),
        ("nginx", &nginx, "proxy_send_timeout"),
        ("ingress", &ingress, "proxy-read-timeout:"),
        ("ingress", &ingress, "proxy-send-timeout:"),
    ] {
        assert!(longest(name, text, opening)? > edge.idle_timeout_s, "{name}: {opening}");
    }
    Ok(())
}

/// The files of the kustomization, which is none itself.
pub(super) fn manifests() -> anyhow::Result<Vec<String>> {
    let listed = list_of(&yaml("deploy/kubernetes/kustomization.yaml")?[0]["resources"]);
    let mut there = BTreeSet::new();
    for entry in std::fs::read_dir(shipped("deploy/kubernetes"))? {
        there.insert(entry?.file_name().to_string_lossy().into_owned());
    }
    there.remove("kustomization.yaml");
    ensure!(listed.iter().cloned().collect::<BTreeSet<_>>() == there, "{listed:?} of {there:?}");
    Ok(listed)
}

/// What stands behind `--role` in a command.
fn roles_of(command: &Value) -> anyhow::Result<Vec<String>> {
    let words = list_of(command);
    let place = words.iter().position(|word| word == "--role").context("--role")?;
    Ok(words.get(place + 1).context("roles")?.split(',').map(str::to_owned).collect())
}
