//! What operators do with edges: by gRPC, and by `switchboard ctl`.

use std::collections::BTreeMap;

use anyhow::Context as _;
use prost_types::Duration as WireDuration;
use serde_json::{Value, json};
use switchboard_chassis::{error::reason, grpc::Peer};
use switchboard_proto::{
    chat::v1::{
        ConverseRequest, Join, RefusalReason, Send, SendMessageRequest, chat_service_client::ChatServiceClient,
        converse_request::Action, converse_response, join,
    },
    edge::v1::{
        Connection, DisconnectConnectionsRequest, DrainRequest, GetConnectionRequest, ListConnectionsRequest,
        ListConnectionsResponse, Protocol, ResumeRequest, TailConversationRequest, TailConversationResponse,
        connection::Who, edge_service_client::EdgeServiceClient, tail_conversation_response::Event,
    },
};
use switchboard_tests::{
    Backend, Client, Sandbox, client,
    process::{self, Machine},
};
use tonic::{Code, Streaming};

use crate::every::{
    CLINIC, CONSULTATION, EVERY, LOCATION, MENTORING, MOBILE, NOTIFICATIONS, PEOPLE, PRESENCE, THERAPY, open,
};

const CLINIC_ID: &str = "aaaaaaaa-0000-4000-8000-000000000000";
const BY_OPERATOR: (u16, &str) = (1008, "closed by an operator");
const RESTARTING: (u16, &str) = (1012, "restarting, come back");

async fn sandbox() -> anyhow::Result<(Sandbox, EdgeServiceClient<Peer>)> {
    let sandbox = Sandbox::start(Backend::Sqlite).await?;
    sandbox.provision(PEOPLE).await?;
    let edge = EdgeServiceClient::new(sandbox.peer()?);
    Ok((sandbox, edge))
}

async fn list(
    edge: &mut EdgeServiceClient<Peer>,
    request: ListConnectionsRequest,
) -> anyhow::Result<ListConnectionsResponse> {
    Ok(edge.list_connections(request).await?.into_inner())
}

async fn all(edge: &mut EdgeServiceClient<Peer>) -> anyhow::Result<Vec<Connection>> {
    Ok(list(edge, ListConnectionsRequest::default()).await?.connections)
}

/// Passes over what is told of others.
async fn ends_with(socket: &mut Client, expected: (u16, &str)) -> anyhow::Result<()> {
    loop {
        if let Err((code, reason)) = socket.next_or_close().await? {
            assert_eq!((code, reason.as_str()), expected);
            return Ok(());
        }
    }
}

fn user(id: &str) -> Option<Who> {
    Some(Who::UserId(id.to_owned()))
}

