//! What is to be told, in the database of the service in which it happened. Its migrations make the tables
//! `webhook_deliveries` and `webhook_people`; all SQL about them is here.

use std::sync::Arc;

use sqlx::{FromRow, QueryBuilder};
use switchboard_chassis::{
    Clock, Lifecycle, Micros,
    db::{Db, Pool, Result},
    on_pool,
    secret::sha256_hex,
};
use tokio::sync::watch;

use crate::{Event, EventType, WebhooksConfig, client::Client, config::Endpoint, deliver};

/// One service's outbox. Cheap to clone.
#[derive(Clone)]
pub struct Outbox(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    /// The service's.
    pub(crate) name: &'static str,
    pub(crate) read: Pool,
    write: Pool,
    endpoints: Vec<Endpoint>,
    pub(crate) config: WebhooksConfig,
    pub(crate) clock: Clock,
    /// Something is due at once.
    rings: watch::Sender<()>,
}

/// A delivery that this instance may make until its claim lapses.
#[derive(Clone, Debug, FromRow)]
pub(crate) struct Claimed {
    pub(crate) id: String,
    pub(crate) event_type: String,
    pub(crate) payload: String,
    /// With the one that is claimed.
    pub(crate) attempts: i32,
}

/// A delivery that was given up.
#[derive(Clone, Debug, FromRow)]
pub(crate) struct Dead {
    pub(crate) id: String,
    pub(crate) endpoint: String,
    pub(crate) event_type: String,
    pub(crate) attempts: i32,
    pub(crate) last_error: String,
    pub(crate) created_at: Micros,
    pub(crate) dead_at: Micros,
}

/// Where a page of them ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DeadKey {
    pub(crate) dead_at: Micros,
    pub(crate) id: String,
    pub(crate) endpoint: String,
}

/// Notes an [`Event`] for all endpoints that are told of its type; to be given the transaction in which it happened. An
/// event that is noted already is not noted again. After the commit, [`Outbox::ring`].
#[macro_export]
macro_rules! enqueue {
    ($tx:expr, $outbox:expr, $event:expr) => {
        for (endpoint, payload) in $outbox.deliveries($event) {
            sqlx::query(
                "INSERT INTO webhook_deliveries
                     (id, endpoint, event_type, payload, attempts, due_at, last_error, created_at)
                 VALUES ($1, $2, $3, $4, 0, $5, '', $5) ON CONFLICT (id, endpoint) DO NOTHING",
            )
            .bind(&$event.id)
            .bind(endpoint)
            .bind($event.event_type.name())
            .bind(payload)
            .bind($event.at)
            .execute(&mut *$tx)
            .await?;
            for person in $outbox.people($event) {
                sqlx::query("INSERT INTO webhook_people (person_sha256, id) VALUES ($1, $2) ON CONFLICT DO NOTHING")
                    .bind(person)
                    .bind(&$event.id)
                    .execute(&mut *$tx)
                    .await?;
            }
        }
    };
}

/// Removes all that concerns somebody, in the transaction in which that person is erased.
#[macro_export]
macro_rules! forget {
    ($tx:expr, $user_id:expr) => {{
        let person = switchboard_chassis::secret::sha256_hex($user_id);
        sqlx::query(
            "DELETE FROM webhook_deliveries WHERE id IN (SELECT id FROM webhook_people WHERE person_sha256 = $1)",
        )
        .bind(&person)
        .execute(&mut *$tx)
        .await?;
        sqlx::query("DELETE FROM webhook_people WHERE id NOT IN (SELECT id FROM webhook_deliveries)")
            .execute(&mut *$tx)
            .await?;
    }};
}

impl Outbox {
    /// Of a service's database.
    ///
    /// # Errors
    /// When the configuration is wrong, see [`WebhooksConfig::mistakes`].
    pub fn new(name: &'static str, db: &Db, config: &WebhooksConfig, clock: Clock) -> std::io::Result<Self> {
        let endpoints = config.endpoints().map_err(|mistakes| std::io::Error::other(mistakes.join("; ")))?;
        Ok(Self(Arc::new(Inner {
            name,
            read: db.read.clone(),
            write: db.write.clone(),
            endpoints,
            config: config.clone(),
            clock,
            rings: watch::Sender::new(()),
        })))
    }

