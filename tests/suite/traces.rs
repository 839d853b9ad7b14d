//! Traces, as a collector is told them.

use std::{
    collections::HashMap,
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::{Context as _, ensure};
use futures_util::future::try_join_all;
use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    common::v1::{KeyValue, any_value::Value},
    trace::v1::{Span, span::SpanKind},
};
use prost::Message as _;
use switchboard_proto::{
    chat::v1::{
        ConversationKind, EraseUserRequest, GetConversationRequest, OpenConversationRequest, Participant, Send,
        SendMessageRequest, chat_service_client::ChatServiceClient,
    },
    identity::v1::{BatchGetUsersRequest, GetUserRequest},
};
use switchboard_tests::{
    Backend, Client, PATIENCE, Sandbox, client,
    process::{Machine, free_address},
};
use tokio::sync::Notify;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

const PEOPLE: &str = r#"
{"user": {"id": "customer-0", "roles": ["customer"]}}
{"user": {"id": "therapist-0", "roles": ["therapist"]}}
"#;
const CHAT: &str = "/ws/chat/customer-0/therapist-0/";
const SERVICES: &str = "identity,chat,location,notification,presence";

/// A span, and whose.
#[derive(Clone, Debug)]
struct Seen {
    service: String,
    span: Span,
}

impl Seen {
    fn is(&self, name: &str) -> bool {
        self.span.name == name
    }

    fn text(&self, key: &str) -> String {
        text(&self.span.attributes, key)
    }
}

fn text(attributes: &[KeyValue], key: &str) -> String {
    let found = attributes.iter().find(|attribute| attribute.key == key);
    match found.and_then(|attribute| attribute.value.as_ref()?.value.as_ref()) {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::IntValue(number)) => number.to_string(),
        _ => String::new(),
    }
}

