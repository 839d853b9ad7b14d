//! RFC 6455 case by case, as a server must answer it.
//!
//! Clinic's documented exchange is what is observed: a message comes back to its sender, what is not a message is
//! answered with an error frame, and a binary frame is such.

mod closing;
mod framing;
mod text;

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};

use anyhow::{Context as _, bail, ensure};
use futures_util::future::try_join_all;
use serde_json::Value;

use crate::{
    cases::Tally,
    stage::{Stage, clinic},
    wire::{self, FIN, Heard, PING, Raw, close, frame},
};

/// Conversations in which cases are played at the same time: these pairs'.
const WORKERS: std::ops::Range<usize> = 8..14;
const LAST_PING: &[u8] = b"is there more?";

/// What is sent, and what must come.
pub(crate) struct Case {
    name: String,
    /// Each is a write of its own.
    send: Vec<Vec<u8>>,
    expect: Vec<Expect>,
    /// Where this is not what the RFC says: why.
    differs: Option<&'static str>,
}

/// What a client sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Expect {
    /// A message with this content.
    Echo(String),
    /// An error frame.
    Refused,
    Pong(Vec<u8>),
    /// A close frame with this code, then the end. Messages may come before it, since they are stored meanwhile.
    Close(u16),
    /// A close frame without a code, then the end.
    CloseEmpty,
}

impl Case {
    fn new(name: impl Into<String>, send: Vec<Vec<u8>>, expect: Vec<Expect>) -> Self {
        Self { name: name.into(), send, expect, differs: None }
    }

    /// One that is answered with a close frame.
    fn closes(name: impl Into<String>, send: Vec<Vec<u8>>, code: u16) -> Self {
        Self::new(name, send, vec![Expect::Close(code)])
    }

    /// Says why it differs from the RFC.
    fn differs(mut self, why: &'static str) -> Self {
        self.differs = Some(why);
        self
    }
}

/// A message's JSON.
fn say(content: &str) -> Vec<u8> {
    serde_json::json!({ "content": content }).to_string().into_bytes()
}

/// Plays every case.
pub(crate) async fn conformance(stage: &Stage) -> anyhow::Result<Tally> {
    let mut tally = Tally::default();
    let mut cases = VecDeque::new();
    for (kind, of_kind) in [
        ("framing", framing::cases()),
        ("fragments", framing::fragments()),
        ("control frames", framing::control()),
        ("reserved bits and opcodes", framing::reserved()),
        ("lengths", framing::lengths()),
        ("UTF-8", text::cases()),
        ("closing", closing::cases()),
    ] {
        tally.count(kind, of_kind.len());
        tally.differences.extend(of_kind.iter().filter_map(|case| Some(format!("{}: {}", case.name, case.differs?))));
        cases.extend(of_kind);
    }
    let cases = Mutex::new(cases);
    let failures = Mutex::new(Vec::new());
    try_join_all(WORKERS.map(async |pair| {
        let path = stage.path(&clinic(pair), &format!("p{pair}"))?;
        loop {
            let Some(case) = cases.lock().unwrap_or_else(PoisonError::into_inner).pop_front() else {
                return anyhow::Ok(());
            };
            if let Err(error) = play(stage, &path, &case).await {
                let mut failures = failures.lock().unwrap_or_else(PoisonError::into_inner);
                failures.push(format!("{}: {error:#}", case.name));
            }
        }
    }))
    .await?;
    let failures = failures.into_inner().unwrap_or_else(PoisonError::into_inner);
    ensure!(failures.is_empty(), "{} cases failed:\n{}", failures.len(), failures.join("\n"));
    Ok(tally)
}

async fn play(stage: &Stage, path: &str, case: &Case) -> anyhow::Result<()> {
    let mut socket = Raw::open(stage.edge, path).await?;
    // What the case before said may still be on its way: it comes before this.
    socket.write(&wire::text(r#"{"content": "begin"}"#)).await?;
    while !matches!(socket.next().await?, Heard::Text(text) if text.contains("begin")) {}
    for bytes in &case.send {
        if socket.write(bytes).await.is_err() {
            // It was closed before it heard everything; what it said can still be read.
            break;
        }
    }
    let mut ends = false;
    for expect in &case.expect {
        ends = matches!(expect, Expect::Close(_) | Expect::CloseEmpty);
        loop {
            let heard = socket.next().await.with_context(|| format!("waiting for {expect:?}"))?;
            let seen = match heard {
                Heard::Text(text) => match serde_json::from_str::<Value>(&text)? {
                    value if value["error"].is_string() => Expect::Refused,
                    value => Expect::Echo(value["message"]["content"].as_str().context("a content")?.to_owned()),
                },
                Heard::Pong(payload) => Expect::Pong(payload),
                Heard::Close(Some(code)) => Expect::Close(code),
                Heard::Close(None) => Expect::CloseEmpty,
                Heard::End => bail!("the connection ended instead of {expect:?}"),
            };
            if seen == *expect {
                break;
            }
            ensure!(ends && matches!(seen, Expect::Echo(_)), "{} instead of {}", brief(&seen), brief(expect));
        }
    }
    if ends {
        // The answer to its close frame; it may have gone already.
        let _ = socket.write(&close(1000, b"")).await;
    } else {
        socket.write(&frame(FIN | PING, LAST_PING)).await?;
        let heard = socket.next().await?;
        ensure!(heard == Heard::Pong(LAST_PING.to_vec()), "{heard:?} where nothing more should come");
        socket.write(&close(1000, b"")).await?;
        ensure!(socket.next().await? == Heard::Close(Some(1000)), "its close frame was not answered");
    }
    let heard = socket.next().await?;
    ensure!(heard == Heard::End, "{heard:?} after the close frame");
    Ok(())
}

fn brief(expect: &Expect) -> String {
    let mut text = format!("{expect:?}");
    if let Some((end, _)) = text.char_indices().nth(100) {
        text.truncate(end);
    }
    text
}
