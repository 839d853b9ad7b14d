//! What the tables' rows look like, and what they mean.

use sqlx::FromRow;
use switchboard_chassis::Micros;
use uuid::Uuid;

use crate::model::{Body, Conversation, Kind, Message, MessageName, MessageType, Named, Openness, Role, Seat, Status};

pub(super) const CONVERSATION_COLUMNS: &str =
    "id, number, kind, people, subject, status, last_seq, erased, created_at, updated_at";

pub(super) const MESSAGE_COLUMNS: &str = "messages.conversation_id, messages.seq, messages.id, messages.number, \
     sender_id, sender_role, content, message_type, media_url, is_urgent, metadata, client_message_id, \
     messages.status, messages.created_at";

/// Takes numbers, `$2` of them, of the counter `$3`; above `$1`, the highest that was minted elsewhere. Gives the last.
pub(super) const TAKE_NUMBERS: &str =
    "UPDATE counters SET value = CASE WHEN $1 > value THEN $1 ELSE value END + $2 WHERE name = $3 RETURNING value";

/// A query that inserts messages, for whichever database it is.
macro_rules! insert_messages {
    ($messages:expr) => {{
        let mut query = sqlx::QueryBuilder::new(
            "INSERT INTO messages (conversation_id, seq, id, number, sender_id, sender_role, content,
                 message_type, media_url, is_urgent, metadata, client_message_id, status, created_at) ",
        );
        query.push_values($messages, |mut row, message| {
            row.push_bind(message.conversation_id)
                .push_bind($crate::store::rows::bigint(message.seq))
                .push_bind(message.id)
                .push_bind(message.number)
                .push_bind(&message.sender_id)
                .push_bind(message.sender_role.as_str())
                .push_bind(&message.body.content)
                .push_bind(i32::from(message.body.message_type))
                .push_bind(&message.body.media_url)
                .push_bind(message.body.is_urgent)
                .push_bind(&message.body.metadata_json)
                .push_bind(&message.client_message_id)
                .push_bind(i32::from(message.status))
                .push_bind(message.created_at);
        });
        query
    }};
}
pub(super) use insert_messages;

#[derive(Clone, FromRow)]
pub(super) struct ConversationRow {
    pub(super) id: Uuid,
    pub(super) number: i64,
    pub(super) kind: i32,
    pub(super) people: Option<String>,
    subject: String,
    pub(super) status: i32,
    pub(super) last_seq: i64,
    erased: i64,
    created_at: Micros,
    pub(super) updated_at: Micros,
}

impl ConversationRow {
    pub(super) fn with_seats(self, seats: Vec<Seat>) -> Conversation {
        Conversation {
            id: self.id,
            number: self.number,
            kind: Kind::try_from(self.kind).unwrap_or_default(),
            seats,
            subject: self.subject,
            openness: Openness::try_from(self.status).unwrap_or_default(),
            last_seq: self.last_seq.unsigned_abs(),
            erased: self.erased.unsigned_abs(),
            created_at: self.created_at,
            updated_at: self.updated_at,
        }
    }
}

#[derive(FromRow)]
pub(super) struct SeatRow {
    conversation_id: Uuid,
    user_id: String,
    role: String,
}

impl SeatRow {
    /// `None` for a role that a later version wrote.
    pub(super) fn seat(self) -> Option<(Uuid, Seat)> {
        Some((self.conversation_id, Seat { role: Role::parse(&self.role)?, user_id: self.user_id }))
    }
}

#[derive(FromRow)]
pub(super) struct MessageRow {
    pub(super) conversation_id: Uuid,
    seq: i64,
    id: Uuid,
    number: i64,
    sender_id: String,
    sender_role: String,
    content: String,
    message_type: i32,
    media_url: String,
    is_urgent: bool,
    metadata: String,
    client_message_id: Option<String>,
    status: i32,
    created_at: Micros,
}

impl From<MessageRow> for Message {
    fn from(row: MessageRow) -> Self {
        Self {
            id: row.id,
            conversation_id: row.conversation_id,
            number: row.number,
            seq: row.seq.unsigned_abs(),
            sender_id: row.sender_id,
            // A role that a later version wrote shows as staff: someone, but none of the two sides.
            sender_role: Role::parse(&row.sender_role).unwrap_or(Role::Staff),
            body: Body {
                content: row.content,
                message_type: MessageType::try_from(row.message_type).unwrap_or(MessageType::Text),
                media_url: row.media_url,
                is_urgent: row.is_urgent,
                metadata_json: row.metadata,
            },
            client_message_id: row.client_message_id,
            created_at: row.created_at,
            status: Status::try_from(row.status).unwrap_or_default(),
        }
    }
}

#[derive(FromRow)]
pub(super) struct NamedRow {
    id: Uuid,
    number: i64,
    pub(super) seq: i64,
    pub(super) sender_id: String,
    pub(super) sender_role: String,
}

impl NamedRow {
    pub(super) fn is(&self, name: &MessageName) -> bool {
        match name {
            MessageName::Id(id) => self.id == *id,
            MessageName::Number(number) => self.number == *number,
        }
    }

    pub(super) fn named(self) -> Named {
        Named { id: self.id, number: self.number, seq: self.seq.unsigned_abs() }
    }
}

/// A `seq` as the database has it.
pub(super) fn bigint(seq: u64) -> i64 {
    i64::try_from(seq).unwrap_or(i64::MAX)
}
