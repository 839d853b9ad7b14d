//! What `ChatService.Watch` promises, on both databases, with several instances, and when the process is killed.

use std::collections::{HashMap, HashSet};

use anyhow::{Context as _, ensure};
use switchboard::config::Role;
use switchboard_chassis::{error::reason, grpc::Peer, secret::sha256_hex};
use switchboard_proto::chat::v1::{
    CloseConversationRequest, ConversationKind, ConversationStatus, EraseUserRequest, ListMessagesRequest, Message,
    MessageStatus, OpenConversationRequest, Participant, Receipt, Send, SendMessageRequest, SeqRange,
    UpdateReceiptsRequest, WatchEventType, WatchRequest, WatchResponse, WatchStart,
    chat_service_client::ChatServiceClient, watch_response::Event,
};
use switchboard_tests::{Backend, PATIENCE, Sandbox, process::Machine};
use tonic::{Code, Status, Streaming};

macro_rules! contract {
    ($($test:ident),* $(,)?) => {
        mod on_sqlite {
            use super::*;
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $test() -> anyhow::Result<()> {
                super::$test(&Sandbox::start(Backend::Sqlite).await?).await
            })*
        }
        mod on_postgres {
            use super::*;
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $test() -> anyhow::Result<()> {
                super::$test(&Sandbox::start(Backend::Postgres).await?).await
            })*
        }
    };
}

contract!(
    everything_that_is_stored_is_told,
    a_watcher_goes_on_from_any_cursor,
    a_watcher_is_told_what_it_asked_for,
    what_is_wrong_is_refused,
    what_was_erased_is_not_told,
);

type Chat = ChatServiceClient<Peer>;

fn oldest() -> WatchRequest {
    WatchRequest { start: WatchStart::Oldest.into(), ..WatchRequest::default() }
}

async fn open(chat: &mut Chat, kind: ConversationKind, people: &[(&str, &str)]) -> anyhow::Result<String> {
    let participants =
        people.iter().map(|(id, role)| Participant { user_id: (*id).to_owned(), role: (*role).to_owned() }).collect();
    let request = OpenConversationRequest { kind: kind.into(), participants, ..OpenConversationRequest::default() };
    Ok(chat.open_conversation(request).await?.into_inner().conversation.unwrap_or_default().id)
}

async fn clinic(chat: &mut Chat, n: usize) -> anyhow::Result<String> {
    let (patient, professional) = (format!("p{n}"), format!("d{n}"));
    open(chat, ConversationKind::Clinic, &[(&patient, "patient"), (&professional, "professional")]).await
}

async fn send(chat: &mut Chat, conversation_id: &str, user_id: &str, content: &str) -> Result<Message, Status> {
    let request = SendMessageRequest {
        conversation_id: conversation_id.to_owned(),
        user_id: user_id.to_owned(),
        send: Some(Send { content: content.to_owned(), ..Send::default() }),
    };
    Ok(chat.send_message(request).await?.into_inner().message.unwrap_or_default())
}

/// Somebody who watches.
struct Watching {
    stream: Streaming<WatchResponse>,
}

impl Watching {
    async fn start(chat: &Chat, request: WatchRequest) -> anyhow::Result<Self> {
        let mut watching = Self { stream: chat.clone().watch(request).await?.into_inner() };
        let first = watching.any().await?;
        ensure!(matches!(first.event, Some(Event::Heartbeat(_))), "a watcher is told at once where it is");
        Ok(watching)
    }

    async fn any(&mut self) -> anyhow::Result<WatchResponse> {
        let next = tokio::time::timeout(PATIENCE, self.stream.message()).await.context("nothing is told")?;
        next?.context("the feed ended")
    }

    /// The next that is no heartbeat.
    async fn next(&mut self) -> anyhow::Result<WatchResponse> {
        loop {
            let told = self.any().await?;
            ensure!(!told.cursor.is_empty() && told.cursor.len() <= 200);
            if !matches!(told.event, Some(Event::Heartbeat(_))) {
                return Ok(told);
            }
        }
    }

