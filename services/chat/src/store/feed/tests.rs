use std::{collections::HashMap, sync::Arc};

use sqlx::{PgPool, Postgres, Transaction};
use switchboard_chassis::{
    Clock, Lifecycle, Micros,
    db::Pool,
    testing::{Backend, database},
};
use switchboard_webhooks::{Outbox, WebhooksConfig};
use tempfile::TempDir;
use tokio::sync::Mutex;

use super::*;
use crate::{
    MIGRATIONS,
    model::{Body, Draft, Kind, MessageType, Opening, Role, Seat},
    order::Numbers,
};

/// How long a burst of missed messages is one.
pub(crate) const BURST: Micros = 1_000;

/// A store of its own, and those who write to it.
pub(crate) struct Fixture {
    pub(crate) store: Arc<Store>,
    numbers: Mutex<Numbers>,
    _directory: TempDir,
}

impl Fixture {
    pub(crate) async fn new(backend: Backend) -> anyhow::Result<Self> {
        let fixture = Self::unprepared(backend).await?;
        fixture.store.prepare_feed().await?;
        Ok(fixture)
    }

    async fn unprepared(backend: Backend) -> anyhow::Result<Self> {
        let (db, directory) = database(backend, "chat", &MIGRATIONS).await?;
        let outbox = Outbox::new("chat", &db, &WebhooksConfig::default(), Clock::System)?;
        let store = Arc::new(Store::new(db, BURST, outbox, &Lifecycle::new()));
        Ok(Self { store, numbers: Mutex::default(), _directory: directory })
    }

    pub(crate) async fn open(&self, patient: &str, professional: &str) -> anyhow::Result<Uuid> {
        let seat = |role, user_id: &str| Seat { role, user_id: user_id.to_owned() };
        let opening = Opening {
            kind: Kind::Clinic,
            seats: vec![seat(Role::Patient, patient), seat(Role::Professional, professional)],
            subject: String::new(),
            id: None,
            number: None,
        };
        let opened = self.store.open(&opening, Clock::System.new_id(), 1).await?;
        Ok(opened.map_err(|refusal| anyhow::anyhow!("{refusal:?}"))?.0.id)
    }

    /// One batch.
    pub(crate) async fn append(&self, messages: &[(Uuid, &str)]) -> anyhow::Result<()> {
        self.append_with(messages, &mut *self.numbers.lock().await).await
    }

    async fn append_with(&self, messages: &[(Uuid, &str)], numbers: &mut Numbers) -> anyhow::Result<()> {
        let drafts: Vec<Draft> = messages.iter().map(|(id, sender_id)| draft(*id, sender_id)).collect();
        self.store.append(&drafts, 1, numbers, false).await?;
        Ok(())
    }

    /// A message that somebody was not there for: its id.
    pub(crate) async fn append_missed(
        &self,
        id: Uuid,
        sender_id: &str,
        absent: &str,
        now: Micros,
    ) -> anyhow::Result<Uuid> {
        let draft = Draft { absent: vec![absent.to_owned()], ..draft(id, sender_id) };
        let message_id = draft.id;
        self.store.append(&[draft], now, &mut *self.numbers.lock().await, false).await?;
        Ok(message_id)
    }

    fn postgres(&self) -> &PgPool {
        match &self.store.db.write {
            Pool::Postgres(pool) => pool,
            Pool::Sqlite(_) => unreachable!("of tests on Postgres"),
        }
    }

    /// The messages after a place, and where that ends.
    async fn rest(&self, mut place: Place) -> anyhow::Result<(Vec<(Uuid, i64)>, Place)> {
        let mut told = Vec::new();
        loop {
            let page = self.store.page_after(place).await?;
            told.extend(messages(&page.entries));
            place = page.end;
            if !page.is_full {
                return Ok((told, place));
            }
        }
    }

