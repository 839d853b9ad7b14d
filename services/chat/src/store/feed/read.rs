//! Reads the feed page by page.

use sqlx::{FromRow, PgPool, SqlitePool};
use switchboard_chassis::db::{Pool, Result};
use uuid::Uuid;

use super::{super::Store, Entry, Happening, Key, Page, Place, What};

/// Rows that are read of each table at a time; more only when more were stored together.
pub(crate) const PAGE_ROWS: i64 = 256;

/// A row of either table.
#[derive(Clone, Debug, FromRow)]
struct Row {
    conversation_id: Uuid,
    seq: i64,
    kind: i32,
    /// 0 for a message.
    event: i64,
    r#type: i32,
    /// Postgres: which transaction stored it. SQLite: the number of the message, or of the last one before an event.
    at: i64,
    /// Postgres: which transaction stored the message before it.
    needs: i64,
}

impl Row {
    fn key(&self) -> Key {
        Key { conversation_id: self.conversation_id, seq: self.seq, event: self.event }
    }

    fn entry(&self, place: Place) -> Entry {
        let what = match (self.event, Happening::read(self.r#type)) {
            (0, _) => What::Message(self.seq),
            (event, Some(happening)) => What::Event(happening, event),
            (_, None) => What::Unknown,
        };
        Entry { place, conversation_id: self.conversation_id, kind: self.kind, what }
    }
}

/// Why a cursor is of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BadPlace {
    /// Of another kind of database.
    Foreign,
    /// After all that this database has seen.
    Ahead,
}

impl Store {
    /// Where the oldest is.
    pub(crate) fn oldest(&self) -> Place {
        match self.db.read {
            Pool::Sqlite(_) => Place::After { number: 0, event: 0 },
            Pool::Postgres(_) => Place::Old(Key::FIRST),
        }
    }

    /// Where what is stored from now on begins.
    pub(crate) async fn newest(&self) -> Result<Place> {
        Ok(match &self.db.read {
            Pool::Sqlite(pool) => {
                let (number, event) = sqlx::query_as(
                    "SELECT (SELECT COALESCE(MAX(number), 0) FROM messages), (SELECT COALESCE(MAX(place), 0) FROM events)",
                )
                .fetch_one(pool)
                .await?;
                Place::After { number, event }
            }
            Pool::Postgres(pool) => Place::Before { from: settled(pool).await?.0 },
        })
    }

    /// Whether a place can be gone on from.
    pub(crate) async fn check_place(&self, place: Place) -> Result<Result<(), BadPlace>> {
        let is_ahead = match (&self.db.read, place) {
            (Pool::Sqlite(pool), Place::After { number, event }) => {
                let (numbers, events): (i64, i64) = sqlx::query_as(
                    "SELECT (SELECT value FROM counters WHERE name = 'message_number'),
                            (SELECT COALESCE(MAX(seq), 0) FROM sqlite_sequence WHERE name = 'events')",
                )
                .fetch_one(pool)
                .await?;
                number > numbers || event > events
            }
            (Pool::Postgres(_), Place::Old(_)) => false,
            (Pool::Postgres(pool), Place::Before { from } | Place::Inside { from, .. }) => {
                from > settled(pool).await?.1
            }
            _ => return Ok(Err(BadPlace::Foreign)),
        };
        Ok(if is_ahead { Err(BadPlace::Ahead) } else { Ok(()) })
    }

    /// What comes after a place, which was checked.
    pub(crate) async fn page_after(&self, place: Place) -> Result<Page> {
        Ok(match (&self.db.read, place) {
            (Pool::Sqlite(pool), Place::After { number, event }) => one_writer(pool, number, event).await?,
            (Pool::Postgres(pool), Place::Old(key)) => old(pool, key).await?,
            (Pool::Postgres(pool), Place::Before { from }) => many_writers(pool, from).await?,
            (Pool::Postgres(pool), Place::Inside { from, to, key }) => rest(pool, from, to, key).await?,
            // It was checked.
            (_, place) => Page { entries: Vec::new(), end: place, is_full: false, is_pending: false },
        })
    }
}