    async fn message(&mut self) -> anyhow::Result<Message> {
        match self.next().await?.event {
            Some(Event::Message(message)) => Ok(message),
            other => anyhow::bail!("{other:?} is no message"),
        }
    }
}

/// Everything that there is, up to a sentence that is said last, in short.
async fn told_until(watching: &mut Watching, last: &str) -> anyhow::Result<Vec<(String, String)>> {
    let mut all = Vec::new();
    loop {
        let told = watching.next().await?;
        let (what, is_last) = match told.event {
            Some(Event::Message(message)) => (format!("says {}", message.content), message.content == last),
            Some(Event::ConversationOpened(_)) => ("opened".to_owned(), false),
            Some(Event::ConversationClosed(_)) => ("closed".to_owned(), false),
            Some(Event::Receipts(receipts)) => (format!("{} read", receipts.user_id), false),
            Some(Event::Erased(erased)) => (format!("{} erased", erased.messages), false),
            other => anyhow::bail!("{other:?}"),
        };
        all.push((what, told.cursor));
        if is_last {
            return Ok(all);
        }
    }
}

async fn live(chat: &mut Chat) -> anyhow::Result<(String, String)> {
    let one = clinic(chat, 1).await?;
    let other = open(chat, ConversationKind::Consultation, &[("c", "client"), ("e", "expert")]).await?;
    send(chat, &one, "p1", "hello").await?;
    send(chat, &other, "c", "and here").await?;
    send(chat, &one, "p1", "are you there").await?;
    let receipt = Receipt { status: MessageStatus::Read.into(), all: true, ..Receipt::default() };
    let reading = UpdateReceiptsRequest {
        conversation_id: one.clone(),
        user_id: "d1".into(),
        role: String::new(),
        receipt: Some(receipt),
    };
    chat.update_receipts(reading.clone()).await?;
    // It changes nothing, so nothing is told.
    chat.update_receipts(reading).await?;
    chat.close_conversation(CloseConversationRequest { conversation_id: one.clone() }).await?;
    chat.close_conversation(CloseConversationRequest { conversation_id: one.clone() }).await?;
    send(chat, &other, "e", "last").await?;
    Ok((one, other))
}

async fn everything_that_is_stored_is_told(sandbox: &Sandbox) -> anyhow::Result<()> {
    let mut chat = sandbox.chat()?;
    let mut now = Watching::start(&chat, WatchRequest::default()).await?;
    let (one, other) = live(&mut chat).await?;
    let mut from_start = Watching::start(&chat, oldest()).await?;
    // Whoever watched meanwhile and whoever comes later are told the same.
    for watching in [&mut now, &mut from_start] {
        let opened = watching.next().await?;
        let Some(Event::ConversationOpened(opening)) = opened.event else { anyhow::bail!("opened first") };
        assert_eq!(opened.kind, i32::from(ConversationKind::Clinic));
        let conversation = opening.conversation.context("a conversation")?;
        assert_eq!((conversation.id.as_str(), conversation.participants.len()), (one.as_str(), 2));
        assert!(matches!(watching.next().await?.event, Some(Event::ConversationOpened(_))));
        let hello = watching.message().await?;
        assert_eq!((hello.content.as_str(), hello.seq, hello.sender_id.as_str()), ("hello", 1, "p1"));
        assert_eq!((watching.message().await?.conversation_id, watching.message().await?.seq), (other.clone(), 2));
        let Some(Event::Receipts(receipts)) = watching.next().await?.event else { anyhow::bail!("receipts") };
        assert_eq!((receipts.user_id.as_str(), receipts.role.as_str()), ("d1", "professional"));
        assert_eq!(receipts.status(), MessageStatus::Read);
        assert_eq!(receipts.messages, [SeqRange { first: 1, last: 2 }]);
        let Some(Event::ConversationClosed(closing)) = watching.next().await?.event else { anyhow::bail!("closed") };
        assert_eq!(closing.conversation.context("a conversation")?.status(), ConversationStatus::Closed);
        assert_eq!(watching.message().await?.content, "last");
    }
    Ok(())
}

