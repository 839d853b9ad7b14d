//! Compatibility as data: conversations in a small language, played over real sockets.
//!
//! ```text
//! # a comment
//! + {"user": {...}}                       load a person, device or conversation, as `switchboard provision` does
//! alice: /ws/chat/123/456/ as 123         connect with a token of that user
//! alice: /ws/chat/123/456/                connect without a credential
//! alice: /ws/... with Authorization: Bearer $token(123)
//! alice > {"message": "hi"}               send this text, as it stands
//! alice >b 00ff                           send a binary frame
//! alice < {"id": "$m", "at": "$_"}        the next frame is this JSON: `$m` is bound at first and the same afterwards,
//!                                         `$_` is anything but null, and the fields are exactly these
//! alice x 4001 not authenticated          the server closes with this code and reason
//! alice close                             close by the handshake
//! POST /chat/chats/ as 701 {"a": 1}       a REST call; then what it answers:
//! 201 {"id": "$chat"}
//! ```
//!
//! `$name` also stands for its value in anything sent. That something is *not* sent is shown by what comes next.

use std::collections::HashMap;

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;
use tokio_tungstenite::tungstenite::Message;

use crate::{Client, Sandbox};

/// Plays a transcript against a system.
///
/// # Errors
/// The first line that did not come true, by its number.
pub async fn play(sandbox: &Sandbox, transcript: &str) -> anyhow::Result<()> {
    let mut player = Player { sandbox, clients: HashMap::new(), bound: HashMap::new(), answer: None };
    for (line, number) in transcript.lines().zip(1..) {
        let line = line.trim();
        if !line.is_empty() && !line.starts_with('#') {
            player.line(line).await.with_context(|| format!("line {number}: {line}"))?;
        }
    }
    Ok(())
}

struct Player<'a> {
    sandbox: &'a Sandbox,
    clients: HashMap<String, Client>,
    bound: HashMap<String, Value>,
    answer: Option<(u16, Value)>,
}

impl Player<'_> {
    async fn line(&mut self, line: &str) -> anyhow::Result<()> {
        let (head, rest) = line.split_once(' ').context("two words at least")?;
        if head == "+" {
            return self.sandbox.provision(&self.filled(rest)?).await;
        }
        if matches!(head, "GET" | "POST" | "PUT" | "DELETE") {
            return self.call(head, rest).await;
        }
        if let Ok(status) = head.parse::<u16>() {
            let (was, body) = self.answer.take().context("no call before")?;
            ensure!(was == status, "answered {was} {body}");
            return self.matches(&serde_json::from_str(rest)?, &body).with_context(|| format!("answered {body}"));
        }
        if let Some(name) = head.strip_suffix(':') {
            let client = self.connect(rest).await?;
            self.clients.insert(name.to_owned(), client);
            return Ok(());
        }
        let (verb, rest) = rest.split_once(' ').unwrap_or((rest, ""));
        let sent = self.filled(rest)?;
        let client = self.clients.get_mut(head).with_context(|| format!("{head} is not connected"))?;
        match verb {
            ">" => client.send(sent).await,
            ">b" => client.send_frame(Message::Binary(hex(rest)?.into())).await,
            "<" => {
                let frame = client.next().await?;
                self.matches(&serde_json::from_str(rest)?, &frame).with_context(|| format!("got {frame}"))
            }
            "x" => {
                let (code, reason) = client.closed().await?;
                self.clients.remove(head);
                ensure!(format!("{code} {reason}") == rest, "closed with {code} {reason}");
                Ok(())
            }
            "close" => self.clients.remove(head).context("connected")?.close().await,
            _ => bail!("`{verb}` is not a verb"),
        }
    }

    async fn connect(&self, rest: &str) -> anyhow::Result<Client> {
        let (path, how) = rest.split_once(' ').unwrap_or((rest, ""));
        let path = self.filled(path)?;
        if let Some(user) = how.strip_prefix("as ") {
            return self.sandbox.connect(&path, user).await;
        }
        let mut headers = Vec::new();
        if let Some(header) = how.strip_prefix("with ") {
            let (name, value) = header.split_once(": ").context("a header")?;
            let name = match name {
                "Authorization" => "authorization",
                "Sec-WebSocket-Protocol" => "sec-websocket-protocol",
                other => bail!("{other} is not a header of the tests"),
            };
            headers.push((name, self.filled(value)?));
        }
        Client::connect(&format!("ws://{}{path}", self.sandbox.edge), &headers).await
    }

    async fn call(&mut self, method: &str, rest: &str) -> anyhow::Result<()> {
        let mut words = rest.splitn(4, ' ');
        let path = self.filled(words.next().context("a path")?)?;
        let token = match (words.next(), words.next()) {
            (Some("as"), Some(user)) => Some(self.sandbox.token(user)?),
            _ => None,
        };
        let body = words.next().map(|body| self.filled(body)).transpose()?;
        self.answer = Some(crate::client::call(self.sandbox.edge, method, &path, token.as_deref(), body).await?);
        Ok(())
    }

    /// Puts values in the place of their names.
    fn filled(&self, text: &str) -> anyhow::Result<String> {
        let mut filled = text.to_owned();
        while let Some(at) = filled.find("$token(") {
            let end = filled[at..].find(')').context("a closing parenthesis")? + at;
            let token = self.sandbox.token(&filled[at + "$token(".len()..end])?;
            filled.replace_range(at..=end, &token);
        }
        // Longer names first, so that $m does not eat the beginning of $message.
        let mut names: Vec<_> = self.bound.iter().collect();
        names.sort_by_key(|(name, _)| std::cmp::Reverse(name.len()));
        for (name, value) in names {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            filled = filled.replace(&format!("${name}"), &text);
        }
        Ok(filled)
    }

    fn matches(&mut self, expected: &Value, got: &Value) -> anyhow::Result<()> {
        match (expected, got) {
            (Value::String(name), got) if name.starts_with('$') => {
                let name = &name[1..];
                if name == "_" {
                    ensure!(!got.is_null(), "null");
                    return Ok(());
                }
                match self.bound.get(name) {
                    Some(bound) => ensure!(bound == got, "${name} was {bound}, now {got}"),
                    None => _ = self.bound.insert(name.to_owned(), got.clone()),
                }
                Ok(())
            }
            (Value::Object(expected), Value::Object(got)) => {
                let names = |map: &serde_json::Map<String, Value>| map.keys().cloned().collect::<Vec<_>>();
                ensure!(expected.len() == got.len(), "the fields are {:?}", names(got));
                for (key, value) in expected {
                    let got = got.get(key).with_context(|| format!("no {key}"))?;
                    self.matches(value, got).with_context(|| key.clone())?;
                }
                Ok(())
            }
            (Value::Array(expected), Value::Array(got)) => {
                ensure!(expected.len() == got.len(), "{} items", got.len());
                expected.iter().zip(got).try_for_each(|(expected, got)| self.matches(expected, got))
            }
            (expected, got) => {
                ensure!(expected == got, "{got} instead of {expected}");
                Ok(())
            }
        }
    }
}

fn hex(text: &str) -> anyhow::Result<Vec<u8>> {
    (0..text.len()).step_by(2).map(|at| Ok(u8::from_str_radix(text.get(at..at + 2).context("pairs")?, 16)?)).collect()
}