#[tokio::test(flavor = "multi_thread")]
async fn sockets_of_all_protocols_are_listed() -> anyhow::Result<()> {
    let (sandbox, mut edge) = sandbox().await?;
    let mut sockets = Vec::new();
    for path in EVERY {
        sockets.push(open(&sandbox, path).await?);
    }
    let device = Some(Who::DeviceId("d".to_owned()));
    let expected = [
        (THERAPY, Protocol::Therapy, "/ws/chat/{customer_id}/{therapist_id}/", user("1"), "customer", true),
        (LOCATION, Protocol::Therapy, "/ws/location/{customer_id}/{therapist_id}/", user("1"), "customer", false),
        (CLINIC, Protocol::Clinic, "/ws/chat/{chat_id}/", user("1"), "patient", true),
        (CONSULTATION, Protocol::Consultation, "/ws/chat/{consultation_id}/", user("1"), "client", true),
        (NOTIFICATIONS, Protocol::Consultation, "/ws/notifications/", user("1"), "", false),
        (PRESENCE, Protocol::Consultation, "/ws/presence/", user("1"), "", false),
        (MOBILE, Protocol::Mobile, "/ws/mobile/chat/{conversation_id}/", device, "device", true),
        (MENTORING, Protocol::Mentoring, "/ws/chat/my-conversation/", user("1"), "student", true),
    ];
    let listed = all(&mut edge).await?;
    assert_eq!(listed.len(), expected.len());
    for (connection, (path, protocol, endpoint, who, role, has_conversation)) in listed.iter().zip(expected) {
        assert_eq!((connection.protocol(), connection.endpoint.as_str()), (protocol, endpoint), "{path}");
        assert_eq!((&connection.who, connection.role.as_str()), (&who, role), "{path}");
        assert_eq!(!connection.conversation_id.is_empty(), has_conversation, "{path}");
        assert_eq!((connection.address.as_str(), connection.events_queued), ("127.0.0.1", 0), "{path}");
        let opened = connection.opened_at.context("a time")?;
        assert!(connection.last_heard_at.context("a time")?.seconds >= opened.seconds, "{path}");
    }
    assert_eq!(listed[2].conversation_id, CLINIC_ID);

    // What passes is counted.
    let clinic = &mut sockets[2];
    clinic.send(r#"{"content": "hi"}"#).await?;
    let told = clinic.next().await?;
    let request = GetConnectionRequest { id: listed[2].id.clone() };
    let got = edge.get_connection(request).await?.into_inner().connection.context("a connection")?;
    assert_eq!((got.id.as_str(), got.frames_in, got.bytes_in, got.frames_out), (&*listed[2].id, 1, 17, 1));
    assert_eq!(got.bytes_out, told.to_string().len() as u64);

    // Pages, and filters.
    let (mut ids, mut page_token) = (Vec::new(), String::new());
    loop {
        let page = list(&mut edge, ListConnectionsRequest { page_size: 3, page_token, ..Default::default() }).await?;
        assert_eq!(page.total_size, 8);
        ids.extend(page.connections.into_iter().map(|connection| connection.id));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(ids, listed.iter().map(|connection| connection.id.clone()).collect::<Vec<_>>());
    for (request, expected) in [
        (ListConnectionsRequest { user_id: "1".into(), ..Default::default() }, 7),
        (ListConnectionsRequest { device_id: "d".into(), ..Default::default() }, 1),
        (ListConnectionsRequest { user_id: "d".into(), ..Default::default() }, 0),
        (ListConnectionsRequest { conversation_id: CLINIC_ID.into(), ..Default::default() }, 1),
        (ListConnectionsRequest { address: "127.0.0.0/8".into(), ..Default::default() }, 8),
        (ListConnectionsRequest { address: "10.0.0.1".into(), ..Default::default() }, 0),
        (ListConnectionsRequest { protocol: Protocol::Consultation.into(), ..Default::default() }, 3),
        (ListConnectionsRequest { user_id: "1".into(), conversation_id: CLINIC_ID.into(), ..Default::default() }, 1),
    ] {
        let page = list(&mut edge, request.clone()).await?;
        assert_eq!((page.connections.len(), page.total_size), (expected, expected as i64), "{request:?}");
    }
    for wrong in [
        ListConnectionsRequest { page_size: -1, ..Default::default() },
        ListConnectionsRequest { page_size: 1_001, ..Default::default() },
        ListConnectionsRequest { page_token: "next".into(), ..Default::default() },
        ListConnectionsRequest { page_token: CLINIC_ID.into(), ..Default::default() },
        ListConnectionsRequest { address: "here".into(), ..Default::default() },
        ListConnectionsRequest { conversation_id: "7".into(), ..Default::default() },
    ] {
        let status = edge.list_connections(wrong.clone()).await.err().with_context(|| format!("{wrong:?}"))?;
        assert_eq!(status.code(), Code::InvalidArgument, "{wrong:?}");
    }

    // One that ends is listed no more.
    sockets.remove(2).close().await?;
    let status = edge.get_connection(GetConnectionRequest { id: ids[2].clone() }).await.err().context("gone")?;
    assert_eq!((status.code(), reason(&status).as_str()), (Code::NotFound, "CONNECTION_NOT_FOUND"));
    assert_eq!(all(&mut edge).await?.len(), 7);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn those_who_are_meant_are_disconnected_and_no_others() -> anyhow::Result<()> {
    let (sandbox, mut edge) = sandbox().await?;
    let disconnect = {
        let edge = edge.clone();
        async move |request: DisconnectConnectionsRequest| {
            Ok::<_, tonic::Status>(edge.clone().disconnect_connections(request).await?.into_inner().disconnected)
        }
    };
    let mut of_two = sandbox.connect(CLINIC, "2").await?;
    let mut sockets = BTreeMap::new();
    for path in EVERY {
        sockets.insert(path, open(&sandbox, path).await?);
    }

    // By conversation, with what clients are told by default: user 1 and user 2 are in it.
    let by_conversation = DisconnectConnectionsRequest { conversation_id: CLINIC_ID.into(), ..Default::default() };
    assert_eq!(disconnect(by_conversation.clone()).await?, 2);
    ends_with(sockets.get_mut(CLINIC).context("a socket")?, BY_OPERATOR).await?;
    ends_with(&mut of_two, BY_OPERATOR).await?;
    assert_eq!(disconnect(by_conversation).await?, 0, "they have gone");

    // By device, and by id.
    let by_device = DisconnectConnectionsRequest { device_id: "d".into(), close_code: 4_999, ..Default::default() };
    assert_eq!(disconnect(by_device).await?, 1);
    ends_with(sockets.get_mut(MOBILE).context("a socket")?, (4_999, BY_OPERATOR.1)).await?;
    let request = ListConnectionsRequest { protocol: Protocol::Mentoring.into(), ..Default::default() };
    let mentoring = list(&mut edge, request).await?.connections.remove(0).id;
    let by_id = DisconnectConnectionsRequest {
        ids: vec![mentoring, CLINIC_ID.into()],
        close_code: 3_000,
        close_reason: "ask the desk".into(),
        ..Default::default()
    };
    let of_somebody_else = DisconnectConnectionsRequest { user_id: "2".into(), ..by_id.clone() };
    assert_eq!(disconnect(of_somebody_else).await?, 0);
    assert_eq!(disconnect(by_id).await?, 1);
    ends_with(sockets.get_mut(MENTORING).context("a socket")?, (3_000, "ask the desk")).await?;

    // By address and protocol; then all that is left of a user.
    let by_address = DisconnectConnectionsRequest {
        address: "127.0.0.1".into(),
        protocol: Protocol::Therapy.into(),
        ..Default::default()
    };
    assert_eq!(disconnect(by_address).await?, 2);
    for path in [THERAPY, LOCATION] {
        ends_with(sockets.get_mut(path).context("a socket")?, BY_OPERATOR).await?;
    }
    let elsewhere = DisconnectConnectionsRequest { address: "10.0.0.0/8".into(), ..Default::default() };
    assert_eq!(disconnect(elsewhere).await?, 0);
    let by_user = DisconnectConnectionsRequest { user_id: "1".into(), close_code: 1012, ..Default::default() };
    assert_eq!(disconnect(by_user).await?, 3);
    for path in [CONSULTATION, NOTIFICATIONS, PRESENCE] {
        ends_with(sockets.get_mut(path).context("a socket")?, (1012, BY_OPERATOR.1)).await?;
    }
    assert_eq!(all(&mut edge).await?, []);

    for (wrong, field) in [
        (DisconnectConnectionsRequest::default(), "ids"),
        (DisconnectConnectionsRequest { protocol: Protocol::Clinic.into(), ..Default::default() }, "ids"),
        (DisconnectConnectionsRequest { ids: vec!["7".into()], ..Default::default() }, "ids"),
        (DisconnectConnectionsRequest { ids: vec![CLINIC_ID.into(); 1_001], ..Default::default() }, "ids"),
        (DisconnectConnectionsRequest { user_id: "1".into(), close_code: 1006, ..Default::default() }, "close_code"),
        (
            DisconnectConnectionsRequest { user_id: "1".into(), close_reason: "x".repeat(124), ..Default::default() },
            "close_reason",
        ),
    ] {
        let status = disconnect(wrong).await.err().context(field)?;
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().starts_with(field), "{field}: {status}");
    }
    // Their credentials are as good as before.
    open(&sandbox, CLINIC).await?;
    Ok(())
}

async fn tail(
    edge: &mut EdgeServiceClient<Peer>,
    conversation_id: &str,
    include_text: bool,
) -> anyhow::Result<(Streaming<TailConversationResponse>, String)> {
    let request = TailConversationRequest { conversation_id: conversation_id.into(), include_text };
    let mut stream = edge.tail_conversation(request).await?.into_inner();
    match next(&mut stream).await? {
        Event::Started(started) => Ok((stream, started.conversation.context("a conversation")?.subject)),
        other => anyhow::bail!("{other:?} came first"),
    }
}

async fn next(stream: &mut Streaming<TailConversationResponse>) -> anyhow::Result<Event> {
    let told = tokio::time::timeout(switchboard_tests::PATIENCE, stream.message()).await??;
    told.context("the stream ended")?.event.context("an event")
}

async fn send(chat: &mut ChatServiceClient<Peer>, content: &str) -> anyhow::Result<()> {
    let send = Send { content: content.into(), metadata_json: r#"{"a":1}"#.into(), ..Send::default() };
    let (conversation_id, user_id) = (CLINIC_ID.into(), "2".into());
    chat.send_message(SendMessageRequest { conversation_id, user_id, send: Some(send) }).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_looks_on_unseen() -> anyhow::Result<()> {
    let (sandbox, mut edge) = sandbox().await?;
    let mut chat = sandbox.chat()?;
    send(&mut chat, "before").await?;
    // Nobody is there, and what services do is seen all the same.
    let (mut plain, _) = tail(&mut edge, CLINIC_ID, false).await?;
    let (mut with_text, _) = tail(&mut edge, CLINIC_ID, true).await?;
    send(&mut chat, "secret words").await?;
    for (stream, content, metadata) in [(&mut plain, "", ""), (&mut with_text, "secret words", r#"{"a":1}"#)] {
        let Event::Message(message) = next(stream).await? else { anyhow::bail!("no message") };
        assert_eq!((message.seq, message.sender_id.as_str(), message.sender_role.as_str()), (2, "2", "professional"));
        assert!(!message.id.is_empty() && message.created_at.is_some());
        assert_eq!((message.content.as_str(), message.metadata_json.as_str()), (content, metadata));
    }
    assert_eq!(all(&mut edge).await?, [], "who looks on is no connection");

    // Where people are told who comes and goes, nobody is told of who looks on; what they do is seen.
    let mut device = open(&sandbox, MOBILE).await?;
    let conversation_id = all(&mut edge).await?.remove(0).conversation_id;
    let (mut mobile, subject) = tail(&mut edge, &conversation_id, false).await?;
    assert_eq!(subject, "");
    drop(tail(&mut edge, &conversation_id, false).await?);
    device.send(r#"{"type": "typing_indicator", "is_typing": true}"#).await?;
    assert!(matches!(next(&mut mobile).await?, Event::Typing(typing) if typing.user_id == "d" && typing.is_typing));
    device.send(r#"{"type": "chat_message", "content": "x"}"#).await?;
    loop {
        let said = device.next().await?;
        match said["type"].as_str() {
            Some("chat_message") => break,
            Some("typing_indicator") => {}
            _ => anyhow::bail!("nobody came or went, but {said}"),
        }
    }
    assert!(matches!(next(&mut mobile).await?, Event::Message(message) if message.content.is_empty()));
    device.close().await?;
    assert!(matches!(next(&mut mobile).await?, Event::ParticipantLeft(left) if left.user_id == "d"));

    // Whoever is unseen may do nothing.
    let conversation = Some(join::Conversation::ConversationId(CLINIC_ID.into()));
    let actions = [
        Action::Join(Join { conversation, unseen: true, ..Join::default() }),
        Action::Send(Send { content: "x".into(), ..Send::default() }),
    ];
    let requests = actions.map(|action| ConverseRequest {
        session: 1,
        request: 1,
        action: Some(action),
        ..ConverseRequest::default()
    });
    let mut stream = chat.converse(tokio_stream::iter(requests)).await?.into_inner();
    let joined = stream.message().await?.context("an answer")?.event;
    assert!(matches!(joined, Some(converse_response::Event::Joined(joined)) if joined.role.is_empty()));
    let refused = stream.message().await?.context("an answer")?.event;
    let Some(converse_response::Event::Refused(refused)) = refused else { anyhow::bail!("{refused:?}") };
    assert_eq!(refused.reason(), RefusalReason::NotAParticipant);

    for (id, code) in [("7", Code::InvalidArgument), ("00000000-0000-4000-8000-000000000000", Code::NotFound)] {
        let request = TailConversationRequest { conversation_id: id.into(), include_text: false };
        assert_eq!(edge.tail_conversation(request).await.err().context("wrong")?.code(), code);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn looking_on_outlives_the_chat_service() -> anyhow::Result<()> {
    let machine = Machine::new()?;
    let services = ["serve", "--role", "identity,chat"];
    let mut service = machine.start(&services, machine.grpc).await?;
    let _edge = machine.start(&["serve", "--role", "edge"], machine.edge_grpc).await?;
    machine.provision(PEOPLE)?;
    let mut edge = EdgeServiceClient::new(machine.edge_peer()?);
    // Both have only begun.
    let beginning = async {
        loop {
            match tail(&mut edge, CLINIC_ID, true).await {
                Err(_) => tokio::task::yield_now().await,
                Ok((stream, _)) => return stream,
            }
        }
    };
    let mut stream = tokio::time::timeout(switchboard_tests::PATIENCE, beginning).await?;
    let mut chat = ChatServiceClient::new(machine.peer()?);
    let mut seq = 0;
    for _ in 0..2 {
        for words in ["one", "two", "three"] {
            send(&mut chat, words).await?;
        }
        for words in ["one", "two", "three"] {
            seq += 1;
            let Event::Message(message) = next(&mut stream).await? else { anyhow::bail!("no message") };
            assert_eq!((message.seq, message.content.as_str()), (seq, words), "in order, and each once");
        }
        service.kill()?;
        service = machine.start(&services, machine.grpc).await?;
        chat = ChatServiceClient::new(machine.peer()?);
    }
    let log = std::fs::read_to_string(machine.log())?;
    assert!(log.contains(r#""action":"TailConversation""#) && log.contains(r#""caller":"deployment""#), "{log}");
    assert!(!log.contains("\"one\""), "no words in the log");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_is_drained_and_taken_back() -> anyhow::Result<()> {
    let (sandbox, mut edge) = sandbox().await?;
    let mut sockets = Vec::new();
    for path in EVERY {
        sockets.push(open(&sandbox, path).await?);
    }
    let (mut stream, _) = tail(&mut edge, CLINIC_ID, false).await?;
    let long = DrainRequest { spread: Some(WireDuration { seconds: 3_601, nanos: 0 }) };
    assert_eq!(edge.drain(long).await.err().context("too long")?.code(), Code::InvalidArgument);
    let drained = edge.drain(DrainRequest::default()).await?.into_inner();
    assert_eq!(drained.connections, 8);
    for socket in &mut sockets {
        ends_with(socket, RESTARTING).await?;
    }
    let ended = stream.message().await.err().context("it ends")?;
    assert_eq!((ended.code(), reason(&ended).as_str()), (Code::Unavailable, "DRAINING"));
    for path in [CLINIC, MOBILE, PRESENCE] {
        ends_with(&mut crate::every::connect(&sandbox, path).await?, RESTARTING).await?;
    }
    let ready = async || client::call(sandbox.edge, "GET", "/readyz", None, None).await;
    assert_eq!(ready().await?, (503, Value::from("draining\n")));
    let to_operators = client::call(sandbox.admin, "GET", "/readyz", None, None).await?;
    assert_eq!(to_operators, (503, Value::from("draining\n")), "on whichever port it is asked");
    assert_eq!(client::call(sandbox.edge, "GET", "/healthz", None, None).await?.0, 200);
    assert!(list(&mut edge, ListConnectionsRequest::default()).await?.is_draining);
    // The services of the process go on.
    send(&mut sandbox.chat()?, "still here").await?;

    edge.resume(ResumeRequest {}).await?;
    assert_eq!(ready().await?.0, 200);
    for path in EVERY {
        let _stays = open(&sandbox, path).await?;
    }
    assert!(!list(&mut edge, ListConnectionsRequest::default()).await?.is_draining);
    edge.resume(ResumeRequest {}).await?;
    Ok(())
}

/// Objects that `ctl --json` printed.
fn objects(text: &str) -> anyhow::Result<Vec<Value>> {
    text.lines().map(|line| serde_json::from_str(line).with_context(|| line.to_owned())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn ctl_asks_several_processes() -> anyhow::Result<()> {
    let machine = Machine::new()?;
    let services = ["serve", "--role", "identity,chat,location,notification,presence"];
    let _services = machine.start(&services, machine.grpc).await?;
    let _edge = machine.start(&["serve", "--role", "edge"], machine.edge).await?;
    machine.provision(PEOPLE)?;
    let mut one = machine.connect(CLINIC, "1").await?;
    let mut there = machine.connect(PRESENCE, "2").await?;
    let (edge, grpc) = (machine.edge_grpc.to_string(), machine.grpc.to_string());
    let ctl = |arguments: &[&str]| process::run(&[&["ctl"], arguments].concat(), &machine.settings());

    let (code, out, err) = ctl(&["connections", "list", "--address", &edge])?;
    assert_eq!(code, 0, "{err}");
    let lines: Vec<Vec<&str>> = out.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines.len(), 3, "{out}");
    assert_eq!(lines[0][..4], ["ID", "SOCKET", "WHO", "ROLE"]);
    assert_eq!(lines[1][1..7], ["clinic", "chat", "1", "patient", CLINIC_ID, "127.0.0.1"]);
    assert_eq!(lines[2][1..5], ["consultation", "presence", "2", "-"]);

    // The services are no edge: the edge's answer is told, and that one did not give any.
    let (code, out, err) =
        ctl(&["connections", "list", "--user", "1", "--json", "--address", &edge, "--address", &grpc])?;
    assert!(code == 1 && err.contains(&grpc) && err.contains("1 of 2 did not do it"), "{code}: {err}");
    let listed = objects(&out)?;
    assert_eq!(listed.len(), 1);
    let id = listed[0]["id"].as_str().context("an id")?;
    let shown = (&listed[0]["protocol"], &listed[0]["user_id"], &listed[0]["frames_in"], &listed[0]["process"]);
    assert_eq!(shown, (&json!("PROTOCOL_CLINIC"), &json!("1"), &json!(0), &json!(format!("http://{edge}"))));

    let (code, out, _) = ctl(&["connections", "describe", id, "--address", &edge])?;
    assert!(code == 0 && out.contains("/ws/chat/{chat_id}/") && out.contains("patient"), "{out}");
    let (code, _, err) = ctl(&["connections", "describe", CLINIC_ID, "--address", &edge])?;
    assert_eq!((code, err.contains("no such connection")), (3, true), "{err}");

    let (code, out, err) = ctl(&["online", "--json"])?;
    assert_eq!(code, 0, "{err}");
    assert_eq!(objects(&out)?[0]["user_id"], "2");
    let (code, out, _) = ctl(&["online", "1", "2"])?;
    assert!(code == 0 && out.contains("offline") && out.contains("online"), "{out}");

    let (code, out, err) =
        ctl(&["connections", "disconnect", id, "--code", "4003", "--reason", "out", "--address", &edge])?;
    assert!(code == 0 && out.contains("1 sockets"), "{out}{err}");
    ends_with(&mut one, (4003, "out")).await?;
    assert_eq!(ctl(&["connections", "disconnect", id, "--address", &edge])?.0, 3);
    let (code, _, err) = ctl(&["connections", "disconnect", "--address", &edge])?;
    assert!(code == 1 && err.contains("one of ids, user_id"), "{err}");
    let (code, _, err) = ctl(&["connections", "disconnect", "--user", "1", "--code", "70000", "--address", &edge])?;
    assert!(code == 1 && err.contains("close_code"), "{err}");

    let (code, out, err) = ctl(&["drain", "--over", "1s", "--wait", "--address", &edge])?;
    assert!(code == 0 && out.contains("empty"), "{out}{err}");
    ends_with(&mut there, RESTARTING).await?;
    let (code, _, err) = ctl(&["resume", "--address", &edge])?;
    assert_eq!(code, 0, "{err}");
    drop(machine.connect(PRESENCE, "2").await?);

    // Every process has a log; a time is over, and it is as it was.
    let both = format!("{edge},{grpc}");
    let filter = "info,switchboard_edge=debug";
    let (code, out, err) = ctl(&["log", "set", filter, "--for", "1s", "--json", "--address", &both])?;
    assert_eq!(code, 0, "{err}");
    let set = objects(&out)?;
    assert!(set.len() == 2 && set.iter().all(|set| set["filter"] == filter && set["until"].is_string()), "{out}");
    let back = async {
        loop {
            let (_, out, _) = ctl(&["log", "get", "--json", "--address", &both])?;
            if objects(&out)?.iter().all(|now| now["filter"] == now["configured"] && now["until"].is_null()) {
                return anyhow::Ok(());
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(switchboard_tests::PATIENCE, back).await??;
    for wrong in ["inof", "switchboard_edge", "trace,h2=trace", "info,debug"] {
        let (code, _, err) = ctl(&["log", "set", wrong, "--address", &edge])?;
        assert!(code == 1 && err.contains("filter: "), "{wrong}: {err}");
    }
    // Without the word of whoever runs it, nothing carries what people say.
    let (code, _, err) = ctl(&["log", "set", "trace", "--address", &both])?;
    assert_eq!(code, 0, "{err}");
    let mut talker = machine.connect(CLINIC, "1").await?;
    talker.send(r#"{"content": "marker-of-words"}"#).await?;
    talker.next().await?;
    let bad = format!("ws://{}{CLINIC}?token=marker-of-a-token", machine.edge);
    ends_with(&mut Client::connect(&bad, &[]).await?, (4001, "not authenticated")).await?;
    let (code, out, _) = ctl(&["log", "reset", "--address", &both])?;
    assert!(code == 0 && !out.contains("trace"), "{out}");
    let log = std::fs::read_to_string(machine.log())?;
    assert!(log.contains("a visitor was refused"), "it was in force");
    let token = machine.token("1")?;
    let signature = token.rsplit('.').next().context("a signature")?;
    assert!(!log.contains("marker-of-words") && !log.contains("marker-of-a-token"));
    assert!(!log.contains(signature) && !log.contains("a-token-between-services"));

    // Whoever may not, or shows nothing good, is told so.
    let (code, _, err) = ctl(&["log", "get", "--token", "wrong", "--address", &edge])?;
    assert!(code == 1 && err.contains("Unauthenticated"), "{err}");
    let nobody = process::free_address()?.to_string();
    let (code, _, err) = ctl(&["log", "get", "--address", &nobody])?;
    assert!(code == 1 && err.contains(&nobody), "{err}");
    let file = machine.data().join("another-token");
    std::fs::write(&file, "a-token-between-services\n")?;
    let (code, _, err) = ctl(&["log", "get", "--token-file", &file.display().to_string(), "--address", &edge])?;
    assert_eq!(code, 0, "{err}");
    Ok(())
}

#[test]
fn ctl_says_what_it_lacks() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let settings = [("SWITCHBOARD_DATA_DIR", directory.path().join("data").display().to_string())];
    let (code, _, err) = process::run(&["ctl", "resume"], &settings)?;
    assert!(code == 1 && err.contains("--token-file"), "{err}");
    assert!(!directory.path().join("data").exists(), "it makes nothing");
    for wrong in [&["ctl"][..], &["ctl", "connections"], &["ctl", "drain", "--over", "soon"], &["ctl", "tail"]] {
        assert_eq!(process::run(wrong, &settings)?.0, 2, "{wrong:?}");
    }
    Ok(())
}

/// A caller with each scope, by ctl.
#[tokio::test(flavor = "multi_thread")]
async fn scopes_hold_for_operators() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let callers = directory.path().join("callers.toml");
    let caller = |scope: &str| {
        format!("[[callers]]\nname = '{scope}er'\nscopes = ['{scope}']\ntoken = 'the-token-of-{scope}er'\n")
    };
    std::fs::write(&callers, ["read", "write", "admin"].map(caller).concat())?;
    let sandbox = Sandbox::start_with(Backend::Sqlite, |config| config.grpc.callers_file = callers).await?;
    sandbox.provision(PEOPLE).await?;
    let address = sandbox.grpc.to_string();
    for (scope, may) in [("read", false), ("write", false), ("admin", true)] {
        let token = format!("the-token-of-{scope}er");
        let ctl = |arguments: &[&str]| {
            process::run(&[&["ctl", "--address", &address, "--token", &token], arguments].concat(), &[])
        };
        assert_eq!(ctl(&["connections", "list"])?.0, 0);
        for arguments in [&["drain"][..], &["resume"], &["tail", CLINIC_ID, "--count", "1"], &["log", "set", "info"]] {
            let (code, out, err) = ctl(arguments)?;
            let is_refused = err.contains("needs the scope `admin`");
            assert_eq!(is_refused, !may, "{scope} {arguments:?}: {out}{err}");
            // The system under test is in this process, which keeps no logs.
            assert_eq!(code == 0, may && arguments[0] != "log", "{scope} {arguments:?}: {out}{err}");
        }
    }
    Ok(())
}
