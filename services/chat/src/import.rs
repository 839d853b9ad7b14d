//! Conversations and messages that come from another system, or from a backup of this one: what they may be, and which
//! place they take. Pure.

use std::collections::{HashMap, HashSet};

use switchboard_chassis::{Micros, clock};
use switchboard_proto::chat::v1::{self as wire, RefusalReason};
use uuid::Uuid;

use crate::{
    model::{Conversation, Message, Openness, Refusal, Role, Status},
    rules,
};

/// The most conversations of one call.
pub(crate) const CONVERSATIONS_MAX: usize = 200;
/// The most messages of one call.
pub(crate) const MESSAGES_MAX: usize = 1_000;
/// The first and the last second that RFC 3339 can write.
const SECONDS: std::ops::RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;

/// A conversation with what only an import and an export tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Moved {
    /// Its `number` is 0 when it shall be given one.
    pub(crate) conversation: Conversation,
    /// The one that its people are led to, in one spelling; `None` when it is reached by its id or number alone.
    pub(crate) people: Option<String>,
}

/// What became of the lines of one call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) created: u64,
    pub(crate) updated: u64,
    pub(crate) unchanged: u64,
}

/// A conversation as messages are added to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Head {
    /// The last place that was ever taken.
    pub(crate) last_seq: u64,
    /// Places without a message.
    pub(crate) erased: u64,
    /// The place of its last message that is there, and when that was written.
    pub(crate) stored: u64,
    pub(crate) last_at: Micros,
    pub(crate) has_grown: bool,
}

/// What is to be stored.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Placed {
    /// Those whose number is 0 are to be given one.
    pub(crate) new: Vec<Message>,
    /// Receipts that move forward, by the message's id.
    pub(crate) advanced: Vec<(Uuid, Status)>,
    pub(crate) counts: Counts,
}

/// Says at which line of a call a refusal is.
pub(crate) fn at(list: &str, place: usize, refusal: Refusal) -> Refusal {
    Refusal { message: format!("{list}[{place}].{}", refusal.message), ..refusal }
}

/// Reads a conversation.
pub(crate) fn conversation(wire: wire::Conversation) -> Result<Moved, Refusal> {
    let kind = wire.kind();
    let openness = match wire.status() {
        Openness::Unspecified => Openness::Open,
        openness => openness,
    };
    let id = required_id("id", &wire.id)?;
    let created_at = time("created_at", wire.created_at)?
        .ok_or_else(|| Refusal::invalid("created_at", "is required: when it was opened, as 2024-05-01T10:00:00Z"))?;
    let updated_at = time("updated_at", wire.updated_at)?.unwrap_or(created_at);
    let last_seq = wire.last_seq;
    if i64::try_from(last_seq).is_err() {
        return Err(Refusal::invalid("last_seq", "is too large"));
    }
    let request = wire::OpenConversationRequest {
        kind: wire.kind,
        participants: wire.participants,
        subject: wire.subject,
        id: wire.id,
        number: wire.number,
    };
    let (opening, is_complete) = rules::opening_of_old(request)?;
    let people = rules::people(kind, &opening.seats).filter(|_| is_complete && !wire.secondary);
    let conversation = Conversation {
        id,
        number: opening.number.unwrap_or(0),
        kind,
        seats: opening.seats,
        subject: opening.subject,
        openness,
        last_seq,
        erased: last_seq,
        created_at,
        updated_at,
    };
    Ok(Moved { conversation, people })
}

/// Reads a message; its `seq` and `number` are 0 when they shall be given.
pub(crate) fn message(wire: wire::Message) -> Result<Message, Refusal> {
    let status = match Status::try_from(wire.status) {
        Ok(Status::Unspecified) => Status::Sent,
        Ok(status) => status,
        Err(_) => return Err(Refusal::invalid("status", "is not a status of ours")),
    };
    let created_at = time("created_at", wire.created_at)?
        .ok_or_else(|| Refusal::invalid("created_at", "is required: when it was written, as 2024-05-01T10:00:00Z"))?;
    let sender_role = Role::parse(&wire.sender_role)
        .ok_or_else(|| Refusal::invalid("sender_role", "is not a role of ours (customer, therapist, patient, ...)"))?;
    rules::check_user_id("sender_id", &wire.sender_id)?;
    if wire.number < 0 || wire.number > rules::NUMBER_MAX {
        return Err(Refusal::invalid("number", "is not a positive integer below 2^53, or 0 to be given one"));
    }
    if i64::try_from(wire.seq).is_err() {
        return Err(Refusal::invalid("seq", "is too large"));
    }
    let (body, client_message_id) = rules::body_of_old(wire::Send {
        content: wire.content,
        message_type: wire.message_type,
        media_url: wire.media_url,
        is_urgent: wire.is_urgent,
        metadata_json: wire.metadata_json,
        client_message_id: wire.client_message_id,
        ..wire::Send::default()
    })?;
    Ok(Message {
        id: required_id("id", &wire.id)?,
        conversation_id: required_id("conversation_id", &wire.conversation_id)?,
        number: wire.number,
        seq: wire.seq,
        sender_id: wire.sender_id,
        sender_role,
        body,
        client_message_id,
        created_at,
        status,
    })
}

