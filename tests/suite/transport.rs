//! Who is trusted on the way: TLS on both listeners, callers with scopes, and what proxies say of clients.

use std::{fs, io, net::SocketAddr, path::PathBuf, sync::Arc, time::Instant};

use anyhow::{Context as _, ensure};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use futures_util::{SinkExt as _, StreamExt as _};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, date_time_ymd,
};
use serde_json::Value;
use switchboard_chassis::{
    Directory, Lifecycle,
    grpc::{Access, Peer, any_peer, remote_peer},
    tls::{ClientTls, ClientTlsConfig},
};
use switchboard_proto::{
    chat::v1::{Send, SendMessageRequest},
    identity::v1::{GetUserRequest, get_user_request, identity_service_client::IdentityServiceClient},
};
use switchboard_tests::{
    Backend, PATIENCE, Sandbox, client,
    process::{self, Process},
};
use tempfile::TempDir;
use tokio::{io::AsyncWriteExt as _, net::TcpStream, time::Duration};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::ring,
        pki_types::{CertificateDer, ServerName, pem::PemObject as _},
    },
};
use tokio_tungstenite::{WebSocketStream, client_async, tungstenite::Message};
use tonic::Code;

const PEOPLE: &str = include_str!("../../deploy/switchboard/demo/people.jsonl");
const CHAT: &str = "550e8400-e29b-41d4-a716-446655440000";
const TOKEN: &str = "a-token-between-services";

/// Who signs certificates.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

pub(crate) enum Use {
    Server,
    Client,
    ExpiredServer,
    ExpiredClient,
}

impl Authority {
    pub(crate) fn new(name: &str) -> anyhow::Result<Self> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Ok(Self(CertifiedIssuer::self_signed(params, KeyPair::generate()?)?))
    }

    /// A certificate for names and its key, PEM.
    pub(crate) fn issue(&self, names: &[&str], purpose: &Use) -> anyhow::Result<(String, String)> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names)?;
        params.extended_key_usages = match purpose {
            Use::Server | Use::ExpiredServer => vec![ExtendedKeyUsagePurpose::ServerAuth],
            Use::Client | Use::ExpiredClient => vec![ExtendedKeyUsagePurpose::ClientAuth],
        };
        if matches!(purpose, Use::ExpiredServer | Use::ExpiredClient) {
            params.not_after = date_time_ymd(2020, 1, 1);
        }
        let key = KeyPair::generate()?;
        Ok((pem("CERTIFICATE", params.signed_by(&key, &self.0)?.der()), pem("PRIVATE KEY", key.serialized_der())))
    }
}

fn pem(label: &str, der: &[u8]) -> String {
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", BASE64.encode(der))
}

/// A directory of certificates.
pub(crate) struct Files(TempDir);

impl Files {
    pub(crate) fn new() -> anyhow::Result<Self> {
        Ok(Self(tempfile::tempdir()?))
    }

    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn text(&self, name: &str) -> String {
        self.at(name).display().to_string()
    }

    pub(crate) fn write(&self, name: &str, (certificate, key): (String, String)) -> io::Result<()> {
        fs::write(self.at(&format!("{name}.pem")), certificate)?;
        fs::write(self.at(&format!("{name}.key")), key)
    }

    pub(crate) fn authority(&self, name: &str) -> anyhow::Result<Authority> {
        let authority = Authority::new(name)?;
        fs::write(self.at(&format!("{name}.pem")), pem("CERTIFICATE", authority.0.der()))?;
        Ok(authority)
    }

    /// How somebody calls who trusts an authority and shows a certificate.
    pub(crate) fn client(&self, ca: &str, shown: Option<&str>) -> anyhow::Result<ClientTls> {
        let file = |name: &str| shown.map(|shown| self.at(&format!("{shown}.{name}"))).unwrap_or_default();
        let config = ClientTlsConfig { ca_file: self.at(ca), certificate_file: file("pem"), key_file: file("key") };
        ClientTls::new(&config, &Lifecycle::new()).map_err(anyhow::Error::msg)
    }
}

/// A socket over TLS.
struct Wss(WebSocketStream<TlsStream<TcpStream>>);

impl Wss {
    async fn connect(edge: SocketAddr, roots: &str, path: &str) -> anyhow::Result<Self> {
        let stream = secured(edge, roots).await?;
        let url = format!("wss://{edge}{path}");
        Ok(Self(tokio::time::timeout(PATIENCE, client_async(url, stream)).await??.0))
    }

