//! The real nginx, with the shipped file: of that, only ports, paths and times are replaced.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    process::{Command, Stdio},
};

use anyhow::{Context as _, ensure};
use switchboard_chassis::{
    Secret,
    grpc::{Access, remote_peer},
};
use switchboard_proto::{
    chat::v1::{
        ConverseRequest, Join, Send, chat_service_client::ChatServiceClient, converse_request::Action,
        converse_response::Event, join,
    },
    identity::v1::{CreateSessionRequest, identity_service_client::IdentityServiceClient},
};
use switchboard_tests::process::{self, Process};
use tokio_stream::StreamExt as _;

use super::{
    CHAT, PEOPLE, text, until_it_answers,
    visitor::{Front, Visitor, chat},
};
use crate::transport::{Files, Use, until};

const GRPC_TOKEN: &str = "a-token-between-services";
/// In the place of 75 s: three of the pings here, as 75 s are three of the shipped ones.
const PROXY_TIMEOUT: &str = "3s";

/// A Switchboard with nginx in front.
struct Site {
    files: Files,
    front: Front,
    grpc: SocketAddr,
    edge: SocketAddr,
    settings: Vec<(&'static str, String)>,
    switchboard: Process,
    _nginx: Process,
}

impl Site {
    async fn open(ping_interval_s: u64) -> anyhow::Result<Self> {
        let files = Files::new()?;
        let authority = files.authority("ca")?;
        files.write("edge", authority.issue(&["chat.example.com"], &Use::Server)?)?;
        files.write("grpc", authority.issue(&["localhost"], &Use::Server)?)?;
        let addresses = [(); 4].map(|()| process::free_address());
        let [edge, services, front, grpc] = addresses;
        let (edge, services, front, grpc) = (edge?, services?, front?, grpc?);
        let settings = vec![
            ("SWITCHBOARD_DATA_DIR", files.text("data")),
            ("SWITCHBOARD_EDGE__LISTEN", edge.to_string()),
            ("SWITCHBOARD_EDGE__TRUSTED_PROXIES", "127.0.0.1".to_owned()),
            ("SWITCHBOARD_EDGE__PING_INTERVAL_S", ping_interval_s.to_string()),
            ("SWITCHBOARD_EDGE__IDLE_TIMEOUT_S", (ping_interval_s * 10).to_string()),
            ("SWITCHBOARD_GRPC__LISTEN", services.to_string()),
            ("SWITCHBOARD_GRPC__TOKEN", GRPC_TOKEN.to_owned()),
            ("SWITCHBOARD_SERVICES__IDENTITY", format!("http://{services}")),
            ("SWITCHBOARD_SERVICES__CHAT", format!("http://{services}")),
            ("SWITCHBOARD_LOG__FILTER", "info,sockets=debug".to_owned()),
        ];
        let switchboard = start(&settings, &files, edge).await?;
        fs::write(files.at("people.jsonl"), PEOPLE)?;
        let (code, _, err) = process::run(&["provision", &files.text("people.jsonl")], &settings)?;
        ensure!(code == 0, "{err}");

        let replaced = [
            ("    listen [::]:443 ssl http2;\n", String::new()),
            ("    listen [::]:8443 ssl http2;\n", String::new()),
            ("listen 443 ssl", format!("listen {front} ssl")),
            ("listen 8443 ssl", format!("listen {grpc} ssl")),
            ("server 127.0.0.1:8000 ", format!("server {edge} ")),
            ("server 127.0.0.1:50051;", format!("server {services};")),
            ("/etc/switchboard/", format!("{}/", files.text(""))),
            ("/var/log/nginx/", format!("{}/", files.text(""))),
            ("proxy_read_timeout      75s", format!("proxy_read_timeout {PROXY_TIMEOUT}")),
            ("proxy_send_timeout      75s", format!("proxy_send_timeout {PROXY_TIMEOUT}")),
        ];
        let mut rendered = text("deploy/nginx/switchboard.conf")?;
        for (shipped, ours) in replaced {
            ensure!(rendered.contains(shipped), "{shipped} is not in the file");
            rendered = rendered.replace(shipped, &ours);
        }
        fs::write(files.at("switchboard.conf"), rendered)?;
        let mut nginx = Self::nginx(&files)?;
        nginx.listens(front).await.with_context(|| fs::read_to_string(files.at("nginx.log")).unwrap_or_default())?;
        let front =
            Front { address: front, name: "chat.example.com", roots: files.at("ca.pem"), from: Ipv4Addr::LOCALHOST };
        Ok(Self { files, front, grpc, edge, settings, switchboard, _nginx: nginx })
    }

