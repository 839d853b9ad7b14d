//! Old messages go.

use switchboard_chassis::{Micros, db::Result, on_pool};
use uuid::Uuid;

use super::{Store, rows::bigint};
use crate::{model::Kind, retention::Before};

/// Conversations that are looked at in one statement.
const CONVERSATIONS: usize = 500;
/// Messages that go in one transaction.
const MESSAGES: usize = 1_000;

/// A page of conversations.
#[derive(Debug)]
pub(crate) struct Old {
    /// Those whose first message is old, and before when theirs are.
    pub(crate) old: Vec<(Uuid, Micros)>,
    /// Where the next page begins; `None` at the end.
    pub(crate) last: Option<Uuid>,
}

/// What went of one conversation.
#[derive(Debug)]
pub(crate) struct Forgotten {
    pub(crate) removed: u64,
    /// There may be more that is old.
    pub(crate) more: bool,
}

impl Store {
    /// The next conversations above `after` in the order of their ids, of the kinds whose messages get old.
    pub(crate) async fn with_messages_before(&self, befores: &[Before], after: Option<Uuid>) -> Result<Old> {
        // The first message by its place: an index by time would cost each message a page in every commit.
        let rows: Vec<(Uuid, i32, Option<Micros>)> = on_pool!(&self.db.read, pool => {
            let mut query = sqlx::QueryBuilder::new(
                "SELECT id, kind, (SELECT messages.created_at FROM messages
                     WHERE messages.conversation_id = conversations.id ORDER BY messages.seq LIMIT 1)
                 FROM conversations WHERE kind IN (",
            );
            let mut kinds = query.separated(", ");
            for (kind, _) in befores {
                kinds.push_bind(i32::from(*kind));
            }
            query.push(")");
            if let Some(after) = after {
                query.push(" AND id > ").push_bind(after);
            }
            query.push(" ORDER BY id LIMIT ").push_bind(i64::try_from(CONVERSATIONS).unwrap_or(i64::MAX));
            query.build_query_as().fetch_all(pool).await?
        });
        let old = |(id, kind, first): &(Uuid, i32, Option<Micros>)| {
            let kind = Kind::try_from(*kind).ok()?;
            let (_, before) = befores.iter().find(|(theirs, _)| *theirs == kind)?;
            first.is_some_and(|at| at < *before).then_some((*id, *before))
        };
        Ok(Old {
            last: rows.last().filter(|_| rows.len() == CONVERSATIONS).map(|(id, ..)| *id),
            old: rows.iter().filter_map(old).collect(),
        })
    }

    /// Removes the first messages of a conversation as far as they are old, a part of them at a time.
    pub(crate) async fn forget_before(&self, conversation_id: Uuid, before: Micros) -> Result<Forgotten> {
        let for_update = self.db.for_update();
        Ok(on_pool!(&self.db.write, pool => {
            let mut tx = pool.begin().await?;
            // It locks the conversation, as who adds to it does.
            let _: Option<Uuid> = sqlx::query_scalar(sqlx::AssertSqlSafe(format!(
                "SELECT id FROM conversations WHERE id = $1{for_update}"
            )))
            .bind(conversation_id)
            .fetch_optional(&mut *tx)
            .await?;
            let first: Vec<(i64, Micros)> =
                sqlx::query_as("SELECT seq, created_at FROM messages WHERE conversation_id = $1 ORDER BY seq LIMIT $2")
                    .bind(conversation_id)
                    .bind(i64::try_from(MESSAGES).unwrap_or(i64::MAX))
                    .fetch_all(&mut *tx)
                    .await?;
            let old = first.iter().take_while(|(_, at)| *at < before);
            let Some((last, _)) = old.last() else { return Ok(Forgotten { removed: 0, more: false }) };
            let removed = sqlx::query("DELETE FROM messages WHERE conversation_id = $1 AND seq <= $2")
                .bind(conversation_id)
                .bind(*last)
                .execute(&mut *tx)
                .await?
                .rows_affected();
            sqlx::query("UPDATE conversations SET erased = erased + $2 WHERE id = $1")
                .bind(conversation_id)
                .bind(bigint(removed))
                .execute(&mut *tx)
                .await?;
            tx.commit().await?;
            Forgotten { removed, more: first.len() == MESSAGES }
        }))
    }

    /// What was removed leaves the files, too.
    pub(crate) async fn scrub(&self) -> Result<()> {
        self.db.scrub().await
    }
}
