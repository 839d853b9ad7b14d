//! Webhooks as a receiver sees them.

use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use hmac::{Hmac, Mac as _};
use http_body_util::{BodyExt as _, Empty};
use hyper::{Request, Response, StatusCode, body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use sha2::Sha256;
use switchboard::config::{Config, Role};
use switchboard_chassis::{Secret, error::reason, secret::sha256_hex};
use switchboard_proto::{
    chat::v1::{
        ConversationKind, EraseUserRequest, OpenConversationRequest, Participant, Send, SendMessageRequest,
        chat_service_client::ChatServiceClient,
    },
    identity::v1::RegisterDeviceRequest,
    webhook::v1::{
        DeadLetter, ListDeadLettersRequest, RetryDeadLettersRequest, webhook_service_client::WebhookServiceClient,
    },
};
use switchboard_tests::{Backend, PATIENCE, Sandbox, process::Machine};
use tokio::{net::TcpListener, sync::mpsc};
use tonic::Code;

macro_rules! contract {
    ($($test:ident),* $(,)?) => {
        mod on_sqlite {
            use super::*;
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $test() -> anyhow::Result<()> {
                super::$test(Backend::Sqlite).await
            })*
        }
        mod on_postgres {
            use super::*;
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $test() -> anyhow::Result<()> {
                super::$test(Backend::Postgres).await
            })*
        }
    };
}

contract!(
    those_who_are_not_there_are_told_of,
    a_device_is_told_of_by_its_hash,
    what_fails_is_tried_again_until_it_is_given_up,
    a_refusal_is_final_until_somebody_asks,
    who_was_erased_is_told_of_no_more,
);

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const PREVIOUS: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

/// What came.
struct Came {
    id: String,
    body: Value,
}

/// How a receiver answers.
#[derive(Clone, Copy)]
enum Answers {
    With(u16),
    Never,
}

/// A receiver that checks signatures and answers as it is told.
struct Receiver {
    address: SocketAddr,
    /// Its next answers; then 204.
    answers: Arc<Mutex<Vec<Answers>>>,
    came: mpsc::UnboundedReceiver<anyhow::Result<Came>>,
}

fn signature(secret: &str, id: &str, timestamp: &str, body: &str) -> anyhow::Result<String> {
    let key = STANDARD.decode(secret.trim_start_matches("whsec_"))?;
    let mut mac = Hmac::<Sha256>::new_from_slice(&key)?;
    mac.update(format!("{id}.{timestamp}.{body}").as_bytes());
    Ok(format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes())))
}

async fn take(request: Request<Incoming>) -> anyhow::Result<Came> {
    let header = |name: &str| {
        let value = request.headers().get(name).with_context(|| format!("no {name}"))?;
        Ok::<_, anyhow::Error>(value.to_str()?.to_owned())
    };
    ensure!(
        request.method() == "POST" && request.uri() == "/hooks?a=b" && header("content-type")? == "application/json"
    );
    let (id, timestamp, signed) = (header("webhook-id")?, header("webhook-timestamp")?, header("webhook-signature")?);
    let body = String::from_utf8(request.into_body().collect().await?.to_bytes().to_vec())?;
    let expected = [signature(SECRET, &id, &timestamp, &body)?, signature(PREVIOUS, &id, &timestamp, &body)?];
    ensure!(signed == expected.join(" "), "{signed} is not the signature of {body}");
    let body: Value = serde_json::from_str(&body)?;
    ensure!(body["id"] == id.as_str(), "{body}");
    Ok(Came { id, body })
}

