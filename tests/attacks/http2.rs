//! HTTP/2 as bytes, against the port of the services: what breaks the rules, and what keeps to them by the thousand.

mod floods;
mod rules;

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context as _, bail, ensure};
use futures_util::future::join_all;
use switchboard_proto::chat::v1::{
    GetConversationRequest, chat_service_client::ChatServiceClient, get_conversation_request,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

pub(crate) use floods::{Flood, flood};

use crate::{
    cases::Tally,
    stage::{Stage, conversation},
};

/// How long what comes of a breach may take.
const OUTCOME_MAX: Duration = Duration::from_secs(10);

pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PUSH_PROMISE: u8 = 5;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;

/// Open to all.
const HEALTH: &str = "/grpc.health.v1.Health/Check";
const WATCH: &str = "/grpc.health.v1.Health/Watch";

/// A frame.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A string of HPACK, without Huffman's code.
fn string(text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    match u8::try_from(text.len()) {
        Ok(length @ 0..=126) => bytes.push(length),
        _ => {
            bytes.push(127);
            let mut rest = text.len() - 127;
            while rest >= 128 {
                bytes.push(u8::try_from(rest % 128).unwrap_or_default() | 128);
                rest /= 128;
            }
            bytes.push(u8::try_from(rest).unwrap_or_default());
        }
    }
    bytes.extend(text);
    bytes
}

/// A header field that is not put in the table.
fn field(name: &str, value: &str) -> Vec<u8> {
    [vec![0], string(name.as_bytes()), string(value.as_bytes())].concat()
}

/// The fields of a call.
fn fields(path: &str, more: &[(&str, &str)]) -> Vec<u8> {
    let call = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "x"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ];
    call.iter().chain(more).flat_map(|(name, value)| field(name, value)).collect()
}

/// A call's head.
fn head(stream: u32, flags: u8, path: &str) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | flags, stream, &fields(path, &[]))
}

/// A call's message, the last one.
fn message(stream: u32, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX).to_be_bytes();
    frame(DATA, END_STREAM, stream, &[&[0], &length[..], body].concat())
}

/// A number of the n-th stream of a client.
fn nth(n: usize) -> u32 {
    u32::try_from(2 * n + 1).unwrap_or(u32::MAX >> 1)
}

/// What a server did in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// The connection was ended, with this error.
    GoAway(u32),
    /// A stream was ended, with this error.
    Reset(u32),
    /// A stream was answered.
    Answered,
    /// None of these: pings are answered.
    Lives,
    /// The connection ended, without a word.
    Ended,
}

/// A client's end of an HTTP/2 connection.
struct Raw {
    stream: TcpStream,
}

impl Raw {
    /// Connects, with settings.
    async fn open(grpc: SocketAddr, settings: &[(u16, u32)]) -> anyhow::Result<Self> {
        let mut raw = Self::open_bare(grpc).await?;
        let settings: Vec<u8> =
            settings.iter().flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat()).collect();
        raw.stream.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, &settings)].concat()).await?;
        Ok(raw)
    }

    /// Connects, and says nothing.
    async fn open_bare(grpc: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(grpc).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream })
    }

    /// What comes of what was sent: the first frame that says so. Pings may be answered before a stream is.
    async fn outcome(&mut self, expect: &[Outcome]) -> anyhow::Result<Outcome> {
        // It may have ended already.
        let _ = self.stream.write_all(&frame(PING, 0, 0, b"is it up")).await;
        let mut lives = false;
        let outcome = async {
            loop {
                let Ok((kind, flags, payload)) = self.next().await else { return Outcome::Ended };
                let code = |at: usize| {
                    payload.get(at..at + 4).and_then(|code| code.try_into().ok()).map_or(u32::MAX, u32::from_be_bytes)
                };
                match kind {
                    GOAWAY => return Outcome::GoAway(code(4)),
                    RST_STREAM => return Outcome::Reset(code(0)),
                    HEADERS => return Outcome::Answered,
                    PING if flags & ACK != 0 => {
                        lives = true;
                        if expect.is_empty() || expect.contains(&Outcome::Lives) {
                            return Outcome::Lives;
                        }
                    }
                    _ => {}
                }
            }
        };
        match timeout(OUTCOME_MAX, outcome).await {
            Ok(outcome) => Ok(outcome),
            Err(_) if lives => Ok(Outcome::Lives),
            Err(_) => bail!("nothing came of it"),
        }
    }

    async fn next(&mut self) -> std::io::Result<(u8, u8, Vec<u8>)> {
        let mut head = [0; 9];
        self.stream.read_exact(&mut head).await?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let mut payload = vec![0; length];
        self.stream.read_exact(&mut payload).await?;
        Ok((head[3], head[4], payload))
    }
}

/// Every breach of the rules, each on a connection of its own.
pub(crate) async fn breaches(stage: &Stage) -> anyhow::Result<Tally> {
    let cases = rules::cases();
    let count = cases.len();
    let played = join_all(cases.into_iter().map(async |case| {
        let played = async {
            let mut raw = match case.is_bare {
                true => Raw::open_bare(stage.grpc).await?,
                false => Raw::open(stage.grpc, &[]).await?,
            };
            let _ = raw.stream.write_all(&case.send).await;
            let outcome = raw.outcome(case.expect).await?;
            ensure!(case.expect.contains(&outcome), "{outcome:?} instead of {:?}", case.expect);
            good_call(stage).await
        };
        Some(format!("{}: {:#}", case.name, played.await.err()?))
    }))
    .await;
    let failures: Vec<String> = played.into_iter().flatten().collect();
    ensure!(failures.is_empty(), "{} cases failed:\n{}", failures.len(), failures.join("\n"));
    let mut tally = Tally::of("breaches of HTTP/2", count);
    tally.differences.extend(rules::DIFFERENCES.map(str::to_owned));
    Ok(tally)
}

/// A call by somebody who behaves well.
pub(crate) async fn good_call(stage: &Stage) -> anyhow::Result<()> {
    let by_id = get_conversation_request::Conversation::ConversationId(conversation(0));
    let request = GetConversationRequest { conversation: Some(by_id), user_id: String::new() };
    ChatServiceClient::new(stage.peer.clone()).get_conversation(request).await.context("a good call after it")?;
    Ok(())
}
