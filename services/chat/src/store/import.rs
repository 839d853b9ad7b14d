//! Whole conversations in and out, with their ids and times.

use std::collections::{HashMap, HashSet};

use sqlx::QueryBuilder;
use switchboard_chassis::{Micros, db::Result, on_pool};
use switchboard_proto::chat::v1::RefusalReason;
use uuid::Uuid;

use super::{
    Store,
    opening::{COUNTED_NUMBERS_END, seats},
    rows::{
        CONVERSATION_COLUMNS, ConversationRow, MESSAGE_COLUMNS, MessageRow, SeatRow, TAKE_NUMBERS, bigint,
        insert_messages,
    },
};
use crate::{
    import::{Counts, Head, Moved, Taken, at, is_same_conversation, place},
    model::{Conversation, Message, Openness, Refusal, Seat},
    rules,
};

/// Ids that are looked up in one statement.
const LOOK_UP_IDS: usize = 500;

impl Store {
    /// Conversations above `after` in the order of their ids, or those with `only` these ids, that changed since a time;
    /// each with whether another one is the one of the same people.
    pub(crate) async fn export(
        &self,
        after: Option<Uuid>,
        only: &[Uuid],
        since: Option<Micros>,
        size: u32,
    ) -> Result<Vec<(Conversation, bool)>> {
        let rows: Vec<ConversationRow> = on_pool!(&self.db.read, pool => {
            let mut query = QueryBuilder::new(format!("SELECT {CONVERSATION_COLUMNS} FROM conversations WHERE 1 = 1"));
            if let Some(after) = after {
                query.push(" AND id > ").push_bind(after);
            }
            if let Some(since) = since {
                query.push(" AND updated_at >= ").push_bind(since);
            }
            if !only.is_empty() {
                query.push(" AND id IN (");
                let mut list = query.separated(", ");
                for id in only {
                    list.push_bind(*id);
                }
                query.push(")");
            }
            query.push(" ORDER BY id LIMIT ").push_bind(i64::from(size));
            query.build_query_as().persistent(false).fetch_all(pool).await?
        });
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let ids: Vec<Uuid> = rows.iter().map(|row| row.id).collect();
        let mut seats = seats(&self.db.read, &ids).await?;
        let export = |row: ConversationRow| {
            let (seats, has_people) = (seats.remove(&row.id).unwrap_or_default(), row.people.is_some());
            let conversation = row.with_seats(seats);
            let is_secondary = !has_people && rules::people(conversation.kind, &conversation.seats).is_some();
            (conversation, is_secondary)
        };
        Ok(rows.into_iter().map(export).collect())
    }

