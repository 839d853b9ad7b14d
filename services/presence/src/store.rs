//! The table of presence. All SQL of the service is here.

use sqlx::QueryBuilder;
use switchboard_chassis::{
    Micros,
    audit::Asked,
    db::{Db, Pool, Result},
    on_pool, record_erasure,
};
use uuid::Uuid;

use crate::roster::UserId;

pub(crate) struct Store {
    db: Db,
}

impl Store {
    pub(crate) fn new(db: Db) -> Self {
        Self { db }
    }

    /// Stores when users were last seen; an earlier time changes nothing. The users must be in the order of their ids,
    /// so that two instances on one Postgres do not lock each other's rows crosswise.
    pub(crate) async fn put(&self, seen: &[(UserId, Micros)]) -> Result<()> {
        on_pool!(&self.db.write, pool => {
            let mut query = QueryBuilder::new("INSERT INTO last_seen (user_id, at) ");
            query.push_values(seen, |mut row, (user_id, at)| {
                row.push_bind(&**user_id).push_bind(*at);
            });
            query.push(
                " ON CONFLICT (user_id) DO UPDATE SET at = excluded.at WHERE excluded.at > last_seen.at",
            );
            query.build().persistent(false).execute(pool).await?;
        });
        Ok(())
    }

    /// Whether other instances may share it.
    pub(crate) fn is_shared(&self) -> bool {
        matches!(self.db.write, Pool::Postgres(_))
    }

    /// This instance lives; gives back the last signs of life of the others. Those of long ago are forgotten.
    pub(crate) async fn beat(&self, instance: Uuid, now: Micros, long_ago: Micros) -> Result<Vec<(Uuid, Micros)>> {
        Ok(on_pool!(&self.db.write, pool => {
            sqlx::query(
                "INSERT INTO instances (id, at) VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET at = excluded.at",
            )
            .bind(instance)
            .bind(now)
            .execute(pool)
            .await?;
            sqlx::query("DELETE FROM instances WHERE at < $1").bind(long_ago).execute(pool).await?;
            sqlx::query_as("SELECT id, at FROM instances WHERE id <> $1").bind(instance).fetch_all(pool).await?
        }))
    }

    /// When users were last seen, those of whom it is known.
    pub(crate) async fn get(&self, user_ids: &[&str]) -> Result<Vec<(String, Micros)>> {
        if user_ids.is_empty() {
            return Ok(Vec::new());
        }
        Ok(on_pool!(&self.db.read, pool => {
            let mut query = QueryBuilder::new("SELECT user_id, at FROM last_seen WHERE user_id IN (");
            let mut list = query.separated(", ");
            for user_id in user_ids {
                list.push_bind(*user_id);
            }
            query.push(")");
            query.build_query_as().persistent(false).fetch_all(pool).await?
        }))
    }

    /// Forgets a user; false when there was nothing to forget.
    pub(crate) async fn erase(&self, user_id: &str, asked: &Asked) -> Result<bool> {
        let done = on_pool!(&self.db.write, pool => {
            let mut tx = pool.begin().await?;
            let done =
                sqlx::query("DELETE FROM last_seen WHERE user_id = $1").bind(user_id).execute(&mut *tx).await?.rows_affected();
            record_erasure!(tx, asked, "EraseUser", done);
            tx.commit().await?;
            done
        });
        self.db.scrub().await?;
        Ok(done > 0)
    }
}
