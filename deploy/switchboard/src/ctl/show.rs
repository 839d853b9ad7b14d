//! How answers are shown: tables and sentences for people, JSON for scripts.

use std::io::Write as _;

use prost_reflect::prost::Message;
use prost_types::Timestamp;
use serde_json::{Value, json};
use switchboard_chassis::{Clock, clock};
use switchboard_proto::{
    chat::v1::{MessageStatus, MessageType},
    edge::v1::{Connection, Protocol, TailConversationResponse, connection::Who, tail_conversation_response::Event},
    presence::v1::{OnlineUser, Presence},
    reflect,
};
use tonic::Status;

/// See the module.
pub(super) struct Show {
    is_json: bool,
}

impl Show {
    pub(super) fn new(is_json: bool) -> Self {
        Self { is_json }
    }

    /// A process that did not do what it was asked.
    pub(super) fn failure(&self, address: &str, status: &Status) {
        let (message, code) = (plain(status.message()), status.code());
        let told = if self.is_json {
            json!({ "process": address, "error": message, "code": format!("{code:?}") }).to_string()
        } else {
            format!("{address}: {message} ({code:?})")
        };
        // Nobody may be reading.
        let _ = writeln!(std::io::stderr(), "{told}");
    }

    /// A sentence about a process.
    pub(super) fn say(&self, address: &str, object: Value, sentence: &str) -> anyhow::Result<()> {
        if self.is_json { self.object(address, object) } else { line(&format!("{address}: {}", plain(sentence))) }
    }

    /// A message as it is, or a sentence for people.
    pub(super) fn message<M: Message>(
        &self,
        address: &str,
        name: &str,
        message: &M,
        sentence: &str,
    ) -> anyhow::Result<()> {
        let object = if self.is_json { as_json(name, message)? } else { Value::Null };
        self.say(address, object, sentence)
    }

    pub(super) fn connections(&self, answers: &[(String, Vec<Connection>)]) -> anyhow::Result<()> {
        if self.is_json {
            for (address, connections) in answers {
                for connection in connections {
                    self.object(address, as_json("switchboard.edge.v1.Connection", connection)?)?;
                }
            }
            return Ok(());
        }
        let is_of_several = answers.len() > 1;
        let mut heads =
            vec!["ID", "SOCKET", "WHO", "ROLE", "CONVERSATION", "ADDRESS", "AGE", "HEARD", "IN", "OUT", "QUEUED"];
        heads.extend(is_of_several.then_some("EDGE"));
        let mut rows = Vec::new();
        for (address, connections) in answers {
            for connection in connections {
                let mut row = vec![
                    connection.id.clone(),
                    socket(connection),
                    who(connection),
                    dash(&connection.role),
                    dash(&connection.conversation_id),
                    connection.address.clone(),
                    ago(connection.opened_at),
                    ago(connection.last_heard_at),
                    connection.frames_in.to_string(),
                    connection.frames_out.to_string(),
                    connection.events_queued.to_string(),
                ];
                row.extend(is_of_several.then(|| address.clone()));
                rows.push(row);
            }
        }
        table(&heads, &rows)
    }

    pub(super) fn connection(&self, address: &str, connection: &Connection) -> anyhow::Result<()> {
        if self.is_json {
            return self.object(address, as_json("switchboard.edge.v1.Connection", connection)?);
        }
        let passed = |frames: u32, bytes: u64| format!("{frames} frames, {bytes} bytes");
        for (name, value) in [
            ("id", connection.id.clone()),
            ("edge", address.to_owned()),
            ("protocol", protocol(connection)),
            ("endpoint", connection.endpoint.clone()),
            ("who", who(connection)),
            ("role", dash(&connection.role)),
            ("conversation", dash(&connection.conversation_id)),
            ("address", connection.address.clone()),
            ("opened", connection.opened_at.map(time).unwrap_or_default()),
            ("last heard", connection.last_heard_at.map(time).unwrap_or_default()),
            ("in", passed(connection.frames_in, connection.bytes_in)),
            ("out", passed(connection.frames_out, connection.bytes_out)),
            ("queued", format!("{} events", connection.events_queued)),
        ] {
            line(&format!("{name:<13} {}", plain(&value)))?;
        }
        Ok(())
    }

    pub(super) fn online(&self, address: &str, users: &[OnlineUser]) -> anyhow::Result<()> {
        if self.is_json {
            for user in users {
                self.object(address, as_json("switchboard.presence.v1.OnlineUser", user)?)?;
            }
            return Ok(());
        }
        let rows: Vec<_> = users.iter().map(|user| vec![user.user_id.clone(), user.user_name.clone()]).collect();
        table(&["USER", "NAME"], &rows)
    }

    pub(super) fn presences(&self, address: &str, presences: &[Presence]) -> anyhow::Result<()> {
        if self.is_json {
            for presence in presences {
                self.object(address, as_json("switchboard.presence.v1.Presence", presence)?)?;
            }
            return Ok(());
        }
        let row = |presence: &Presence| {
            let is_online = if presence.is_online { "online" } else { "offline" };
            vec![presence.user_id.clone(), is_online.to_owned(), presence.last_seen_at.map_or("-".to_owned(), time)]
        };
        table(&["USER", "NOW", "LAST SEEN"], &presences.iter().map(row).collect::<Vec<_>>())
    }

