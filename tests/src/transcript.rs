//! Compatibility as data: conversations in a small language, played over real sockets.
//!
//! ```text
//! # a comment
//! + {"user": {...}}                       load a person, device or conversation, as `switchboard provision` does
//! alice: /ws/chat/123/456/ as 123         connect with a token of that user
//! alice: /ws/chat/123/456/                connect without a credential
//! alice: /ws/... with Cookie: sessionid=$session(5) | Origin: https://elsewhere.example
//!                                         connect with these headers; $token(123) is a token of that user
//! alice 403 /ws/... as 123                the same, where the server does not upgrade but answers 403
//! alice > {"message": "hi"}               send this text, as it stands
//! alice >b 00ff                           send a binary frame
//! alice < {"id": "$m", "at": "$_"}        the next frame is this JSON: `$m` is bound at first and the same afterwards,
//!                                         `$_` is anything but null, and the fields are exactly these
//! alice x 4001 not authenticated          the server closes with this code and reason
//! alice close                             close by the handshake
//! POST /chat/chats/ as 701 {"a": 1}       a REST call (or `with` headers, or neither); then what it answers:
//! 201 {"id": "$chat"}
//! ! close mobile 123                      close a conversation, as a service does
//! ! notify {"user_id": "1", "title": ..}  notify a user, as a service does; fields named as in the proto
//! ```
//!
//! `$name` also stands for its value in anything sent. That something is *not* sent is shown by what comes next.

use std::collections::HashMap;

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;
use switchboard_proto::{
    chat::v1::{
        CloseConversationRequest, ConversationKind, ConversationNumber, GetConversationRequest,
        get_conversation_request,
    },
    identity::v1::CreateSessionRequest,
    json::to_struct,
    notification::v1::NotifyRequest,
};
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
        self.open_sessions(line).await?;
        let (head, rest) = line.split_once(' ').context("two words at least")?;
        if head == "!" {
            return self.command(rest).await;
        }
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
        if let Ok(status) = verb.parse::<u16>() {
            let refused = self.connect(rest).await.err().context("was let in")?.to_string();
            ensure!(refused.contains(&status.to_string()), "{refused}");
            return Ok(());
        }
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
        let headers = match how.strip_prefix("with ") {
            Some(headers) => self.headers(headers)?,
            None => Vec::new(),
        };
        Client::connect(&format!("ws://{}{path}", self.sandbox.edge), &headers).await
    }

    fn headers(&self, headers: &str) -> anyhow::Result<Vec<(&'static str, String)>> {
        let read = |header: &str| {
            let (name, value) = header.split_once(": ").context("a header")?;
            let known = ["authorization", "sec-websocket-protocol", "cookie", "origin", "referer"];
            let name = known.into_iter().find(|known| known.eq_ignore_ascii_case(name));
            Ok((name.context("not a header of the tests")?, self.filled(value)?))
        };
        headers.split(" | ").map(read).collect()
    }

    async fn call(&mut self, method: &str, rest: &str) -> anyhow::Result<()> {
        // The body is what comes behind the credential; bodies of the tests begin with a brace, or are one word.
        let (path, rest) = rest.split_once(' ').unwrap_or((rest, ""));
        let (headers, body) = if let Some(rest) = rest.strip_prefix("as ") {
            let (user, body) = rest.split_once(' ').unwrap_or((rest, ""));
            (vec![("authorization", format!("Bearer {}", self.sandbox.token(user)?))], body)
        } else if let Some(rest) = rest.strip_prefix("with ") {
            let at = rest.find(" {").unwrap_or(rest.len());
            (self.headers(&rest[..at])?, rest[at..].trim_start())
        } else {
            (Vec::new(), rest)
        };
        let body = (!body.is_empty()).then(|| self.filled(body)).transpose()?;
        let path = self.filled(path)?;
        self.answer = Some(crate::client::call_with(self.sandbox.edge, method, &path, &headers, body).await?);
        Ok(())
    }

    /// Opens a session for each `$session(user)` of a line, once.
    async fn open_sessions(&mut self, line: &str) -> anyhow::Result<()> {
        for part in line.split("$session(").skip(1) {
            let user_id = part.split(')').next().unwrap_or_default().to_owned();
            let name = format!("session({user_id})");
            if !self.bound.contains_key(&name) {
                let request = CreateSessionRequest { user_id, ttl_seconds: 0 };
                let opened = self.sandbox.identity()?.create_session(request).await?.into_inner();
                self.bound.insert(name, Value::from(opened.session_key));
            }
        }
        Ok(())
    }

    async fn command(&mut self, command: &str) -> anyhow::Result<()> {
        if let Some(request) = command.strip_prefix("notify ") {
            return self.notify(&serde_json::from_str(&self.filled(request)?)?).await;
        }
        let ["close", kind, number] = command.split(' ').collect::<Vec<_>>()[..] else { bail!("not a command") };
        let kind = ConversationKind::from_str_name(&format!("CONVERSATION_KIND_{}", kind.to_uppercase()));
        let number = ConversationNumber { kind: kind.context("a kind")?.into(), number: self.filled(number)?.parse()? };
        let by_number = get_conversation_request::Conversation::ConversationNumber(number);
        let request = GetConversationRequest { conversation: Some(by_number), user_id: String::new() };
        let mut chat = self.sandbox.chat()?;
        let found = chat.get_conversation(request).await?.into_inner().summary.and_then(|summary| summary.conversation);
        chat.close_conversation(CloseConversationRequest { conversation_id: found.context("found")?.id }).await?;
        Ok(())
    }

    async fn notify(&self, request: &Value) -> anyhow::Result<()> {
        let text = |name: &str| request[name].as_str().unwrap_or_default().to_owned();
        let request = NotifyRequest {
            user_id: text("user_id"),
            title: text("title"),
            message: text("message"),
            notification_type: text("notification_type"),
            data: request["data"].as_object().cloned().map(to_struct),
            request_id: text("request_id"),
        };
        self.sandbox.notifications()?.notify(request).await?;
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
