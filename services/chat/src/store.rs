//! The tables of chat. All SQL of the service is here.

mod absences;
mod append;
mod import;
mod lists;
mod retention;
mod rows;

use sqlx::QueryBuilder;
use switchboard_chassis::{
    Micros,
    audit::Asked,
    db::{Db, Result},
    on_pool, record_erasure,
};
use uuid::Uuid;

pub(crate) use absences::Absence;
pub(crate) use lists::{ConversationKey, MessagesFrom, Summary, Whose};

use crate::{
    model::{self, Conversation, Kind, MessageName, Named, Opening, Openness, Reading, Refusal, Role, Seat, Which},
    rules::{self, RECEIPT_MESSAGES_MAX},
};
use rows::{CONVERSATION_COLUMNS, ConversationRow, NamedRow, SeatRow};
use switchboard_proto::chat::v1::RefusalReason;

/// Tries of an opening that raced with others for the same number or people.
const OPEN_TRIES_MAX: u32 = 16;
/// Numbers that were minted elsewhere above this do not move ours, which stay exact in JavaScript.
const COUNTED_NUMBERS_END: i64 = 1 << 52;

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
    /// After so long without a message a burst of messages is over.
    burst: Micros,
}

impl Store {
    pub(crate) fn new(db: Db, burst: Micros) -> Self {
        Self { db, burst }
    }

    /// Gets or creates; true when it was created.
    pub(crate) async fn open(
        &self,
        opening: &Opening,
        new_id: Uuid,
        now: Micros,
    ) -> Result<Result<(Conversation, bool), Refusal>> {
        let people = rules::people(opening.kind, &opening.seats);
        let minted_elsewhere = opening.id.is_some() || opening.number.is_some();
        for _ in 0..OPEN_TRIES_MAX {
            let mut known = match opening.id {
                Some(id) => self.conversation(id).await?,
                None => None,
            };
            if let (None, Some(number)) = (&known, opening.number) {
                known = self.conversation_by_number(opening.kind, number).await?;
            }
            if let Some(known) = known {
                let same = known.kind == opening.kind
                    && known.seats == opening.seats
                    && opening.id.is_none_or(|id| id == known.id)
                    && opening.number.is_none_or(|number| number == known.number);
                return Ok(if same {
                    Ok((known, false))
                } else {
                    Err(Refusal::new(RefusalReason::AlreadyExists, "another conversation has this id or number"))
                });
            }
            let same_people = match &people {
                Some(people) => self.conversation_by_people(opening.kind, people).await?,
                None => None,
            };
            if let (Some(known), false) = (&same_people, minted_elsewhere) {
                return Ok(Ok((known.clone(), false)));
            }
            // A further conversation of the same people can only be reached by the id or number minted for it.
            let people = people.as_ref().filter(|_| same_people.is_none());
            let id = opening.id.unwrap_or(new_id);
            if self.insert(opening, id, people, now).await? {
                // Read back: the number may have been chosen by the database.
                if let Some(made) = self.conversation(id).await? {
                    return Ok(Ok((made, true)));
                }
            }
        }
        Ok(Err(Refusal::overloaded()))
    }

    /// False when somebody else was faster.
    async fn insert(&self, opening: &Opening, id: Uuid, people: Option<&String>, now: Micros) -> Result<bool> {
        Ok(on_pool!(&self.db.write, pool => {
            let mut tx = pool.begin().await?;
            // The next number of this kind, above all that were minted elsewhere. Openings of a kind wait here for each
            // other, so that none of them has to begin again.
            let minted = opening.number.filter(|number| *number < COUNTED_NUMBERS_END);
            let next: i64 = sqlx::query_scalar(
                "UPDATE counters SET value = CASE WHEN $1 > value THEN $1 WHEN $2 THEN value ELSE value + 1 END
                 WHERE name = $3 RETURNING value",
            )
            .bind(minted.unwrap_or(0))
            .bind(opening.number.is_some())
            .bind(format!("{}_NUMBER", opening.kind.as_str_name()))
            .fetch_one(&mut *tx)
            .await?;
            let done = sqlx::query(
                "INSERT INTO conversations
                     (id, kind, number, people, subject, status, last_seq, erased, created_at, updated_at)
                 VALUES ($1, $2, $3, $4, $5, $6, 0, 0, $7, $7)
                 ON CONFLICT DO NOTHING",
            )
            .bind(id)
            .bind(i32::from(opening.kind))
            .bind(opening.number.unwrap_or(next))
            .bind(people)
            .bind(&opening.subject)
            .bind(i32::from(Openness::Open))
            .bind(now)
            .execute(&mut *tx)
            .await?;
            if done.rows_affected() == 0 {
                return Ok(false);
            }
            for seat in &opening.seats {
                sqlx::query("INSERT INTO seats (conversation_id, user_id, role, kind) VALUES ($1, $2, $3, $4)")
                    .bind(id)
                    .bind(&seat.user_id)
                    .bind(seat.role.as_str())
                    .bind(i32::from(opening.kind))
                    .execute(&mut *tx)
                    .await?;
            }
            tx.commit().await?;
            true
        }))
    }