async fn a_watcher_goes_on_from_any_cursor(sandbox: &Sandbox) -> anyhow::Result<()> {
    let mut chat = sandbox.chat()?;
    live(&mut chat).await?;
    let all = told_until(&mut Watching::start(&chat, oldest()).await?, "last").await?;
    assert_eq!(all.len(), 8);
    for (n, (_, cursor)) in all.iter().enumerate().take(all.len() - 1) {
        let request = WatchRequest { cursor: cursor.clone(), ..WatchRequest::default() };
        let rest = told_until(&mut Watching::start(&chat, request).await?, "last").await?;
        let what = |told: &[(String, String)]| told.iter().map(|(what, _)| what.clone()).collect::<Vec<_>>();
        assert_eq!(what(&rest), what(&all[n + 1..]), "after {n}");
    }
    Ok(())
}

async fn a_watcher_is_told_what_it_asked_for(sandbox: &Sandbox) -> anyhow::Result<()> {
    let mut chat = sandbox.chat()?;
    let (_, other) = live(&mut chat).await?;
    let request = WatchRequest { kinds: vec![ConversationKind::Consultation.into()], ..oldest() };
    let mut consultations = Watching::start(&chat, request).await?;
    let told = told_until(&mut consultations, "last").await?;
    assert_eq!(
        told.iter().map(|(what, _)| what.as_str()).collect::<Vec<_>>(),
        ["opened", "says and here", "says last"]
    );
    let types = vec![WatchEventType::ConversationClosed.into(), WatchEventType::Receipts.into()];
    let mut rare = Watching::start(&chat, WatchRequest { types: types.clone(), ..oldest() }).await?;
    assert!(matches!(rare.next().await?.event, Some(Event::Receipts(_))));
    assert!(matches!(rare.next().await?.event, Some(Event::ConversationClosed(_))));
    // A filtered watcher's cursor goes forward, too: from the heartbeat on, nothing is told again.
    send(&mut chat, &other, "c", "more").await?;
    let beat = loop {
        let told = rare.any().await?;
        if matches!(told.event, Some(Event::Heartbeat(_))) {
            break told.cursor;
        }
    };
    chat.close_conversation(CloseConversationRequest { conversation_id: other }).await?;
    let mut resumed = Watching::start(&chat, WatchRequest { cursor: beat, ..WatchRequest::default() }).await?;
    assert!(matches!(resumed.next().await?.event, Some(Event::ConversationClosed(_))));
    Ok(())
}

async fn what_is_wrong_is_refused(sandbox: &Sandbox) -> anyhow::Result<()> {
    let mut chat = sandbox.chat()?;
    let mut refused = async |request: WatchRequest| match chat.watch(request).await {
        Ok(_) => (Code::Ok, String::new()),
        Err(status) => (status.code(), reason(&status)),
    };
    let cursor = |cursor: &str| WatchRequest { cursor: cursor.to_owned(), ..WatchRequest::default() };
    for wrong in ["x", "s.1", "b.-1", "s.1.2.3", "\u{0}", &"9".repeat(5_000)] {
        assert_eq!(refused(cursor(wrong)).await, (Code::InvalidArgument, "INVALID_ARGUMENT".to_owned()), "{wrong}");
    }
    // One of them is of the other kind of database.
    let ahead = [refused(cursor("s.999999999.0")).await, refused(cursor("b.999999999999")).await];
    assert!(ahead.contains(&(Code::FailedPrecondition, "CURSOR_AHEAD".to_owned())), "{ahead:?}");
    assert!(ahead.contains(&(Code::InvalidArgument, "INVALID_ARGUMENT".to_owned())), "{ahead:?}");
    for request in [
        WatchRequest { kinds: vec![99], ..oldest() },
        WatchRequest { kinds: vec![0], ..oldest() },
        WatchRequest { types: vec![99], ..oldest() },
        WatchRequest { types: vec![0], ..oldest() },
    ] {
        assert_eq!(refused(request).await.0, Code::InvalidArgument);
    }
    let mut watching = Vec::new();
    for _ in 0..64 {
        watching.push(Watching::start(&sandbox.chat()?, oldest()).await?);
    }
    assert_eq!(refused(oldest()).await, (Code::ResourceExhausted, "OVERLOADED".to_owned()));
    Ok(())
}

