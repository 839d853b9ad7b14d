//! What the tables' rows look like, what they mean, and the statements that several need.

use std::collections::HashMap;

use sqlx::{Database, Encode, FromRow, QueryBuilder, Type};
use switchboard_chassis::Micros;
use uuid::Uuid;

use crate::model::{Content, Inbox, Notification};

pub(super) const INBOX_COLUMNS: &str = "user_id, last_seq, unread, revision";

pub(super) const NOTIFICATION_COLUMNS: &str =
    "user_id, seq, id, title, message, notification_type, data, is_read, created_at, request_id";

#[derive(FromRow)]
pub(super) struct InboxRow {
    user_id: String,
    last_seq: i64,
    unread: i64,
    revision: i64,
}

impl InboxRow {
    pub(super) fn keyed(self) -> (String, Inbox) {
        let Self { user_id, last_seq, unread, revision } = self;
        (user_id, Inbox { last_seq: last_seq.unsigned_abs(), unread, revision: revision.unsigned_abs() })
    }

    pub(super) fn by_user(rows: Vec<Self>) -> HashMap<String, Inbox> {
        rows.into_iter().map(Self::keyed).collect()
    }
}

#[derive(FromRow)]
pub(super) struct NotificationRow {
    user_id: String,
    seq: i64,
    id: Uuid,
    title: String,
    message: String,
    notification_type: String,
    data: String,
    is_read: bool,
    created_at: Micros,
    request_id: Option<String>,
}

impl From<NotificationRow> for Notification {
    fn from(row: NotificationRow) -> Self {
        Self {
            id: row.id,
            user_id: row.user_id,
            seq: row.seq.unsigned_abs(),
            content: Content {
                title: row.title,
                message: row.message,
                notification_type: row.notification_type,
                data: row.data,
            },
            is_read: row.is_read,
            created_at: row.created_at,
            request_id: row.request_id,
        }
    }
}

/// How much an inbox rises. The default only takes its lock.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Rise {
    pub(super) seqs: i64,
    pub(super) unread: i64,
    pub(super) revisions: i64,
}

/// Raises inboxes, making those that are missing, and gives them back. Each user at most once, in the order of the ids:
/// rows are locked in the order of the list.
pub(super) fn raise<'a, DB>(rises: impl IntoIterator<Item = (&'a str, Rise)>) -> QueryBuilder<DB>
where
    DB: Database,
    &'a str: Encode<'a, DB> + Type<DB>,
    i64: Encode<'a, DB> + Type<DB>,
{
    let mut query = QueryBuilder::new(format!("INSERT INTO inboxes ({INBOX_COLUMNS}) "));
    query.push_values(rises, |mut row, (user_id, rise)| {
        row.push_bind(user_id).push_bind(rise.seqs).push_bind(rise.unread).push_bind(rise.revisions);
    });
    query.push(
        " ON CONFLICT (user_id) DO UPDATE SET last_seq = inboxes.last_seq + excluded.last_seq,
             unread = inboxes.unread + excluded.unread, revision = inboxes.revision + excluded.revision
         RETURNING user_id, last_seq, unread, revision",
    );
    query
}

/// Reads inboxes.
pub(super) fn inboxes<'a, DB>(user_ids: impl IntoIterator<Item = &'a String>) -> QueryBuilder<DB>
where
    DB: Database,
    &'a String: Encode<'a, DB> + Type<DB>,
{
    let mut query = QueryBuilder::new(format!("SELECT {INBOX_COLUMNS} FROM inboxes WHERE user_id IN ("));
    let mut list = query.separated(", ");
    for user_id in user_ids {
        list.push_bind(user_id);
    }
    query.push(")");
    query
}

/// A number as the database has it.
pub(super) fn bigint(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
