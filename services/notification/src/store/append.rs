//! Group commit: many notifications of many users in one transaction.

use std::collections::BTreeSet;

use sqlx::QueryBuilder;
use switchboard_chassis::{Micros, db::Result, on_pool};

use super::{
    Store,
    rows::{InboxRow, NOTIFICATION_COLUMNS, NotificationRow, Rise, bigint, inboxes, raise},
};
use crate::{
    model::{Draft, Inbox, Notification},
    order::{Appended, plan},
};

/// Drafts of one transaction. Each is ten values of one INSERT; SQLite takes 32,766.
pub(crate) const TRANSACTION_DRAFTS_MAX: usize = 1024;
/// Drafts looked up in one statement: SQLite refuses expressions of more than 1,000 levels, and each draft is two.
const LOOK_UP_DRAFTS: usize = 200;

/// What became of a batch.
#[derive(Debug)]
pub(crate) struct Batch {
    /// In the order of the drafts.
    pub(crate) appended: Vec<Appended>,
    /// As they are now, of users with repeats: whoever stored the first may not have come to tell it.
    pub(crate) repeated: Vec<(String, Inbox)>,
}

impl Store {
    /// Stores at most [`TRANSACTION_DRAFTS_MAX`] drafts in their order in one transaction and says what became of each.
    ///
    /// Repeats are looked up before the inboxes are locked, as how much an inbox rises depends on it. Another instance
    /// may store the same `request_id` between the two: then the INSERT fails, and the batch is tried again with the
    /// locks first, and what it finds then stays so.
    ///
    /// With `again`, an earlier try may have stored these drafts, or be about to: the locks wait for it, and the
    /// drafts' ids are looked up too.
    ///
    /// # Errors
    /// Nothing was stored; or, when the database did not answer, perhaps everything was.
    pub(crate) async fn append(&self, drafts: &[Draft], now: Micros, again: bool) -> Result<Batch> {
        match self.append_once(drafts, now, again).await {
            Err(sqlx::Error::Database(error)) if error.is_unique_violation() && !again => {
                Ok(self.append_once(drafts, now, true).await?)
            }
            other => Ok(other?),
        }
    }

    async fn append_once(&self, drafts: &[Draft], now: Micros, again: bool) -> sqlx::Result<Batch> {
        let named: Vec<(&str, &str)> =
            drafts.iter().filter_map(|draft| Some((draft.user_id.as_str(), draft.request_id.as_deref()?))).collect();

        on_pool!(&self.db.write, pool => {
            let mut tx = pool.begin().await?;

            if again {
                let users: BTreeSet<&str> = drafts.iter().map(|draft| draft.user_id.as_str()).collect();
                let locks = users.into_iter().map(|user_id| (user_id, Rise::default()));
                raise(locks).build().persistent(false).execute(&mut *tx).await?;
            }

            let mut known: Vec<Notification> = Vec::new();
            for named in named.chunks(LOOK_UP_DRAFTS) {
                let mut query = QueryBuilder::new(format!("SELECT {NOTIFICATION_COLUMNS} FROM notifications WHERE "));
                let mut list = query.separated(" OR ");
                for (user_id, request_id) in named {
                    list.push("(user_id = ")
                        .push_bind_unseparated(*user_id)
                        .push_unseparated(" AND request_id = ")
                        .push_bind_unseparated(*request_id)
                        .push_unseparated(")");
                }
                let rows: Vec<NotificationRow> = query.build_query_as().persistent(false).fetch_all(&mut *tx).await?;
                known.extend(rows.into_iter().map(Notification::from));
            }
            if again {
                let mut query = QueryBuilder::new(format!("SELECT {NOTIFICATION_COLUMNS} FROM notifications"));
                query.push(" WHERE id IN (");
                let mut list = query.separated(", ");
                for draft in drafts {
                    list.push_bind(draft.id);
                }
                query.push(")");
                let rows: Vec<NotificationRow> = query.build_query_as().persistent(false).fetch_all(&mut *tx).await?;
                known.extend(rows.into_iter().map(Notification::from));
            }

            let plan = plan(drafts, &known);
            let mut raised = Vec::new();
            if !plan.gains.is_empty() {
                let rises = plan.gains.iter().map(|(user_id, gained)| {
                    let gained = bigint(*gained);
                    (*user_id, Rise { seqs: gained, unread: gained, revisions: gained })
                });
                raised = raise(rises).build_query_as().persistent(false).fetch_all(&mut *tx).await?;
            }
            let appended = plan.place(&InboxRow::by_user(raised), now);

            let stored: Vec<&Notification> = appended.iter().filter_map(stored).collect();
            if !stored.is_empty() {
                let mut query = QueryBuilder::new(format!("INSERT INTO notifications ({NOTIFICATION_COLUMNS}) "));
                query.push_values(stored, |mut row, notification| {
                    row.push_bind(&notification.user_id)
                        .push_bind(bigint(notification.seq))
                        .push_bind(notification.id)
                        .push_bind(&notification.content.title)
                        .push_bind(&notification.content.message)
                        .push_bind(&notification.content.notification_type)
                        .push_bind(&notification.content.data)
                        .push_bind(notification.is_read)
                        .push_bind(notification.created_at)
                        .push_bind(&notification.request_id);
                });
                query.build().persistent(false).execute(&mut *tx).await?;
            }

            let repeated: BTreeSet<&String> = appended.iter().filter_map(repeated).collect();
            let mut rows: Vec<InboxRow> = Vec::new();
            if !repeated.is_empty() {
                rows = inboxes(repeated).build_query_as().persistent(false).fetch_all(&mut *tx).await?;
            }
            tx.commit().await?;
            let repeated = rows.into_iter().map(InboxRow::keyed).collect();
            Ok(Batch { appended, repeated })
        })
    }
}

fn stored(appended: &Appended) -> Option<&Notification> {
    match appended {
        Appended::Stored(notification, _) => Some(notification),
        Appended::Repeat { .. } => None,
    }
}

fn repeated(appended: &Appended) -> Option<&String> {
    match appended {
        Appended::Stored(..) => None,
        Appended::Repeat { first, .. } => Some(&first.user_id),
    }
}