fn required_id(field: &str, id: &str) -> Result<Uuid, Refusal> {
    Uuid::try_parse(id).map_err(|_| Refusal::invalid(field, "a UUID is required"))
}

/// A time that may be left out.
pub(crate) fn time(field: &str, at: Option<prost_types::Timestamp>) -> Result<Option<Micros>, Refusal> {
    let Some(at) = at else { return Ok(None) };
    if !SECONDS.contains(&at.seconds) || !(0..1_000_000_000).contains(&at.nanos) {
        return Err(Refusal::invalid(field, "is not a time between the years 1 and 9999"));
    }
    Ok(Some(clock::join(at.seconds, at.nanos)))
}

/// Gives each message its place. `heads` are the conversations that exist, `known` the messages that have one of these ids,
/// `taken` the numbers and client ids that are in use in these conversations.
///
/// # Errors
/// The first that has no place; nothing shall be stored then.
pub(crate) fn place(
    incoming: Vec<Message>,
    heads: &mut HashMap<Uuid, Head>,
    mut known: HashMap<Uuid, Message>,
    taken: &mut Taken,
) -> Result<Placed, Refusal> {
    let mut placed = Placed::default();
    for (line, mut message) in incoming.into_iter().enumerate() {
        let refuse = |reason, what: &str| Err(at("messages", line, Refusal::new(reason, what)));
        if let Some(known) = known.get_mut(&message.id) {
            if !is_same(&message, known) {
                return refuse(RefusalReason::AlreadyExists, "id: another message has it");
            }
            if message.status > known.status {
                known.status = message.status;
                placed.advanced.push((message.id, message.status));
                placed.counts.updated += 1;
            } else {
                placed.counts.unchanged += 1;
            }
            continue;
        }
        let Some(head) = heads.get_mut(&message.conversation_id) else {
            let what = "conversation_id: there is no such conversation; import it first";
            return refuse(RefusalReason::ConversationNotFound, what);
        };
        match message.seq {
            0 if message.created_at < head.last_at => {
                return refuse(
                    RefusalReason::AlreadyExists,
                    "created_at: the conversation has a later message already; messages are imported in their order, \
                     the older ones before anybody writes here",
                );
            }
            0 => message.seq = head.last_seq + 1,
            seq if seq <= head.stored => {
                return refuse(
                    RefusalReason::AlreadyExists,
                    "seq: the conversation has this place or a later one already; leave seq out to put the message \
                     behind them",
                );
            }
            _ => {}
        }
        if message.number != 0 && !taken.numbers.insert((message.conversation_id, message.number)) {
            return refuse(RefusalReason::AlreadyExists, "number: another message of the conversation has it");
        }
        if let Some(client_message_id) = &message.client_message_id {
            let key = (message.conversation_id, message.sender_id.clone(), client_message_id.clone());
            if !taken.client_ids.insert(key) {
                let what = "client_message_id: another message of the sender in the conversation has it";
                return refuse(RefusalReason::AlreadyExists, what);
            }
        }
        if message.seq <= head.last_seq {
            // The place of one that is gone.
            head.erased = head.erased.saturating_sub(1);
        } else {
            head.erased += message.seq - head.last_seq - 1;
            head.last_seq = message.seq;
        }
        head.stored = message.seq;
        head.last_at = message.created_at;
        head.has_grown = true;
        known.insert(message.id, message.clone());
        placed.counts.created += 1;
        placed.new.push(message);
    }
    Ok(placed)
}

/// What belongs to one message in a conversation.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    pub(crate) numbers: HashSet<(Uuid, i64)>,
    pub(crate) client_ids: HashSet<(Uuid, String, String)>,
}

