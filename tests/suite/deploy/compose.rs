//! `compose.yaml`, all of it: Caddy, two edges, the services, two NATS servers; and the tests' Postgres in the place of its
//! own.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::{Ipv4Addr, SocketAddr},
    process::{Command, Stdio},
};

use anyhow::{Context as _, bail, ensure};
use serde_json::{Value, json};
use switchboard_chassis::testing::new_postgres_database;
use switchboard_tests::process::{self, Process};

use super::{
    CHAT, list_of, passes, shipped,
    stack::{Container, Stack, variables},
    str_of, text, until_it_answers,
    visitor::{Front, chat},
    yaml,
};
use crate::transport::{grpcurl, until};

const SECRETS: &str = "/run/secrets";

/// What Compose would have started.
struct Deployment {
    stack: Stack,
    containers: BTreeMap<String, Container>,
    /// NATS servers and the proxy.
    others: Vec<Process>,
    front: Front,
    grpc_port: u16,
}

impl Deployment {
    async fn up() -> anyhow::Result<Self> {
        let file = yaml("deploy/compose.yaml")?.remove(0);
        let services = file["services"].as_object().context("services")?;
        let mut stack = Stack::new()?;
        for name in services.keys() {
            stack.host(name)?;
        }
        let secrets = stack.at("secrets").display().to_string();
        passes(Command::new(shipped("deploy/compose/secrets.sh")).arg(&secrets))?;
        // Made once, and kept.
        assert_eq!(passes(Command::new(shipped("deploy/compose/secrets.sh")).arg(&secrets))?, "");
        let url = fs::read_to_string(stack.at("secrets/store_url"))?;
        assert!(url.starts_with("postgres://switchboard:") && url.ends_with("@postgres/switchboard"), "{url}");
        fs::write(stack.at("secrets/store_url"), new_postgres_database().await?)?;

        let proxy = stack.address("proxy")?;
        let [https, http, grpc] = [(); 3].map(|()| process::free_address().map(|address| address.port()));
        let (https, grpc_port) = (https?, grpc?);
        let ports = [("HTTPS", https), ("HTTP", http?), ("GRPC", grpc_port)];
        let mut deployment = Self {
            front: Front {
                address: SocketAddr::from((proxy, https)),
                name: "localhost",
                roots: stack.root(proxy).join("data/caddy/pki/authorities/local/root.crt"),
                from: Ipv4Addr::LOCALHOST,
            },
            stack,
            containers: BTreeMap::new(),
            others: Vec::new(),
            grpc_port,
        };
        let mut started = BTreeSet::new();
        while started.len() < services.len() {
            let is_next = |service: &Value| {
                let needed = service["depends_on"].as_object().into_iter().flatten();
                needed
                    .clone()
                    .all(|(name, how)| how["condition"] == "service_healthy" && started.contains(name.as_str()))
            };
            let ready = services.iter().filter(|(name, service)| !started.contains(name.as_str()) && is_next(service));
            let ready: Vec<_> = ready.collect();
            ensure!(!ready.is_empty(), "some wait for each other: {started:?} have started");
            for (name, service) in &ready {
                deployment.start(name, service, &ports)?;
            }
            for (name, _) in ready {
                deployment.healthy(name, &ports).await.with_context(|| name.clone())?;
                started.insert(name.as_str());
            }
        }
        Ok(deployment)
    }

    fn start(&mut self, name: &str, service: &Value, ports: &[(&str, u16)]) -> anyhow::Result<()> {
        let own = self.stack.address(name)?;
        for secret in list_of(&service["secrets"]) {
            let content = fs::read_to_string(self.stack.at("secrets").join(&secret))?;
            self.stack.put(own, &format!("{SECRETS}/{secret}"), &content)?;
        }
        let command = list_of(&service["command"]);
        let image = str_of(&service["image"], name)?;
        match image.split(':').next().unwrap_or_default() {
            "switchboard" => {
                let mut environment: Vec<_> = variables(&service["environment"])
                    .into_iter()
                    .map(|(name, value)| (name, interpolated(&value)))
                    .collect();
                for (name, value) in &mut environment {
                    // Of a machine's own addresses, the system calls from this one.
                    if name == "SWITCHBOARD_EDGE__TRUSTED_PROXIES" {
                        "127.0.0.1".clone_into(value);
                    }
                }
                environment.push(("SWITCHBOARD_LOG__FILTER".to_owned(), "info,sockets=debug".to_owned()));
                let container = self.stack.start(own, Some(command), &environment)?;
                self.containers.insert(name.to_owned(), container);
            }
            "nats" => {
                for volume in list_of(&service["volumes"]) {
                    let [source, target, "ro"] = volume.split(':').collect::<Vec<_>>()[..] else {
                        bail!("{volume} may be written")
                    };
                    let content = text(&format!("deploy/{}", source.trim_start_matches("./")))?;
                    let mapped = content.split('"').map(|part| self.stack.mapped(part, own)).collect::<Vec<_>>();
                    // The one path is relative, and stays.
                    self.stack.put(own, target, &mapped.join("\""))?;
                }
                let arguments: Vec<String> = command.iter().map(|word| self.stack.mapped(word, own)).collect();
                let mut server = Command::new("nats-server");
                server.args(arguments).stdin(Stdio::null());
                server.stdout(Stdio::null()).stderr(fs::File::create(self.stack.at(&format!("{name}.log")))?);
                self.others.push(Process::spawn(&mut server)?);
            }
            "caddy" => self.others.push(self.caddy(own, &command, service, ports)?),
            // The tests' own.
            "postgres" => {}
            other => bail!("what is {other}?"),
        }
        Ok(())
    }