    async fn send(&mut self, text: &str) -> anyhow::Result<()> {
        Ok(self.0.send(Message::text(text)).await?)
    }

    async fn next(&mut self) -> anyhow::Result<Value> {
        let text = async {
            loop {
                match self.0.next().await.context("ended")?? {
                    Message::Text(text) => return Ok(serde_json::from_str(&text)?),
                    Message::Ping(_) => {}
                    other => anyhow::bail!("{other:?}"),
                }
            }
        };
        tokio::time::timeout(PATIENCE, text).await.context("nothing came in time")?
    }

    fn certificate(&self) -> Vec<u8> {
        certificate(self.0.get_ref())
    }
}

async fn secured(address: SocketAddr, roots: &str) -> anyhow::Result<TlsStream<TcpStream>> {
    let mut store = RootCertStore::empty();
    store.add(CertificateDer::from_pem_file(roots)?)?;
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(store)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let stream = TcpStream::connect(address).await?;
    let handshake = TlsConnector::from(Arc::new(config)).connect(ServerName::try_from("localhost")?, stream);
    Ok(tokio::time::timeout(PATIENCE, handshake).await.context("no handshake")??)
}

fn certificate(stream: &TlsStream<TcpStream>) -> Vec<u8> {
    let shown = stream.get_ref().1.peer_certificates().unwrap_or_default();
    shown.first().map(|shown| shown.to_vec()).unwrap_or_default()
}