    pub(crate) async fn conversation(&self, id: Uuid) -> Result<Option<Conversation>> {
        let row: Option<ConversationRow> = on_pool!(&self.db.read, pool => {
            sqlx::query_as(sqlx::AssertSqlSafe(format!("SELECT {CONVERSATION_COLUMNS} FROM conversations WHERE id = $1")))
                .bind(id)
                .fetch_optional(pool)
                .await?
        });
        self.seated(row).await
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

    pub(crate) async fn conversation_by_number(&self, kind: Kind, number: i64) -> Result<Option<Conversation>> {
        let row: Option<ConversationRow> = on_pool!(&self.db.read, pool => {
            sqlx::query_as(sqlx::AssertSqlSafe(format!(
                "SELECT {CONVERSATION_COLUMNS} FROM conversations WHERE kind = $1 AND number = $2"
            )))
            .bind(i32::from(kind))
            .bind(number)
            .fetch_optional(pool)
            .await?
        });
        self.seated(row).await
    }

    async fn conversation_by_people(&self, kind: Kind, people: &str) -> Result<Option<Conversation>> {
        let row: Option<ConversationRow> = on_pool!(&self.db.read, pool => {
            sqlx::query_as(sqlx::AssertSqlSafe(format!(
                "SELECT {CONVERSATION_COLUMNS} FROM conversations WHERE kind = $1 AND people = $2"
            )))
            .bind(i32::from(kind))
            .bind(people)
            .fetch_optional(pool)
            .await?
        });
        self.seated(row).await
    }

    async fn seated(&self, row: Option<ConversationRow>) -> Result<Option<Conversation>> {
        let Some(row) = row else { return Ok(None) };
        let seats = self.seats(&[row.id]).await?.into_iter().map(|(_, seat)| seat).collect();
        Ok(Some(row.with_seats(seats)))
    }

    /// The seats of several conversations, sorted within each.
    async fn seats(&self, ids: &[Uuid]) -> Result<Vec<(Uuid, Seat)>> {
        let rows: Vec<SeatRow> = on_pool!(&self.db.read, pool => {
            let mut query = QueryBuilder::new("SELECT conversation_id, user_id, role FROM seats WHERE conversation_id IN (");
            let mut list = query.separated(", ");
            for id in ids {
                list.push_bind(*id);
            }
            query.push(")");
            query.build_query_as().fetch_all(pool).await?
        });
        let mut seats: Vec<(Uuid, Seat)> = rows.into_iter().filter_map(SeatRow::seat).collect();
        seats.sort();
        Ok(seats)
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
        let mut changed: Vec<NamedRow> = on_pool!(&self.db.write, pool => {
            let mut query = QueryBuilder::new("UPDATE messages SET status = ");
            query.push_bind(status);
            query.push(" WHERE conversation_id = ").push_bind(conversation_id);
            query.push(" AND seq IN (SELECT seq FROM messages WHERE conversation_id = ").push_bind(conversation_id);
            // The literal lets the index of unread messages serve.
            query.push(" AND status < 3 AND status < ").push_bind(status);
            query.push(" AND sender_id <> ").push_bind(reader);
            query.push(" AND sender_role <> ").push_bind(role.as_str());
            query.push(" AND seq > ").push_bind(rows::bigint(after));
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
            query.build_query_as().persistent(false).fetch_all(pool).await?
        });
        changed.sort_by_key(|row| row.seq);
        let up_to = found.into_iter().next().filter(|_| matches!(reading.which, Which::UpTo(_)));
        Ok(Ok(Marked {
            changed: changed.into_iter().map(NamedRow::named).collect(),
            up_to: up_to.map(NamedRow::named),
        }))
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
            sqlx::query("UPDATE conversations SET status = $1, updated_at = $2 WHERE id = $3 AND status <> $1")
                .bind(i32::from(Openness::Closed))
                .bind(now)
                .bind(id)
                .execute(pool)
                .await?;
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
                messages += sqlx::query("DELETE FROM messages WHERE conversation_id = $1 AND sender_id = $2")
                    .bind(conversation_id)
                    .bind(user_id)
                    .execute(&mut *tx)
                    .await?
                    .rows_affected();
            }
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