    /// The shipped Caddyfile; it listens on its own address alone, at ports that anybody may have.
    fn caddy(
        &self,
        own: Ipv4Addr,
        command: &[String],
        service: &Value,
        ports: &[(&str, u16)],
    ) -> anyhow::Result<Process> {
        let mounted = list_of(&service["volumes"]);
        assert!(mounted.contains(&"./caddy/Caddyfile:/etc/caddy/Caddyfile:ro".to_owned()), "{mounted:?}");
        let rendered =
            text("deploy/caddy/Caddyfile")?.replacen("\n{\n", &format!("\n{{\n\tadmin off\n\tdefault_bind {own}\n"), 1);
        ensure!(rendered.contains("default_bind"), "no options");
        self.stack.put(own, "/etc/caddy/Caddyfile", &rendered)?;
        let [program, arguments @ ..] = command else { bail!("no command") };
        let mut caddy = Command::new(program);
        caddy.args(arguments.iter().map(|word| self.stack.mapped(word, own)));
        caddy.envs(
            variables(&service["environment"])
                .into_iter()
                .map(|(name, value)| (name, self.stack.mapped(&interpolated(&value), own))),
        );
        caddy.envs(ports.iter().map(|(name, port)| (format!("SWITCHBOARD_{name}_PORT"), port.to_string())));
        // As the image has it.
        caddy.env("XDG_DATA_HOME", self.stack.root(own).join("data"));
        caddy.env("XDG_CONFIG_HOME", self.stack.root(own).join("config")).env("HOME", self.stack.root(own));
        caddy.stdin(Stdio::null()).stdout(Stdio::null()).stderr(fs::File::create(self.stack.at("proxy.log"))?);
        Process::spawn(&mut caddy)
    }

    async fn healthy(&mut self, name: &str, ports: &[(&str, u16)]) -> anyhow::Result<()> {
        if let Some(container) = self.containers.get_mut(name) {
            return self.stack.healthy(container).await;
        }
        let address = self.stack.address(name)?;
        match name {
            "proxy" => {
                let caddy = self.others.last_mut().context("it was started last")?;
                for (name, port) in ports {
                    caddy.listens(SocketAddr::from((address, *port))).await.with_context(|| (*name).to_owned())?;
                }
                let root = &self.front.roots;
                until("Caddy's own certificate", || async move { Ok(root.exists()) }).await
            }
            "postgres" => Ok(()),
            _ => until_it_answers(SocketAddr::from((address, 8222)), "/healthz").await,
        }
    }

    fn container(&mut self, name: &str) -> anyhow::Result<&mut Container> {
        self.containers.get_mut(name).with_context(|| format!("no {name}"))
    }
}

