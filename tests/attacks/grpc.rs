//! Calls that are not what they should be.

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{Request, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use switchboard_proto::{
    chat::v1::{ConversationKind, OpenConversationRequest, Participant, Send, SendMessageRequest},
    notification::v1::NotifyRequest,
};
use tokio::{net::TcpStream, time::timeout};
use tonic_types::pb::Status as Anything;

use crate::{
    cases::Tally,
    http2::good_call,
    stage::{GRPC_TOKEN, Stage, conversation},
    wire::ANSWER_MAX,
};

/// The pair in whose name calls are made.
const PAIR: usize = 17;

const GET: &str = "/switchboard.chat.v1.ChatService/GetConversation";
const OPEN: &str = "/switchboard.chat.v1.ChatService/OpenConversation";
const SEND: &str = "/switchboard.chat.v1.ChatService/SendMessage";
const NOTIFY: &str = "/switchboard.notification.v1.NotificationService/Notify";
const CONVERSE: &str = "/switchboard.chat.v1.ChatService/Converse";

const INVALID_ARGUMENT: u16 = 3;
const NOT_FOUND: u16 = 5;
const PERMISSION_DENIED: u16 = 7;
const OUT_OF_RANGE: u16 = 11;
const UNIMPLEMENTED: u16 = 12;
const INTERNAL: u16 = 13;
const UNAUTHENTICATED: u16 = 16;
/// Of no standard: the connection was ended.
const CUT_OFF: u16 = 999;

const METADATA: &str = "metadata_json over gRPC is stored without a look whether it is an object; what cannot be read is shown \
                        as an empty one";

/// A call, and the codes of which one is right: gRPC's, or HTTP's where it comes to no more.
struct Case {
    name: String,
    method: &'static str,
    path: String,
    /// Instead of what is right; empty leaves it out.
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
    codes: Vec<u16>,
}

impl Case {
    fn new(name: impl Into<String>, path: &str, body: Vec<u8>, codes: &[u16]) -> Self {
        let (name, path) = (name.into(), path.to_owned());
        Self { name, method: "POST", path, headers: Vec::new(), body, codes: codes.to_vec() }
    }

    fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    fn by(mut self, method: &'static str) -> Self {
        self.method = method;
        self
    }
}

/// A message, as it says that it is long and compressed.
fn message(is_compressed: u8, length: usize, bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
    [&[is_compressed], &length[..], bytes].concat()
}

fn whole(bytes: &[u8]) -> Vec<u8> {
    message(0, bytes.len(), bytes)
}

fn of(request: &impl prost::Message) -> Vec<u8> {
    whole(&request.encode_to_vec())
}

fn transport() -> Vec<Case> {
    let empty = || whole(b"");
    let mut cases = vec![
        Case::new("no token", GET, empty(), &[UNAUTHENTICATED]).with("authorization", ""),
        Case::new("an empty token", GET, empty(), &[UNAUTHENTICATED]).with("authorization", "Bearer "),
        Case::new("another token", GET, empty(), &[UNAUTHENTICATED]).with("authorization", "Bearer another"),
        Case::new("the token's beginning", GET, empty(), &[UNAUTHENTICATED])
            .with("authorization", format!("Bearer {}", &GRPC_TOKEN[..5])),
        Case::new("more than the token", GET, empty(), &[UNAUTHENTICATED])
            .with("authorization", format!("Bearer {GRPC_TOKEN}x")),
        Case::new("a token of 8 KiB", GET, empty(), &[UNAUTHENTICATED])
            .with("authorization", format!("Bearer {}", "x".repeat(8 << 10))),
        Case::new("a token of another kind", GET, empty(), &[UNAUTHENTICATED])
            .with("authorization", format!("Basic {GRPC_TOKEN}")),
        Case::new("no token, a stream", CONVERSE, empty(), &[UNAUTHENTICATED]).with("authorization", ""),
        Case::new(
            "no token, reflection",
            "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
            empty(),
            &[UNAUTHENTICATED],
        )
        .with("authorization", ""),
        Case::new("no token, no such service", "/switchboard.x.v1.X/Y", empty(), &[UNIMPLEMENTED])
            .with("authorization", ""),
        Case::new("no such service", "/switchboard.x.v1.X/Y", empty(), &[UNIMPLEMENTED]),
        Case::new("no such method", "/switchboard.chat.v1.ChatService/X", empty(), &[UNIMPLEMENTED]),
        Case::new("no method at all", "/", empty(), &[UNIMPLEMENTED]),
        Case::new("a path of 8 KiB", &format!("/{}", "x".repeat(8 << 10)), empty(), &[UNIMPLEMENTED]),
        Case::new("metadata of 64 KiB", GET, empty(), &[431, CUT_OFF]).with("x-big", "y".repeat(64 << 10)),
        Case::new("GET", GET, empty(), &[405, UNIMPLEMENTED, INTERNAL, INVALID_ARGUMENT]).by("GET"),
        Case::new("no content type", GET, empty(), &[415, INVALID_ARGUMENT]).with("content-type", ""),
        Case::new("JSON", GET, b"{}".to_vec(), &[415, INTERNAL]).with("content-type", "application/json"),
        Case::new("a form", GET, b"a=b".to_vec(), &[415, INTERNAL])
            .with("content-type", "application/x-www-form-urlencoded"),
        Case::new("gRPC-Web", GET, empty(), &[415, INVALID_ARGUMENT]).with("content-type", "application/grpc-web"),
        Case::new("a timeout that is none", GET, empty(), &[INVALID_ARGUMENT]).with("grpc-timeout", "soon"),
        Case::new("a timeout of a hundred million hours", GET, empty(), &[INVALID_ARGUMENT])
            .with("grpc-timeout", "99999999H"),
        Case::new("no message", GET, Vec::new(), &[INTERNAL, INVALID_ARGUMENT, UNIMPLEMENTED]),
        Case::new("half a message's head", GET, vec![0, 0], &[INTERNAL]),
        Case::new("half a message", GET, message(0, 100, b"half"), &[INTERNAL]),
        Case::new("two messages", GET, empty().repeat(2), &[INVALID_ARGUMENT, INTERNAL, UNIMPLEMENTED]),
        Case::new("a message of 4 GiB, announced", GET, message(0, usize::MAX, b""), &[OUT_OF_RANGE]),
        Case::new("a message over 4 MiB", GET, whole(&vec![0; (4 << 20) + 1]), &[OUT_OF_RANGE]),
        Case::new("a message of 64 MiB", GET, whole(&vec![0; 64 << 20]), &[OUT_OF_RANGE]),
        Case::new("compressed without saying how", GET, message(1, 4, b"bomb"), &[INTERNAL, INVALID_ARGUMENT]),
        Case::new("compressed by gzip", GET, message(1, GZIP_BOMB.len(), GZIP_BOMB), &[UNIMPLEMENTED])
            .with("grpc-encoding", "gzip"),
        Case::new("compressed by nothing known", GET, message(1, 4, b"bomb"), &[UNIMPLEMENTED])
            .with("grpc-encoding", "zip64"),
        Case::new("a flag nobody knows", GET, message(7, 0, b""), &[INTERNAL]),
    ];
    let garbage: [(&str, Vec<u8>); 9] = [
        ("noise", (0..500u32).map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[0] | 0x80).collect()),
        ("ones", vec![0xff; 100]),
        ("a field of 2^63 bytes", vec![0x0a, 255, 255, 255, 255, 255, 255, 255, 255, 127]),
        ("a field longer than the message", vec![0x0a, 100, b'x']),
        ("a string that is not UTF-8", vec![0x0a, 2, 0xff, 0xfe]),
        ("a field of another type", vec![0x08, 1]),
        ("field 0", vec![0x00, 1]),
        ("groups 10,000 deep", vec![0x0b; 10_000]),
        ("unknown messages 10,000 deep", vec![0x1b; 10_000]),
    ];
    cases.extend(garbage.map(|(name, body)| Case::new(format!("garbage: {name}"), GET, whole(&body), &[INTERNAL])));
    cases
}