async fn one_writer(pool: &SqlitePool, number: i64, event: i64) -> sqlx::Result<Page> {
    // Both of the same moment.
    let mut tx = pool.begin().await?;
    let messages: Vec<Row> = sqlx::query_as(
        "SELECT messages.conversation_id, messages.seq, conversations.kind, 0 AS event, 0 AS type,
                messages.number AS at, 0 AS needs
         FROM messages JOIN conversations ON conversations.id = messages.conversation_id
         WHERE messages.number > $1 ORDER BY messages.number LIMIT $2",
    )
    .bind(number)
    .bind(PAGE_ROWS)
    .fetch_all(&mut *tx)
    .await?;
    let events: Vec<Row> = sqlx::query_as(
        "SELECT conversation_id, seq, kind, place AS event, type, after_number AS at, 0 AS needs
         FROM events WHERE place > $1 ORDER BY place LIMIT $2",
    )
    .bind(event)
    .bind(PAGE_ROWS)
    .fetch_all(&mut *tx)
    .await?;
    tx.commit().await?;
    let has_more = |rows: &[Row]| i64::try_from(rows.len()).unwrap_or(PAGE_ROWS) >= PAGE_ROWS;
    let (more_messages, more_events) = (has_more(&messages), has_more(&events));
    let (mut messages, mut events) = (messages.into_iter().peekable(), events.into_iter().peekable());
    let (mut number, mut event) = (number, event);
    let mut entries = Vec::new();
    let is_full = loop {
        // What is not read yet may belong before what is.
        let is_event = match (messages.peek(), events.peek()) {
            (None, None) => break more_messages || more_events,
            (None, Some(_)) if more_messages => break true,
            (Some(_), None) if more_events => break true,
            (Some(message), Some(event)) => event.at < message.at,
            (message, _) => message.is_none(),
        };
        let Some(row) = (if is_event { events.next() } else { messages.next() }) else { break false };
        if is_event {
            event = row.event
        } else {
            number = row.at
        }
        entries.push(row.entry(Place::After { number, event }));
    };
    Ok(Page { entries, end: Place::After { number, event }, is_full, is_pending: false })
}

/// What is before the first id can have no more rows; and what no id has reached.
async fn settled(pool: &PgPool) -> sqlx::Result<(i64, i64)> {
    sqlx::query_as(
        "SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint + shift,
                pg_snapshot_xmax(pg_current_snapshot())::text::bigint + shift
         FROM feed",
    )
    .fetch_one(pool)
    .await
}