/// What Compose makes of `${NAME:-default}` when nothing is set.
fn interpolated(value: &str) -> String {
    match value.strip_prefix("${").and_then(|rest| rest.strip_suffix('}')).and_then(|inner| inner.split_once(":-")) {
        Some((_, default)) => default.to_owned(),
        None => value.to_owned(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_compose_would_start_is_chatted_through() -> anyhow::Result<()> {
    let mut deployment = Deployment::up().await?;
    for name in ["nats-1", "nats-2"] {
        let monitor = SocketAddr::from((deployment.stack.address(name)?, 8222));
        until("a route between the two NATS servers", || async move {
            let (_, routes) = switchboard_tests::client::call(monitor, "GET", "/routez", None, None).await?;
            Ok(routes["num_routes"].as_u64() > Some(0))
        })
        .await?;
    }
    // As the file's comment says.
    deployment.container("identity")?.provision()?;
    let [pat, dora] = ["701", "702"].map(|user| deployment.containers["identity"].token(user));
    let (pat_token, dora_token) = (pat?, dora?);
    let front = deployment.front.clone();
    let path = |token: &str| format!("/ws/chat/{CHAT}/?token={token}");
    let mut pat = front.enter(&path(&pat_token)).await?;
    let mut dora = front.enter(&path(&dora_token)).await?;
    chat(&mut pat, &mut dora, "through Caddy").await?;

    let (status, page) = front.get(&format!("/chat/chats/{CHAT}/messages/?page_size=1"), &pat_token).await?;
    assert_eq!(status, 200, "{page}");
    assert!(page["next"].as_str().is_some_and(|next| next.starts_with(&front.origin())), "{page}");

    // Cookies are for pages of the host that the client asked for.
    let ca = front.roots.display().to_string();
    let bearer = format!("authorization: Bearer {}", fs::read_to_string(deployment.stack.at("secrets/grpc_token"))?);
    let grpc = format!("localhost:{}", deployment.grpc_port);
    let connected = format!("{}:{}", deployment.stack.address("proxy")?, deployment.grpc_port);
    let call = async |method: &str, input: &str| {
        let named = ["-authority", "localhost", "-cacert", &ca, "-H", &bearer, "-d", "@", &connected, method];
        grpcurl(&named, input).await
    };
    let (ok, session) = call("switchboard.identity.v1.IdentityService/CreateSession", r#"{"user_id": "5"}"#).await?;
    assert!(ok, "{grpc}: {session}");
    let session: Value = serde_json::from_str(&session)?;
    let cookie = ("cookie", format!("sessionid={}", str_of(&session["sessionKey"], "the session")?));
    let student = "/ws/chat/my-conversation/";
    let ours = front.visit(student, &[cookie.clone(), ("origin", front.origin())]).await?;
    let mut ours = ours.map_err(|status| anyhow::anyhow!("refused with {status}"))?;
    assert_eq!(ours.next().await?["type"], "connection_established");
    let theirs = front.visit(student, &[cookie, ("origin", "https://evil.example".to_owned())]).await?;
    assert_eq!(theirs.err(), Some(403));

    // gRPC, a stream: to another service than that of the call before.
    let typed = [
        json!({"session": 1, "join": {"conversation_id": CHAT, "user_id": "702"}}),
        json!({"session": 1, "send": {"content": "by gRPC"}}),
    ];
    let (ok, said) =
        call("switchboard.chat.v1.ChatService/Converse", &typed.map(|line| line.to_string()).join("\n")).await?;
    assert!(ok && said.contains("by gRPC"), "{said}");
    pat.hears("by gRPC").await?;
    dora.hears("by gRPC").await?;

    // Who a client is, whatever it says of itself.
    let stranger = Front { from: Ipv4Addr::new(127, 0, 0, 77), ..front.clone() };
    let forged = [("x-forwarded-for", "192.0.2.55".to_owned()), ("forwarded", "for=192.0.2.55".to_owned())];
    let visitor = stranger.visit("/ws/presence/?token=not-a-token", &forged).await?;
    assert_eq!(visitor.map_err(|status| anyhow::anyhow!("{status}"))?.ends().await?, Some(4001));
    let stack = &deployment.stack;
    until("the visitor's line in a log", || async move { Ok(stack.logs()?.contains(r#""client":"127.0.0.77""#)) })
        .await?;

    // One of each goes; nobody is lost who was not on that edge, and those find the other one.
    for name in ["chat-1", "edge-1"] {
        let leaving = deployment.container(name)?;
        leaving.process.terminate()?;
        assert_eq!(leaving.process.exit_code().await?, 0, "{name}");
    }
    for (person, token) in [(&mut pat, &pat_token), (&mut dora, &dora_token)] {
        // Whichever edge it was on: it is told to come back, or goes on.
        drop(std::mem::replace(person, front.enter(&path(token)).await?));
    }
    chat(&mut pat, &mut dora, "with one chat and one edge").await?;

    drop((pat, dora, ours));
    let logs = deployment.stack.logs()?;
    assert!(logs.contains("/ws/presence/"), "the proxy's log has the requests");
    for (what, secret) in [("a token", pat_token.as_str()), ("a token", &dora_token), ("not-a-token", "not-a-token")] {
        assert!(!logs.contains(secret), "{what} is in a log");
    }
    Ok(())
}
