//! Who was not there when a message came.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Mutex, MutexGuard, PoisonError},
};

use sqlx::{FromRow, QueryBuilder};
use switchboard_chassis::{Micros, db::Result, on_pool};
use uuid::Uuid;

use super::Store;
use crate::{
    absence::Arrival,
    hooks::MissedMessage,
    model::{Draft, Kind, Message, Role},
    order::Appended,
};

/// Absences in one statement: each is two levels of an expression, of which SQLite takes 1,000.
pub(super) const STATEMENT_ABSENCES_MAX: usize = 200;
/// Absences that are forgotten at a time.
const FORGOTTEN_MAX: usize = 1_000;

/// A burst of messages that somebody missed.
#[derive(Clone, Debug, PartialEq, Eq, FromRow)]
pub(crate) struct Absence {
    pub(crate) conversation_id: Uuid,
    pub(crate) user_id: String,
    kind: i32,
    /// The first message of the burst.
    pub(crate) message_id: Uuid,
    /// Who wrote it.
    pub(crate) sender_id: String,
}

impl Absence {
    fn key(&self) -> (Uuid, &str) {
        (self.conversation_id, &self.user_id)
    }

    pub(crate) fn kind(&self) -> Kind {
        Kind::try_from(self.kind).unwrap_or_default()
    }
}

/// Somebody who was not there when a message was stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Missed<'a> {
    pub(super) message: &'a Message,
    pub(super) kind: Kind,
    pub(super) user_id: &'a str,
    /// What they missed before is over, if the last of it was stored before this: it was too long ago, or they came
    /// afterwards.
    pub(super) over_before: Micros,
}

/// Who missed something of a batch: each person of a conversation once, by the first message, in the order of the keys.
pub(super) fn missed<'a>(
    drafts: &'a [Draft],
    appended: &'a [Appended],
    over_before: impl Fn(&Missed<'_>) -> Micros,
) -> Vec<Missed<'a>> {
    let mut missed: Vec<Missed<'_>> = drafts
        .iter()
        .zip(appended)
        .filter_map(|(draft, appended)| match appended {
            Appended::Stored(message) => Some((draft, message)),
            _ => None,
        })
        .flat_map(|(draft, message)| {
            let missed = |user_id| Missed { message, kind: draft.kind, user_id, over_before: Micros::MIN };
            draft.absent.iter().map(move |user_id| missed(user_id))
        })
        .collect();
    // Stable: of equal keys the first stays.
    missed.sort_by_key(|missed| (missed.message.conversation_id, missed.user_id));
    missed.dedup_by_key(|missed| (missed.message.conversation_id, missed.user_id));
    for missed in &mut missed {
        missed.over_before = over_before(missed);
    }
    missed
}

/// Arrivals at this instance that are not stored yet, the last one of each person and conversation. Whoever has gone again
/// before theirs is stored misses the next message in a burst of its own.
#[derive(Debug, Default)]
pub(crate) struct Coming(Mutex<HashMap<(Uuid, String), Micros>>);

impl Coming {
    /// Somebody came, if `note` takes care that it will be stored. That must not wait.
    pub(crate) fn expect(&self, arrival: Arrival, note: impl FnOnce(Arrival) -> bool) {
        let (key, at) = ((arrival.conversation_id, arrival.user_id.clone()), arrival.at);
        // Nobody settles it before it is here.
        let mut coming = self.lock();
        if note(arrival) {
            coming.insert(key, at);
        }
    }

    /// These are stored, or never will be.
    pub(crate) fn settle(&self, arrivals: Vec<Arrival>) {
        let mut coming = self.lock();
        for Arrival { conversation_id, user_id, at } in arrivals {
            // Unless there was a later one.
            if let Entry::Occupied(last) = coming.entry((conversation_id, user_id))
                && *last.get() <= at
            {
                last.remove();
            }
        }
    }

