//! The tables of chat. All SQL of the service is here.

mod absences;
mod append;
pub(crate) mod feed;
mod import;
mod lists;
mod opening;
mod retention;
mod rows;

use sqlx::QueryBuilder;
use switchboard_chassis::{
    Lifecycle, Micros,
    audit::Asked,
    batch::{Gather, GroupCommit},
    db::{Db, Pool, Result},
    on_pool, record_erasure,
};
use switchboard_webhooks::{Outbox, forget};
use uuid::Uuid;

pub(crate) use absences::{Absence, Coming};
pub(crate) use lists::{ConversationKey, MessagesFrom, Summary, Whose};
use opening::{Known, New};

use crate::{
    model::{self, Conversation, MessageName, Named, Openness, Reading, Refusal, Role, Status, Which},
    rules::{self, RECEIPT_MESSAGES_MAX},
};
use feed::{Gone, Happening, Moved, record_event};
use rows::NamedRow;
use switchboard_proto::chat::v1::RefusalReason;

/// What a receipt moved.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Marked {
    /// In the order of `seq`.
    pub(crate) changed: Vec<Named>,
    /// The message up to which it went, if it named one.
    pub(crate) up_to: Option<Named>,
}

pub(crate) struct Store {
    db: Db,
    /// Conversations, by what they are known by.
    found: Gather<Known, Option<Conversation>>,
    /// Conversations that are made; false when somebody else was faster.
    made: Gather<New, bool>,
    /// Conversations of which something was read.
    marked: GroupCommit<Uuid>,
    /// After so long without a message a burst of messages is over.
    burst: Micros,
    /// What other systems are told.
    outbox: Outbox,
    pub(crate) coming: Coming,
}

impl Store {
    pub(crate) fn new(db: Db, burst: Micros, outbox: Outbox, lifecycle: &Lifecycle) -> Self {
        let read = db.read.clone();
        let found = Gather::start("chat conversations", lifecycle, move |asked: Vec<Known>| {
            let read = read.clone();
            async move { opening::find(&read, &asked).await }
        });
        let (write, told) = (db.write.clone(), outbox.clone());
        let made = Gather::start("chat openings", lifecycle, move |new: Vec<New>| {
            let (write, outbox) = (write.clone(), told.clone());
            async move { opening::make(&write, &outbox, &new).await }
        });
        let (read, write) = (db.read.clone(), db.write.clone());
        let marked = GroupCommit::start("chat unread", lifecycle, move |mut marked: Vec<Uuid>| {
            let (read, write) = (read.clone(), write.clone());
            async move {
                marked.sort_unstable();
                marked.dedup();
                for id in marked {
                    // The database said why in the log, if it failed. It is only a lower bound.
                    let _ = raise_unread_from(&read, &write, id).await;
                }
            }
        });
        Self { db, outbox, found, made, marked, burst, coming: Coming::default() }
    }

    /// The last messages of some conversations.
    pub(crate) async fn heads(&self, ids: &[Uuid]) -> Result<Vec<(Uuid, u64)>> {
        let rows: Vec<(Uuid, i64)> = on_pool!(&self.db.read, pool => {
            let mut query = QueryBuilder::new("SELECT id, last_seq FROM conversations WHERE id IN (");
            let mut list = query.separated(", ");
            for id in ids {
                list.push_bind(*id);
            }
            query.push(")");
            query.build_query_as().persistent(false).fetch_all(pool).await?
        });
        Ok(rows.into_iter().map(|(id, last_seq)| (id, last_seq.unsigned_abs())).collect())
    }

