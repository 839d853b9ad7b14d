//! Who may do what, and what a message may be. Pure: no clock, no database, no network.

use serde_json::{Map, Value};
use switchboard_proto::chat::v1::{OpenConversationRequest, Participant, Receipt, RefusalReason, Send};
use uuid::Uuid;

use crate::model::{
    self, Body, Conversation, Kind, MessageName, MessageType, Opening, Reading, Refusal, Role, Seat, Status, Which,
};

/// The most bytes of a message's text. A frame of a client is at most 64 KiB; services may not exceed it either.
pub(crate) const CONTENT_BYTES_MAX: usize = 64 << 10;
pub(crate) const MEDIA_URL_CHARS_MAX: usize = 2048;
pub(crate) const METADATA_BYTES_MAX: usize = 16 << 10;
pub(crate) const CLIENT_MESSAGE_ID_CHARS_MAX: usize = 64;
pub(crate) const SUBJECT_CHARS_MAX: usize = 255;
pub(crate) const PARTICIPANTS_MAX: usize = 16;
pub(crate) const RECEIPT_MESSAGES_MAX: usize = 1000;
const USER_ID_CHARS_MAX: usize = 255;
/// Numbers above this are not exact in JavaScript.
pub(crate) const NUMBER_MAX: i64 = (1 << 53) - 1;

/// The roles of which a kind needs exactly one seat each; a group of roles is one seat that either may take.
fn required_seats(kind: Kind) -> &'static [&'static [Role]] {
    match kind {
        Kind::Unspecified => &[],
        Kind::Therapy => &[&[Role::Customer], &[Role::Therapist]],
        Kind::Clinic => &[&[Role::Patient], &[Role::Professional]],
        Kind::Mobile => &[&[Role::Device]],
        Kind::Mentoring => &[&[Role::Student], &[Role::Teacher, Role::Trainer]],
        Kind::Consultation => &[&[Role::Client], &[Role::Expert]],
    }
}

/// Whether support staff enters such conversations without a seat.
pub(crate) fn admits_staff(kind: Kind) -> bool {
    matches!(kind, Kind::Therapy | Kind::Mobile | Kind::Consultation)
}

/// Whether the people of such a conversation are told who comes and goes.
pub(crate) fn announces_joins(kind: Kind) -> bool {
    kind == Kind::Mobile
}

/// Whether who reads in such a role has read for one of the sides; staff only looks on, except at a device's words.
pub(crate) fn reads_for_a_side(kind: Kind, role: Role) -> bool {
    role != Role::Staff || kind == Kind::Mobile
}

/// Whether the same people have one such conversation, not several.
fn one_for_the_same_people(kind: Kind) -> bool {
    matches!(kind, Kind::Therapy | Kind::Clinic | Kind::Mentoring)
}

/// Reads a request for a conversation.
pub(crate) fn opening(request: OpenConversationRequest) -> Result<Opening, Refusal> {
    match opening_of_old(request)? {
        (opening, true) => Ok(opening),
        (opening, false) => Err(missing_seats(opening.kind)),
    }
}

/// The same of a conversation that was opened before: those who sat in it may have been erased. Whether all of its seats
/// are filled.
pub(crate) fn opening_of_old(request: OpenConversationRequest) -> Result<(Opening, bool), Refusal> {
    let kind = request.kind();
    if kind == Kind::Unspecified {
        return Err(Refusal::invalid("kind", "is required"));
    }
    if request.subject.chars().count() > SUBJECT_CHARS_MAX || request.subject.contains('\0') {
        return Err(Refusal::invalid("subject", "at most 255 characters, no NUL"));
    }
    let id = match request.id.as_str() {
        "" => None,
        id => Some(Uuid::try_parse(id).map_err(|_| Refusal::invalid("id", "is not a UUID"))?),
    };
    let number = match request.number {
        0 => None,
        number if (1..=NUMBER_MAX).contains(&number) => Some(number),
        _ => return Err(Refusal::invalid("number", "is not a positive integer below 2^53")),
    };
    let (seats, is_complete) = seats(kind, request.participants)?;
    Ok((Opening { kind, seats, subject: request.subject, id, number }, is_complete))
}

