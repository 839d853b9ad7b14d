//! Everything that was stored, in an order in which nothing appears late: what [`crate::watch`] tells.
//!
//! Messages are read from their own table; what else happens is a row of `events`, written in the transaction that does it.
//!
//! On SQLite there is one writer, so the order of numbers is the order of commits.
//!
//! On Postgres, numbers of concurrent transactions become visible out of order. So each row carries the id of the
//! transaction that stored it (`stored_by`, a default of the column), and rows are told in the order of these ids, once
//! all transactions before have ended (`pg_snapshot_xmin`). A transaction may begin before another and still come after
//! it in a conversation, because it waited for the conversation's lock. Such a row is told together with the message before
//! it: ids are cut into the smallest *chunks* such that the message before any in a chunk is in that chunk or an earlier one, and a
//! chunk is told by conversation and `seq`.

mod place;
mod read;
mod schema;
#[cfg(test)]
pub(crate) mod tests;

use serde::{Deserialize, Serialize};
use sqlx::{FromRow, QueryBuilder};
use switchboard_chassis::{Micros, db::Result, on_pool};
use uuid::Uuid;

pub(crate) use place::{Key, Place};
pub(crate) use read::BadPlace;

use super::{
    Store,
    rows::{MESSAGE_COLUMNS, MessageRow},
};
use crate::model::{Message, Named};

/// Receipts that are forgotten at a time.
const FORGOTTEN_MAX: i64 = 1_000;

/// What else happens than messages, as it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Happening {
    Opened = 1,
    Closed = 2,
    Receipts = 3,
    Erased = 4,
}

impl Happening {
    fn read(stored: i32) -> Option<Self> {
        [Self::Opened, Self::Closed, Self::Receipts, Self::Erased].into_iter().find(|known| *known as i32 == stored)
    }
}

/// Whose messages moved, and how far. Stored as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Moved {
    pub(crate) role: String,
    pub(crate) status: i32,
    /// First and last `seq`.
    pub(crate) ranges: Vec<(u64, u64)>,
}

impl Moved {
    pub(super) fn of(role: &str, status: i32, changed: &[Named]) -> Self {
        let mut ranges: Vec<(u64, u64)> = Vec::new();
        for Named { seq, .. } in changed {
            match ranges.last_mut() {
                Some((_, last)) if *last + 1 == *seq => *last = *seq,
                _ => ranges.push((*seq, *seq)),
            }
        }
        Self { role: role.to_owned(), status, ranges }
    }
}

/// Of whom messages went, and how many. Stored as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Gone {
    pub(crate) user_id_sha256: String,
    pub(crate) messages: u64,
}

/// As it is stored.
pub(super) fn json(detail: &impl Serialize) -> String {
    serde_json::to_string(detail).unwrap_or_default()
}

/// Notes in a transaction that something happened in a conversation: `record_event!(tx, happening, conversation_id, user_id,
/// detail, now)`.
macro_rules! record_event {
    ($tx:expr, $happening:expr, $conversation_id:expr, $user_id:expr, $detail:expr, $now:expr) => {
        sqlx::query(
            "INSERT INTO events (type, conversation_id, kind, seq, after_number, user_id, detail, at)
             SELECT $1, id, kind, last_seq, (SELECT COALESCE(MAX(number), 0) FROM messages), $3, $4, $5
             FROM conversations WHERE id = $2",
        )
        .bind($happening as i32)
        .bind($conversation_id)
        .bind::<Option<String>>($user_id)
        .bind::<String>($detail)
        .bind($now)
        .execute(&mut *$tx)
        .await?
    };
}
pub(super) use record_event;

/// Something that is to be told, by its name: what it says is read at the last moment, because it may be erased.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Goes on after it.
    pub(crate) place: Place,
    pub(crate) conversation_id: Uuid,
    /// Of the conversation.
    pub(crate) kind: i32,
    pub(crate) what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// By its `seq`.
    Message(i64),
    /// By its row.
    Event(Happening, i64),
    /// A later version wrote it.
    Unknown,
}

/// A part of the feed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Page {
    pub(crate) entries: Vec<Entry>,
    /// Goes on after all of them.
    pub(crate) end: Place,
    /// There is more at once.
    pub(crate) is_full: bool,
    /// There is more that waits for other transactions to end.
    pub(crate) is_pending: bool,
}

/// A row of `events`.
#[derive(Clone, Debug, FromRow)]
pub(crate) struct EventRow {
    pub(crate) place: i64,
    pub(crate) user_id: Option<String>,
    pub(crate) detail: String,
    pub(crate) at: Micros,
}

impl Store {
    /// Messages of some conversations by their `seq`; without those that are gone.
    pub(crate) async fn messages_at(&self, keys: &[(Uuid, i64)]) -> Result<Vec<Message>> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let rows: Vec<MessageRow> = on_pool!(&self.db.read, pool => {
            let mut query = QueryBuilder::new(format!(
                "SELECT {MESSAGE_COLUMNS} FROM messages WHERE (conversation_id, seq) IN ("
            ));
            query.push_values(keys, |mut row, (conversation_id, seq)| {
                row.push_bind(*conversation_id).push_bind(*seq);
            });
            query.push(")");
            query.build_query_as().persistent(false).fetch_all(pool).await?
        });
        Ok(rows.into_iter().map(Message::from).collect())
    }

    /// Rows of `events`; without those that are gone.
    pub(crate) async fn events_at(&self, places: &[i64]) -> Result<Vec<EventRow>> {
        if places.is_empty() {
            return Ok(Vec::new());
        }
        Ok(on_pool!(&self.db.read, pool => {
            let mut query = QueryBuilder::new("SELECT place, user_id, detail, at FROM events WHERE place IN (");
            let mut list = query.separated(", ");
            for place in places {
                list.push_bind(*place);
            }
            query.push(")");
            query.build_query_as().persistent(false).fetch_all(pool).await?
        }))
    }

    /// Forgets receipts from before `before`; true when there may be more of them.
    pub(crate) async fn forget_receipts(&self, before: Micros) -> Result<bool> {
        let gone = on_pool!(&self.db.write, pool => {
            sqlx::query(
                "DELETE FROM events WHERE place IN (SELECT place FROM events WHERE type = 3 AND at < $1 LIMIT $2)",
            )
            .bind(before)
            .bind(FORGOTTEN_MAX)
            .execute(pool)
            .await?
            .rows_affected()
        });
        Ok(i64::try_from(gone).unwrap_or(FORGOTTEN_MAX) >= FORGOTTEN_MAX)
    }
}