async fn what_was_erased_is_not_told(sandbox: &Sandbox) -> anyhow::Result<()> {
    let mut chat = sandbox.chat()?;
    let id = clinic(&mut chat, 1).await?;
    let mut watching = Watching::start(&chat, WatchRequest::default()).await?;
    send(&mut chat, &id, "p1", "a secret").await?;
    send(&mut chat, &id, "d1", "an answer").await?;
    let receipt = Receipt { status: MessageStatus::Read.into(), all: true, ..Receipt::default() };
    let reading = UpdateReceiptsRequest {
        conversation_id: id.clone(),
        user_id: "p1".into(),
        role: String::new(),
        receipt: Some(receipt),
    };
    chat.update_receipts(reading).await?;
    chat.erase_user(EraseUserRequest { user_id: "p1".into() }).await?;
    send(&mut chat, &id, "d1", "last").await?;
    let told = told_until(&mut Watching::start(&chat, oldest()).await?, "last").await?;
    let told: Vec<&str> = told.iter().map(|(what, _)| what.as_str()).collect();
    assert_eq!(told, ["opened", "says an answer", "1 erased", "says last"]);
    // Who was told of it is told that it went, and of whom, if the name is known.
    let erased = loop {
        if let Some(Event::Erased(erased)) = watching.next().await?.event {
            break erased;
        }
    };
    assert_eq!((erased.conversation_id, erased.user_id_sha256), (id, sha256_hex("p1")));
    Ok(())
}

async fn stored(chat: &mut Chat, conversation_id: &str) -> anyhow::Result<Vec<String>> {
    let mut ids = Vec::new();
    let mut from_seq = 0;
    loop {
        let request = ListMessagesRequest {
            conversation_id: conversation_id.to_owned(),
            page_size: 1_000,
            from_seq,
            ..ListMessagesRequest::default()
        };
        let page = chat.list_messages(request).await?.into_inner();
        ids.extend(page.messages.into_iter().map(|message| message.id));
        match page.next_from_seq {
            0 => return Ok(ids),
            next => from_seq = next,
        }
    }
}