/// Whether a line says what is stored, but for what may be left out and for receipts.
fn is_same(line: &Message, stored: &Message) -> bool {
    let stored = Message {
        seq: if line.seq == 0 { 0 } else { stored.seq },
        number: if line.number == 0 { 0 } else { stored.number },
        status: line.status,
        ..stored.clone()
    };
    *line == stored
}

/// Whether a conversation that is there may be the one of a line.
pub(crate) fn is_same_conversation(line: &Moved, stored: &Conversation) -> bool {
    let line = &line.conversation;
    line.kind == stored.kind && line.seats == stored.seats && (line.number == 0 || line.number == stored.number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Body, MessageType};

    const ROOM: Uuid = Uuid::from_u128(1);

    fn line(id: u128, seq: u64, at: Micros) -> Message {
        let body = Body {
            content: "x".into(),
            message_type: MessageType::Text,
            media_url: String::new(),
            is_urgent: false,
            metadata_json: String::new(),
        };
        Message {
            id: Uuid::from_u128(id),
            conversation_id: ROOM,
            number: 0,
            seq,
            sender_id: "1".into(),
            sender_role: Role::Patient,
            body,
            client_message_id: None,
            created_at: at,
            status: Status::Sent,
        }
    }

    fn placed(head: Head, known: &[Message], lines: Vec<Message>) -> Result<(Placed, Head), Refusal> {
        let mut heads = HashMap::from([(ROOM, head)]);
        let known = known.iter().map(|message| (message.id, message.clone())).collect();
        let placed = place(lines, &mut heads, known, &mut Taken::default())?;
        Ok((placed, heads[&ROOM]))
    }

    #[test]
    fn without_places_they_follow_each_other() {
        let (placed, head) =
            placed(Head::default(), &[], vec![line(1, 0, 10), line(2, 0, 10), line(3, 0, 11)]).expect("right");
        assert_eq!(placed.new.iter().map(|message| message.seq).collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!((head.last_seq, head.erased, head.stored), (3, 0, 3));
    }

    #[test]
    fn holes_stay_holes() {
        // It ends with a place whose message is gone.
        let empty = Head { last_seq: 9, erased: 9, ..Head::default() };
        let (_, head) = placed(empty, &[], vec![line(1, 2, 10), line(2, 5, 9)]).expect("right");
        assert_eq!((head.last_seq, head.erased, head.stored), (9, 7, 5));
        let (_, head) = placed(Head::default(), &[], vec![line(1, 2, 10), line(2, 5, 9)]).expect("right");
        assert_eq!((head.last_seq, head.erased), (5, 3));
    }

    #[test]
    fn what_is_there_stays_and_nothing_comes_before_it() {
        let stored = Message { status: Status::Delivered, number: 7, ..line(1, 3, 10) };
        let head = Head { last_seq: 3, erased: 2, stored: 3, last_at: 10, has_grown: false };
        let again = |status| Message { status, seq: 0, number: 0, ..stored.clone() };
        let (same, after) = placed(head, std::slice::from_ref(&stored), vec![again(Status::Sent)]).expect("right");
        assert_eq!((same.counts.unchanged, after), (1, head));
        let (read, _) = placed(head, std::slice::from_ref(&stored), vec![again(Status::Read)]).expect("right");
        assert_eq!(read.advanced, [(stored.id, Status::Read)]);
        for (wrong, told) in [
            (line(2, 2, 11), "messages[0].seq"),
            (line(2, 3, 11), "messages[0].seq"),
            (line(2, 0, 9), "messages[0].created_at"),
            (Message { sender_id: "2".into(), ..again(Status::Sent) }, "messages[0].id"),
            (Message { conversation_id: Uuid::from_u128(9), ..line(2, 0, 11) }, "messages[0].conversation_id"),
        ] {
            let refusal = placed(head, std::slice::from_ref(&stored), vec![wrong]).expect_err(told);
            assert!(refusal.message.starts_with(told), "{refusal:?}");
        }
    }

    #[test]
    fn a_line_that_is_there_twice_is_stored_once() {
        let (placed, head) = placed(Head::default(), &[], vec![line(1, 0, 1), line(1, 0, 1)]).expect("right");
        assert_eq!((placed.new.len(), placed.counts.unchanged, head.last_seq), (1, 1, 1));
    }
}
