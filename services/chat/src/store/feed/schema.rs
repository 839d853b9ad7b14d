//! What the feed needs of the database. It differs between the two kinds (a column that fills itself), so it is no
//! migration, of which there is one text; it may be done again and again.

use sqlx::{PgPool, SqlitePool};
use switchboard_chassis::db::{Pool, Result};

use super::super::Store;

/// `%` is what differs. `seq` is the conversation's last at that time; `after_number` the last message's number.
const EVENTS: &str = "CREATE TABLE events (
    place %,
    type INTEGER NOT NULL,
    conversation_id UUID NOT NULL,
    kind INTEGER NOT NULL,
    seq BIGINT NOT NULL,
    after_number BIGINT NOT NULL,
    user_id TEXT,
    detail TEXT NOT NULL,
    at BIGINT NOT NULL
)";
/// Whose events go with them; which go by themselves.
const INDEXES: &str = "CREATE INDEX events_user ON events (user_id) WHERE user_id IS NOT NULL;
    CREATE INDEX events_receipts ON events (at) WHERE type = 3";
/// Conversations that were there before.
const OPENED: &str = "INSERT INTO events (type, conversation_id, kind, seq, after_number, user_id, detail, at)
    SELECT 1, id, kind, 0, 0, NULL, '', created_at FROM conversations ORDER BY created_at, id";

impl Store {
    /// Makes what is missing.
    pub(crate) async fn prepare_feed(&self) -> Result<()> {
        match &self.db.write {
            Pool::Sqlite(pool) => sqlite(pool).await?,
            Pool::Postgres(pool) => postgres(pool).await?,
        }
        Ok(())
    }
}

async fn sqlite(pool: &SqlitePool) -> sqlx::Result<()> {
    let mut tx = pool.begin().await?;
    let is_there: bool = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = 'events')")
        .fetch_one(&mut *tx)
        .await?;
    if !is_there {
        // A place is never used again, even that of the last row after it went.
        let events = EVENTS.replace('%', "INTEGER PRIMARY KEY AUTOINCREMENT");
        sqlx::raw_sql(sqlx::AssertSqlSafe(format!("{events};{INDEXES};{OPENED}"))).execute(&mut *tx).await?;
    }
    tx.commit().await
}

async fn postgres(pool: &PgPool) -> sqlx::Result<()> {
    let mut tx = pool.begin().await?;
    // Instances start at once.
    sqlx::query("SELECT pg_advisory_xact_lock(hashtext('switchboard chat feed'))").execute(&mut *tx).await?;
    let is_there: bool = sqlx::query_scalar("SELECT to_regclass('feed') IS NOT NULL").fetch_one(&mut *tx).await?;
    if !is_there {
        // What is stored before carries no id: adding the column writes no row anew.
        let events = EVENTS.replace('%', "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY");
        sqlx::raw_sql(sqlx::AssertSqlSafe(format!(
            "CREATE TABLE feed (shift BIGINT NOT NULL);
             INSERT INTO feed (shift) VALUES (0);
             {events}; {INDEXES}; {OPENED};
             ALTER TABLE messages ADD COLUMN stored_by BIGINT;
             ALTER TABLE events ADD COLUMN stored_by BIGINT;
             {};
             CREATE INDEX messages_stored_by ON messages (stored_by) WHERE stored_by IS NOT NULL;
             CREATE INDEX events_stored_by ON events (stored_by) WHERE stored_by IS NOT NULL;
             CREATE INDEX events_old ON events (conversation_id, seq, place) WHERE stored_by IS NULL",
            defaults(0)
        )))
        .execute(&mut *tx)
        .await?;
    }
    // A dump that was restored into another server brings ids that are far ahead of that server's own.
    let (last, next, end, shift): (i64, i64, i64, i64) = sqlx::query_as(
        "SELECT COALESCE(GREATEST((SELECT MAX(stored_by) FROM messages), (SELECT MAX(stored_by) FROM events)), 0),
                pg_snapshot_xmin(pg_current_snapshot())::text::bigint,
                pg_snapshot_xmax(pg_current_snapshot())::text::bigint,
                shift
         FROM feed",
    )
    .fetch_one(&mut *tx)
    .await?;
    if last >= end + shift {
        let shift = last + 1 - next;
        tracing::warn!(shift, "the database comes from another server: the feed goes on behind what was stored there");
        sqlx::query("UPDATE feed SET shift = $1").bind(shift).execute(&mut *tx).await?;
        sqlx::raw_sql(sqlx::AssertSqlSafe(defaults(shift))).execute(&mut *tx).await?;
    }
    tx.commit().await
}

fn defaults(shift: i64) -> String {
    let id = format!("ALTER COLUMN stored_by SET DEFAULT (pg_current_xact_id()::text::bigint + {shift})");
    format!("ALTER TABLE messages {id}; ALTER TABLE events {id}")
}