/// Writers at two instances, in the same conversations; a watcher at each, of which one breaks off all the time.
#[tokio::test(flavor = "multi_thread")]
async fn watchers_of_two_instances_miss_nothing() -> anyhow::Result<()> {
    const CONVERSATIONS: usize = 6;
    const WRITERS: usize = 8;
    const MESSAGES: usize = 60;
    let sandbox = Sandbox::start(Backend::Postgres).await?;
    let (address, other) = sandbox.another(&[Role::Chat]).await?;
    let mut chats = [sandbox.chat()?, ChatServiceClient::new(sandbox.peer_at(address)?)];
    let mut ids = Vec::new();
    for n in 0..CONVERSATIONS {
        ids.push(clinic(&mut chats[0], n).await?);
    }
    let types = vec![WatchEventType::Message.into()];
    let request = WatchRequest { types: types.clone(), ..WatchRequest::default() };
    let mut watching = Watching::start(&chats[1], request.clone()).await?;
    let first = chats[0].clone().watch(request.clone()).await?.into_inner().message().await?.context("a heartbeat")?;

    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        let (mut chat, ids) = (chats[writer % 2].clone(), ids.clone());
        writers.spawn(async move {
            for n in 0..MESSAGES {
                let at = (writer * 7 + n * 5) % CONVERSATIONS;
                send(&mut chat, &ids[at], &format!("p{at}"), &format!("{writer}:{n}")).await?;
            }
            Ok::<_, Status>(())
        });
    }
    let breaking = {
        let (chat, types) = (chats[0].clone(), types.clone());
        tokio::spawn(async move {
            let mut told: Vec<Message> = Vec::new();
            let mut cursor = first.cursor;
            while told.len() < WRITERS * MESSAGES {
                let request = WatchRequest { cursor: cursor.clone(), types: types.clone(), ..WatchRequest::default() };
                let mut watching = Watching::start(&chat, request).await?;
                for _ in 0..(told.len() % 37 + 1).min(WRITERS * MESSAGES - told.len()) {
                    let response = watching.next().await?;
                    cursor = response.cursor;
                    match response.event {
                        Some(Event::Message(message)) => told.push(message),
                        other => anyhow::bail!("{other:?}"),
                    }
                }
            }
            Ok::<_, anyhow::Error>(told)
        })
    };
    let mut steady = Vec::new();
    for _ in 0..WRITERS * MESSAGES {
        steady.push(watching.message().await?);
    }
    while let Some(done) = writers.join_next().await {
        done??;
    }
    for told in [steady, breaking.await??] {
        let mut seqs: HashMap<&str, Vec<&str>> = HashMap::new();
        for message in &told {
            seqs.entry(&message.conversation_id).or_default().push(&message.id);
        }
        for id in &ids {
            assert_eq!(seqs.get(id.as_str()).cloned().unwrap_or_default(), stored(&mut chats[0], id).await?);
        }
    }
    // An instance that ends says so; the other goes on.
    other.drain();
    let ended = loop {
        match watching.stream.message().await {
            Ok(Some(_)) => {}
            Ok(None) => anyhow::bail!("it ended without a word"),
            Err(status) => break status.code(),
        }
    };
    assert_eq!(ended, Code::Unavailable);
    Ok(())
}

/// `kill -9` in the middle of the feed, several times: from the last cursor, everything is told once and in order.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_process_goes_on_where_it_was() -> anyhow::Result<()> {
    const ROUNDS: usize = 3;
    const TOLD_BEFORE_KILL: usize = 50;
    let machine = Machine::new()?;
    let services = ["serve", "--role", "identity,chat"];
    let mut cursor = String::new();
    let mut told: Vec<String> = Vec::new();
    let mut id = String::new();
    for round in 0..ROUNDS {
        let mut server = machine.start(&services, machine.grpc).await?;
        let mut chat = ChatServiceClient::new(machine.peer()?);
        if round == 0 {
            id = clinic(&mut chat, 1).await?;
        }
        let types = vec![WatchEventType::Message.into()];
        let request = WatchRequest { cursor: cursor.clone(), types, ..oldest() };
        let mut watching = Watching::start(&chat, request).await?;
        let sending = {
            let (mut chat, id) = (chat.clone(), id.clone());
            tokio::spawn(async move { while send(&mut chat, &id, "p1", "x").await.is_ok() {} })
        };
        for _ in 0..TOLD_BEFORE_KILL {
            let response = watching.next().await?;
            if let Some(Event::Message(message)) = response.event {
                told.push(message.id);
            }
            cursor = response.cursor;
        }
        server.kill()?;
        while let Ok(Some(response)) = watching.stream.message().await {
            if let Some(Event::Message(message)) = response.event {
                told.push(message.id);
            }
            cursor = response.cursor;
        }
        sending.await?;
    }
    let _server = machine.start(&services, machine.grpc).await?;
    let mut chat = ChatServiceClient::new(machine.peer()?);
    let last = send(&mut chat, &id, "p1", "last").await?.id;
    let request = WatchRequest { cursor, types: vec![WatchEventType::Message.into()], ..WatchRequest::default() };
    let mut watching = Watching::start(&chat, request).await?;
    while told.last() != Some(&last) {
        told.push(watching.message().await?.id);
    }
    assert_eq!(told.iter().collect::<HashSet<_>>().len(), told.len(), "something was told twice");
    assert_eq!(told, stored(&mut chat, &id).await?);
    Ok(())
}