/// The seats, and whether all that the kind needs are filled.
fn seats(kind: Kind, participants: Vec<Participant>) -> Result<(Vec<Seat>, bool), Refusal> {
    if participants.len() > PARTICIPANTS_MAX {
        return Err(Refusal::invalid("participants", "at most 16"));
    }
    let mut seats = Vec::with_capacity(participants.len());
    for participant in participants {
        let Some(role) = Role::parse(&participant.role) else {
            return Err(Refusal::invalid("participants.role", "is not a role of ours"));
        };
        check_user_id("participants.user_id", &participant.user_id)?;
        seats.push(Seat { role, user_id: participant.user_id });
    }
    seats.sort();
    seats.dedup();
    let required = required_seats(kind);
    let taken = |roles: &[Role]| seats.iter().filter(|seat| roles.contains(&seat.role)).count();
    let strangers = seats.iter().any(|seat| {
        !(required.iter().any(|roles| roles.contains(&seat.role)) || seat.role == Role::Staff && admits_staff(kind))
    });
    if strangers || required.iter().any(|roles| taken(roles) > 1) {
        return Err(missing_seats(kind));
    }
    let is_complete = required.iter().all(|roles| taken(roles) == 1);
    Ok((seats, is_complete))
}

fn missing_seats(kind: Kind) -> Refusal {
    let wanted: Vec<String> = required_seats(kind)
        .iter()
        .map(|roles| roles.iter().map(|role| role.as_str()).collect::<Vec<_>>().join(" or "))
        .collect();
    Refusal::invalid("participants", &format!("this kind needs exactly one {}", wanted.join(" and one ")))
}

/// Whether an id can be that of somebody who sits or writes somewhere.
pub(crate) fn check_user_id(field: &str, user_id: &str) -> Result<(), Refusal> {
    let chars = user_id.chars().count();
    if chars == 0 || chars > USER_ID_CHARS_MAX || user_id.chars().any(char::is_control) {
        return Err(Refusal::invalid(field, "1 to 255 characters, no control characters"));
    }
    Ok(())
}

/// One spelling of who sits there, for kinds with one conversation for the same people. Staff does not count.
pub(crate) fn people(kind: Kind, seats: &[Seat]) -> Option<String> {
    let people = || seats.iter().filter(|seat| seat.role != Role::Staff);
    one_for_the_same_people(kind)
        .then(|| people().map(|seat| format!("{}={}", seat.role.as_str(), seat.user_id)).collect::<Vec<_>>().join("\n"))
}

/// The role in which a user enters. Empty takes the user's own seat; staff is vouched for by the caller.
pub(crate) fn enter(conversation: &Conversation, user_id: &str, role: &str) -> Result<Role, Refusal> {
    let own = || conversation.seats.iter().filter(|seat| seat.user_id == user_id).map(|seat| seat.role);
    if role.is_empty() {
        return own()
            .next()
            .ok_or_else(|| Refusal::new(RefusalReason::NotAParticipant, "the user does not sit in this conversation"));
    }
    let role = Role::parse(role).ok_or_else(|| Refusal::invalid("role", "is not a role of ours"))?;
    if own().any(|seat| seat == role) || role == Role::Staff && admits_staff(conversation.kind) {
        Ok(role)
    } else if own().next().is_some() {
        Err(Refusal::new(
            RefusalReason::WrongRole,
            format!("the user does not sit in this conversation as {}", role.as_str()),
        ))
    } else {
        Err(Refusal::new(RefusalReason::NotAParticipant, "the user does not sit in this conversation"))
    }
}

/// The role in which somebody who entered as `entered` writes.
pub(crate) fn write_as(conversation: &Conversation, user_id: &str, entered: Role, role: &str) -> Result<Role, Refusal> {
    if role.is_empty() || Role::parse(role) == Some(entered) {
        return Ok(entered);
    }
    // Who entered by a seat does not become staff by saying so.
    match enter(conversation, user_id, role)? {
        Role::Staff if !conversation.seats.iter().any(|seat| seat.role == Role::Staff && seat.user_id == user_id) => {
            Err(Refusal::new(RefusalReason::WrongRole, "the user did not enter this conversation as staff"))
        }
        role => Ok(role),
    }
}

