//! Group commit: many messages of many conversations in one transaction.

use sqlx::QueryBuilder;
use switchboard_chassis::{
    Error, Kind, Micros,
    db::{Result, padded},
    on_pool,
};
use uuid::Uuid;

use super::{
    Store,
    absences::{Missed, STATEMENT_ABSENCES_MAX, missed},
    rows::{MESSAGE_COLUMNS, MessageRow, TAKE_NUMBERS, bigint, insert_messages},
};
use crate::{
    model::{Draft, Message},
    order::{Appended, Numbers, place},
};

/// Message numbers that one instance takes at a time (hi/lo). What is left of a block when the instance ends is never
/// used.
const NUMBER_BLOCK: i64 = 1024;
/// Drafts looked up in one statement: SQLite refuses expressions of more than 1,000 levels, and each draft is two.
const LOOK_UP_DRAFTS: usize = 200;

impl Store {
    /// Stores drafts in their order in one transaction and says what became of each.
    ///
    /// Conversations are locked in the order of their ids, so that instances that share a database cannot wait for
    /// each other in a circle.
    ///
    /// The feed relies on two things: on SQLite, numbers are stored in their order, as one writer takes them; on Postgres, who
    /// stores a `seq` began to lock the conversation, or waited for it, after the one before was committed.
    ///
    /// With `ids_may_be_taken`, every id is looked up first; else only those of drafts that say so.
    ///
    /// # Errors
    /// Nothing was stored; or, when the database did not answer, perhaps everything was.
    pub(crate) async fn append(
        &self,
        drafts: &[Draft],
        now: Micros,
        numbers: &mut Numbers,
        ids_may_be_taken: bool,
    ) -> Result<Vec<Appended>> {
        for ids_may_be_taken in [ids_may_be_taken, true] {
            self.reserve(numbers, drafts.len()).await?;
            if let Some(appended) = self.append_once(drafts, now, numbers, ids_may_be_taken).await? {
                return Ok(appended);
            }
            // An id that a caller chose is taken: all of them are looked at.
        }
        Err(Error::new(Kind::Unavailable, "CONFLICT", "somebody stored the same at the same time; try again"))
    }

    async fn reserve(&self, numbers: &mut Numbers, wanted: usize) -> Result<()> {
        let wanted = i64::try_from(wanted).unwrap_or(NUMBER_BLOCK);
        if numbers.end - numbers.next >= wanted {
            return Ok(());
        }
        let block = NUMBER_BLOCK.max(wanted);
        let end: i64 = on_pool!(&self.db.write, pool => {
            sqlx::query_scalar(TAKE_NUMBERS).bind(0_i64).bind(block).bind("message_number").fetch_one(pool).await?
        });
        *numbers = Numbers { next: end - block + 1, end: end + 1 };
        Ok(())
    }