/// Takes what it is told.
#[derive(Clone, Default)]
struct Collector {
    told: Arc<Mutex<Vec<ExportTraceServiceRequest>>>,
    headers: Arc<Mutex<Vec<String>>>,
    more: Arc<Notify>,
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let shown = format!("{:?}", request.metadata());
        self.headers.lock().unwrap_or_else(PoisonError::into_inner).push(shown);
        self.told.lock().unwrap_or_else(PoisonError::into_inner).push(request.into_inner());
        self.more.notify_waiters();
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Collector {
    async fn start() -> anyhow::Result<(Self, SocketAddr)> {
        let collector = Self::default();
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let service = TraceServiceServer::new(collector.clone());
        let server = tonic::transport::Server::builder().add_service(service);
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        Ok((collector, address))
    }

    /// Everything that it was told, as bytes.
    fn bytes(&self) -> Vec<u8> {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.iter().flat_map(|request| request.encode_to_vec()).collect()
    }

    fn seen(&self) -> Vec<Seen> {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let resources = told.iter().flat_map(|request| &request.resource_spans);
        resources
            .flat_map(|of| {
                let attributes = of.resource.as_ref().map_or(&[][..], |resource| &resource.attributes);
                let service = text(attributes, "service.name");
                assert!(!text(attributes, "service.version").is_empty());
                assert!(!text(attributes, "service.instance.id").is_empty());
                let spans = of.scope_spans.iter().flat_map(|scope| &scope.spans);
                spans.map(move |span| Seen { service: service.clone(), span: span.clone() })
            })
            .collect()
    }

    /// Waits until something is found in what it was told.
    async fn until<T>(&self, what: &str, find: impl Fn(&[Seen]) -> Option<T>) -> anyhow::Result<T> {
        let waiting = async {
            loop {
                let more = self.more.notified();
                tokio::pin!(more);
                // What comes from now on is noticed.
                more.as_mut().enable();
                if let Some(found) = find(&self.seen()) {
                    return found;
                }
                more.await;
            }
        };
        let found = tokio::time::timeout(PATIENCE, waiting).await;
        found.with_context(|| format!("{what} is not among {:#?}", self.seen()))
    }

    /// A span of a trace.
    async fn span(&self, trace: &[u8], name: &str) -> anyhow::Result<Seen> {
        let is_it = |seen: &&Seen| seen.is(name) && seen.span.trace_id == trace;
        self.until(name, |seen| seen.iter().find(is_it).cloned()).await
    }
}

fn traced_to(collector: SocketAddr, ratio: f64) -> impl FnOnce(&mut switchboard::config::Config) {
    move |config| {
        config.traces.otlp_endpoint = format!("http://{collector}");
        config.traces.sample_ratio = ratio;
    }
}

/// A trace of a caller's, in hex and as it is exported.
fn named(number: u8) -> (String, Vec<u8>) {
    (format!("{number:032x}"), u128::from(number).to_be_bytes().to_vec())
}

/// A call that carries a `traceparent`.
fn within<T>(message: T, trace: &str, flags: &str) -> anyhow::Result<Request<T>> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("traceparent", format!("00-{trace}-00000000000000aa-{flags}").parse()?);
    Ok(request)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_is_one_trace_over_all_processes_and_says_nothing_of_what_was_said() -> anyhow::Result<()> {
    let (collector, address) = Collector::start().await?;
    let machine = Machine::new()?;
    let endpoint = format!("traces.otlp_endpoint=http://{address}");
    let traced =
        ["--set", &endpoint, "--set", "traces.sample_ratio=1", "--set", "traces.otlp_headers=x-key=collectors"];
    let _services = machine.start(&[&["serve", "--role", SERVICES], &traced[..]].concat(), machine.grpc).await?;
    let _edge = machine.start(&[&["serve", "--role", "edge"], &traced[..]].concat(), machine.edge).await?;
    machine.provision(PEOPLE)?;
    let token = machine.token("customer-0")?;
    let mut customer = Client::connect(&format!("ws://{}{CHAT}?token={token}", machine.edge), &[]).await?;
    let mut therapist = machine.connect(CHAT, "therapist-0").await?;
    customer.send(r#"{"message":"nobody-else-reads-this"}"#).await?;
    for client in [&mut customer, &mut therapist] {
        while client.next().await?["message"] != "nobody-else-reads-this" {}
    }

    // The frame.
    let is_root = |seen: &&Seen| seen.is("therapy send");
    let root = collector.until("the frame", |seen| seen.iter().find(is_root).cloned()).await?;
    assert_eq!((root.service.as_str(), root.span.kind()), ("switchboard-edge", SpanKind::Server));
    assert!(root.span.parent_span_id.is_empty());
    assert_eq!(root.text("user.id"), "customer-0");
    assert_eq!(root.text("switchboard.outcome"), "answered");
    assert!(!root.text("switchboard.conversation.id").is_empty());
    let mut parent = root.clone();
    for (name, service) in [
        ("link to chat", "switchboard-edge"),
        ("chat send", "switchboard"),
        ("chat writer", "switchboard"),
        ("chat writer batch", "switchboard"),
        ("append_once", "switchboard"),
    ] {
        let next = collector.span(&root.span.trace_id, name).await?;
        assert_eq!(next.span.parent_span_id, parent.span.span_id, "{name} is a part of {}", parent.span.name);
        assert_eq!(next.service, service, "{name}");
        parent = next;
    }
    assert_eq!((parent.text("db.system.name").as_str(), parent.span.kind()), ("sqlite", SpanKind::Client));
    let answer = collector.span(&root.span.trace_id, "answer").await?;
    assert_eq!(answer.span.parent_span_id, root.span.span_id);
    assert_eq!(collector.seen().iter().filter(is_root).count(), 1);

    // The handshake: of two, the customer's.
    let handshake = collector
        .until("the handshake", |seen| {
            seen.iter().find(|seen| seen.is("GET /ws/") && seen.text("user.id") == "customer-0").cloned()
        })
        .await?;
    assert_eq!(handshake.text("switchboard.handshake"), "accepted");
    let trace = &handshake.span.trace_id;
    assert_ne!(*trace, root.span.trace_id);
    let authenticate = "switchboard.identity.v1.IdentityService/Authenticate";
    for kind in [SpanKind::Client, SpanKind::Server] {
        let call = collector
            .until(authenticate, |seen| {
                let is_it = |seen: &&Seen| seen.is(authenticate) && seen.span.kind() == kind;
                seen.iter().filter(is_it).find(|seen| seen.span.trace_id == *trace).cloned()
            })
            .await?;
        assert_eq!(
            ["rpc.system", "rpc.service", "rpc.method", "rpc.grpc.status_code"].map(|key| call.text(key)),
            ["grpc", "switchboard.identity.v1.IdentityService", "Authenticate", "0"]
        );
    }
    collector.span(trace, "chat join").await?;

    // Each span's parent is there, in its own trace.
    collector
        .until("every parent", |seen| {
            let of: HashMap<_, _> = seen.iter().map(|seen| (&seen.span.span_id, &seen.span.trace_id)).collect();
            let is_whole = |seen: &Seen| {
                seen.span.parent_span_id.is_empty() || of.get(&seen.span.parent_span_id) == Some(&&seen.span.trace_id)
            };
            seen.iter().all(is_whole).then_some(())
        })
        .await?;
    let bytes = collector.bytes();
    let signature = token.rsplit('.').next().context("a signature")?;
    for secret in ["nobody-else-reads-this", signature, "a-token-between-services", "collectors"] {
        assert!(!bytes.windows(secret.len()).any(|part| part == secret.as_bytes()), "{secret} was told");
    }
    let headers = collector.headers.lock().unwrap_or_else(PoisonError::into_inner);
    assert!(headers.iter().all(|shown| shown.contains("x-key") && !shown.contains("authorization")), "{headers:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_decides_whether_its_call_is_traced() -> anyhow::Result<()> {
    for ratio in [0.0, 1.0] {
        let (collector, address) = Collector::start().await?;
        let sandbox = Sandbox::start_with(Backend::Sqlite, traced_to(address, ratio)).await?;
        // Those who were never asked.
        sandbox.provision(PEOPLE).await?;
        let mut client = sandbox.connect(CHAT, "customer-0").await?;
        client.send(r#"{"message":"Hello"}"#).await?;
        while client.next().await?["message"] != "Hello" {}
        let who = || BatchGetUsersRequest { user_ids: vec!["customer-0".to_owned()] };
        let mut identity = sandbox.identity()?;
        let ((unsampled, its), (sampled, theirs)) = (named(1), named(2));
        identity.batch_get_users(within(who(), &unsampled, "00")?).await?;
        identity.batch_get_users(within(who(), &sampled, "01")?).await?;
        let wrong = identity.clone().get_user(within(GetUserRequest::default(), &sampled, "01")?).await;
        assert!(wrong.is_err(), "{wrong:?}");
        for garbled in ["", "01", "00-0-0-01", "ff-00000000000000000000000000000003-00000000000000aa-01"] {
            let mut request = Request::new(who());
            request.metadata_mut().insert("traceparent", garbled.parse()?);
            identity.batch_get_users(request).await?;
        }

        let call = collector.span(&theirs, "switchboard.identity.v1.IdentityService/BatchGetUsers").await?;
        assert_eq!(call.span.parent_span_id, 0xaa_u64.to_be_bytes());
        assert_eq!(call.text("switchboard.caller"), "deployment");
        let failed = collector.span(&theirs, "switchboard.identity.v1.IdentityService/GetUser").await?;
        assert_ne!(failed.text("rpc.grpc.status_code"), "0");
        let others = collector.seen().iter().filter(|seen| seen.span.trace_id != theirs).count();
        assert_eq!(others == 0, ratio == 0.0, "{others} spans");
        assert!(collector.seen().iter().all(|seen| seen.span.trace_id != its));
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_trusted_proxy_names_the_trace_of_a_request() -> anyhow::Result<()> {
    let (collector, address) = Collector::start().await?;
    let sandbox = Sandbox::start_with(Backend::Sqlite, |config| {
        traced_to(address, 0.0)(config);
        // Another address of this machine's.
        config.edge.trusted_proxies = vec!["127.0.0.2".to_owned()];
    })
    .await?;
    sandbox.provision(r#"{"user": {"id": "7", "roles": ["patient"]}}"#).await?;
    let bearer = format!("Bearer {}", sandbox.token("7")?);
    let ask = |from: Ipv4Addr, trace: String| {
        let (edge, bearer) = (sandbox.edge, bearer.clone());
        async move {
            let socket = tokio::net::TcpSocket::new_v4()?;
            socket.bind(SocketAddr::from((from, 0)))?;
            let mut stream = socket.connect(edge).await?;
            let head = format!(
                "GET /chat/chats/ HTTP/1.1\r\nhost: {edge}\r\nauthorization: {bearer}\r\n\
                 traceparent: 00-{trace}-00000000000000aa-01\r\nconnection: close\r\n\r\n"
            );
            tokio::io::AsyncWriteExt::write_all(&mut stream, head.as_bytes()).await?;
            let mut answer = String::new();
            tokio::io::AsyncReadExt::read_to_string(&mut stream, &mut answer).await?;
            ensure!(answer.starts_with("HTTP/1.1 200"), "{answer}");
            Ok(())
        }
    };
    let ((stranger, _), (proxy, believed)) = (named(4), named(5));
    ask(Ipv4Addr::LOCALHOST, stranger).await?;
    ask(Ipv4Addr::new(127, 0, 0, 2), proxy).await?;
    let request = collector.span(&believed, "GET /chat/chats/").await?;
    assert_eq!(request.text("http.response.status_code"), "200");
    collector.span(&believed, "switchboard.chat.v1.ChatService/ListConversations").await?;
    assert!(collector.seen().iter().all(|seen| seen.span.trace_id == believed));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn those_who_share_a_commit_are_linked_to_it() -> anyhow::Result<()> {
    const AT_ONCE: u8 = 32;
    let (collector, address) = Collector::start().await?;
    let sandbox = Sandbox::start_with(Backend::Sqlite, traced_to(address, 0.0)).await?;
    sandbox.provision(PEOPLE).await?;
    let chat = sandbox.chat()?;
    let seat = |user_id: &str, role: &str| Participant { user_id: user_id.to_owned(), role: role.to_owned() };
    let request = OpenConversationRequest {
        kind: ConversationKind::Therapy.into(),
        participants: vec![seat("customer-0", "customer"), seat("therapist-0", "therapist")],
        ..OpenConversationRequest::default()
    };
    let opened = chat.clone().open_conversation(request).await?.into_inner();
    let conversation_id = opened.conversation.context("a conversation")?.id;
    // How many share one is the machine's affair.
    for round in 0.. {
        let sent = (0..AT_ONCE).map(|number| {
            let send = Send { content: "Hello".to_owned(), ..Send::default() };
            let (conversation_id, user_id) = (conversation_id.clone(), "customer-0".to_owned());
            let request = SendMessageRequest { conversation_id, user_id, send: Some(send) };
            let mut chat = chat.clone();
            async move { anyhow::Ok(chat.send_message(within(request, &named(100 + number).0, "01")?).await?) }
        });
        try_join_all(sent).await?;
        let is_waiting = |seen: &&Seen| seen.is("chat writer");
        let wanted = (usize::from(AT_ONCE)) * (round + 1);
        let waiting = collector
            .until("all who waited", |seen| {
                let waiting: Vec<Seen> = seen.iter().filter(is_waiting).cloned().collect();
                (waiting.len() >= wanted).then_some(waiting)
            })
            .await?;
        if let Some(linked) = waiting.iter().find(|seen| !seen.span.links.is_empty()) {
            let link = &linked.span.links[0];
            let batch = collector.span(&link.trace_id, "chat writer batch").await?;
            assert_eq!(batch.span.span_id, link.span_id);
            assert_ne!(batch.span.trace_id, linked.span.trace_id);
            let items: usize = batch.text("switchboard.batch.items").parse()?;
            assert!(items > 1 && items <= usize::from(AT_ONCE), "{items}");
            return Ok(());
        }
        ensure!(round < 100, "no two ever shared a commit");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_of_the_log_names_its_trace() -> anyhow::Result<()> {
    let (_collector, address) = Collector::start().await?;
    let machine = Machine::new()?;
    let endpoint = format!("traces.otlp_endpoint=http://{address}");
    let _server = machine.start(&["serve", "--set", &endpoint], machine.grpc).await?;
    let (trace, _) = named(6);
    let request = EraseUserRequest { user_id: "customer-0".to_owned() };
    ChatServiceClient::new(machine.peer()?).erase_user(within(request, &trace, "01")?).await?;
    let log = fs::read_to_string(machine.log())?;
    let line = log.lines().find(|line| line.contains("a user was erased")).context("the line")?;
    assert!(line.contains(&trace), "{line}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_away_is_nobody_s_trouble() -> anyhow::Result<()> {
    // Nobody listens there; somebody does, who never says a word.
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    for address in [free_address()?, silent.local_addr()?] {
        let machine = Machine::new()?;
        let endpoint = format!("traces.otlp_endpoint=http://{address}");
        let arguments = ["serve", "--set", &endpoint, "--set", "traces.sample_ratio=1"];
        let mut server = machine.start(&arguments, machine.edge).await?;
        machine.provision(PEOPLE)?;
        let mut client = machine.connect(CHAT, "customer-0").await?;
        let admin = machine.admin().await?;
        for number in 0.. {
            let text = format!("Hello {number}");
            client.send(format!(r#"{{"message":"{text}"}}"#)).await?;
            while client.next().await?["message"] != text {}
            let metrics = client::exchange(admin, "GET", "/metrics", &[], None).await?;
            let metrics = std::str::from_utf8(metrics.body())?.to_owned();
            let failed = r#"switchboard_traces_spans_total{result="failed"} "#;
            let counted = metrics.lines().find_map(|line| line.strip_prefix(failed)).context("it is counted")?;
            if counted != "0" {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            ensure!(number < 1_000, "it never failed");
        }
        server.terminate()?;
        assert_eq!(server.exit_code().await?, 0);
        let log = fs::read_to_string(machine.log())?;
        assert_eq!(log.matches("the collector does not take spans").count(), 1, "{log}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_traced_last_is_told_before_the_end() -> anyhow::Result<()> {
    let (collector, address) = Collector::start().await?;
    let machine = Machine::new()?;
    let endpoint = format!("traces.otlp_endpoint=http://{address}");
    let arguments = ["serve", "--set", &endpoint, "--set", "traces.service_name=mine"];
    let mut server = machine.start(&arguments, machine.grpc).await?;
    let (trace, exported) = named(8);
    let request = GetConversationRequest::default();
    let answer = ChatServiceClient::new(machine.peer()?).get_conversation(within(request, &trace, "01")?).await;
    assert!(answer.is_err(), "{answer:?}");
    server.terminate()?;
    assert_eq!(server.exit_code().await?, 0);
    // No waiting: it has ended.
    let seen = collector.seen();
    let call = seen.iter().find(|seen| seen.span.trace_id == exported).context("the call")?;
    assert_eq!(call.service, "mine");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_endpoint_is_told_before_anything_starts_and_a_collector_looked_for() -> anyhow::Result<()> {
    let machine = Machine::new()?;
    let (code, _, err) = machine.run(&["serve", "--set", "traces.otlp_endpoint=collector"])?;
    ensure!(code == 1 && err.contains("traces.otlp_endpoint"), "{code}: {err}");
    let (_collector, address) = Collector::start().await?;
    for (endpoint, level) in [
        (String::new(), "ok    traces: off"),
        (format!("http://{}", free_address()?), "warn  traces: the collector does not take them"),
        (format!("http://{address}"), "ok    traces: the collector takes them"),
    ] {
        let (_, out, err) = machine.run(&["doctor", "--set", &format!("traces.otlp_endpoint={endpoint}")])?;
        ensure!(out.contains(level), "{level}: {out}{err}");
    }
    // A secret, like every other.
    let (_, shown, _) = machine.run(&["config", "--set", "traces.otlp_headers=x-key=hunter2"])?;
    ensure!(shown.contains("otlp_headers") && !shown.contains("hunter2"), "{shown}");
    Ok(())
}