    /// As an ordinary process, which keeps everything in the test's directory.
    fn nginx(files: &Files) -> anyhow::Result<Process> {
        let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|name| format!("{name}_temp_path {};", files.text(name)))
            .join("\n");
        let (pid, ours) = (files.text("nginx.pid"), files.text("switchboard.conf"));
        let main = format!(
            "daemon off; master_process off; pid {pid};\nevents {{ worker_connections 1024; }}\n\
             http {{\n{temporary}\ninclude {ours};\n}}\n"
        );
        fs::write(files.at("nginx.conf"), main)?;
        let mut command = Command::new("nginx");
        command.args(["-p", &files.text(""), "-e", "stderr", "-c", &files.text("nginx.conf")]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(fs::File::create(files.at("nginx.log"))?);
        Process::spawn(&mut command).context("run ./tests/run, which unpacks nginx")
    }

    fn token(&self, user: &str) -> anyhow::Result<String> {
        let (code, token, err) = process::run(&["token", "--user", user], &self.settings)?;
        ensure!(code == 0, "{err}");
        Ok(token.trim().to_owned())
    }

    async fn enter(&self, user: &str) -> anyhow::Result<Visitor> {
        self.front.enter(&format!("/ws/chat/{CHAT}/?token={}", self.token(user)?)).await
    }

    fn log(&self, name: &str) -> anyhow::Result<String> {
        Ok(fs::read_to_string(self.files.at(name))?)
    }

