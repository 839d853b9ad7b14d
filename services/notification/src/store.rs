//! The tables of notifications. All SQL of the service is here.
//!
//! **Locks**: whoever changes anything of a user takes the row of the user's inbox first (no row: there is nothing to
//! change), and whoever takes several of them does so in the order of the users' ids, as Rust compares them (see
//! [`rows::raise`]). The notifications of a user are changed, and their unique keys taken or given up, by nobody but
//! the one who has the inbox. So a transaction waits for inboxes only, each above those that it has, and nobody waits
//! in a circle.

mod append;
mod change;
mod rows;

use futures_util::TryStreamExt as _;
use sqlx::QueryBuilder;
use switchboard_chassis::{
    db::{Db, Result},
    on_pool,
};

pub(crate) use append::{Batch, TRANSACTION_DRAFTS_MAX};
#[cfg(test)]
use change::{EXPIRED_MAX, Expired};

use crate::model::{Inbox, Notification, Page};
use rows::{INBOX_COLUMNS, InboxRow, NOTIFICATION_COLUMNS, NotificationRow, bigint};

/// Inboxes read in one statement.
pub(crate) const LOOK_UP_INBOXES: usize = 500;
/// A page ends early after so many bytes of text: gRPC callers refuse answers of more than 4 MiB by default, and one
/// notification more always fits.
const PAGE_BYTES: usize = 2 << 20;
/// JSON is at most so many times as long on the wire: `1,` in a list is 11 bytes.
const DATA_GROWTH: usize = 6;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) notifications: Vec<Notification>,
    /// Whether there are more behind these.
    pub(crate) more: bool,
}

pub(crate) struct Store {
    db: Db,
}

impl Store {
    pub(crate) fn new(db: Db) -> Self {
        Self { db }
    }

    pub(crate) async fn inbox(&self, user_id: &str) -> Result<Inbox> {
        let row: Option<InboxRow> = on_pool!(&self.db.read, pool => {
            sqlx::query_as(sqlx::AssertSqlSafe(format!("SELECT {INBOX_COLUMNS} FROM inboxes WHERE user_id = $1")))
                .bind(user_id)
                .fetch_optional(pool)
                .await?
        });
        Ok(row.map(|row| row.keyed().1).unwrap_or_default())
    }

    /// Those that there are, of at most [`LOOK_UP_INBOXES`] users.
    pub(crate) async fn inboxes(&self, user_ids: &[String]) -> Result<Vec<(String, Inbox)>> {
        if user_ids.is_empty() {
            return Ok(Vec::new());
        }
        let rows: Vec<InboxRow> = on_pool!(&self.db.read, pool => {
            rows::inboxes(user_ids).build_query_as().persistent(false).fetch_all(pool).await?
        });
        Ok(rows.into_iter().map(InboxRow::keyed).collect())
    }

    pub(crate) async fn list(&self, user_id: &str, page: Page) -> Result<Listed> {
        let Page { from_seq, newest_first, unread_only, size } = page;
        let mut notifications: Vec<Notification> = Vec::new();
        let (mut bytes, mut more) = (0, false);
        on_pool!(&self.db.read, pool => {
            let mut query = QueryBuilder::new(format!("SELECT {NOTIFICATION_COLUMNS} FROM notifications"));
            query.push(" WHERE user_id = ").push_bind(user_id);
            if unread_only {
                query.push(" AND NOT is_read");
            }
            if newest_first {
                if from_seq > 0 {
                    query.push(" AND seq < ").push_bind(bigint(from_seq));
                }
                query.push(" ORDER BY seq DESC LIMIT ");
            } else {
                query.push(" AND seq > ").push_bind(bigint(from_seq)).push(" ORDER BY seq LIMIT ");
            }
            query.push_bind(i64::from(size) + 1);
            let mut rows = query.build_query_as::<NotificationRow>().fetch(pool);
            while let Some(row) = rows.try_next().await? {
                more = notifications.len() >= size as usize || bytes >= PAGE_BYTES;
                if more {
                    break;
                }
                let notification = Notification::from(row);
                bytes += weight(&notification);
                notifications.push(notification);
            }
        });
        Ok(Listed { notifications, more })
    }
}

/// How many bytes a notification takes in an answer, without what is short.
fn weight(notification: &Notification) -> usize {
    let content = &notification.content;
    content.title.len() + content.message.len() + content.data.len() * DATA_GROWTH
}

#[cfg(test)]
pub(crate) mod tests;
