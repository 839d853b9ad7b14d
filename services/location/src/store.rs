//! The table of location. All SQL of the service is here.

use sqlx::{FromRow, QueryBuilder};
use switchboard_chassis::{
    Micros,
    audit::Asked,
    db::{Db, Result},
    on_pool, record_erasure,
    secret::sha256_hex,
};

use tokio::sync::{Mutex, MutexGuard};

use crate::model::{Pair, Position};

/// Positions in one statement: nine values each, of which SQLite takes 32,766.
const STATEMENT_POSITIONS_MAX: usize = 1_000;

pub(crate) struct Store {
    db: Db,
    /// See [`Store::turn`].
    turns: Mutex<()>,
}

#[derive(FromRow)]
struct Row {
    latitude: f64,
    longitude: f64,
    accuracy_m: Option<f64>,
    heading_deg: Option<f64>,
    at: Micros,
}

impl Store {
    pub(crate) fn new(db: Db) -> Self {
        Self { db, turns: Mutex::new(()) }
    }

    /// Whoever holds it is alone in taking positions from memory to the database, or away from both.
    pub(crate) async fn turn(&self) -> MutexGuard<'_, ()> {
        self.turns.lock().await
    }

    /// The last position of a share that is not older than `since`.
    pub(crate) async fn last(&self, pair: &Pair, since: Micros) -> Result<Option<Position>> {
        let row: Option<Row> = on_pool!(&self.db.read, pool => {
            sqlx::query_as(
                "SELECT latitude, longitude, accuracy_m, heading_deg, at FROM positions
                 WHERE customer_id = $1 AND therapist_id = $2 AND at >= $3",
            )
            .bind(&pair.customer_id)
            .bind(&pair.therapist_id)
            .bind(since)
            .fetch_optional(pool)
            .await?
        });
        Ok(row.map(|Row { latitude, longitude, accuracy_m, heading_deg, at }| Position {
            latitude,
            longitude,
            accuracy_m,
            heading_deg,
            at,
        }))
    }

    /// Stores the last positions of shares, each once, in the order of the pairs: so instances that share a database
    /// cannot wait for each other in a circle. An older one never takes the place of a newer, and none from before a
    /// user was erased is stored.
    pub(crate) async fn put(&self, positions: &[(Pair, Position)]) -> Result<()> {
        for positions in positions.chunks(STATEMENT_POSITIONS_MAX) {
            on_pool!(&self.db.write, pool => {
                let mut query = QueryBuilder::new(
                    "WITH given (customer_id, therapist_id, latitude, longitude, accuracy_m, heading_deg, at, customer, therapist) AS (",
                );
                query.push_values(positions, |mut row, (pair, position)| {
                    row.push_bind(&pair.customer_id)
                        .push_bind(&pair.therapist_id)
                        .push_bind(position.latitude)
                        .push_bind(position.longitude)
                        .push_bind(position.accuracy_m)
                        .push_bind(position.heading_deg)
                        .push_bind(position.at)
                        .push_bind(sha256_hex(&pair.customer_id))
                        .push_bind(sha256_hex(&pair.therapist_id));
                });
                query.push(
                    ") INSERT INTO positions (customer_id, therapist_id, latitude, longitude, accuracy_m, heading_deg, at)
                     SELECT customer_id, therapist_id, latitude, longitude, accuracy_m, heading_deg, at FROM given
                     WHERE NOT EXISTS (
                         SELECT 1 FROM erasures
                         WHERE erasures.user_sha256 IN (given.customer, given.therapist) AND erasures.at >= given.at
                     )
                     ON CONFLICT (customer_id, therapist_id) DO UPDATE SET
                         latitude = excluded.latitude, longitude = excluded.longitude,
                         accuracy_m = excluded.accuracy_m, heading_deg = excluded.heading_deg, at = excluded.at
                     WHERE excluded.at >= positions.at",
                );
                query.build().persistent(false).execute(pool).await?;
            });
        }
        Ok(())
    }

    /// Deletes what is older than `before`: the number of positions.
    pub(crate) async fn expire(&self, before: Micros) -> Result<u64> {
        Ok(on_pool!(&self.db.write, pool => {
            sqlx::query("DELETE FROM erasures WHERE at < $1").bind(before).execute(pool).await?;
            sqlx::query("DELETE FROM positions WHERE at < $1").bind(before).execute(pool).await?.rows_affected()
        }))
    }

    /// Deletes the positions of a user's shares, and notes the time: no instance stores one from before it again.
    pub(crate) async fn erase(&self, user_id: &str, asked: &Asked) -> Result<u64> {
        let erased = on_pool!(&self.db.write, pool => {
            // First, and at once: whoever stores a position from now on knows of it.
            sqlx::query(
                "INSERT INTO erasures (user_sha256, at) VALUES ($1, $2)
                 ON CONFLICT (user_sha256) DO UPDATE SET at = excluded.at WHERE excluded.at > erasures.at",
            )
            .bind(&asked.subject_sha256)
            .bind(asked.at)
            .execute(pool)
            .await?;
            let mut tx = pool.begin().await?;
            let erased =
                sqlx::query("DELETE FROM positions WHERE (customer_id = $1 OR therapist_id = $1) AND at <= $2")
                    .bind(user_id)
                    .bind(asked.at)
                    .execute(&mut *tx)
                    .await?
                    .rows_affected();
            record_erasure!(tx, asked, "EraseUser", erased);
            tx.commit().await?;
            erased
        });
        self.db.scrub().await?;
        Ok(erased)
    }

    /// Who was erased since a time, by the hash of the id, and when.
    pub(crate) async fn erasures(&self, since: Micros) -> Result<Vec<(String, Micros)>> {
        Ok(on_pool!(&self.db.read, pool => {
            sqlx::query_as("SELECT user_sha256, at FROM erasures WHERE at >= $1").bind(since).fetch_all(pool).await?
        }))
    }
}