    /// Something that happened in a conversation.
    pub(super) fn event(&self, address: &str, told: &TailConversationResponse) -> anyhow::Result<()> {
        if self.is_json {
            return self.object(address, as_json("switchboard.edge.v1.TailConversationResponse", told)?);
        }
        let Some(event) = &told.event else { return Ok(()) };
        let (at, said) = match event {
            Event::Started(started) => {
                let conversation = started.conversation.clone().unwrap_or_default();
                let seat =
                    |seat: &switchboard_proto::chat::v1::Participant| format!("{} ({})", seat.user_id, seat.role);
                let people: Vec<String> = conversation.participants.iter().map(seat).collect();
                let kind = lower(conversation.kind().as_str_name(), "CONVERSATION_KIND_");
                let status = lower(conversation.status().as_str_name(), "CONVERSATION_STATUS_");
                let last = conversation.last_seq;
                (None, format!("{kind}, {status}, {last} messages before; {}", people.join(", ")))
            }
            Event::Message(message) => {
                let kind = match message.message_type() {
                    MessageType::Unspecified | MessageType::Text => String::new(),
                    other => format!(" {}", lower(other.as_str_name(), "MESSAGE_TYPE_")),
                };
                let says = [&message.content, &message.media_url].into_iter().filter(|text| !text.is_empty());
                let says: String = says.map(|text| format!(" {text}")).collect();
                let of = format!("{} ({})", message.sender_id, message.sender_role);
                (message.created_at, format!("#{} {} {of}{kind}{says}", message.seq, message.id))
            }
            Event::Receipts(receipts) => {
                let status = MessageStatus::try_from(receipts.status).unwrap_or_default();
                let status = lower(status.as_str_name(), "MESSAGE_STATUS_");
                let who = format!("{} ({})", receipts.user_id, receipts.role);
                (receipts.at, format!("{who}: {} messages {status}", receipts.messages.len()))
            }
            Event::Typing(typing) => {
                let does = if typing.is_typing { "types" } else { "types no more" };
                (typing.at, format!("{} ({}) {does}", typing.user_id, typing.role))
            }
            Event::ParticipantJoined(joined) => (joined.at, format!("{} ({}) came", joined.user_id, joined.role)),
            Event::ParticipantLeft(left) => (left.at, format!("{} ({}) went", left.user_id, left.role)),
            Event::ConversationClosed(_) => (None, "closed".to_owned()),
        };
        let at = at.unwrap_or_else(|| clock::timestamp(Clock::System.now()));
        line(&format!("{} {}", time(at), plain(&said)))
    }

    /// A line of JSON, with who said it.
    fn object(&self, address: &str, mut object: Value) -> anyhow::Result<()> {
        object["process"] = address.into();
        line(&object.to_string())
    }
}

fn as_json(name: &str, message: &impl Message) -> anyhow::Result<Value> {
    Ok(reflect::to_json(name, message, &reflect::options().skip_default_fields(false))?)
}

/// To standard output. Whoever stops reading has read enough.
fn line(text: &str) -> anyhow::Result<()> {
    Ok(writeln!(std::io::stdout(), "{text}")?)
}

fn table(heads: &[&str], rows: &[Vec<String>]) -> anyhow::Result<()> {
    let rows: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(|cell| plain(cell)).collect()).collect();
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain([heads[column].len()]).max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..heads.len()).map(width).collect();
    let heads: Vec<String> = heads.iter().map(|head| (*head).to_owned()).collect();
    for row in [&heads].into_iter().chain(&rows) {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        line(cells.collect::<Vec<_>>().join("  ").trim_end())?;
    }
    Ok(())
}

/// What others wrote, without what a terminal would obey.
fn plain(text: &str) -> String {
    let is_harmless =
        |c: &char| !c.is_control() && !('\u{202a}'..='\u{202e}').contains(c) && !('\u{2066}'..='\u{2069}').contains(c);
    text.chars().map(|c| if is_harmless(&c) { c } else { '\u{fffd}' }).collect()
}

fn dash(text: &str) -> String {
    if text.is_empty() { "-".to_owned() } else { text.to_owned() }
}

fn lower(name: &str, prefix: &str) -> String {
    name.trim_start_matches(prefix).to_lowercase()
}

fn protocol(connection: &Connection) -> String {
    lower(Protocol::try_from(connection.protocol).unwrap_or_default().as_str_name(), "PROTOCOL_")
}

/// `clinic chat`
fn socket(connection: &Connection) -> String {
    let what = ["location", "notifications", "presence"];
    let what = what.into_iter().find(|what| connection.endpoint.contains(&format!("/{what}/"))).unwrap_or("chat");
    format!("{} {what}", protocol(connection))
}

fn who(connection: &Connection) -> String {
    match &connection.who {
        Some(Who::UserId(id)) => id.clone(),
        Some(Who::DeviceId(id)) => format!("device {id}"),
        None => "-".to_owned(),
    }
}

/// `3m12s`
fn ago(at: Option<Timestamp>) -> String {
    let at = at.unwrap_or_default();
    let seconds = clock::until(clock::join(at.seconds, at.nanos), Clock::System.now()).as_secs();
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m{}s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{}h{}m", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{}d{}h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}

/// RFC 3339, in whole seconds.
pub(super) fn time(at: Timestamp) -> String {
    Timestamp { nanos: 0, ..at }.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_is_told_nothing_to_obey() {
        assert_eq!(plain("a\u{1b}[2Jb\nc\u{202e}d é 中"), "a\u{fffd}[2Jb\u{fffd}c\u{fffd}d é 中");
    }

    #[test]
    fn times_are_short() {
        let now = Clock::System.now();
        for (seconds, told) in [(5, "5s"), (192, "3m12s"), (7_260, "2h1m"), (90_000, "1d1h")] {
            assert_eq!(ago(Some(clock::timestamp(now - seconds * 1_000_000 - 100))), told);
        }
        assert_eq!(time(Timestamp { seconds: 0, nanos: 5 }), "1970-01-01T00:00:00Z");
    }
}