    /// Moves receipts of messages that others than `reader` wrote forward, of at most [`RECEIPT_MESSAGES_MAX`] above
    /// `after`; says which changed, in order.
    pub(crate) async fn mark(
        &self,
        conversation: &Conversation,
        reader: &str,
        role: Role,
        reading: &Reading,
        after: u64,
        now: Micros,
    ) -> Result<Result<Marked, Refusal>> {
        let conversation_id = conversation.id;
        let names = match &reading.which {
            Which::These(names) => names.as_slice(),
            Which::UpTo(name) => std::slice::from_ref(name),
            Which::All => &[],
        };
        let found = self.find(conversation_id, names).await?;
        let is_strict = reading.strict || matches!(reading.which, Which::UpTo(_));
        if is_strict && names.iter().any(|name| !found.iter().any(|row| row.is(name))) {
            return Ok(Err(model::no_message()));
        }
        if reading.strict && found.iter().any(|row| row.sender_id == reader || row.sender_role == role.as_str()) {
            return Ok(Err(Refusal::new(RefusalReason::OwnMessage, "one's own message has no receipt by oneself")));
        }
        if found.is_empty() && reading.which != Which::All {
            return Ok(Ok(Marked::default()));
        }
        if !rules::reads_for_a_side(conversation.kind, role) {
            let up_to = found.into_iter().next().filter(|_| matches!(reading.which, Which::UpTo(_)));
            return Ok(Ok(Marked { changed: Vec::new(), up_to: up_to.map(NamedRow::named) }));
        }
        let status = i32::from(reading.status);
        let changed: Vec<Named> = on_pool!(&self.db.write, pool => {
            let mut tx = pool.begin().await?;
            let mut query = QueryBuilder::new("UPDATE messages SET status = ");
            query.push_bind(status);
            query.push(" WHERE conversation_id = ").push_bind(conversation_id);
            query.push(" AND seq IN (SELECT seq FROM messages WHERE conversation_id = ").push_bind(conversation_id);
            query.push(" AND status < ").push_bind(status);
            query.push(" AND sender_id <> ").push_bind(reader);
            query.push(" AND sender_role <> ").push_bind(role.as_str());
            query.push(" AND seq > ").push_bind(rows::bigint(after));
            query.push(" AND seq >= (SELECT unread_from FROM conversations WHERE id = ");
            query.push_bind(conversation_id).push(")");
            match &reading.which {
                Which::All => {}
                Which::UpTo(_) => {
                    query.push(" AND seq <= ").push_bind(found[0].seq);
                }
                Which::These(_) => {
                    query.push(" AND seq IN (");
                    let mut list = query.separated(", ");
                    for row in &found {
                        list.push_bind(row.seq);
                    }
                    query.push(")");
                }
            }
            query.push(format!(" ORDER BY seq LIMIT {RECEIPT_MESSAGES_MAX}) AND status < ")).push_bind(status);
            query.push(" RETURNING id, number, seq, sender_id, sender_role");
            let mut changed: Vec<NamedRow> = query.build_query_as().persistent(false).fetch_all(&mut *tx).await?;
            changed.sort_by_key(|row| row.seq);
            let changed: Vec<Named> = changed.into_iter().map(NamedRow::named).collect();
            if !changed.is_empty() {
                let moved = feed::json(&Moved::of(role.as_str(), status, &changed));
                record_event!(tx, Happening::Receipts, conversation_id, Some(reader.to_owned()), moved, now);
            }
            tx.commit().await?;
            changed
        });
        if reading.status == Status::Read && !changed.is_empty() {
            // When too many wait already, the next reader will do.
            let _ = self.marked.push(conversation_id);
        }
        let up_to = found.into_iter().next().filter(|_| matches!(reading.which, Which::UpTo(_)));
        Ok(Ok(Marked { changed, up_to: up_to.map(NamedRow::named) }))
    }

    /// One message by its name.
    pub(crate) async fn seq_of(&self, conversation_id: Uuid, name: MessageName) -> Result<Option<u64>> {
        let found = self.find(conversation_id, &[name]).await?.pop();
        Ok(found.map(|row| row.named().seq))
    }

    async fn find(&self, conversation_id: Uuid, names: &[MessageName]) -> Result<Vec<NamedRow>> {
        if names.is_empty() {
            return Ok(Vec::new());
        }
        Ok(on_pool!(&self.db.read, pool => {
            let mut query = QueryBuilder::new("SELECT id, number, seq, sender_id, sender_role FROM messages WHERE conversation_id = ");
            query.push_bind(conversation_id).push(" AND (1 = 0");
            let mut ids = names.iter().filter_map(MessageName::id).peekable();
            if ids.peek().is_some() {
                query.push(" OR id IN (");
                let mut list = query.separated(", ");
                ids.for_each(|id| _ = list.push_bind(id));
                query.push(")");
            }
            let mut numbers = names.iter().filter_map(MessageName::number).peekable();
            if numbers.peek().is_some() {
                query.push(" OR number IN (");
                let mut list = query.separated(", ");
                numbers.for_each(|number| _ = list.push_bind(number));
                query.push(")");
            }
            query.push(")");
            query.build_query_as().persistent(false).fetch_all(pool).await?
        }))
    }