    /// The same, when there are so many: transactions of other tests on the same server may run meanwhile.
    async fn told(&self, place: Place, wanted: usize) -> anyhow::Result<(Vec<(Uuid, i64)>, Place)> {
        loop {
            let (told, end) = self.rest(place).await?;
            if told.len() >= wanted {
                return Ok((told, end));
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }
}

fn draft(conversation_id: Uuid, sender_id: &str) -> Draft {
    Draft {
        conversation_id,
        part: 0,
        kind: Kind::Clinic,
        id: Clock::System.new_id(),
        retry: false,
        sender_id: sender_id.to_owned(),
        sender_role: Role::Patient,
        body: Body {
            content: "x".into(),
            message_type: MessageType::Text,
            media_url: String::new(),
            is_urgent: false,
            metadata_json: String::new(),
        },
        client_message_id: None,
        absent: Vec::new(),
    }
}

/// The messages among some entries.
fn messages(entries: &[Entry]) -> Vec<(Uuid, i64)> {
    let message = |entry: &Entry| match entry.what {
        What::Message(seq) => Some((entry.conversation_id, seq)),
        _ => None,
    };
    entries.iter().filter_map(message).collect()
}

/// What `append` does, step by step: takes the conversation's lock.
async fn lock(tx: &mut Transaction<'_, Postgres>, conversation_id: Uuid) -> sqlx::Result<i64> {
    sqlx::query_scalar("SELECT last_seq FROM conversations WHERE id = $1 FOR UPDATE")
        .bind(conversation_id)
        .fetch_one(&mut **tx)
        .await
}

async fn insert(tx: &mut Transaction<'_, Postgres>, conversation_id: Uuid, seq: i64) -> sqlx::Result<()> {
    sqlx::query(
        "INSERT INTO messages (conversation_id, seq, id, number, sender_id, sender_role, content, message_type,
             media_url, is_urgent, metadata, client_message_id, status, created_at)
         VALUES ($1, $2, $3, 1, 'pat', 'patient', 'x', 1, '', FALSE, '', NULL, 1, 1)",
    )
    .bind(conversation_id)
    .bind(seq)
    .bind(Clock::System.new_id())
    .execute(&mut **tx)
    .await?;
    sqlx::query("UPDATE conversations SET last_seq = $1 WHERE id = $2")
        .bind(seq)
        .bind(conversation_id)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

#[test]
fn neighbours_become_ranges() {
    let named = |seq| Named { id: Uuid::nil(), number: 0, seq };
    let changed = [1, 2, 3, 5, 8, 9].map(named);
    assert_eq!(Moved::of("client", 3, &changed).ranges, [(1, 3), (5, 5), (8, 9)]);
}

/// What is committed first does not hide what began before it.
#[tokio::test]
async fn nothing_is_passed_over_that_commits_late() -> anyhow::Result<()> {
    let fixture = Fixture::new(Backend::Postgres).await?;
    let (one, other) = (fixture.open("a", "b").await?, fixture.open("c", "d").await?);
    let (_, start) = fixture.rest(fixture.store.oldest()).await?;
    let mut late = fixture.postgres().begin().await?;
    lock(&mut late, one).await?;
    insert(&mut late, one, 1).await?;
    fixture.append(&[(other, "c")]).await?;
    let page = fixture.store.page_after(start).await?;
    assert!(messages(&page.entries).is_empty() && page.is_pending && !page.is_full, "{page:?}");
    late.commit().await?;
    let (told, end) = fixture.told(page.end, 2).await?;
    assert_eq!(told, [(one, 1), (other, 1)]);
    assert_eq!(fixture.rest(end).await?.0, []);
    // What is rolled back is nothing.
    let mut never = fixture.postgres().begin().await?;
    lock(&mut never, one).await?;
    insert(&mut never, one, 2).await?;
    never.rollback().await?;
    assert_eq!(fixture.told(start, 2).await?.0, [(one, 1), (other, 1)]);
    Ok(())
}

/// A transaction that began first waited for a conversation's lock: its message comes after the other's all the same, from
/// whichever place inside of them one goes on.
#[tokio::test]
async fn messages_of_a_conversation_come_in_its_order() -> anyhow::Result<()> {
    let fixture = Fixture::new(Backend::Postgres).await?;
    let (one, other) = (fixture.open("a", "b").await?, fixture.open("c", "d").await?);
    let (_, start) = fixture.rest(fixture.store.oldest()).await?;
    let mut first = fixture.postgres().begin().await?;
    lock(&mut first, other).await?;
    insert(&mut first, other, 1).await?;
    fixture.append(&[(one, "a")]).await?;
    let mut second = fixture.postgres().begin().await?;
    lock(&mut second, one).await?;
    insert(&mut second, one, 2).await?;
    second.commit().await?;
    lock(&mut first, one).await?;
    insert(&mut first, one, 3).await?;
    first.commit().await?;
    let mut page = fixture.store.page_after(start).await?;
    while messages(&page.entries).len() < 4 {
        page = fixture.store.page_after(start).await?;
    }
    let all = messages(&page.entries);
    let of_one: Vec<i64> = all.iter().filter(|(id, _)| *id == one).map(|(_, seq)| *seq).collect();
    assert_eq!((of_one, all.len()), (vec![1, 2, 3], 4));
    for (n, entry) in page.entries.iter().enumerate() {
        let cursor = entry.place.write();
        let place = Place::read(&cursor).ok_or_else(|| anyhow::anyhow!("{cursor}"))?;
        let rest = messages(&page.entries[n + 1..]);
        assert_eq!(fixture.told(place, rest.len()).await?.0, rest, "after {n}");
    }
    Ok(())
}

/// Writers in the same conversations, and readers of small and large pages meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn concurrent_writers_are_told_once_and_in_order() -> anyhow::Result<()> {
    const WRITERS: usize = 3;
    const BATCHES: usize = 60;
    let fixture = Arc::new(Fixture::new(Backend::Postgres).await?);
    let mut ids = Vec::new();
    for n in 0..5 {
        ids.push(fixture.open(&format!("a{n}"), "b").await?);
    }
    let (_, start) = fixture.rest(fixture.store.oldest()).await?;
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        let (fixture, ids) = (fixture.clone(), ids.clone());
        writers.spawn(async move {
            let mut numbers = Numbers::default();
            for n in 0..BATCHES {
                let batch: Vec<(Uuid, &str)> =
                    (0..=(n * 3 + writer) % 9).map(|k| (ids[(n * 5 + k * 2 + writer) % ids.len()], "a")).collect();
                fixture.append_with(&batch, &mut numbers).await?;
            }
            Ok::<_, anyhow::Error>(())
        });
    }
    let mut told = Vec::new();
    let mut place = start;
    while !writers.is_empty() {
        let (some, end) = fixture.rest(place).await?;
        told.extend(some);
        place = end;
        while let Some(done) = writers.try_join_next() {
            done??;
        }
    }
    // Transactions of other tests on the same server may still run.
    let stored: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM messages").fetch_one(fixture.postgres()).await?;
    while i64::try_from(told.len())? < stored {
        let (some, end) = fixture.rest(place).await?;
        told.extend(some);
        place = end;
    }
    assert_eq!(i64::try_from(told.len())?, stored);
    let mut next: HashMap<Uuid, i64> = HashMap::new();
    for (id, seq) in &told {
        let last = next.entry(*id).or_insert(0);
        assert_eq!(*seq, *last + 1);
        *last = *seq;
    }
    Ok(())
}