pub(crate) async fn grpcurl(arguments: &[&str], input: &str) -> anyhow::Result<(bool, String)> {
    let mut command = tokio::process::Command::new("grpcurl");
    command.args(arguments).stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
    command.stderr(std::process::Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().context("grpcurl is missing: run ./tests/run")?;
    child.stdin.take().context("its input")?.write_all(input.as_bytes()).await?;
    let output = tokio::time::timeout(PATIENCE, child.wait_with_output()).await??;
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    Ok((output.status.success(), text))
}

/// Whether a call arrives: nobody with this id is there, and that is the answer.
async fn reaches(peer: Peer) -> Result<(), tonic::Status> {
    let request = GetUserRequest { key: Some(get_user_request::Key::UserId("nobody".into())) };
    match IdentityServiceClient::new(peer).get_user(request).await {
        Ok(_) => Ok(()),
        Err(status) if status.code() == Code::NotFound => Ok(()),
        Err(status) => Err(status),
    }
}

/// Waits for what takes some seconds.
pub(crate) async fn until<F: Future<Output = anyhow::Result<bool>>>(
    what: &str,
    is_so: impl Fn() -> F,
) -> anyhow::Result<()> {
    let begun = Instant::now();
    while !is_so().await? {
        ensure!(begun.elapsed() < PATIENCE, "{what} does not come");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_over_tls_with_certificates_on_both_sides() -> anyhow::Result<()> {
    let files = Files::new()?;
    let (public, internal) = (files.authority("public")?, files.authority("internal")?);
    files.write("edge", public.issue(&["localhost"], &Use::Server)?)?;
    files.write("services", internal.issue(&["localhost"], &Use::Server)?)?;
    files.write("caller", internal.issue(&["edge.internal"], &Use::Client)?)?;

    let (edge, grpc) = (process::free_address()?, process::free_address()?);
    let url = format!("https://localhost:{}", grpc.port());
    let settings = [
        ("SWITCHBOARD_DATA_DIR", files.text("data")),
        ("SWITCHBOARD_EDGE__LISTEN", edge.to_string()),
        ("SWITCHBOARD_EDGE__TLS__CERTIFICATE_FILE", files.text("edge.pem")),
        ("SWITCHBOARD_EDGE__TLS__KEY_FILE", files.text("edge.key")),
        ("SWITCHBOARD_GRPC__LISTEN", grpc.to_string()),
        ("SWITCHBOARD_GRPC__TOKEN", TOKEN.to_owned()),
        ("SWITCHBOARD_GRPC__TLS__CERTIFICATE_FILE", files.text("services.pem")),
        ("SWITCHBOARD_GRPC__TLS__KEY_FILE", files.text("services.key")),
        ("SWITCHBOARD_GRPC__TLS__CLIENT_CA_FILE", files.text("internal.pem")),
        ("SWITCHBOARD_SERVICES__TLS__CA_FILE", files.text("internal.pem")),
        ("SWITCHBOARD_SERVICES__TLS__CERTIFICATE_FILE", files.text("caller.pem")),
        ("SWITCHBOARD_SERVICES__TLS__KEY_FILE", files.text("caller.key")),
        ("SWITCHBOARD_SERVICES__IDENTITY", url.clone()),
        ("SWITCHBOARD_SERVICES__CHAT", url.clone()),
        ("SWITCHBOARD_SERVICES__LOCATION", url.clone()),
        ("SWITCHBOARD_SERVICES__NOTIFICATION", url.clone()),
        ("SWITCHBOARD_SERVICES__PRESENCE", url.clone()),
    ];
    let mut services = Process::start(&["serve", "--role", "identity,chat,location,notification,presence"], &settings)?;
    services.listens(grpc).await?;
    let listens = format!("grpc.listen={}", process::free_address()?);
    let mut porch = Process::start(&["serve", "--role", "edge", "--set", &listens], &settings)?;
    porch.listens(edge).await?;

    let people = files.at("people.jsonl");
    fs::write(&people, PEOPLE)?;
    let (code, _, err) = process::run(&["provision", &people.display().to_string()], &settings)?;
    ensure!(code == 0, "{err}");

    let token = |user: &str| -> anyhow::Result<String> {
        let (code, token, err) = process::run(&["token", "--user", user], &settings)?;
        ensure!(code == 0, "{err}");
        Ok(token.trim().to_owned())
    };
    let roots = files.text("public.pem");
    let path = |token: String| format!("/ws/chat/{CHAT}/?token={token}");
    let mut pat = Wss::connect(edge, &roots, &path(token("701")?)).await?;
    let mut dora = Wss::connect(edge, &roots, &path(token("702")?)).await?;
    assert_eq!(pat.0.get_ref().get_ref().1.alpn_protocol(), Some(b"http/1.1".as_slice()));
    // More than one record of TLS, and more than one read of the socket.
    let long = "x".repeat(40_000);
    for content in ["Hello over TLS", &long] {
        pat.send(&serde_json::json!({ "content": content }).to_string()).await?;
        assert_eq!(pat.next().await?["message"]["content"], content);
        assert_eq!(dora.next().await?["message"]["content"], content);
    }

    // Without TLS there is nothing to be had, and with the wrong one neither.
    assert!(client::call(edge, "GET", "/healthz", None, None).await.is_err());
    assert!(secured(edge, &files.text("internal.pem")).await.is_err());
    let token = format!("authorization: Bearer {TOKEN}");
    let address = format!("localhost:{}", grpc.port());
    let (ca, certificate, key) = (files.text("internal.pem"), files.text("caller.pem"), files.text("caller.key"));
    let (ok, listed) =
        grpcurl(&["-cacert", &ca, "-cert", &certificate, "-key", &key, "-H", &token, &address, "list"], "").await?;
    assert!(ok && listed.contains("switchboard.chat.v1.ChatService"), "{listed}");
    let (ok, _) = grpcurl(&["-cacert", &ca, "-H", &token, "-max-time", "5", &address, "list"], "").await?;
    assert!(!ok, "without a certificate");
    let (ok, _) = grpcurl(&["-plaintext", "-H", &token, "-max-time", "5", &address, "list"], "").await?;
    assert!(!ok, "without TLS");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_are_refused_on_either_side() -> anyhow::Result<()> {
    let files = Files::new()?;
    let (internal, foreign) = (files.authority("internal")?, files.authority("foreign")?);
    files.write("services", internal.issue(&["localhost"], &Use::Server)?)?;
    files.write("expired-services", internal.issue(&["localhost"], &Use::ExpiredServer)?)?;
    files.write("caller", internal.issue(&["edge.internal"], &Use::Client)?)?;
    files.write("expired", internal.issue(&["edge.internal"], &Use::ExpiredClient)?)?;
    files.write("foreigner", foreign.issue(&["edge.internal"], &Use::Client)?)?;
    files.write("server-as-client", internal.issue(&["edge.internal"], &Use::Server)?)?;
    let sandbox = async |certificate: &str| {
        Sandbox::start_with(Backend::Sqlite, |config| {
            config.grpc.tls.certificate_file = files.at(&format!("{certificate}.pem"));
            config.grpc.tls.key_file = files.at(&format!("{certificate}.key"));
            config.grpc.tls.client_ca_file = files.at("internal.pem");
        })
        .await
    };
    let good = sandbox("services").await?;
    let named = format!("https://localhost:{}", good.grpc.port());
    let access = |tls: ClientTls, sandbox: &Sandbox| Access::new(sandbox.secrets.grpc_token.clone(), tls);

    for (url, ca, shown, expected) in [
        (named.clone(), "internal.pem", Some("caller"), true),
        (named.clone(), "foreign.pem", Some("caller"), false),
        (named.clone(), "internal.pem", None, false),
        (named.clone(), "internal.pem", Some("expired"), false),
        (named.clone(), "internal.pem", Some("foreigner"), false),
        (named.clone(), "internal.pem", Some("server-as-client"), false),
        // The certificate is for the name, not for the address.
        (format!("https://{}", good.grpc), "internal.pem", Some("caller"), false),
        (format!("http://{}", good.grpc), "internal.pem", Some("caller"), false),
    ] {
        let tls = files.client(ca, shown)?;
        let reached = reaches(remote_peer(&url, access(tls, &good))?).await;
        assert_eq!(reached.is_ok(), expected, "{url} {ca} {shown:?}: {reached:?}");
    }

    // A certificate is not enough.
    let nobody = Access::new(switchboard_chassis::Secret::new("wrong"), files.client("internal.pem", Some("caller"))?);
    let refused = reaches(remote_peer(&named, &nobody)?).await.expect_err("a wrong token");
    assert_eq!(refused.code(), Code::Unauthenticated);

    // A name that is looked up is the name of the certificate still.
    let lifecycle = Lifecycle::new();
    for (url, expected) in [(named, true), (format!("https://127.0.0.1:{}", good.grpc.port()), false)] {
        let directory = Directory::new(&url, &lifecycle).map_err(anyhow::Error::msg)?;
        let tls = files.client("internal.pem", Some("caller"))?;
        let reached = reaches(any_peer(directory, access(tls, &good))).await;
        assert_eq!(reached.is_ok(), expected, "{url}: {reached:?}");
    }
    lifecycle.drain();

    let bad = sandbox("expired-services").await?;
    let tls = files.client("internal.pem", Some("caller"))?;
    let url = format!("https://localhost:{}", bad.grpc.port());
    assert!(reaches(remote_peer(&url, access(tls, &bad))?).await.is_err(), "an expired certificate");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_replaced_without_a_restart() -> anyhow::Result<()> {
    let files = Files::new()?;
    let authority = files.authority("authority")?;
    for name in ["edge", "services"] {
        files.write(name, authority.issue(&["localhost"], &Use::Server)?)?;
    }
    let sandbox = Sandbox::start_with(Backend::Sqlite, |config| {
        config.edge.tls.certificate_file = files.at("edge.pem");
        config.edge.tls.key_file = files.at("edge.key");
        config.grpc.tls.certificate_file = files.at("services.pem");
        config.grpc.tls.key_file = files.at("services.key");
    })
    .await?;
    let roots = files.text("authority.pem");
    let path = format!("/ws/presence/?token={}", sandbox.token("1")?);
    let mut early = Wss::connect(sandbox.edge, &roots, &path).await?;
    let first = early.certificate();
    let on_grpc = certificate(&secured(sandbox.grpc, &roots).await?);

    // Something broken changes nothing.
    fs::write(files.at("edge.pem"), "no certificate")?;
    fs::write(files.at("services.key"), "no key")?;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(Wss::connect(sandbox.edge, &roots, &path).await?.certificate(), first);
    assert_eq!(certificate(&secured(sandbox.grpc, &roots).await?), on_grpc);

    for name in ["edge", "services"] {
        files.write(name, authority.issue(&["localhost"], &Use::Server)?)?;
    }
    let (edge, grpc, roots) = (sandbox.edge, sandbox.grpc, roots.as_str());
    until("the new certificate of the edge", || {
        let first = first.clone();
        async move { Ok(certificate(&secured(edge, roots).await?) != first) }
    })
    .await?;
    until("the new certificate of the services", || {
        let first = on_grpc.clone();
        async move { Ok(certificate(&secured(grpc, roots).await?) != first) }
    })
    .await?;
    // Who was there is there still.
    let mut late = Wss::connect(sandbox.edge, roots, &format!("/ws/presence/?token={}", sandbox.token("2")?)).await?;
    late.next().await?;
    early.next().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_do_what_their_scopes_allow() -> anyhow::Result<()> {
    let files = Files::new()?;
    let callers = files.at("callers.toml");
    let caller = |scope: &str| {
        format!("[[callers]]\nname = '{scope}-er'\nscopes = ['{scope}']\ntoken = 'the-token-of-{scope}-er'\n\n")
    };
    fs::write(&callers, ["read", "write", "admin"].map(caller).concat())?;
    let sandbox = Sandbox::start_with(Backend::Sqlite, |config| config.grpc.callers_file.clone_from(&callers)).await?;
    sandbox.provision(PEOPLE).await?;
    let address = sandbox.grpc.to_string();
    let call = async |scope: &str, method: &str, data: &str| {
        let token = format!("authorization: Bearer the-token-of-{scope}-er");
        grpcurl(&["-plaintext", "-H", &token, "-d", data, &address, method], "").await
    };

    let read = ("switchboard.identity.v1.IdentityService/GetUser", r#"{"user_id": "701"}"#);
    let write = (
        "switchboard.notification.v1.NotificationService/Notify",
        r#"{"user_id": "701", "title": "Booked", "notification_type": "booking"}"#,
    );
    let admin = (
        "switchboard.identity.v1.IdentityService/UpsertUser",
        r#"{"user": {"id": "999", "full_name": "New", "roles": ["patient"]}}"#,
    );
    for (scope, allowed) in [("read", 1), ("write", 2), ("admin", 3)] {
        for (nth, (needed, (method, data))) in
            [("read", read), ("write", write), ("admin", admin)].into_iter().enumerate()
        {
            let (ok, said) = call(scope, method, data).await?;
            assert_eq!(ok, nth < allowed, "{scope} {method}: {said}");
            if !ok {
                let parts = ["PermissionDenied", "SCOPE_REQUIRED", &format!("`{needed}`"), &format!("{scope}-er")];
                for part in parts {
                    assert!(said.contains(part), "{part}: {said}");
                }
            }
        }
    }
    // A stream speaks for anybody.
    let (ok, said) = call("read", "switchboard.chat.v1.ChatService/Converse", "{}").await?;
    assert!(!ok && said.contains("SCOPE_REQUIRED"), "{said}");
    // Reflection is for every caller, health for everybody.
    let listed =
        grpcurl(&["-plaintext", "-H", "authorization: Bearer the-token-of-read-er", &address, "list"], "").await?;
    assert!(listed.0 && listed.1.contains("ChatService"), "{}", listed.1);
    let proto = concat!(env!("CARGO_MANIFEST_DIR"), "/suite/transport.proto");
    let (ok, said) =
        grpcurl(&["-plaintext", "-proto", proto, "-import-path", "/", &address, "grpc.health.v1.Health/Check"], "")
            .await?;
    assert!(ok && said.contains("SERVING"), "{said}");

    // Broken: the old callers stay. Without one of them: it is nobody.
    fs::write(&callers, "[[callers]]\nname = 'x'")?;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(call("read", read.0, read.1).await?.0);
    fs::write(&callers, caller("admin"))?;
    until("the end of a caller", || async { Ok(call("read", read.0, read.1).await?.1.contains("Unauthenticated")) })
        .await?;
    assert!(call("admin", read.0, read.1).await?.0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn only_trusted_proxies_say_what_was_asked_for() -> anyhow::Result<()> {
    for (trusted, expected) in
        [(vec![], "http://127.0.0.1"), (vec!["127.0.0.0/8".to_owned()], "https://chat.example.com")]
    {
        let sandbox =
            Sandbox::start_with(Backend::Sqlite, |config| config.edge.trusted_proxies.clone_from(&trusted)).await?;
        sandbox.provision(PEOPLE).await?;
        for content in ["one", "two"] {
            let request = SendMessageRequest {
                conversation_id: CHAT.into(),
                user_id: "701".into(),
                send: Some(Send { content: content.into(), ..Send::default() }),
            };
            sandbox.chat()?.send_message(request).await?;
        }
        let headers = [
            ("authorization", format!("Bearer {}", sandbox.token("701")?)),
            ("x-forwarded-for", "198.51.100.7".to_owned()),
            ("x-forwarded-proto", "https".to_owned()),
            ("x-forwarded-host", "chat.example.com".to_owned()),
        ];
        let path = format!("/chat/chats/{CHAT}/messages/?page_size=1");
        let (status, page) = client::call_with(sandbox.edge, "GET", &path, &headers, None).await?;
        assert_eq!(status, 200, "{page}");
        let next = page["next"].as_str().unwrap_or_default();
        assert!(next.starts_with(expected), "{trusted:?}: {page}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_cannot_invent_its_address() -> anyhow::Result<()> {
    for (trusted, expected) in [("", "127.0.0.1"), ("10.0.0.0/8", "127.0.0.1"), ("127.0.0.1", "198.51.100.7")] {
        let files = Files::new()?;
        let (edge, log) = (process::free_address()?, files.at("log"));
        let settings = [
            ("SWITCHBOARD_DATA_DIR", files.text("data")),
            ("SWITCHBOARD_EDGE__LISTEN", edge.to_string()),
            ("SWITCHBOARD_GRPC__LISTEN", "127.0.0.1:0".to_owned()),
            ("SWITCHBOARD_EDGE__TRUSTED_PROXIES", trusted.to_owned()),
            ("SWITCHBOARD_LOG__FILTER", "info,sockets=debug".to_owned()),
        ];
        let mut process = Process::start_logging(&["serve"], &settings, &log)?;
        process.listens(edge).await?;
        // Turned away, because it shows no token; its first address is an invention in any case.
        let forged = [("x-forwarded-for", "192.0.2.55, 198.51.100.7".to_owned())];
        let url = format!("ws://{edge}/ws/presence/");
        switchboard_tests::Client::connect(&url, &forged).await?.closed().await?;
        let log = &log;
        until("the visitor's line in the log", || async move {
            Ok(fs::read_to_string(log)?.contains("a visitor was refused"))
        })
        .await?;
        let text = fs::read_to_string(log)?;
        let line = text.lines().find(|line| line.contains("a visitor was refused")).unwrap_or_default();
        let line: Value = serde_json::from_str(line)?;
        assert_eq!(line["client"], expected, "trusted: {trusted:?}");
        assert!(!text.contains("192.0.2.55"), "{text}");
    }
    Ok(())
}

#[test]
fn what_is_wrong_with_certificates_is_told_before_a_port_is_bound() -> anyhow::Result<()> {
    let files = Files::new()?;
    let authority = files.authority("authority")?;
    files.write("one", authority.issue(&["localhost"], &Use::Server)?)?;
    files.write("other", authority.issue(&["localhost"], &Use::Server)?)?;
    fs::write(files.at("callers.toml"), "[[callers]]\nname = 'self'\nscopes = ['read']\ntoken = '0123456789abcdef'")?;
    let mut settings = vec![
        ("SWITCHBOARD_DATA_DIR", files.text("data")),
        // Not an address of ours: it would be told, were it tried.
        ("SWITCHBOARD_EDGE__LISTEN", "192.0.2.1:1".to_owned()),
        ("SWITCHBOARD_EDGE__TLS__CERTIFICATE_FILE", files.text("none.pem")),
        ("SWITCHBOARD_EDGE__TLS__KEY_FILE", files.text("one.key")),
        ("SWITCHBOARD_GRPC__TLS__CERTIFICATE_FILE", files.text("one.pem")),
        ("SWITCHBOARD_GRPC__TLS__KEY_FILE", files.text("other.key")),
        ("SWITCHBOARD_GRPC__CALLERS_FILE", files.text("callers.toml")),
        ("SWITCHBOARD_SERVICES__TLS__CA_FILE", files.text("one.key")),
    ];
    let (code, _, err) = process::run(&["serve"], &settings)?;
    assert_eq!(code, 1);
    let told = [
        "4 mistake(s)",
        "edge.tls.certificate_file",
        "none.pem",
        "grpc.tls.key_file",
        "other.key",
        "grpc.callers_file",
        "`self`",
        "services.tls.ca_file",
        "one.key: no certificate in PEM",
    ];
    for part in told {
        assert!(err.contains(part), "{part}: {err}");
    }
    assert!(!err.contains("192.0.2.1") && !files.at("data").exists(), "{err}");

    settings.truncate(2);
    settings.push(("SWITCHBOARD_EDGE__TLS__CERTIFICATE_FILE", files.text("one.pem")));
    settings.push(("SWITCHBOARD_GRPC__TLS__CLIENT_CA_FILE", files.text("one.pem")));
    settings.push(("SWITCHBOARD_EDGE__TRUSTED_PROXIES", "10.0.0.0/8,proxy,0.0.0.0/0".to_owned()));
    let (_, _, err) = process::run(&["serve"], &settings)?;
    for part in
        ["4 mistake(s)", "edge.tls.key_file", "grpc.tls.client_ca_file", "edge.trusted_proxies: proxy", "0.0.0.0/0"]
    {
        assert!(err.contains(part), "{part}: {err}");
    }
    Ok(())
}