    /// Messages by their ids.
    pub(crate) async fn messages_by_id(&self, ids: &[Uuid]) -> Result<Vec<Message>> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let rows: Vec<MessageRow> = on_pool!(&self.db.read, pool => {
            let mut query = QueryBuilder::new(format!("SELECT {MESSAGE_COLUMNS} FROM messages WHERE id IN ("));
            let mut list = query.separated(", ");
            for id in ids {
                list.push_bind(*id);
            }
            query.push(")");
            query.build_query_as().persistent(false).fetch_all(pool).await?
        });
        Ok(rows.into_iter().map(Message::from).collect())
    }

    /// Stores conversations with their ids and times: all of them, or none.
    pub(crate) async fn import_conversations(&self, lines: &[Moved]) -> Result<Result<Counts, Refusal>> {
        let for_update = self.db.for_update();
        let mut counts = Counts::default();
        // In the order in which others lock them.
        let mut order: Vec<(usize, &Moved)> = lines.iter().enumerate().collect();
        order.sort_by_key(|(_, line)| line.conversation.id);
        on_pool!(&self.db.write, pool => {
            let mut tx = pool.begin().await?;
            for (number, line) in order {
                let moved = &line.conversation;
                let known: Option<ConversationRow> = sqlx::query_as(sqlx::AssertSqlSafe(format!(
                    "SELECT {CONVERSATION_COLUMNS} FROM conversations WHERE id = $1{for_update}"
                )))
                .bind(moved.id)
                .fetch_optional(&mut *tx)
                .await?;
                if let Some(known) = known {
                    let seats: Vec<SeatRow> =
                        sqlx::query_as("SELECT conversation_id, user_id, role FROM seats WHERE conversation_id = $1")
                            .bind(moved.id)
                            .fetch_all(&mut *tx)
                            .await?;
                    let mut seats: Vec<Seat> = seats.into_iter().filter_map(SeatRow::seat).map(|(_, seat)| seat).collect();
                    seats.sort();
                    let known = known.with_seats(seats);
                    if !is_same_conversation(line, &known) {
                        let what = "id: another conversation has it: one of another kind, number or participants";
                        return Ok(Err(at("conversations", number, Refusal::new(RefusalReason::AlreadyExists, what))));
                    }
                    let closes = moved.openness == Openness::Closed && known.openness != Openness::Closed;
                    if !closes
                        && moved.subject == known.subject
                        && moved.updated_at <= known.updated_at
                        && moved.last_seq <= known.last_seq
                    {
                        counts.unchanged += 1;
                        continue;
                    }
                    sqlx::query(
                        "UPDATE conversations SET subject = $2, status = $3,
                             updated_at = CASE WHEN updated_at < $4 THEN $4 ELSE updated_at END,
                             erased = CASE WHEN last_seq < $5 THEN erased + $5 - last_seq ELSE erased END,
                             last_seq = CASE WHEN last_seq < $5 THEN $5 ELSE last_seq END
                         WHERE id = $1",
                    )
                    .bind(moved.id)
                    .bind(&moved.subject)
                    .bind(i32::from(if closes { Openness::Closed } else { known.openness }))
                    .bind(moved.updated_at)
                    .bind(bigint(moved.last_seq))
                    .execute(&mut *tx)
                    .await?;
                    counts.updated += 1;
                    continue;
                }
                // As for one that is opened: its number, or the next one above all that were minted elsewhere.
                let minted = Some(moved.number).filter(|number| (1..COUNTED_NUMBERS_END).contains(number));
                let next: i64 = sqlx::query_scalar(TAKE_NUMBERS)
                    .bind(minted.unwrap_or(0))
                    .bind(i64::from(moved.number == 0))
                    .bind(format!("{}_NUMBER", moved.kind.as_str_name()))
                    .fetch_one(&mut *tx)
                    .await?;
                let done = sqlx::query(
                    "INSERT INTO conversations
                         (id, kind, number, people, subject, status, last_seq, erased, created_at, updated_at)
                     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
                     ON CONFLICT DO NOTHING",
                )
                .bind(moved.id)
                .bind(i32::from(moved.kind))
                .bind(if moved.number == 0 { next } else { moved.number })
                .bind(&line.people)
                .bind(&moved.subject)
                .bind(i32::from(moved.openness))
                .bind(bigint(moved.last_seq))
                .bind(bigint(moved.erased))
                .bind(moved.created_at)
                .bind(moved.updated_at)
                .execute(&mut *tx)
                .await?;
                if done.rows_affected() == 0 {
                    let with_the_number: Option<Uuid> =
                        sqlx::query_scalar("SELECT id FROM conversations WHERE kind = $1 AND number = $2")
                            .bind(i32::from(moved.kind))
                            .bind(moved.number)
                            .fetch_optional(&mut *tx)
                            .await?;
                    let what = if with_the_number.is_some() {
                        "number: another conversation of the kind has it"
                    } else {
                        "participants: these people have another conversation already, and would not be led to this \
                         one; import before they write here, or mark it as secondary"
                    };
                    return Ok(Err(at("conversations", number, Refusal::new(RefusalReason::AlreadyExists, what))));
                }
                for seat in &moved.seats {
                    sqlx::query("INSERT INTO seats (conversation_id, user_id, role, kind) VALUES ($1, $2, $3, $4)")
                        .bind(moved.id)
                        .bind(&seat.user_id)
                        .bind(seat.role.as_str())
                        .bind(i32::from(moved.kind))
                        .execute(&mut *tx)
                        .await?;
                }
                counts.created += 1;
            }
            tx.commit().await?;
        });
        Ok(Ok(counts))
    }

    /// Stores messages with their ids and times behind those that are there: all of them, or none.
    pub(crate) async fn import_messages(&self, mut lines: Vec<Message>) -> Result<Result<Counts, Refusal>> {
        let for_update = self.db.for_update();
        let mut conversations: Vec<Uuid> = lines.iter().map(|line| line.conversation_id).collect();
        conversations.sort_unstable();
        conversations.dedup();
        if conversations.is_empty() {
            return Ok(Ok(Counts::default()));
        }
        let placed = on_pool!(&self.db.write, pool => {
            let mut tx = pool.begin().await?;

            let mut query = QueryBuilder::new("SELECT id, last_seq, erased FROM conversations WHERE id IN (");
            let mut list = query.separated(", ");
            for id in &conversations {
                list.push_bind(*id);
            }
            query.push(") ORDER BY id").push(for_update);
            let rows: Vec<(Uuid, i64, i64)> = query.build_query_as().persistent(false).fetch_all(&mut *tx).await?;
            let mut heads: HashMap<Uuid, Head> = rows
                .into_iter()
                .map(|(id, last_seq, erased)| {
                    let (last_seq, erased) = (last_seq.unsigned_abs(), erased.unsigned_abs());
                    (id, Head { last_seq, erased, ..Head::default() })
                })
                .collect();

            let mut query = QueryBuilder::new(
                "SELECT messages.conversation_id, messages.seq, messages.created_at
                 FROM conversations JOIN messages ON messages.conversation_id = conversations.id
                 WHERE messages.seq = (SELECT MAX(seq) FROM messages AS other WHERE other.conversation_id = conversations.id)
                 AND conversations.id IN (",
            );
            let mut list = query.separated(", ");
            for id in &conversations {
                list.push_bind(*id);
            }
            query.push(")");
            let rows: Vec<(Uuid, i64, Micros)> = query.build_query_as().persistent(false).fetch_all(&mut *tx).await?;
            for (id, seq, at) in rows {
                if let Some(head) = heads.get_mut(&id) {
                    (head.stored, head.last_at) = (seq.unsigned_abs(), at);
                }
            }

            let mut known = HashMap::new();
            let mut taken = Taken::default();
            for lines in lines.chunks(LOOK_UP_IDS) {
                let mut query = QueryBuilder::new(format!("SELECT {MESSAGE_COLUMNS} FROM messages WHERE id IN ("));
                let mut list = query.separated(", ");
                for line in lines {
                    list.push_bind(line.id);
                }
                query.push(")");
                let rows: Vec<MessageRow> = query.build_query_as().persistent(false).fetch_all(&mut *tx).await?;
                known.extend(rows.into_iter().map(Message::from).map(|message| (message.id, message)));

                let numbers: Vec<i64> = lines.iter().map(|line| line.number).filter(|number| *number != 0).collect();
                if !numbers.is_empty() {
                    let mut query =
                        QueryBuilder::new("SELECT conversation_id, number FROM messages WHERE number IN (");
                    let mut list = query.separated(", ");
                    for number in numbers {
                        list.push_bind(number);
                    }
                    query.push(")");
                    let rows: Vec<(Uuid, i64)> =
                        query.build_query_as().persistent(false).fetch_all(&mut *tx).await?;
                    taken.numbers.extend(rows);
                }
                let client_ids: HashSet<(Uuid, &str, &str)> = lines
                    .iter()
                    .filter_map(|line| {
                        Some((line.conversation_id, line.sender_id.as_str(), line.client_message_id.as_deref()?))
                    })
                    .collect();
                if !client_ids.is_empty() {
                    let mut query = QueryBuilder::new(
                        "SELECT messages.conversation_id, sender_id, client_message_id FROM messages WHERE
                             client_message_id IS NOT NULL AND (messages.conversation_id, sender_id, client_message_id) IN (",
                    );
                    query.push_values(client_ids, |mut row, (conversation_id, sender_id, client_id)| {
                        row.push_bind(conversation_id).push_bind(sender_id).push_bind(client_id);
                    });
                    query.push(")");
                    let rows: Vec<(Uuid, String, String)> =
                        query.build_query_as().persistent(false).fetch_all(&mut *tx).await?;
                    taken.client_ids.extend(rows);
                }
            }

            let mut placed = match place(std::mem::take(&mut lines), &mut heads, known, &mut taken) {
                Ok(placed) => placed,
                Err(refusal) => return Ok(Err(refusal)),
            };

            let highest = placed.new.iter().map(|message| message.number).filter(|number| *number < COUNTED_NUMBERS_END);
            let highest = highest.max().unwrap_or(0);
            let unnumbered = placed.new.iter().filter(|message| message.number == 0).count();
            if !placed.new.is_empty() {
                // Numbers that are given from now on are above all of these.
                let wanted = i64::try_from(unnumbered).unwrap_or(i64::MAX);
                let last: i64 = sqlx::query_scalar(TAKE_NUMBERS)
                    .bind(highest)
                    .bind(wanted)
                    .bind("message_number")
                    .fetch_one(&mut *tx)
                    .await?;
                let unnumbered = placed.new.iter_mut().filter(|message| message.number == 0);
                for (message, number) in unnumbered.zip(last - wanted + 1..) {
                    message.number = number;
                }
            }
            for new in placed.new.chunks(LOOK_UP_IDS) {
                let mut query = insert_messages!(new);
                query.build().persistent(false).execute(&mut *tx).await?;
            }
            for (id, head) in heads.iter().filter(|(_, head)| head.has_grown) {
                sqlx::query(
                    "UPDATE conversations SET last_seq = $2, erased = $3, unread_from = 0,
                         updated_at = CASE WHEN updated_at < $4 THEN $4 ELSE updated_at END
                     WHERE id = $1",
                )
                .bind(*id)
                .bind(bigint(head.last_seq))
                .bind(bigint(head.erased))
                .bind(head.last_at)
                .execute(&mut *tx)
                .await?;
            }
            for (id, status) in &placed.advanced {
                sqlx::query("UPDATE messages SET status = $2 WHERE id = $1 AND status < $2")
                    .bind(*id)
                    .bind(i32::from(*status))
                    .execute(&mut *tx)
                    .await?;
            }
            tx.commit().await?;
            placed
        });
        Ok(Ok(placed.counts))
    }
}