impl Receiver {
    async fn start(answers: Vec<Answers>) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let answers = Arc::new(Mutex::new(answers));
        let (tell, came) = mpsc::unbounded_channel();
        let theirs = answers.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (answers, tell) = (theirs.clone(), tell.clone());
                let service = service_fn(move |request| {
                    let (answers, tell) = (answers.clone(), tell.clone());
                    async move {
                        // The test may have ended.
                        let _ = tell.send(take(request).await);
                        let next = {
                            let mut answers = answers.lock().unwrap_or_else(PoisonError::into_inner);
                            if answers.is_empty() { Answers::With(204) } else { answers.remove(0) }
                        };
                        let Answers::With(status) = next else { return std::future::pending().await };
                        let mut response = Response::new(Empty::<Bytes>::new());
                        *response.status_mut() = StatusCode::from_u16(status)?;
                        Ok::<_, anyhow::Error>(response)
                    }
                });
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service),
                );
            }
        });
        Ok(Self { address, answers, came })
    }

    async fn next(&mut self) -> anyhow::Result<Came> {
        tokio::time::timeout(PATIENCE, self.came.recv()).await.context("no webhook")?.context("the receiver")?
    }

    fn settings(&self) -> impl FnOnce(&mut Config) + use<> {
        let url = format!("http://{}/hooks?a=b", self.address);
        move |config: &mut Config| {
            config.webhooks.url = url;
            config.webhooks.secret = Secret::new(SECRET);
            config.webhooks.previous_secret = Secret::new(PREVIOUS);
            config.webhooks.retry_after_s = "0,0,0".to_owned();
            config.webhooks.timeout_ms = 500;
            config.chat.notify_delay_ms = 50;
        }
    }
}

async fn open(sandbox: &Sandbox, kind: ConversationKind, people: &[(&str, &str)]) -> anyhow::Result<String> {
    let participants =
        people.iter().map(|(id, role)| Participant { user_id: (*id).to_owned(), role: (*role).to_owned() }).collect();
    let request = OpenConversationRequest {
        kind: kind.into(),
        participants,
        subject: "what it is about".into(),
        ..OpenConversationRequest::default()
    };
    Ok(sandbox.chat()?.open_conversation(request).await?.into_inner().conversation.unwrap_or_default().id)
}

fn text(conversation_id: &str, user_id: &str, role: &str) -> SendMessageRequest {
    SendMessageRequest {
        conversation_id: conversation_id.to_owned(),
        user_id: user_id.to_owned(),
        send: Some(Send { content: "what was said".into(), role: role.to_owned(), ..Send::default() }),
    }
}

async fn dead_letters(sandbox: &Sandbox, outbox: &str) -> anyhow::Result<Vec<DeadLetter>> {
    let request = ListDeadLettersRequest { outbox: outbox.into(), ..ListDeadLettersRequest::default() };
    Ok(WebhookServiceClient::new(sandbox.peer()?).list_dead_letters(request).await?.into_inner().dead_letters)
}

