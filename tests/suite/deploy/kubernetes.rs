//! The manifests: as many pods of each role as the autoscalers begin with, each asked by its own probes.

use std::{
    collections::BTreeMap,
    fs,
    net::SocketAddr,
    process::{Command, Stdio},
};

use anyhow::{Context as _, ensure};
use serde_json::Value;
use switchboard::config::Role;
use switchboard_chassis::testing::new_postgres_database;
use switchboard_tests::{Client, process::Process};

use super::{
    CHAT, list_of,
    stack::{Container, Stack, variables},
    str_of, until_it_answers, until_it_says_yes, yaml,
};

/// What docs/DEPLOYING.md has the operator make.
const SERVICES_SECRET: (&str, [&str; 4]) =
    ("switchboard-services", ["grpc-token", "jwt-secret", "store-url", "bus-token"]);
const EDGE_SECRET: (&str, [&str; 1]) = ("switchboard-edge", ["grpc-token"]);

struct Pod {
    role: &'static str,
    spec: Value,
    container: Container,
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_manifests_would_start_is_chatted_through() -> anyhow::Result<()> {
    let mut stack = Stack::new()?;
    let secrets: BTreeMap<&str, String> = [
        ("grpc-token", "a-token-between-services".to_owned()),
        ("jwt-secret", "a-secret-of-at-least-thirty-two-bytes".to_owned()),
        ("store-url", new_postgres_database().await?),
        ("bus-token", "a-token-for-nats".to_owned()),
    ]
    .into();
    let nats = stack.host("nats")?;
    let mut server = Command::new("nats-server");
    server.args(["-a", &nats.to_string(), "-p", "4222", "-m", "8222", "--auth", &secrets["bus-token"]]);
    server.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let _nats = Process::spawn(&mut server)?;
    until_it_answers(SocketAddr::from((nats, 8222)), "/healthz").await?;

    // Names first: pods are told of each other by them.
    let mut planned = Vec::new();
    for role in Role::ALL.map(Role::name) {
        let documents = yaml(&format!("deploy/kubernetes/{role}.yaml"))?;
        let of = |kind: &str| documents.iter().find(|document| document["kind"] == kind).context("a document");
        let name = str_of(&of("Service")?["metadata"]["name"], role)?;
        let replicas = of("HorizontalPodAutoscaler")?["spec"]["minReplicas"].as_u64().context("replicas")?;
        ensure!(replicas >= 2, "{role}: one is none while it restarts");
        for _ in 0..replicas {
            planned.push((role, of("Deployment")?["spec"]["template"]["spec"].clone(), stack.host(name)?));
        }
    }
    let settings = yaml("deploy/kubernetes/settings.yaml")?.remove(0);
    let mut pods = Vec::new();
    for (role, spec, own) in planned {
        let container = &spec["containers"][0];
        let mut environment = Vec::new();
        for source in container["envFrom"].as_array().context("envFrom")? {
            assert_eq!(source["configMapRef"]["name"], settings["metadata"]["name"]);
            environment.extend(variables(&settings["data"]));
        }
        for variable in container["env"].as_array().context("env")? {
            environment.push((str_of(&variable["name"], role)?.into(), str_of(&variable["value"], role)?.into()));
        }
        // What clients' addresses come from: a proxy, and there is none.
        environment.retain(|(name, _)| name != "SWITCHBOARD_EDGE__TRUSTED_PROXIES");
        // An edge takes that long with one socket, too.
        environment.push(("SWITCHBOARD_EDGE__DRAIN_SPREAD_S".to_owned(), "1".to_owned()));
        for mount in container["volumeMounts"].as_array().context("mounts")? {
            let path = str_of(&mount["mountPath"], role)?;
            let volumes = spec["volumes"].as_array().context("volumes")?;
            let volume = volumes.iter().find(|volume| volume["name"] == mount["name"]).context("a volume")?;
            if volume["secret"].is_null() {
                fs::create_dir_all(format!("{}{path}", stack.root(own).display()))?;
                continue;
            }
            let name = str_of(&volume["secret"]["secretName"], role)?;
            let known = [(SERVICES_SECRET.0, &SERVICES_SECRET.1[..]), (EDGE_SECRET.0, &EDGE_SECRET.1[..])];
            let (_, keys) = known.into_iter().find(|(known, _)| *known == name).with_context(|| name.to_owned())?;
            for key in keys {
                stack.put(own, &format!("{path}/{key}"), &secrets[key])?;
            }
        }
        let container = stack.start(own, Some(list_of(&container["args"])), &environment)?;
        pods.push(Pod { role, spec, container });
    }
    for pod in &mut pods {
        pod.passes_its_probes().await.with_context(|| pod.role.to_owned())?;
    }

    let of = |pods: &[Pod], role: &str| pods.iter().position(|pod| pod.role == role).context("a pod");
    let identity = of(&pods, "identity")?;
    pods[identity].container.provision()?;
    let (pat, dora) = (pods[identity].container.token("701")?, pods[identity].container.token("702")?);
    let edges: Vec<SocketAddr> =
        pods.iter().filter(|pod| pod.role == "edge").map(|pod| pod.container.at(8000)).collect();
    let enter = async |edge: SocketAddr, token: &str| {
        Client::connect(&format!("ws://{edge}/ws/chat/{CHAT}/?token={token}"), &[]).await
    };
    let (mut pat, mut dora) = (enter(edges[0], &pat).await?, enter(edges[1], &dora).await?);
    let heard = async |pat: &mut Client, dora: &mut Client, content: &str| {
        pat.send(serde_json::json!({ "content": content }).to_string()).await?;
        for person in [pat, dora] {
            assert_eq!(person.next().await?["message"]["content"], content);
        }
        anyhow::Ok(())
    };
    heard(&mut pat, &mut dora, "from one edge to another").await?;

    // A rolling update takes one pod of each role away: no socket notices.
    for role in Role::ALL.map(Role::name).into_iter().filter(|role| *role != "edge") {
        let at = of(&pods, role)?;
        let mut pod = pods.remove(at);
        pod.container.process.terminate()?;
        assert_eq!(pod.container.process.exit_code().await.context(role)?, 0, "{role}");
    }
    heard(&mut pat, &mut dora, "with one pod of each").await?;

    // Then an edge: its clients are told to come back.
    let at = of(&pods, "edge")?;
    pods[at].container.process.terminate()?;
    assert_eq!(pat.closed().await?.0, 1012);
    pat.close().await.ok();
    assert_eq!(pods[at].container.process.exit_code().await.context("an edge")?, 0);
    Ok(())
}

impl Pod {
    async fn passes_its_probes(&mut self) -> anyhow::Result<()> {
        let container = &self.spec["containers"][0];
        for name in ["startupProbe", "livenessProbe", "readinessProbe"] {
            let probe = &container[name];
            let asked = if probe["grpc"].is_object() {
                let port = probe["grpc"]["port"].as_u64().context("a port")?;
                let url = format!("grpc://{}", self.container.at(u16::try_from(port)?));
                until_it_says_yes(&["health", "--url", &url], &[]).await
            } else {
                let named = container["ports"].as_array().into_iter().flatten();
                let port = named.clone().find(|port| port["name"] == probe["httpGet"]["port"]).context("a port")?;
                let port = u16::try_from(port["containerPort"].as_u64().context("a number")?)?;
                until_it_answers(self.container.at(port), str_of(&probe["httpGet"]["path"], name)?).await
            };
            if let Some(status) = self.container.process.ended()? {
                anyhow::bail!("it ended with {status}");
            }
            asked.with_context(|| name.to_owned())?;
        }
        Ok(())
    }
}
