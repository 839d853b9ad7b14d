//! What grows with the number of sockets, or with the messages that are stored.

use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use switchboard_proto::{
    chat::v1::{
        ConversationKind, Join, ListMessagesRequest, OpenConversationRequest, Participant, Send,
        chat_service_client::ChatServiceClient, converse_request::Action, converse_response::Event, join,
    },
    wire::{Chat, Wire as _},
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;

use crate::{
    marker::{Marker, PADDING, Tally, Times, rounded},
    options::Options,
    pairs,
    progress::{Progress, say},
    sockets::{hear, open, said},
    system::{System, chat, customer, therapist},
};

/// Messages on their way at once while a conversation is filled.
const FILLING_MAX: u64 = 1_000;
const PAGE: i32 = 50;

/// Cost of a delivery at the same rate over more and more sockets; a fresh server for each.
pub(crate) async fn sockets(options: &Options, steps: &[usize], rate: u32, seconds: u64) -> Result<Value> {
    let mut rows = Vec::new();
    let mut line = json!({ "scenario": "growth-sockets", "rate": rate, "seconds": seconds });
    for step in steps {
        say(&format!("{step} sockets"));
        let system = System::start(options, step.div_ceil(2)).await?;
        rows.push(pairs::steady(&system, step.div_ceil(2), rate, seconds).await?);
        system.put(&mut line)?;
    }
    line["rows"] = json!(rows);
    Ok(line)
}

/// Joining, sending and reading in conversations with more and more stored messages, in one server.
pub(crate) async fn history(options: &Options, steps: &[u64], repeat: u64) -> Result<Value> {
    let system = System::start(options, steps.len()).await?;
    let mut rows = Vec::new();
    for (n, stored) in steps.iter().enumerate() {
        let id = conversation(&system, n).await?;
        let begun = Instant::now();
        fill(&system, n, &id, *stored).await?;
        let filled_in = begun.elapsed();
        let mut row = measure(&system, n, &id, *stored, repeat).await?;
        row["filled_per_second"] = json!(rounded(*stored as f64 / filled_in.as_secs_f64()));
        rows.push(row);
    }
    let mut line = json!({ "scenario": "growth-history", "repeat": repeat, "rows": rows });
    system.put(&mut line)?;
    Ok(line)
}

async fn conversation(system: &System, n: usize) -> Result<String> {
    let seat = |user_id, role: &str| Participant { user_id, role: role.to_owned() };
    let request = OpenConversationRequest {
        kind: ConversationKind::Therapy.into(),
        participants: vec![seat(customer(n), "customer"), seat(therapist(n), "therapist")],
        ..OpenConversationRequest::default()
    };
    let opened = ChatServiceClient::new(system.grpc()?).open_conversation(request).await?.into_inner();
    Ok(opened.conversation.context("a conversation")?.id)
}

/// Stores messages as fast as one session's stream takes them.
async fn fill(system: &System, n: usize, id: &str, count: u64) -> Result<()> {
    let (requests, outgoing) = mpsc::unbounded_channel();
    let enter = Join {
        conversation: Some(join::Conversation::ConversationId(id.to_owned())),
        user_id: therapist(n),
        ..Join::default()
    };
    requests.send(Chat::request(1, 0, Action::Join(enter)))?;
    let stream = ChatServiceClient::new(system.grpc()?).converse(UnboundedReceiverStream::new(outgoing)).await?;
    let mut events = stream.into_inner();
    let progress = Progress::of("messages stored", count);
    let (mut sent, mut stored) = (0, 0);
    while stored < count {
        let event = events.message().await?.context("the stream ended")?;
        match event.event.context("an event")? {
            Event::Message(_) => {
                stored += 1;
                progress.add(1);
            }
            Event::Joined(_) | Event::ParticipantJoined(_) => {}
            other => anyhow::bail!("{other:?}"),
        }
        while sent < count && sent - stored < FILLING_MAX {
            sent += 1;
            let send = Send { content: format!("{sent} {PADDING}"), ..Send::default() };
            requests.send(Chat::request(1, sent, Action::Send(send)))?;
        }
    }
    Ok(())
}

async fn measure(system: &System, n: usize, id: &str, stored: u64, repeat: u64) -> Result<Value> {
    let (joining, sending, newest, middle) = (Times::new()?, Times::new()?, Times::new()?, Times::new()?);
    for _ in 0..repeat {
        let begun = Instant::now();
        let socket = system.door.enter(&chat(n, true)).await?;
        joining.record(begun.elapsed());
        drop(socket);
    }
    let (sender, mut receiver) = open(&system.door, vec![chat(n, true)], 1).await?.pop().context("a socket")?;
    let mut tally = Tally::default();
    for number in 0..repeat {
        sender.send(&said(&Marker::new(n, number, Instant::now()))).await?;
        hear(&mut receiver, n, number, &mut tally, Some(&sending)).await?;
    }
    let mut service = ChatServiceClient::new(system.grpc()?);
    for _ in 0..repeat {
        for (times, newest_first, from_seq) in [(&newest, true, 0), (&middle, false, stored / 2)] {
            let request = ListMessagesRequest {
                conversation_id: id.to_owned(),
                page_size: PAGE,
                newest_first,
                from_seq,
                ..ListMessagesRequest::default()
            };
            let begun = Instant::now();
            let page = service.list_messages(request).await?.into_inner();
            times.record(begun.elapsed());
            ensure!(!page.messages.is_empty(), "an empty page");
        }
    }
    Ok(json!({
        "stored": stored,
        "join_ms": joining.json(), "send_ms": sending.json(),
        "newest_page_ms": newest.json(), "middle_page_ms": middle.json(),
    }))
}