    /// Delivers until the process stops.
    ///
    /// # Errors
    /// When an endpoint needs certificates, and the machine trusts none.
    pub fn deliver(&self, lifecycle: &Lifecycle) -> std::io::Result<()> {
        let tries = deliver::Tries::new(self, lifecycle.metrics());
        for endpoint in &self.0.endpoints {
            let client = Client::new(endpoint.url.clone(), self.0.config.timeout())?;
            deliver::start(self.clone(), endpoint.clone(), client, tries.clone(), lifecycle);
        }
        if !self.0.endpoints.is_empty() {
            deliver::sweep(self.clone(), lifecycle);
        }
        Ok(())
    }

    /// Whether any endpoint is told of such events.
    #[must_use]
    pub fn wants(&self, event_type: EventType) -> bool {
        self.0.endpoints.iter().any(|endpoint| endpoint.events.contains(&event_type))
    }

    /// What is told to which endpoint, by its name. For [`enqueue!`](crate::enqueue).
    pub fn deliveries<'a>(&'a self, event: &'a Event) -> impl Iterator<Item = (&'a str, String)> + 'a {
        let theirs = |endpoint: &&Endpoint| endpoint.events.contains(&event.event_type);
        self.0
            .endpoints
            .iter()
            .filter(theirs)
            .map(|endpoint| (endpoint.name.as_str(), event.payload(endpoint.include_text)))
    }

    /// Whom an event concerns, by hashes. For [`enqueue!`](crate::enqueue).
    #[must_use]
    pub fn people(&self, event: &Event) -> Vec<String> {
        event.people.iter().map(|person| sha256_hex(person)).collect()
    }

    /// Says that something was noted: it is told at once.
    pub fn ring(&self) {
        self.0.rings.send_replace(());
    }

    pub(crate) fn rung(&self) -> watch::Receiver<()> {
        self.0.rings.subscribe()
    }

    /// Claims deliveries that are due, until `lapses`; the claim counts as a try.
    pub(crate) async fn claim(&self, endpoint: &str, now: Micros, lapses: Micros, most: usize) -> Result<Vec<Claimed>> {
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        // Mostly nothing is: then nothing is written.
        let is_due: bool = on_pool!(&self.0.read, pool => {
            sqlx::query_scalar(
                "SELECT EXISTS (SELECT 1 FROM webhook_deliveries
                                WHERE endpoint = $1 AND dead_at IS NULL AND due_at <= $2)",
            )
            .bind(endpoint)
            .bind(now)
            .fetch_one(pool)
            .await?
        });
        if !is_due {
            return Ok(Vec::new());
        }
        // Another instance that claims at this moment takes others.
        let lock = match self.0.write {
            Pool::Sqlite(_) => "",
            Pool::Postgres(_) => "FOR UPDATE SKIP LOCKED",
        };
        Ok(on_pool!(&self.0.write, pool => {
            sqlx::query_as(sqlx::AssertSqlSafe(format!(
                "WITH due AS (
                     SELECT id FROM webhook_deliveries
                     WHERE endpoint = $1 AND dead_at IS NULL AND due_at <= $2 ORDER BY due_at LIMIT $3 {lock}
                 )
                 UPDATE webhook_deliveries SET due_at = $4, attempts = attempts + 1
                 FROM due WHERE webhook_deliveries.id = due.id AND endpoint = $1
                 RETURNING webhook_deliveries.id, event_type, payload, attempts"
            )))
            .bind(endpoint)
            .bind(now)
            .bind(most)
            .bind(lapses)
            .fetch_all(pool)
            .await?
        }))
    }

    /// It was delivered.
    pub(crate) async fn delivered(&self, id: &str, endpoint: &str) -> Result<()> {
        on_pool!(&self.0.write, pool => {
            let mut tx = pool.begin().await?;
            sqlx::query("DELETE FROM webhook_deliveries WHERE id = $1 AND endpoint = $2")
                .bind(id)
                .bind(endpoint)
                .execute(&mut *tx)
                .await?;
            sqlx::query(
                "DELETE FROM webhook_people
                 WHERE id = $1 AND NOT EXISTS (SELECT 1 FROM webhook_deliveries WHERE id = $1)",
            )
            .bind(id)
            .execute(&mut *tx)
            .await?;
            tx.commit().await?;
        });
        Ok(())
    }

    /// It was not: it is due again at a time, or is given up now. Not of a claim that has lapsed and was claimed again.
    pub(crate) async fn failed(
        &self,
        claimed: &Claimed,
        endpoint: &str,
        error: &str,
        again_at: Option<Micros>,
    ) -> Result<()> {
        let now = self.0.clock.now();
        on_pool!(&self.0.write, pool => {
            sqlx::query(
                "UPDATE webhook_deliveries SET due_at = $1, dead_at = $2, last_error = $3
                 WHERE id = $4 AND endpoint = $5 AND attempts = $6",
            )
            .bind(again_at.unwrap_or(now))
            .bind(again_at.is_none().then_some(now))
            .bind(error)
            .bind(&claimed.id)
            .bind(endpoint)
            .bind(claimed.attempts)
            .execute(pool)
            .await?;
        });
        Ok(())
    }

    /// Forgets deliveries that were given up before `dead_before`, and gives up those since `orphaned_before` whose endpoint
    /// is configured no more.
    pub(crate) async fn sweep(&self, dead_before: Micros, orphaned_before: Micros) -> Result<()> {
        let now = self.0.clock.now();
        on_pool!(&self.0.write, pool => {
            let mut tx = pool.begin().await?;
            let mut query = QueryBuilder::new("UPDATE webhook_deliveries SET dead_at = ");
            query.push_bind(now).push(", last_error = 'the endpoint is configured no more' WHERE dead_at IS NULL AND created_at < ");
            query.push_bind(orphaned_before);
            for endpoint in &self.0.endpoints {
                query.push(" AND endpoint <> ").push_bind(&endpoint.name);
            }
            query.build().persistent(false).execute(&mut *tx).await?;
            sqlx::query("DELETE FROM webhook_deliveries WHERE dead_at < $1").bind(dead_before).execute(&mut *tx).await?;
            sqlx::query("DELETE FROM webhook_people WHERE id NOT IN (SELECT id FROM webhook_deliveries)")
                .execute(&mut *tx)
                .await?;
            tx.commit().await?;
        });
        Ok(())
    }

    /// Deliveries that were given up, the oldest first.
    pub(crate) async fn dead(&self, after: Option<DeadKey>, most: i64) -> Result<Vec<Dead>> {
        let after = after.unwrap_or(DeadKey { dead_at: i64::MIN, id: String::new(), endpoint: String::new() });
        Ok(on_pool!(&self.0.read, pool => {
            sqlx::query_as(
                "SELECT id, endpoint, event_type, attempts, last_error, created_at, dead_at FROM webhook_deliveries
                 WHERE dead_at IS NOT NULL AND (dead_at, id, endpoint) > ($1, $2, $3)
                 ORDER BY dead_at, id, endpoint LIMIT $4",
            )
            .bind(after.dead_at)
            .bind(&after.id)
            .bind(&after.endpoint)
            .bind(most)
            .fetch_all(pool)
            .await?
        }))
    }

    /// Makes deliveries that were given up due now, as if they were new; `None` is all of them. Says how many.
    pub(crate) async fn revive(&self, ids: Option<&[String]>, endpoint: &str) -> Result<u64> {
        let now = self.0.clock.now();
        let revived = on_pool!(&self.0.write, pool => {
            let mut query = QueryBuilder::new("UPDATE webhook_deliveries SET dead_at = NULL, attempts = 0, due_at = ");
            query.push_bind(now).push(" WHERE dead_at IS NOT NULL");
            if !endpoint.is_empty() {
                query.push(" AND endpoint = ").push_bind(endpoint);
            }
            if let Some(ids) = ids {
                query.push(" AND id IN (");
                let mut list = query.separated(", ");
                for id in ids {
                    list.push_bind(id);
                }
                query.push(")");
            }
            query.build().persistent(false).execute(pool).await?.rows_affected()
        });
        self.ring();
        Ok(revived)
    }
}
