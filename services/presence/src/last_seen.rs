//! When users were last online: written late and together.

use std::{
    collections::{BTreeMap, HashMap},
    convert::Infallible,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use switchboard_chassis::{Error, Kind, Lifecycle, Micros, audit::Asked};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::{roster::UserId, store::Store};

/// What comes within it is written together.
const WRITE_INTERVAL: Duration = Duration::from_secs(1);
/// Users in one statement: two values each, of which SQLite takes 32,766. At the end there is not much time.
const STATEMENT_USERS_MAX: usize = 5_000;

/// What is known of one instance's users, and what the database knows.
pub(crate) struct LastSeen {
    store: Arc<Store>,
    /// What is not written yet: at most one time for each user. A time stays until it is written, so that a failed
    /// write is tried again, and so that it can be read meanwhile.
    pending: Mutex<BTreeMap<UserId, Micros>>,
    noted: Notify,
    ended: CancellationToken,
    /// Held while times are written: what is erased meanwhile must not come back.
    writing: tokio::sync::Mutex<()>,
}

impl LastSeen {
    pub(crate) fn new(store: Arc<Store>) -> Self {
        Self {
            store,
            pending: Mutex::default(),
            noted: Notify::new(),
            ended: CancellationToken::new(),
            writing: tokio::sync::Mutex::default(),
        }
    }

    fn pending(&self) -> MutexGuard<'_, BTreeMap<UserId, Micros>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Some users were online at these times.
    pub(crate) fn note(&self, seen: impl IntoIterator<Item = (UserId, Micros)>) {
        let mut pending = self.pending();
        for (user_id, at) in seen {
            let noted = pending.entry(user_id).or_insert(at);
            *noted = at.max(*noted);
        }
        if !pending.is_empty() {
            self.noted.notify_one();
        }
    }

    /// Nothing more is noted: what is pending is written, and the task ends.
    pub(crate) fn end(&self) {
        self.ended.cancel();
    }

    /// When users were last seen, those of whom it is known.
    pub(crate) async fn get(&self, user_ids: &[&str]) -> Result<HashMap<String, Micros>, Error> {
        // First what is pending: what is written between the two reads is then seen twice, and not missed.
        let pending: Vec<(String, Micros)> = {
            let pending = self.pending();
            user_ids.iter().filter_map(|id| pending.get(*id).map(|at| ((*id).to_owned(), *at))).collect()
        };
        let mut seen: HashMap<String, Micros> = self.store.get(user_ids).await?.into_iter().collect();
        for (user_id, at) in pending {
            let known = seen.entry(user_id).or_insert(at);
            *known = at.max(*known);
        }
        Ok(seen)
    }

    /// Forgets a user; false when there was nothing to forget.
    pub(crate) async fn erase(&self, user_id: &str, asked: &Asked) -> Result<bool, Error> {
        let _writing = self.writing.lock().await;
        let was_pending = self.pending().remove(user_id).is_some();
        Ok(self.store.erase(user_id, asked).await? || was_pending)
    }

    async fn run(&self) {
        while !self.ended.is_cancelled() {
            tokio::select! {
                () = self.noted.notified() => {}
                () = self.ended.cancelled() => break,
            }
            tokio::select! {
                () = tokio::time::sleep(WRITE_INTERVAL) => {}
                () = self.ended.cancelled() => break,
            }
            self.write().await;
        }
        self.write().await;
    }

    /// Writes all that is pending; what the database does not take now, it is asked to take again.
    async fn write(&self) {
        loop {
            let _writing = self.writing.lock().await;
            let chunk: Vec<(UserId, Micros)> =
                self.pending().iter().take(STATEMENT_USERS_MAX).map(|(id, at)| (id.clone(), *at)).collect();
            if chunk.is_empty() {
                return;
            }
            match self.store.put(&chunk).await {
                // The database said why in the log.
                Err(error) if error.kind == Kind::Unavailable => {
                    self.noted.notify_one();
                    return;
                }
                Err(_) => tracing::error!(users = chunk.len(), "times that users were last seen are lost"),
                Ok(()) => {}
            }
            let mut pending = self.pending();
            for (user_id, at) in &chunk {
                // A later time may have come meanwhile.
                if pending.get(user_id) == Some(at) {
                    pending.remove(user_id);
                }
            }
        }
    }
}

/// Starts the task that writes. It ends after [`LastSeen::end`].
pub(crate) fn start(last_seen: Arc<LastSeen>, lifecycle: &Lifecycle) {
    lifecycle.spawn_essential("presence last seen", async move {
        last_seen.run().await;
        Ok::<_, Infallible>(())
    });
}

#[cfg(test)]
mod tests {
    use switchboard_chassis::{
        on_pool,
        testing::{Backend, database},
    };

    use super::*;

    fn seen(users: std::ops::Range<i64>, at: Micros) -> impl Iterator<Item = (UserId, Micros)> {
        users.map(move |user| (UserId::from(format!("user {user}")), at))
    }

    #[tokio::test]
    async fn the_latest_time_of_each_user_is_written_on_sqlite() {
        the_latest_time_of_each_user_is_written(Backend::Sqlite).await;
    }

    #[tokio::test]
    async fn the_latest_time_of_each_user_is_written_on_postgres() {
        the_latest_time_of_each_user_is_written(Backend::Postgres).await;
    }

    async fn the_latest_time_of_each_user_is_written(backend: Backend) {
        let (db, _dir) = database(backend, "presence", &crate::MIGRATIONS).await.expect("a database");
        let last_seen = LastSeen::new(Arc::new(Store::new(db)));
        last_seen.note(seen(0..6_000, 5));
        last_seen.note(seen(0..1, 4));
        assert_eq!(last_seen.get(&["user 0"]).await.expect("an answer")["user 0"], 5);
        last_seen.write().await;
        assert!(last_seen.pending().is_empty());
        last_seen.note(seen(1..2, 3).chain(seen(2..3, 7)));
        last_seen.write().await;
        let known = last_seen.get(&["user 0", "user 1", "user 2", "user 5999", "nobody"]).await.expect("an answer");
        let expected = [("user 0", 5), ("user 1", 5), ("user 2", 7), ("user 5999", 5)];
        assert_eq!(known, expected.map(|(user_id, at)| (user_id.to_owned(), at)).into());
    }

    #[tokio::test]
    async fn what_is_erased_is_not_pending_either() {
        let (db, _dir) = database(Backend::Sqlite, "presence", &crate::MIGRATIONS).await.expect("a database");
        let last_seen = LastSeen::new(Arc::new(Store::new(db)));
        last_seen.note(seen(0..1, 5));
        let asked = Asked { caller: "a test".to_owned(), at: 1, subject_sha256: "hash".to_owned() };
        assert!(last_seen.erase("user 0", &asked).await.expect("an answer"));
        last_seen.write().await;
        assert!(last_seen.get(&["user 0"]).await.expect("an answer").is_empty());
    }

    #[tokio::test]
    async fn what_the_database_did_not_take_waits() {
        let (db, _dir) = database(Backend::Sqlite, "presence", &crate::MIGRATIONS).await.expect("a database");
        on_pool!(&db.write, pool => pool.close().await);
        let last_seen = LastSeen::new(Arc::new(Store::new(db)));
        last_seen.note(seen(0..600, 5));
        last_seen.write().await;
        assert_eq!(last_seen.pending().len(), 600);
        assert_eq!(last_seen.get(&["user 0"]).await.expect("an answer")["user 0"], 5);
        last_seen.noted.notified().await;
    }
}