/// Reads a message: what it says, its id if the caller chose one, and the sender's own id for it.
pub(crate) fn body(kind: Kind, send: Send) -> Result<(Body, Option<Uuid>, Option<String>), Refusal> {
    let message_type = message_type(send.message_type)?;
    let trimmed = send.content.trim();
    let stands_alone = message_type != MessageType::Text && !send.media_url.is_empty();
    if trimmed.is_empty() && !stands_alone {
        return Err(Refusal::new(RefusalReason::EmptyContent, "content: needs more than blanks"));
    }
    let content = match kind {
        Kind::Mentoring => send.content,
        _ if trimmed.len() == send.content.len() => send.content,
        _ => trimmed.to_owned(),
    };
    let id = match send.id.as_str() {
        "" => None,
        id => Some(Uuid::try_parse(id).map_err(|_| Refusal::invalid("id", "is not a UUID"))?),
    };
    let (body, client_message_id) = body_of_old(Send { content, ..send })?;
    Ok((body, id, client_message_id))
}

/// Reads a message that was written before, whose words stay as they are, if there were any: what it says, and the
/// sender's own id for it.
pub(crate) fn body_of_old(send: Send) -> Result<(Body, Option<String>), Refusal> {
    let message_type = message_type(send.message_type)?;
    let content = send.content;
    if content.len() > CONTENT_BYTES_MAX {
        return Err(Refusal::invalid("content", "at most 64 KiB"));
    }
    if content.contains('\0') {
        return Err(Refusal::invalid("content", "must not contain NUL"));
    }
    if !send.media_url.is_empty() && !is_web_url(&send.media_url) {
        return Err(Refusal::invalid("media_url", "must be an http or https URL of at most 2048 characters"));
    }
    if send.metadata_json.len() > METADATA_BYTES_MAX || send.metadata_json.contains('\0') {
        return Err(Refusal::invalid("metadata_json", "at most 16 KiB, no NUL"));
    }
    if !send.metadata_json.is_empty() && serde_json::from_str::<Map<String, Value>>(&send.metadata_json).is_err() {
        return Err(Refusal::invalid("metadata_json", "a JSON object, or nothing"));
    }
    let client_message_id = match send.client_message_id {
        id if id.is_empty() => None,
        id if id.chars().count() <= CLIENT_MESSAGE_ID_CHARS_MAX && !id.contains('\0') => Some(id),
        _ => return Err(Refusal::invalid("client_message_id", "at most 64 characters, no NUL")),
    };
    let body = Body {
        content,
        message_type,
        media_url: send.media_url,
        is_urgent: send.is_urgent,
        metadata_json: send.metadata_json,
    };
    Ok((body, client_message_id))
}

fn message_type(number: i32) -> Result<MessageType, Refusal> {
    match MessageType::try_from(number) {
        Ok(MessageType::Unspecified) => Ok(MessageType::Text),
        Ok(message_type) => Ok(message_type),
        Err(_) => Err(Refusal::invalid("message_type", "is not a message type of ours")),
    }
}

fn is_web_url(url: &str) -> bool {
    let scheme = url.get(..8).unwrap_or(url).to_ascii_lowercase();
    let rest = if scheme.starts_with("https://") { url.get(8..) } else { url.get(7..) };
    (scheme.starts_with("http://") || scheme.starts_with("https://"))
        && rest.is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/'))
        && url.chars().count() <= MEDIA_URL_CHARS_MAX
        && !url.chars().any(|c| c.is_control() || c.is_whitespace())
}

/// Reads a receipt.
pub(crate) fn reading(receipt: Receipt) -> Result<Reading, Refusal> {
    let status = match receipt.status() {
        status @ (Status::Delivered | Status::Read) => status,
        _ => return Err(Refusal::invalid("status", "must be DELIVERED or READ")),
    };
    let name = |name: &str| MessageName::parse(name).ok_or_else(model::no_message);
    let which = match (receipt.all, receipt.up_to.as_str(), receipt.message_ids) {
        (true, "", ids) if ids.is_empty() => Which::All,
        (false, up_to, ids) if ids.is_empty() && !up_to.is_empty() => Which::UpTo(name(up_to)?),
        (false, "", ids) if ids.len() <= RECEIPT_MESSAGES_MAX => {
            let names = ids.iter().map(|id| name(id));
            // Names that cannot be one are like unknown ones: an error only where that was asked for.
            let names = if receipt.strict { names.collect::<Result<_, _>>()? } else { names.flatten().collect() };
            Which::These(names)
        }
        _ => {
            return Err(Refusal::invalid("message_ids", "give at most 1000 message_ids, or up_to, or all"));
        }
    };
    Ok(Reading { status, which, strict: receipt.strict, is_status_update: receipt.is_status_update })
}

#[cfg(test)]
mod tests;