/// The beginning of what would be a gigabyte of zeros.
const GZIP_BOMB: &[u8] =
    b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\xec\xc1\x01\x01\x00\x00\x00\x80\x90\xfe\xaf\xee\x08\x0a\x00";

fn contents() -> Vec<Case> {
    let invalid = [INVALID_ARGUMENT];
    let long = |bytes: usize| "x".repeat(bytes);
    let write = |send: Send| {
        let request =
            SendMessageRequest { conversation_id: conversation(PAIR), user_id: format!("p{PAIR}"), send: Some(send) };
        of(&request)
    };
    let text = |content: String| write(Send { content, ..Send::default() });
    let good = || Send { content: "fine".into(), ..Send::default() };
    let to = |conversation_id: String| {
        of(&SendMessageRequest { conversation_id, user_id: format!("p{PAIR}"), send: Some(good()) })
    };
    let participant = |user_id: String, role: String| Participant { user_id, role };
    let opening = |participants: Vec<Participant>, subject: String| OpenConversationRequest {
        kind: ConversationKind::Consultation.into(),
        participants,
        subject,
        ..OpenConversationRequest::default()
    };
    let two = || vec![participant("p17".into(), "client".into()), participant("d17".into(), "expert".into())];
    let notify = |user_id: String, title: String, message: String, request_id: String| NotifyRequest {
        user_id,
        title,
        message,
        request_id,
        ..NotifyRequest::default()
    };
    let fine = || "fine".to_owned();
    vec![
        Case::new("a text over 64 KiB", SEND, text(long(65_537)), &invalid),
        Case::new("a text of 3 MiB", SEND, text(long(3 << 20)), &invalid),
        Case::new("a text with a NUL", SEND, text("a\0b".into()), &invalid),
        Case::new("an empty text", SEND, text(String::new()), &invalid),
        Case::new("a message id of 1 MiB", SEND, write(Send { id: long(1 << 20), ..good() }), &invalid),
        Case::new(
            "a client's id of 65 characters",
            SEND,
            write(Send { client_message_id: long(65), ..good() }),
            &invalid,
        ),
        Case::new("a client's id with a NUL", SEND, write(Send { client_message_id: "\0".into(), ..good() }), &invalid),
        Case::new(
            "metadata of 1 MiB",
            SEND,
            write(Send { metadata_json: format!(r#"{{"a": "{}"}}"#, long(1 << 20)), ..good() }),
            &invalid,
        ),
        Case::new(
            "metadata 10,000 deep",
            SEND,
            write(Send { metadata_json: format!(r#"{{"a": {}{}}}"#, "[".repeat(8_000), "]".repeat(8_000)), ..good() }),
            &invalid,
        ),
        Case::new(
            "metadata that is no object",
            SEND,
            write(Send { metadata_json: "[1e308]".into(), ..good() }),
            &invalid,
        ),
        Case::new(
            "a URL of 2,049 characters",
            SEND,
            write(Send { media_url: format!("https://x/{}", long(2_039)), ..good() }),
            &invalid,
        ),
        Case::new(
            "a URL of a script",
            SEND,
            write(Send { media_url: "javascript:alert(1)".into(), ..good() }),
            &invalid,
        ),
        Case::new(
            "a role of 1 MiB to write in",
            SEND,
            write(Send { role: long(1 << 20), ..good() }),
            &[INVALID_ARGUMENT, PERMISSION_DENIED],
        ),
        Case::new("a type nobody knows", SEND, write(Send { message_type: 99, ..good() }), &invalid),
        Case::new("a conversation's id of 1 MiB", SEND, to(long(1 << 20)), &[INVALID_ARGUMENT, NOT_FOUND]),
        Case::new("a conversation's id that is SQL", SEND, to("' OR 1=1 --".into()), &[INVALID_ARGUMENT, NOT_FOUND]),
        Case::new(
            "seventeen participants",
            OPEN,
            of(&opening((0..17).map(|n| participant(n.to_string(), "expert".into())).collect(), String::new())),
            &invalid,
        ),
        Case::new(
            "ten thousand participants",
            OPEN,
            of(&opening((0..10_000).map(|n| participant(n.to_string(), "expert".into())).collect(), String::new())),
            &invalid,
        ),
        Case::new("nobody", OPEN, of(&opening(Vec::new(), String::new())), &invalid),
        Case::new(
            "a user of 1 MiB",
            OPEN,
            of(&opening(vec![participant(long(1 << 20), "client".into()), two().remove(1)], String::new())),
            &invalid,
        ),
        Case::new(
            "a user with a NUL",
            OPEN,
            of(&opening(vec![participant("\0".into(), "client".into()), two().remove(1)], String::new())),
            &invalid,
        ),
        Case::new(
            "a role of 1 MiB",
            OPEN,
            of(&opening(vec![participant("p17".into(), long(1 << 20)), two().remove(1)], String::new())),
            &invalid,
        ),
        Case::new("a subject of 256 characters", OPEN, of(&opening(two(), long(256))), &invalid),
        Case::new(
            "a kind nobody knows",
            OPEN,
            of(&OpenConversationRequest { kind: 99, ..opening(two(), String::new()) }),
            &invalid,
        ),
        Case::new(
            "a title of 256 characters",
            NOTIFY,
            of(&notify("p17".into(), long(256), fine(), String::new())),
            &invalid,
        ),
        Case::new(
            "a message of 4,097 characters",
            NOTIFY,
            of(&notify("p17".into(), fine(), long(4_097), String::new())),
            &invalid,
        ),
        Case::new(
            "a request id of 129 characters",
            NOTIFY,
            of(&notify("p17".into(), fine(), fine(), long(129))),
            &invalid,
        ),
        Case::new("nobody to notify", NOTIFY, of(&notify(String::new(), fine(), fine(), String::new())), &invalid),
        Case::new(
            "a notified user of 1 MiB",
            NOTIFY,
            of(&notify(long(1 << 20), fine(), fine(), String::new())),
            &invalid,
        ),
        Case::new(
            "another message altogether",
            SEND,
            of(&Anything { code: 1, message: fine(), details: Vec::new() }),
            &[INVALID_ARGUMENT, INTERNAL],
        ),
    ]
}

pub(crate) async fn calls(stage: &Stage) -> anyhow::Result<Tally> {
    let mut tally = Tally::default();
    let mut failures = Vec::new();
    for (kind, cases) in [("odd calls", transport()), ("oversized calls", contents())] {
        tally.count(kind, cases.len());
        for case in cases {
            let name = case.name.clone();
            if let Err(error) = play(stage, case).await {
                failures.push(format!("{name}: {error:#}"));
            }
        }
    }
    ensure!(failures.is_empty(), "{} cases failed:\n{}", failures.len(), failures.join("\n"));
    tally.differences.push(METADATA.to_owned());
    Ok(tally)
}

async fn play(stage: &Stage, case: Case) -> anyhow::Result<()> {
    let stream = TcpStream::connect(stage.grpc).await?;
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let right = [
        ("content-type", "application/grpc".to_owned()),
        ("te", "trailers".to_owned()),
        ("authorization", format!("Bearer {GRPC_TOKEN}")),
    ];
    let mut request = Request::builder().method(case.method).uri(format!("http://{}{}", stage.grpc, case.path));
    let changed = |name: &str| case.headers.iter().any(|(changed, _)| *changed == name);
    let headers = right.iter().filter(|(name, _)| !changed(name)).chain(&case.headers);
    for (name, value) in headers.filter(|(_, value)| !value.is_empty()) {
        request = request.header(*name, value);
    }
    let request = request.body(Full::new(Bytes::from(case.body)))?;
    let answering = async {
        let Ok(answer) = sender.send_request(request).await else { return Ok((CUT_OFF, None)) };
        let (head, body) = answer.into_parts();
        let trailers = body.collect().await.ok().and_then(|body| body.trailers().cloned()).unwrap_or_default();
        let status = trailers.get("grpc-status").or(head.headers.get("grpc-status"));
        let code = status.and_then(|status| status.to_str().ok()?.parse().ok());
        let message = trailers.get("grpc-message").or(head.headers.get("grpc-message")).cloned();
        anyhow::Ok((code.unwrap_or(head.status.as_u16()), message))
    };
    let (code, said) = timeout(ANSWER_MAX, answering).await.context("no answer")??;
    ensure!(case.codes.contains(&code), "{code} ({said:?}) instead of {:?}", case.codes);
    good_call(stage).await
}