/// Dead letters, when there are so many.
async fn dead(sandbox: &Sandbox, outbox: &str, wanted: usize) -> anyhow::Result<Vec<DeadLetter>> {
    let waiting = async {
        loop {
            let dead = dead_letters(sandbox, outbox).await?;
            if dead.len() >= wanted {
                return Ok(dead);
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.context("no dead letters")?
}

async fn those_who_are_not_there_are_told_of(backend: Backend) -> anyhow::Result<()> {
    let mut receiver = Receiver::start(Vec::new()).await?;
    let sandbox = Sandbox::start_with(backend, receiver.settings()).await?;
    let id = open(&sandbox, ConversationKind::Clinic, &[("p", "patient"), ("d", "professional")]).await?;
    let opened = receiver.next().await?.body;
    assert_eq!(opened["type"], "conversation.opened");
    assert_eq!(
        (&opened["data"]["conversation_id"], &opened["data"]["conversation_kind"]),
        (&json!(id), &json!("clinic"))
    );
    assert_eq!(
        opened["data"]["participants"],
        json!([{ "user_id": "p", "role": "patient" }, { "user_id": "d", "role": "professional" }])
    );
    assert!(!opened.to_string().contains("what it is about"));

    // Who is there is not told of; who is not, is, once for a burst.
    let mut there = sandbox.connect(&format!("/ws/chat/{id}/"), "d").await?;
    let sent = sandbox.chat()?.send_message(text(&id, "p", "")).await?.into_inner().message.unwrap_or_default();
    there.next().await?;
    sandbox.chat()?.send_message(text(&id, "d", "")).await?;
    let answered = sandbox.chat()?.send_message(text(&id, "d", "")).await?.into_inner().message.unwrap_or_default();
    assert_eq!((sent.seq, answered.seq), (1, 3));
    let missed = receiver.next().await?.body;
    assert_eq!(missed["type"], "message.offline");
    assert_eq!((&missed["data"]["user_id"], &missed["data"]["seq"]), (&json!("p"), &json!(2)));
    assert_eq!((&missed["data"]["sender_user_id"], &missed["data"]["role"]), (&json!("d"), &json!("patient")));
    assert!(!missed.to_string().contains("what was said"));

    // A device is not there either; and it is not named.
    let id = open(&sandbox, ConversationKind::Mobile, &[("a-device", "device")]).await?;
    let opened = receiver.next().await?.body;
    assert_eq!(opened["data"]["participants"], json!([{ "device_sha256": sha256_hex("a-device"), "role": "device" }]));
    sandbox.chat()?.send_message(text(&id, "admin", "staff")).await?;
    let missed = receiver.next().await?.body;
    assert_eq!(missed["data"]["device_sha256"], sha256_hex("a-device").as_str());
    assert!(!missed.to_string().contains("a-device") && !opened.to_string().contains("a-device"));
    Ok(())
}

async fn a_device_is_told_of_by_its_hash(backend: Backend) -> anyhow::Result<()> {
    let mut receiver = Receiver::start(Vec::new()).await?;
    let sandbox = Sandbox::start_with(backend, receiver.settings()).await?;
    for device_id in ["a-device", "a-device", "another"] {
        let request = RegisterDeviceRequest { device_id: device_id.into(), ..Default::default() };
        sandbox.identity()?.register_device(request).await?;
    }
    let mut told = HashSet::new();
    for _ in 0..2 {
        let came = receiver.next().await?;
        assert_eq!(came.body["type"], "device.registered");
        assert!(!came.body.to_string().contains("a-device"));
        told.insert(came.body["data"]["device_sha256"].to_string());
    }
    let expected = ["a-device", "another"].map(|id| json!(sha256_hex(id)).to_string());
    assert_eq!(told, HashSet::from(expected));
    Ok(())
}

async fn what_fails_is_tried_again_until_it_is_given_up(backend: Backend) -> anyhow::Result<()> {
    use Answers::{Never, With};
    // One that comes through at the last try; then one that does not.
    let answers = vec![With(500), Never, With(429), With(200), With(503), Never, With(408), With(500)];
    let mut receiver = Receiver::start(answers).await?;
    let sandbox = Sandbox::start_with(backend, receiver.settings()).await?;
    open(&sandbox, ConversationKind::Clinic, &[("p", "patient"), ("d", "professional")]).await?;
    let mut ids = HashSet::new();
    for _ in 0..4 {
        ids.insert(receiver.next().await?.id);
    }
    assert_eq!(ids.len(), 1, "a repeat has the same id");
    open(&sandbox, ConversationKind::Clinic, &[("p2", "patient"), ("d", "professional")]).await?;
    let dead = dead(&sandbox, "chat", 1).await?;
    assert_eq!((dead.len(), dead[0].attempts, dead[0].event_type.as_str()), (1, 4, "conversation.opened"));
    assert_eq!((dead[0].endpoint.as_str(), dead[0].last_error.contains("500")), ("default", true));
    for _ in 0..4 {
        assert_eq!(receiver.next().await?.id, dead[0].webhook_id);
    }
    // Those that fail delay no others.
    open(&sandbox, ConversationKind::Clinic, &[("p3", "patient"), ("d", "professional")]).await?;
    assert_ne!(receiver.next().await?.id, dead[0].webhook_id);
    let counted = sandbox.lifecycle.metrics().text();
    for (result, tries) in [("failed", 6), ("given_up", 1)] {
        let series = format!("switchboard_webhook_tries_total{{outbox=\"chat\",result=\"{result}\"}} {tries}\n");
        assert!(counted.contains(&series), "{series}");
    }
    Ok(())
}

async fn a_refusal_is_final_until_somebody_asks(backend: Backend) -> anyhow::Result<()> {
    let mut receiver = Receiver::start(vec![Answers::With(410), Answers::With(302)]).await?;
    let sandbox = Sandbox::start_with(backend, receiver.settings()).await?;
    for patient in ["p1", "p2"] {
        open(&sandbox, ConversationKind::Clinic, &[(patient, "patient"), ("d", "professional")]).await?;
    }
    let mut refused = HashSet::from([receiver.next().await?.id, receiver.next().await?.id]);
    let mut webhooks = WebhookServiceClient::new(sandbox.peer()?);
    let dead = dead(&sandbox, "chat", 2).await?;
    assert!(dead.iter().all(|dead| dead.attempts == 1 && refused.contains(&dead.webhook_id)), "{dead:?}");
    // Page by page.
    let page = ListDeadLettersRequest { outbox: "chat".into(), page_size: 1, page_token: String::new() };
    let first = webhooks.list_dead_letters(page.clone()).await?.into_inner();
    let page = ListDeadLettersRequest { page_token: first.next_page_token, ..page };
    let second = webhooks.list_dead_letters(page).await?.into_inner();
    assert_eq!([first.dead_letters, second.dead_letters].concat(), dead);
    assert_eq!(second.next_page_token, "");

    let retry = |ids: Vec<String>, all: bool, outbox: &str| RetryDeadLettersRequest {
        outbox: outbox.to_owned(),
        webhook_ids: ids,
        all,
        endpoint: String::new(),
    };
    for wrong in [retry(Vec::new(), false, "chat"), retry(vec!["x".into()], true, "chat"), retry(Vec::new(), true, "")]
    {
        let status = webhooks.retry_dead_letters(wrong).await.expect_err("wrong");
        assert_eq!(status.code(), Code::InvalidArgument);
    }
    let status = webhooks.retry_dead_letters(retry(Vec::new(), true, "presence")).await.expect_err("wrong");
    assert_eq!((status.code(), reason(&status).as_str()), (Code::NotFound, "OUTBOX_NOT_HERE"));
    let one = dead[0].webhook_id.clone();
    let asked = retry(vec![one.clone(), "none".into()], false, "chat");
    assert_eq!(webhooks.retry_dead_letters(asked).await?.into_inner().retried, 1);
    assert_eq!(receiver.next().await?.id, one);
    refused.remove(&one);
    assert_eq!(webhooks.retry_dead_letters(retry(Vec::new(), true, "chat")).await?.into_inner().retried, 1);
    assert!(refused.contains(&receiver.next().await?.id));
    assert_eq!(dead_letters(&sandbox, "chat").await?, []);
    Ok(())
}

async fn who_was_erased_is_told_of_no_more(backend: Backend) -> anyhow::Result<()> {
    let mut receiver = Receiver::start(vec![Answers::With(410), Answers::With(410)]).await?;
    let sandbox = Sandbox::start_with(backend, receiver.settings()).await?;
    for patient in ["gone", "stays"] {
        open(&sandbox, ConversationKind::Clinic, &[(patient, "patient"), ("d", "professional")]).await?;
        receiver.next().await?;
    }
    let waiting = dead(&sandbox, "chat", 2).await?;
    sandbox.chat()?.erase_user(EraseUserRequest { user_id: "gone".into() }).await?;
    let left = dead_letters(&sandbox, "chat").await?;
    assert_eq!((waiting.len(), left.len()), (2, 1));
    let retry = RetryDeadLettersRequest { outbox: "chat".into(), all: true, ..RetryDeadLettersRequest::default() };
    WebhookServiceClient::new(sandbox.peer()?).retry_dead_letters(retry).await?;
    assert!(receiver.next().await?.body.to_string().contains("stays"));
    Ok(())
}

/// With two instances, each event is delivered by one of them; an instance that finds the receiver busy waits.
#[tokio::test(flavor = "multi_thread")]
async fn of_two_instances_one_delivers() -> anyhow::Result<()> {
    const EVENTS: usize = 60;
    let mut receiver = Receiver::start(Vec::new()).await?;
    let sandbox = Sandbox::start_with(Backend::Postgres, receiver.settings()).await?;
    let (address, _other) = sandbox.another(&[Role::Chat]).await?;
    let chats = [sandbox.chat()?, ChatServiceClient::new(sandbox.peer_at(address)?)];
    let mut opening = tokio::task::JoinSet::new();
    for n in 0..EVENTS {
        let mut chat = chats[n % 2].clone();
        opening.spawn(async move {
            let seat = |id: String, role: &str| Participant { user_id: id, role: role.to_owned() };
            let participants = vec![seat(format!("p{n}"), "patient"), seat("d".to_owned(), "professional")];
            let kind = ConversationKind::Clinic.into();
            chat.open_conversation(OpenConversationRequest { kind, participants, ..OpenConversationRequest::default() })
                .await
        });
    }
    while let Some(opened) = opening.join_next().await {
        opened??;
    }
    let mut told: HashMap<String, usize> = HashMap::new();
    while told.len() < EVENTS {
        *told.entry(receiver.next().await?.id).or_default() += 1;
    }
    // The last one comes after all of them.
    let last = open(&sandbox, ConversationKind::Mobile, &[("phone", "device")]).await?;
    loop {
        let id = receiver.next().await?.id;
        if id.contains(&last) {
            break;
        }
        *told.entry(id).or_default() += 1;
    }
    assert!(told.values().all(|times| *times == 1), "{told:?}");
    assert!(receiver.answers.lock().unwrap_or_else(PoisonError::into_inner).is_empty());
    Ok(())
}

/// `kill -9` while a receiver thinks: the event is told again, with its id, when the process is back.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_process_tells_again() -> anyhow::Result<()> {
    let mut receiver = Receiver::start(vec![Answers::Never]).await?;
    let machine = Machine::new()?;
    let url = format!("webhooks.url=http://{}/hooks?a=b", receiver.address);
    let (secret, previous) = (format!("webhooks.secret={SECRET}"), format!("webhooks.previous_secret={PREVIOUS}"));
    let role = ["serve", "--role", "identity,chat"];
    let set = ["--set", &url, "--set", &secret, "--set", &previous, "--set", "webhooks.timeout_ms=500"];
    let arguments = [role.as_slice(), set.as_slice()].concat();
    let mut server = machine.start(&arguments, machine.grpc).await?;
    machine.provision(r#"{"device": {"device_id": "phone"}}"#)?;
    let first = receiver.next().await?;
    server.kill()?;
    let _server = machine.start(&arguments, machine.grpc).await?;
    let again = receiver.next().await?;
    assert_eq!((again.id, again.body), (first.id, first.body));
    Ok(())
}

/// The settings of several endpoints, as a file has them; what one may know, another does not.
#[tokio::test(flavor = "multi_thread")]
async fn each_endpoint_is_told_what_it_asked_for() -> anyhow::Result<()> {
    let (mut words, mut devices) = (Receiver::start(Vec::new()).await?, Receiver::start(Vec::new()).await?);
    let directory = tempfile::tempdir()?;
    let (file, secret) = (directory.path().join("c.toml"), directory.path().join("secret"));
    std::fs::write(&secret, format!("{SECRET}\n"))?;
    let endpoint = |name: &str, address: SocketAddr, more: &str| {
        format!(
            "[[webhooks.endpoints]]\nname = '{name}'\nurl = 'http://{address}/hooks?a=b'\nsecret_file = '{}'\n\
             previous_secret = '{PREVIOUS}'\n{more}\n",
            secret.display()
        )
    };
    let text = endpoint("words", words.address, "events = ['conversation.opened']\ninclude_text = true")
        + &endpoint("devices", devices.address, "events = ['device.registered']");
    std::fs::write(&file, text)?;
    let webhooks = Config::load(Some(&file), &[], &[]).map_err(|mistakes| anyhow::anyhow!("{mistakes}"))?.webhooks;
    let sandbox = Sandbox::start_with(Backend::Sqlite, |config| config.webhooks = webhooks).await?;
    sandbox
        .identity()?
        .register_device(RegisterDeviceRequest { device_id: "phone".into(), ..Default::default() })
        .await?;
    open(&sandbox, ConversationKind::Clinic, &[("p", "patient"), ("d", "professional")]).await?;
    assert_eq!(words.next().await?.body["data"]["subject"], "what it is about");
    assert_eq!(devices.next().await?.body["type"], "device.registered");
    Ok(())
}