    /// The services by gRPC through nginx.
    fn access(&self) -> anyhow::Result<(String, Access)> {
        let access = Access::new(Secret::new(GRPC_TOKEN), self.files.client("ca.pem", None)?);
        Ok((format!("https://localhost:{}", self.grpc.port()), access))
    }
}

async fn start(settings: &[(&str, String)], files: &Files, edge: SocketAddr) -> anyhow::Result<Process> {
    let mut switchboard = Process::start_logging(&["serve"], settings, &files.at("process.log"))?;
    switchboard.listens(edge).await?;
    until_it_answers(edge, "/readyz").await?;
    Ok(switchboard)
}

#[tokio::test(flavor = "multi_thread")]
async fn sockets_rest_and_cookies_pass_nginx_and_tokens_stay_out_of_its_logs() -> anyhow::Result<()> {
    let mut site = Site::open(1).await?;
    let (mut pat, mut dora) = (site.enter("701").await?, site.enter("702").await?);
    chat(&mut pat, &mut dora, "through nginx").await?;

    let token = site.token("701")?;
    let (status, page) = site.front.get(&format!("/chat/chats/{CHAT}/messages/?page_size=1"), &token).await?;
    assert_eq!(status, 200, "{page}");
    assert!(page["next"].as_str().is_some_and(|next| next.starts_with(&site.front.origin())), "{page}");

    let (url, access) = site.access()?;
    let mut identity = IdentityServiceClient::new(remote_peer(&url, access)?);
    let session =
        identity.create_session(CreateSessionRequest { user_id: "5".into(), ttl_seconds: 0 }).await?.into_inner();
    let cookie = ("cookie", format!("sessionid={}", session.session_key));
    let student = "/ws/chat/my-conversation/";
    let ours = site.front.visit(student, &[cookie.clone(), ("origin", site.front.origin())]).await?;
    let mut ours = ours.map_err(|status| anyhow::anyhow!("refused with {status}"))?;
    assert_eq!(ours.next().await?["type"], "connection_established");
    let theirs = site.front.visit(student, &[cookie.clone(), ("origin", "https://evil.example".to_owned())]).await?;
    assert_eq!(theirs.err(), Some(403));
    // A host that a client invents is no host of ours.
    let invented =
        [cookie, ("origin", "https://evil.example".to_owned()), ("x-forwarded-host", "evil.example".to_owned())];
    assert_eq!(site.front.visit(student, &invented).await?.err(), Some(403));

    // Who a client is, whatever it says of itself.
    let stranger = Front { from: Ipv4Addr::new(127, 0, 0, 78), ..site.front.clone() };
    let forged = [("x-forwarded-for", "192.0.2.55".to_owned()), ("forwarded", "for=192.0.2.55".to_owned())];
    let visitor = stranger.visit("/ws/presence/?token=not-a-token", &forged).await?;
    assert_eq!(visitor.map_err(|status| anyhow::anyhow!("{status}"))?.ends().await?, Some(4001));
    let log = site.files.at("process.log");
    let log = &log;
    until("the visitor's line", || async move { Ok(fs::read_to_string(log)?.contains(r#""client":"127.0.0.78""#)) })
        .await?;
    assert!(!site.log("process.log")?.contains("192.0.2.55"));

    // The edge restarts: goodbyes pass, nobody is let in meanwhile, and then everybody.
    site.switchboard.terminate()?;
    assert_eq!(pat.ends().await?, Some(1012));
    assert_eq!(dora.ends().await?, Some(1012));
    assert_eq!(site.switchboard.exit_code().await?, 0);
    let path = format!("/ws/chat/{CHAT}/?token={token}");
    assert_eq!(site.front.visit(&path, &[]).await?.err(), Some(502));
    site.switchboard = start(&site.settings, &site.files, site.edge).await?;
    let (mut pat, mut dora) = (site.enter("701").await?, site.enter("702").await?);
    chat(&mut pat, &mut dora, "after a restart").await?;

    drop((pat, dora));
    let requests = site.log("switchboard.log")?;
    assert!(requests.contains(&format!("\"GET /ws/chat/{CHAT}/ HTTP/1.1\" 502")), "{requests}");
    for name in ["switchboard.log", "switchboard-error.log", "nginx.log", "process.log"] {
        let log = site.log(name)?;
        for secret in [token.as_str(), "not-a-token", &session.session_key] {
            assert!(!log.contains(secret), "a credential is in {name}");
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn grpc_streams_pass_nginx_and_outlive_silence() -> anyhow::Result<()> {
    let site = Site::open(1).await?;
    let (url, access) = site.access()?;
    let mut service = ChatServiceClient::new(remote_peer(&url, access)?);
    let (outgoing, incoming) = tokio::sync::mpsc::unbounded_channel();
    let join = Join {
        conversation: Some(join::Conversation::ConversationId(CHAT.into())),
        user_id: "702".into(),
        ..Join::default()
    };
    let asks = |action| ConverseRequest { session: 1, action: Some(action), ..ConverseRequest::default() };
    outgoing.send(asks(Action::Join(join)))?;
    let incoming = tokio_stream::wrappers::UnboundedReceiverStream::new(incoming);
    let mut answers = service.converse(incoming).await?.into_inner();
    let joined = answers.next().await.context("an answer")??;
    assert!(matches!(joined.event, Some(Event::Joined(_))), "{joined:?}");

    // Longer than the proxy waits for a word: its sockets live by pings, and gRPC's streams need none.
    let mut pat = site.enter("701").await?;
    pat.pinged(5).await?;
    pat.say("after a silence").await?;
    pat.hears("after a silence").await?;
    let heard = answers.next().await.context("a message")??;
    assert!(matches!(heard.event, Some(Event::Message(message)) if message.content == "after a silence"));
    outgoing.send(asks(Action::Send(Send { content: "by gRPC".into(), ..Send::default() })))?;
    pat.hears("by gRPC").await
}

/// That the test before proves something: who pings less often than the proxy waits loses its sockets.
#[tokio::test(flavor = "multi_thread")]
async fn a_socket_without_pings_is_ended_by_nginx() -> anyhow::Result<()> {
    let site = Site::open(600).await?;
    let mut pat = site.enter("701").await?;
    assert_eq!(pat.ends().await?, None, "without a word");
    Ok(())
}