    /// `None` when an id that was not looked up is taken: nothing was stored.
    async fn append_once(
        &self,
        drafts: &[Draft],
        now: Micros,
        numbers: &mut Numbers,
        ids_may_be_taken: bool,
    ) -> sqlx::Result<Option<Vec<Appended>>> {
        let mut ids: Vec<Uuid> = drafts.iter().map(|draft| draft.conversation_id).collect();
        ids.sort_unstable();
        ids.dedup();
        let for_update = self.db.for_update();

        on_pool!(&self.db.write, pool => {
            let mut tx = pool.begin().await?;

            let mut query = QueryBuilder::new("SELECT id, last_seq, status FROM conversations WHERE id IN (");
            let mut list = query.separated(", ");
            for id in padded(&ids) {
                list.push_bind(*id);
            }
            query.push(") ORDER BY id").push(for_update);
            let heads: Vec<(Uuid, i64, i32)> = query.build_query_as().fetch_all(&mut *tx).await?;

            let mut known = Vec::new();
            let is_looked_up =
                |draft: &&Draft| draft.client_message_id.is_some() || draft.retry || ids_may_be_taken;
            let looked_up: Vec<&Draft> = drafts.iter().filter(is_looked_up).collect();
            for looked_up in looked_up.chunks(LOOK_UP_DRAFTS) {
                let mut query = QueryBuilder::new(format!("SELECT {MESSAGE_COLUMNS} FROM messages WHERE "));
                let mut list = query.separated(" OR ");
                for draft in looked_up {
                    if let Some(client_message_id) = &draft.client_message_id {
                        list.push("(conversation_id = ")
                            .push_bind_unseparated(draft.conversation_id)
                            .push_unseparated(" AND sender_id = ")
                            .push_bind_unseparated(&draft.sender_id)
                            .push_unseparated(" AND client_message_id = ")
                            .push_bind_unseparated(client_message_id)
                            .push_unseparated(")");
                    }
                    if draft.retry || ids_may_be_taken {
                        list.push("id = ").push_bind_unseparated(draft.id);
                    }
                }
                let rows: Vec<MessageRow> = query.build_query_as().persistent(false).fetch_all(&mut *tx).await?;
                known.extend(rows.into_iter().map(Message::from));
            }

            let (appended, heads) = place(drafts, &heads, known, now, numbers);
            if heads.is_empty() {
                return Ok(Some(appended));
            }
            let stored: Vec<&Message> = appended
                .iter()
                .filter_map(|appended| match appended {
                    Appended::Stored(message) => Some(message),
                    _ => None,
                })
                .collect();
            let mut query = insert_messages!(padded(&stored));
            // The last one may be there several times.
            query.push(" ON CONFLICT DO NOTHING");
            let inserted = query.build().execute(&mut *tx).await?.rows_affected();
            if inserted < stored.len() as u64 {
                return Ok(None);
            }

            let mut query = QueryBuilder::new("UPDATE conversations SET last_seq = v.column2, updated_at = ");
            query.push_bind(now).push(" FROM (");
            query.push_values(padded(&heads), |mut row, (id, last_seq)| {
                row.push_bind(*id).push_bind(bigint(*last_seq));
            });
            query.push(") AS v WHERE conversations.id = v.column1");
            query.build().execute(&mut *tx).await?;

            let over_before = |missed: &Missed<'_>| {
                let silence = now.saturating_sub(self.burst);
                self.coming.came_at(missed).map_or(silence, |at| silence.max(at.saturating_add(1)))
            };
            let missed = missed(drafts, &appended, over_before);
            let alike = missed.chunk_by(|one, next| one.over_before == next.over_before);
            for missed in alike.flat_map(|alike| alike.chunks(STATEMENT_ABSENCES_MAX)) {
                let over_before = missed[0].over_before;
                let mut query = QueryBuilder::new(
                    "INSERT INTO absences
                         (conversation_id, user_id, kind, message_id, sender_id, since, last_at, is_told) ",
                );
                query.push_values(missed, |mut row, Missed { message, kind, user_id, .. }| {
                    row.push_bind(message.conversation_id)
                        .push_bind(*user_id)
                        .push_bind(i32::from(*kind))
                        .push_bind(message.id)
                        .push_bind(&message.sender_id)
                        .push_bind(message.created_at)
                        .push_bind(message.created_at)
                        .push("FALSE");
                });
                query.push(" ON CONFLICT (conversation_id, user_id) DO UPDATE SET last_at = excluded.last_at");
                // The first message of a burst stays until it is over.
                for column in ["message_id", "sender_id", "since", "is_told"] {
                    query
                        .push(format!(", {column} = CASE WHEN absences.last_at < "))
                        .push_bind(over_before)
                        .push(format!(" THEN excluded.{column} ELSE absences.{column} END"));
                }
                query.build().persistent(false).execute(&mut *tx).await?;
            }

            tx.commit().await?;
            Ok(Some(appended))
        })
    }
}