    /// When somebody who is missed now came last, if that is not stored yet.
    pub(super) fn came_at(&self, Missed { message, user_id, .. }: &Missed<'_>) -> Option<Micros> {
        let coming = self.lock();
        if coming.is_empty() {
            return None;
        }
        coming.get(&(message.conversation_id, (*user_id).to_owned())).copied()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(Uuid, String), Micros>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store {
    /// Bursts that began before `before` and were not told, the oldest first.
    pub(crate) async fn untold(&self, before: Micros, most: u32) -> Result<Vec<Absence>> {
        Ok(on_pool!(&self.db.read, pool => {
            sqlx::query_as(
                "SELECT conversation_id, user_id, kind, message_id, sender_id FROM absences
                 WHERE NOT is_told AND since <= $1 ORDER BY since LIMIT $2",
            )
            .bind(before)
            .bind(i64::from(most))
            .fetch_all(pool)
            .await?
        }))
    }

    /// These were told of. In the order of their keys, as appends take them: so nobody waits in a circle.
    /// Whoever is to be told of it by webhook, too, is noted for that in the same transaction, once.
    pub(crate) async fn told(
        &self,
        mut absences: Vec<Absence>,
        is_by_webhook: impl Fn(&Absence) -> bool + Send,
    ) -> Result<()> {
        let outbox = &self.outbox;
        absences.sort_by(|one, other| one.key().cmp(&other.key()));
        on_pool!(&self.db.write, pool => {
            let mut tx = pool.begin().await?;
            for absence in &absences {
                let Absence { conversation_id, user_id, message_id, .. } = absence;
                // Unless another burst has begun meanwhile, or another instance was faster.
                let done = sqlx::query(
                    "UPDATE absences SET is_told = TRUE
                     WHERE conversation_id = $1 AND user_id = $2 AND message_id = $3 AND NOT is_told",
                )
                .bind(conversation_id)
                .bind(user_id)
                .bind(message_id)
                .execute(&mut *tx)
                .await?;
                if done.rows_affected() == 0 || !is_by_webhook(absence) {
                    continue;
                }
                // What was erased is nobody's news.
                let message: Option<(i64, String, String, Micros, String)> = sqlx::query_as(
                    "SELECT messages.seq, sender_role, content, created_at, seats.role
                     FROM messages JOIN seats ON seats.conversation_id = messages.conversation_id AND user_id = $2
                     WHERE id = $1",
                )
                .bind(message_id)
                .bind(user_id)
                .fetch_optional(&mut *tx)
                .await?;
                if let Some((seq, sender_role, content, at, role)) = message
                    && let (Some(sender_role), Some(role)) = (Role::parse(&sender_role), Role::parse(&role))
                {
                    let event = MissedMessage {
                        conversation_id: *conversation_id,
                        kind: absence.kind(),
                        message_id: *message_id,
                        seq,
                        sender_id: absence.sender_id.clone(),
                        sender_role,
                        content,
                        user_id: user_id.clone(),
                        role,
                        at,
                    }
                    .event();
                    switchboard_webhooks::enqueue!(tx, outbox, &event);
                }
            }
            tx.commit().await?;
        });
        outbox.ring();
        Ok(())
    }

    /// These were there: they missed nothing up to then.
    pub(crate) async fn came(&self, arrivals: &[Arrival]) -> Result<()> {
        for arrivals in arrivals.chunks(STATEMENT_ABSENCES_MAX) {
            // Mostly nobody missed anything: then nothing is written.
            let absent: Vec<(Uuid, String)> = on_pool!(&self.db.read, pool => {
                let mut query = QueryBuilder::new("SELECT conversation_id, user_id FROM absences WHERE ");
                let mut list = query.separated(" OR ");
                for Arrival { conversation_id, user_id, .. } in arrivals {
                    list.push("(conversation_id = ")
                        .push_bind_unseparated(*conversation_id)
                        .push_unseparated(" AND user_id = ")
                        .push_bind_unseparated(user_id)
                        .push_unseparated(")");
                }
                query.build_query_as().persistent(false).fetch_all(pool).await?
            });
            let is_absent = |arrival: &Arrival| {
                absent.iter().any(|(id, user_id)| *id == arrival.conversation_id && *user_id == arrival.user_id)
            };
            let over: Vec<_> = arrivals
                .iter()
                .filter(|arrival| is_absent(arrival))
                .map(|Arrival { conversation_id, user_id, at }| (*conversation_id, user_id.clone(), *at))
                .collect();
            self.delete(over).await?;
        }
        Ok(())
    }

    /// Forgets bursts that were told and have ended before `before`.
    pub(crate) async fn forget_told(&self, before: Micros) -> Result<()> {
        let over: Vec<(Uuid, String, Micros)> = on_pool!(&self.db.read, pool => {
            sqlx::query_as("SELECT conversation_id, user_id, last_at FROM absences WHERE is_told AND last_at < $1 LIMIT $2")
                .bind(before)
                .bind(i64::try_from(FORGOTTEN_MAX).unwrap_or(i64::MAX))
                .fetch_all(pool)
                .await?
        });
        self.delete(over).await
    }

    /// Deletes absences, unless a message came after this time. In the order of the keys: see [`Self::told`].
    async fn delete(&self, mut over: Vec<(Uuid, String, Micros)>) -> Result<()> {
        if over.is_empty() {
            return Ok(());
        }
        over.sort();
        on_pool!(&self.db.write, pool => {
            let mut tx = pool.begin().await?;
            for (conversation_id, user_id, up_to) in &over {
                sqlx::query("DELETE FROM absences WHERE conversation_id = $1 AND user_id = $2 AND last_at <= $3")
                    .bind(conversation_id)
                    .bind(user_id)
                    .bind(up_to)
                    .execute(&mut *tx)
                    .await?;
            }
            tx.commit().await?;
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use switchboard_chassis::testing::Backend;

    use super::*;
    use crate::store::feed::tests::{BURST, Fixture};

    /// Who comes begins a new burst, whether their coming is stored before what they miss next or after it.
    #[tokio::test]
    async fn who_came_misses_anew() -> anyhow::Result<()> {
        const CAME_AT: Micros = 200;
        for backend in [Backend::Sqlite, Backend::Postgres] {
            for (is_stored_late, again_at) in [(false, 300), (true, 300), (true, CAME_AT + 1)] {
                let fixture = Fixture::new(backend).await?;
                let id = fixture.open("pat", "pro").await?;
                fixture.append_missed(id, "pat", "pro", 100).await?;
                let store = &fixture.store;
                store.told(store.untold(Micros::MAX, 10).await?, |_| false).await?;

                let arrivals = vec![Arrival { conversation_id: id, user_id: "pro".into(), at: CAME_AT }];
                store.coming.expect(arrivals[0].clone(), |_| true);
                if !is_stored_late {
                    store.came(&arrivals).await?;
                    store.coming.settle(arrivals.clone());
                }
                let again = fixture.append_missed(id, "pat", "pro", again_at).await?;
                store.came(&arrivals).await?;
                let untold: Vec<Uuid> =
                    store.untold(Micros::MAX, 10).await?.into_iter().map(|absence| absence.message_id).collect();
                assert_eq!(untold, [again], "{backend:?} {is_stored_late} {again_at}");
            }
        }
        Ok(())
    }

    #[test]
    fn only_the_last_arrival_counts_and_none_that_is_not_noted() {
        let coming = Coming::default();
        let arrival = |at| Arrival { conversation_id: Uuid::nil(), user_id: "pro".into(), at };
        let known = |coming: &Coming| coming.lock().values().copied().collect::<Vec<_>>();
        coming.expect(arrival(1), |_| false);
        assert!(known(&coming).is_empty());
        coming.expect(arrival(2), |_| true);
        coming.expect(arrival(3), |_| false);
        assert_eq!(known(&coming), [2]);
        coming.expect(arrival(4), |_| true);
        coming.settle(vec![arrival(2)]);
        assert_eq!(known(&coming), [4]);
        coming.settle(vec![arrival(4)]);
        assert!(known(&coming).is_empty());
    }

    /// What was told of is not told of again, until nothing came for so long.
    #[tokio::test]
    async fn a_burst_is_one() -> anyhow::Result<()> {
        for backend in [Backend::Sqlite, Backend::Postgres] {
            let fixture = Fixture::new(backend).await?;
            let id = fixture.open("pat", "pro").await?;
            fixture.append_missed(id, "pat", "pro", 1).await?;
            let store = &fixture.store;
            store.told(store.untold(Micros::MAX, 10).await?, |_| false).await?;
            fixture.append_missed(id, "pat", "pro", 1 + BURST).await?;
            assert_eq!(store.untold(Micros::MAX, 10).await?, vec![], "{backend:?}");
            let next = fixture.append_missed(id, "pat", "pro", 2 + 2 * BURST).await?;
            assert_eq!(store.untold(Micros::MAX, 10).await?.first().map(|absence| absence.message_id), Some(next));
        }
        Ok(())
    }
}