/// Of messages: `before` is the condition of which message is before.
macro_rules! rows {
    ($what:literal) => {
        concat!(
            "(SELECT messages.conversation_id, messages.seq, conversations.kind, 0::bigint AS event, 0 AS type,
                     COALESCE(messages.stored_by, 0) AS at,
                     COALESCE((SELECT earlier.stored_by FROM messages AS earlier
                               WHERE earlier.conversation_id = messages.conversation_id AND earlier.seq < messages.seq
                               ORDER BY earlier.seq DESC LIMIT 1), 0) AS needs
              FROM messages JOIN conversations ON conversations.id = messages.conversation_id
              WHERE messages.",
            $what,
            ") UNION ALL
             (SELECT conversation_id, seq, kind, place AS event, type, COALESCE(stored_by, 0) AS at,
                     COALESCE((SELECT earlier.stored_by FROM messages AS earlier
                               WHERE earlier.conversation_id = events.conversation_id AND earlier.seq <= events.seq
                               ORDER BY earlier.seq DESC LIMIT 1), 0) AS needs
              FROM events WHERE events.",
            $what,
            ")"
        )
    };
}

async fn many_writers(pool: &PgPool, from: i64) -> sqlx::Result<Page> {
    let (settled, _) = settled(pool).await?;
    let mut rows_max = PAGE_ROWS;
    loop {
        let mut rows: Vec<Row> =
            sqlx::query_as(rows!("stored_by >= $1 AND stored_by < $2 ORDER BY stored_by LIMIT $3"))
                .bind(from)
                .bind(settled)
                .bind(rows_max)
                .fetch_all(pool)
                .await?;
        rows.sort_by_key(|row| row.at);
        // Where one of the two reached its limit, there may be more of the same transaction.
        let limit = |is_event: bool| {
            let of_it: Vec<&Row> = rows.iter().filter(|row| (row.event > 0) == is_event).collect();
            let is_full = i64::try_from(of_it.len()).unwrap_or(rows_max) >= rows_max;
            of_it.last().filter(|_| is_full).map(|row| row.at)
        };
        let end = [limit(false), limit(true)].into_iter().flatten().min();
        let is_full = end.is_some();
        let end = end.unwrap_or(settled);
        rows.retain(|row| row.at < end);
        let (entries, told_to) = chunks(from, end, rows);
        if is_full && told_to == from {
            // More than a page was stored together.
            rows_max *= 2;
            continue;
        }
        let is_pending = if is_full {
            true
        } else {
            told_to < settled
                || sqlx::query_scalar(
                    "SELECT EXISTS (SELECT 1 FROM messages WHERE stored_by >= $1)
                         OR EXISTS (SELECT 1 FROM events WHERE stored_by >= $1)",
                )
                .bind(settled)
                .fetch_one(pool)
                .await?
        };
        return Ok(Page { entries, end: Place::Before { from: told_to }, is_full, is_pending });
    }
}

/// Cuts rows of the transactions from `from` to before `end`, in their order, into chunks; and says up to where they go: what is
/// behind waits for a message that is not among them.
fn chunks(mut from: i64, end: i64, rows: Vec<Row>) -> (Vec<Entry>, i64) {
    let mut entries = Vec::new();
    let mut chunk: Vec<Row> = Vec::new();
    let mut needs = 0;
    let mut rows = rows.into_iter().peekable();
    while let Some(row) = rows.next() {
        let at = row.at;
        needs = needs.max(row.needs);
        chunk.push(row);
        if rows.peek().is_some_and(|next| next.at == at) || needs > at {
            continue;
        }
        chunk.sort_by_key(Row::key);
        let to = at + 1;
        entries.extend(chunk.drain(..).map(|row| row.entry(Place::Inside { from, to, key: row.key() })));
        if let Some(last) = entries.last_mut() {
            last.place = Place::Before { from: to };
        }
        from = to;
    }
    // Between the last of them and the end is nothing.
    let told_to = if chunk.is_empty() { end.max(from) } else { from };
    (entries, told_to)
}

/// The rest of a chunk that was told in part.
async fn rest(pool: &PgPool, from: i64, to: i64, key: Key) -> sqlx::Result<Page> {
    let rows: Vec<Row> =
        sqlx::query_as(rows!("stored_by >= $1 AND stored_by < $2")).bind(from).bind(to).fetch_all(pool).await?;
    let mut rows: Vec<Row> = rows.into_iter().filter(|row| row.key() > key).collect();
    rows.sort_by_key(Row::key);
    let entries = rows.iter().map(|row| row.entry(Place::Inside { from, to, key: row.key() })).collect();
    Ok(Page { entries, end: Place::Before { from: to }, is_full: true, is_pending: true })
}

/// What was stored before there was a feed.
async fn old(pool: &PgPool, key: Key) -> sqlx::Result<Page> {
    let messages: Vec<Row> = sqlx::query_as(
        "SELECT messages.conversation_id, messages.seq, conversations.kind, 0::bigint AS event, 0 AS type,
                0::bigint AS at, 0::bigint AS needs
         FROM messages JOIN conversations ON conversations.id = messages.conversation_id
         WHERE messages.stored_by IS NULL AND (messages.conversation_id, messages.seq) > ($1, $2)
         ORDER BY messages.conversation_id, messages.seq LIMIT $3",
    )
    .bind(key.conversation_id)
    .bind(key.seq)
    .bind(PAGE_ROWS)
    .fetch_all(pool)
    .await?;
    let events: Vec<Row> = sqlx::query_as(
        "SELECT conversation_id, seq, kind, place AS event, type, 0::bigint AS at, 0::bigint AS needs
         FROM events WHERE stored_by IS NULL AND (conversation_id, seq, place) > ($1, $2, $3)
         ORDER BY conversation_id, seq, place LIMIT $4",
    )
    .bind(key.conversation_id)
    .bind(key.seq)
    .bind(key.event)
    .bind(PAGE_ROWS)
    .fetch_all(pool)
    .await?;
    let mut rows: Vec<Row> = messages.into_iter().chain(events).collect();
    rows.sort_by_key(Row::key);
    // Of the other table there may be more behind.
    rows.truncate(usize::try_from(PAGE_ROWS).unwrap_or(usize::MAX));
    let entries: Vec<Entry> = rows.iter().map(|row| row.entry(Place::Old(row.key()))).collect();
    let end = entries.last().map_or(Place::Before { from: 0 }, |last| last.place);
    Ok(Page { entries, end, is_full: true, is_pending: true })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(at: i64, conversation: u128, seq: i64, needs: i64) -> Row {
        Row { conversation_id: Uuid::from_u128(conversation), seq, kind: 1, event: 0, r#type: 0, at, needs }
    }

    fn told(rows: Vec<Row>, from: i64, end: i64) -> (Vec<(u128, i64)>, i64) {
        let (entries, told_to) = chunks(from, end, rows);
        let told = entries.into_iter().filter_map(|entry| match entry.what {
            What::Message(seq) => Some((entry.conversation_id.as_u128(), seq)),
            _ => None,
        });
        (told.collect(), told_to)
    }

    #[test]
    fn transactions_are_told_in_their_order() {
        let rows = vec![row(10, 2, 1, 0), row(11, 1, 1, 0), row(11, 1, 2, 11), row(12, 2, 2, 10)];
        assert_eq!(told(rows, 5, 20), (vec![(2, 1), (1, 1), (1, 2), (2, 2)], 20));
        assert_eq!(told(Vec::new(), 5, 20), (Vec::new(), 20));
    }

    /// 10 waited for the lock that 12 had.
    #[test]
    fn a_message_is_told_after_the_one_before_it() {
        let rows = vec![row(10, 1, 5, 12), row(11, 2, 1, 0), row(12, 1, 4, 3), row(13, 3, 1, 0)];
        assert_eq!(told(rows, 10, 14), (vec![(1, 4), (1, 5), (2, 1), (3, 1)], 14));
    }

    #[test]
    fn what_needs_a_message_that_is_not_settled_waits() {
        let rows = vec![row(9, 3, 1, 0), row(10, 1, 5, 12), row(11, 2, 1, 0)];
        assert_eq!(told(rows, 9, 12), (vec![(3, 1)], 10));
    }

    #[test]
    fn places_inside_of_a_chunk_name_all_of_it() {
        let (entries, _) = chunks(10, 14, vec![row(10, 1, 5, 12), row(12, 1, 4, 3)]);
        assert_eq!(entries[0].place, Place::Inside { from: 10, to: 13, key: row(12, 1, 4, 3).key() });
        assert_eq!(entries[1].place, Place::Before { from: 13 });
    }
}