/// More than a page in one transaction, on both.
#[tokio::test]
async fn a_large_batch_is_told_whole() -> anyhow::Result<()> {
    for backend in [Backend::Sqlite, Backend::Postgres] {
        let fixture = Fixture::new(backend).await?;
        let id = fixture.open("a", "b").await?;
        for _ in 0..2 {
            fixture.append(&vec![(id, "a"); 512]).await?;
        }
        let (told, _) = fixture.told(fixture.store.oldest(), 1_024).await?;
        assert_eq!(told, (1..=1_024).map(|seq| (id, seq)).collect::<Vec<_>>(), "{backend:?}");
    }
    Ok(())
}

/// What was stored by an earlier version is told first, conversation by conversation.
#[tokio::test]
async fn what_is_older_than_the_feed_is_told() -> anyhow::Result<()> {
    let fixture = Fixture::new(Backend::Postgres).await?;
    let (one, other) = (fixture.open("a", "b").await?, fixture.open("c", "d").await?);
    for _ in 0..400 {
        fixture.append(&[(one, "a"), (other, "c")]).await?;
    }
    // As if it had been there before.
    sqlx::raw_sql("DROP TABLE events; DROP TABLE feed; ALTER TABLE messages DROP COLUMN stored_by")
        .execute(fixture.postgres())
        .await?;
    for _ in 0..2 {
        fixture.store.prepare_feed().await?;
    }
    fixture.append(&[(one, "a")]).await?;
    let mut place = fixture.store.oldest();
    let mut told = Vec::new();
    while told.len() < 803 {
        let page = fixture.store.page_after(place).await?;
        told.extend(page.entries);
        place = page.end;
    }
    let opened = |entry: &Entry| matches!(entry.what, What::Event(Happening::Opened, _));
    assert!(opened(&told[0]) && opened(&told[401]), "each conversation is opened before its messages are told");
    assert_eq!(told.iter().filter(|entry| entry.what == What::Message(401)).count(), 1);
    assert_eq!(told[802].what, What::Message(401));
    Ok(())
}

