//! What is read and what is removed.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::QueryBuilder;
use switchboard_chassis::{Micros, audit::Asked, db::Result, on_pool, record_erasure};
use uuid::Uuid;

use super::{
    Store,
    rows::{INBOX_COLUMNS, InboxRow, Rise, bigint, raise},
};
use crate::model::{Inbox, Marked, Which};

/// Old notifications removed in one transaction: so many do not keep other writers waiting.
pub(crate) const EXPIRED_MAX: usize = 1000;

/// What a part of a sweep removed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Expired {
    pub(crate) removed: u64,
    /// The inboxes in which fewer are unread now.
    pub(crate) changed: Vec<(String, Inbox)>,
    /// Whether there may be more.
    pub(crate) more: bool,
}

impl Store {
    /// Marks notifications as read; `None`, and nothing is changed, when one of them is not this user's.
    pub(crate) async fn mark_read(&self, user_id: &str, which: &Which) -> Result<Option<Marked>> {
        let for_update = self.db.for_update();
        let ids: &[Uuid] = match which {
            Which::These(ids) => ids,
            Which::All => &[],
        };
        Ok(on_pool!(&self.db.write, pool => {
            let mut tx = pool.begin().await?;
            let locked: Option<InboxRow> = sqlx::query_as(sqlx::AssertSqlSafe(format!(
                "SELECT {INBOX_COLUMNS} FROM inboxes WHERE user_id = $1{for_update}"
            )))
            .bind(user_id)
            .fetch_optional(&mut *tx)
            .await?;
            let Some(locked) = locked else { return Ok(ids.is_empty().then(Marked::default)) };
            let mut inbox = locked.keyed().1;

            if !ids.is_empty() {
                let mut query = QueryBuilder::new("SELECT COUNT(*) FROM notifications WHERE user_id = ");
                query.push_bind(user_id).push(" AND id IN (");
                let mut list = query.separated(", ");
                for id in ids {
                    list.push_bind(*id);
                }
                query.push(")");
                let found: i64 = query.build_query_scalar().persistent(false).fetch_one(&mut *tx).await?;
                if usize::try_from(found) != Ok(ids.len()) {
                    return Ok(None);
                }
            }

            let mut query = QueryBuilder::new("UPDATE notifications SET is_read = TRUE WHERE user_id = ");
            query.push_bind(user_id).push(" AND NOT is_read");
            if !ids.is_empty() {
                query.push(" AND id IN (");
                let mut list = query.separated(", ");
                for id in ids {
                    list.push_bind(*id);
                }
                query.push(")");
            }
            let changed = query.build().persistent(false).execute(&mut *tx).await?.rows_affected();
            if changed > 0 {
                let rise = Rise { unread: -bigint(changed), revisions: 1, ..Rise::default() };
                let row: InboxRow = raise([(user_id, rise)]).build_query_as().fetch_one(&mut *tx).await?;
                inbox = row.keyed().1;
            }
            tx.commit().await?;
            Some(Marked { changed, inbox })
        }))
    }

    /// Removes a user's notifications; says how many, and what the inbox is then.
    ///
    /// The inbox's row stays, with the user's id and three numbers: `last_seq` must not begin again, and `revision`
    /// must not go back, as sessions may be open, here or at another instance, that would pass over what comes next.
    pub(crate) async fn erase(&self, user_id: &str, asked: &Asked) -> Result<(u64, Inbox)> {
        let for_update = self.db.for_update();
        let erased = on_pool!(&self.db.write, pool => {
            let mut tx = pool.begin().await?;
            let locked: Option<InboxRow> = sqlx::query_as(sqlx::AssertSqlSafe(format!(
                "SELECT {INBOX_COLUMNS} FROM inboxes WHERE user_id = $1{for_update}"
            )))
            .bind(user_id)
            .fetch_optional(&mut *tx)
            .await?;
            let mut inbox = locked.map_or_else(Inbox::default, |locked| locked.keyed().1);
            let erased = sqlx::query("DELETE FROM notifications WHERE user_id = $1")
                .bind(user_id)
                .execute(&mut *tx)
                .await?
                .rows_affected();
            if erased > 0 {
                let rise = Rise { unread: -inbox.unread, revisions: 1, ..Rise::default() };
                let row: InboxRow = raise([(user_id, rise)]).build_query_as().fetch_one(&mut *tx).await?;
                inbox = row.keyed().1;
            }
            record_erasure!(tx, asked, "EraseUser", erased);
            tx.commit().await?;
            (erased, inbox)
        });
        self.db.scrub().await?;
        Ok(erased)
    }

    /// Removes the oldest of the notifications that were stored before `before`, at most [`EXPIRED_MAX`].
    pub(crate) async fn expire(&self, before: Micros) -> Result<Expired> {
        Ok(on_pool!(&self.db.write, pool => {
            let mut tx = pool.begin().await?;
            let old: Vec<(Uuid, String)> = sqlx::query_as(sqlx::AssertSqlSafe(format!(
                "SELECT id, user_id FROM notifications WHERE created_at < $1 ORDER BY created_at LIMIT {EXPIRED_MAX}"
            )))
            .bind(before)
            .fetch_all(&mut *tx)
            .await?;
            if old.is_empty() {
                return Ok(Expired::default());
            }
            // Takes the locks. Not a SELECT FOR UPDATE: Postgres sorts by its own rules, and the order must be that of
            // a batch.
            let users: BTreeSet<&str> = old.iter().map(|(_, user_id)| user_id.as_str()).collect();
            let locks = users.into_iter().map(|user_id| (user_id, Rise::default()));
            raise(locks).build().persistent(false).execute(&mut *tx).await?;

            let mut query = QueryBuilder::new("DELETE FROM notifications WHERE id IN (");
            let mut list = query.separated(", ");
            for (id, _) in &old {
                list.push_bind(*id);
            }
            query.push(") RETURNING user_id, is_read");
            let gone: Vec<(String, bool)> = query.build_query_as().persistent(false).fetch_all(&mut *tx).await?;

            let mut unread: BTreeMap<&str, i64> = BTreeMap::new();
            for (user_id, _) in gone.iter().filter(|(_, is_read)| !is_read) {
                *unread.entry(user_id).or_default() += 1;
            }
            let mut changed: Vec<InboxRow> = Vec::new();
            if !unread.is_empty() {
                let rises = unread
                    .into_iter()
                    .map(|(user_id, unread)| (user_id, Rise { unread: -unread, revisions: 1, ..Rise::default() }));
                changed = raise(rises).build_query_as().persistent(false).fetch_all(&mut *tx).await?;
            }
            tx.commit().await?;
            Expired {
                removed: u64::try_from(gone.len()).unwrap_or(u64::MAX),
                changed: changed.into_iter().map(InboxRow::keyed).collect(),
                more: old.len() >= EXPIRED_MAX,
            }
        }))
    }
}