    /// `None` when there is none.
    pub(crate) async fn close(&self, id: Uuid, now: Micros) -> Result<Option<Conversation>> {
        on_pool!(&self.db.write, pool => {
            let mut tx = pool.begin().await?;
            let done =
                sqlx::query("UPDATE conversations SET status = $1, updated_at = $2 WHERE id = $3 AND status <> $1")
                    .bind(i32::from(Openness::Closed))
                    .bind(now)
                    .bind(id)
                    .execute(&mut *tx)
                    .await?;
            if done.rows_affected() > 0 {
                record_event!(tx, Happening::Closed, id, None, String::new(), now);
            }
            tx.commit().await?;
        });
        self.conversation(id).await
    }

    /// Removes what a user wrote and where the user sat; says how many messages and seats.
    pub(crate) async fn erase(&self, user_id: &str, asked: &Asked) -> Result<(u64, u64)> {
        let erased = on_pool!(&self.db.write, pool => {
            let mut tx = pool.begin().await?;
            // In the order in which batches lock them.
            let conversations: Vec<Uuid> = sqlx::query_scalar(
                "SELECT conversation_id FROM seats WHERE user_id = $1
                 UNION SELECT conversation_id FROM messages WHERE sender_id = $1 AND sender_role = 'staff'
                 ORDER BY 1",
            )
            .bind(user_id)
            .fetch_all(&mut *tx)
            .await?;
            let mut messages = 0;
            for conversation_id in conversations {
                // It locks the conversation, so that nothing is added until all is gone.
                sqlx::query(
                    "UPDATE conversations SET erased = erased +
                         (SELECT COUNT(*) FROM messages WHERE conversation_id = $1 AND sender_id = $2)
                     WHERE id = $1",
                )
                .bind(conversation_id)
                .bind(user_id)
                .execute(&mut *tx)
                .await?;
                let gone = sqlx::query("DELETE FROM messages WHERE conversation_id = $1 AND sender_id = $2")
                    .bind(conversation_id)
                    .bind(user_id)
                    .execute(&mut *tx)
                    .await?
                    .rows_affected();
                let gone_here = Gone { user_id_sha256: asked.subject_sha256.clone(), messages: gone };
                record_event!(tx, Happening::Erased, conversation_id, None, feed::json(&gone_here), asked.at);
                messages += gone;
            }
            sqlx::query("DELETE FROM events WHERE user_id = $1").bind(user_id).execute(&mut *tx).await?;
            forget!(tx, user_id);
            // Who sat there is also in `people`, and a subject is somebody's words.
            sqlx::query(
                "UPDATE conversations SET people = NULL, subject = ''
                 WHERE id IN (SELECT conversation_id FROM seats WHERE user_id = $1)",
            )
            .bind(user_id)
            .execute(&mut *tx)
            .await?;
            sqlx::query("DELETE FROM absences WHERE user_id = $1 OR sender_id = $1")
                .bind(user_id)
                .execute(&mut *tx)
                .await?;
            let seats = sqlx::query("DELETE FROM seats WHERE user_id = $1").bind(user_id).execute(&mut *tx).await?;
            let erased = (messages, seats.rows_affected());
            record_erasure!(tx, asked, "EraseUser", erased.0);
            tx.commit().await?;
            erased
        });
        self.db.scrub().await?;
        Ok(erased)
    }
}

/// Moves the place from which unread messages are looked for up to the first that there is. Not in one statement with
/// what it follows: it is only a lower bound, and nobody waits in a circle for it.
async fn raise_unread_from(read: &Pool, write: &Pool, conversation_id: Uuid) -> Result<()> {
    let first: Option<i64> = on_pool!(read, pool => {
        sqlx::query_scalar(
            "SELECT COALESCE(
                 (SELECT seq FROM messages
                  WHERE conversation_id = $1 AND seq >= conversations.unread_from AND messages.status < 3
                  ORDER BY seq LIMIT 1),
                 last_seq + 1)
             FROM conversations WHERE id = $1",
        )
        .bind(conversation_id)
        .fetch_optional(pool)
        .await?
    });
    on_pool!(write, pool => {
        sqlx::query("UPDATE conversations SET unread_from = $1 WHERE id = $2 AND unread_from < $1")
            .bind(first)
            .bind(conversation_id)
            .execute(pool)
            .await?;
    });
    Ok(())
}