/// A dump that was restored into a server that has seen fewer transactions.
#[tokio::test]
async fn a_feed_goes_on_at_another_server() -> anyhow::Result<()> {
    let fixture = Fixture::new(Backend::Postgres).await?;
    let id = fixture.open("a", "b").await?;
    fixture.append(&[(id, "a")]).await?;
    sqlx::raw_sql(
        "UPDATE messages SET stored_by = stored_by + 1000000000000;
         UPDATE events SET stored_by = stored_by + 1000000000000",
    )
    .execute(fixture.postgres())
    .await?;
    let last: i64 = sqlx::query_scalar("SELECT MAX(stored_by) FROM messages").fetch_one(fixture.postgres()).await?;
    let cursor = Place::Before { from: last + 1 };
    assert_eq!(fixture.store.check_place(cursor).await?, Err(BadPlace::Ahead));
    fixture.store.prepare_feed().await?;
    assert_eq!(fixture.store.check_place(cursor).await?, Ok(()));
    fixture.append(&[(id, "a")]).await?;
    assert_eq!(fixture.told(cursor, 1).await?.0, [(id, 2)]);
    assert_eq!(fixture.told(fixture.store.oldest(), 2).await?.0, [(id, 1), (id, 2)]);
    Ok(())
}

#[tokio::test]
async fn a_place_is_checked() -> anyhow::Result<()> {
    let sqlite = Fixture::new(Backend::Sqlite).await?;
    let postgres = Fixture::new(Backend::Postgres).await?;
    for (fixture, foreign) in [(&sqlite, postgres.store.oldest()), (&postgres, sqlite.store.oldest())] {
        for place in [fixture.store.oldest(), fixture.store.newest().await?] {
            assert_eq!(fixture.store.check_place(place).await?, Ok(()));
        }
        assert_eq!(fixture.store.check_place(foreign).await?, Err(BadPlace::Foreign));
    }
    Ok(())
}

/// Receipts are told for a while; a place is never used again.
#[tokio::test]
async fn receipts_are_forgotten() -> anyhow::Result<()> {
    for backend in [Backend::Sqlite, Backend::Postgres] {
        let fixture = Fixture::new(backend).await?;
        let id = fixture.open("a", "b").await?;
        fixture.append(&[(id, "a")]).await?;
        let conversation = fixture.store.conversation(id).await?.ok_or_else(|| anyhow::anyhow!("gone"))?;
        let reading = crate::model::Reading {
            status: crate::model::Status::Read,
            which: crate::model::Which::All,
            strict: false,
            is_status_update: false,
        };
        let marked = fixture.store.mark(&conversation, "b", Role::Professional, &reading, 0, 10).await?;
        assert_eq!(marked.map(|marked| marked.changed.len()).ok(), Some(1));
        let place = |page: &Page| page.entries.last().map(|entry| entry.what);
        let mut page = fixture.store.page_after(fixture.store.oldest()).await?;
        while !matches!(place(&page), Some(What::Event(Happening::Receipts, _))) {
            page = fixture.store.page_after(page.end).await?;
        }
        let end = page.end;
        assert!(!fixture.store.forget_receipts(11).await?);
        assert!(fixture.store.events_at(&[3, 2, 1]).await?.iter().all(|row| row.user_id.is_none()));
        fixture.store.close(id, 12).await?;
        let mut after = fixture.store.page_after(end).await?;
        while after.entries.is_empty() {
            after = fixture.store.page_after(after.end).await?;
        }
        assert!(matches!(place(&after), Some(What::Event(Happening::Closed, _))), "{backend:?}: {after:?}");
    }
    Ok(())
}
