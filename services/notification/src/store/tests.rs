use tempfile::TempDir;
use uuid::Uuid;

use super::*;
use crate::{
    MIGRATIONS,
    model::{Content, Draft, Marked, Which},
    order::Appended,
};
use switchboard_chassis::{
    Clock, Kind, Micros,
    audit::Asked,
    testing::{Backend, database},
};

/// A new database, which goes with the directory.
pub(crate) async fn open(backend: Backend) -> (Store, TempDir) {
    let (db, directory) = database(backend, "notification", &MIGRATIONS).await.expect("a database");
    (Store::new(db), directory)
}

fn asked() -> Asked {
    Asked { caller: "a test".to_owned(), at: 1, subject_sha256: "hash".to_owned() }
}

macro_rules! on_both {
    ($($test:ident,)*) => {
        mod on_sqlite {
            $(#[tokio::test]
            async fn $test() {
                let (store, _directory) = super::open(super::Backend::Sqlite).await;
                super::$test(store).await;
            })*
        }
        mod on_postgres {
            $(#[tokio::test]
            async fn $test() {
                let (store, _directory) = super::open(super::Backend::Postgres).await;
                super::$test(store).await;
            })*
        }
    };
}

on_both!(
    each_notification_has_the_inbox_with_it,
    what_is_read_back_is_what_was_stored,
    a_repeat_is_answered_with_the_first,
    a_lost_yes_is_found_and_not_stored_again,
    a_full_transaction_fits_into_the_statements,
    what_is_read_is_read_once,
    nobody_reads_what_is_anothers,
    pages_end_where_the_next_begins,
    a_page_of_long_ones_ends_early,
    an_erased_inbox_does_not_begin_again,
    what_is_old_goes_part_by_part,
    what_was_read_goes_without_a_change_of_the_inbox,
    a_database_that_is_gone_is_unavailable,
    all_at_once_leaves_the_counts_right,
);

/// From now on the database does not answer.
pub(crate) async fn close(store: &Store) {
    for pool in [&store.db.read, &store.db.write] {
        on_pool!(pool, pool => pool.close().await);
    }
}

pub(crate) fn draft(user_id: &str, request_id: &str) -> Draft {
    Draft {
        id: Clock::System.new_id(),
        user_id: user_id.to_owned(),
        content: Content {
            title: "title".to_owned(),
            message: "message".to_owned(),
            notification_type: "general".to_owned(),
            data: r#"{"a":1}"#.to_owned(),
        },
        request_id: Some(request_id.to_owned()).filter(|request_id| !request_id.is_empty()),
    }
}

/// Stores new notifications at a time, and gives them back.
async fn stored(store: &Store, now: Micros, drafts: &[Draft]) -> Vec<Notification> {
    let batch = store.append(drafts, now, false).await.expect("an answer");
    let each = batch.appended.into_iter().map(|appended| match appended {
        Appended::Stored(notification, _) => notification,
        repeat @ Appended::Repeat { .. } => panic!("{repeat:?}"),
    });
    each.collect()
}

async fn listed(store: &Store, page: Page) -> (Vec<u64>, bool) {
    let Listed { notifications, more } = store.list("ann", page).await.expect("a page");
    (notifications.iter().map(|notification| notification.seq).collect(), more)
}

const ALL: Page = Page { from_seq: 0, newest_first: false, unread_only: false, size: 200 };

async fn each_notification_has_the_inbox_with_it(store: Store) {
    let drafts = [draft("ann", ""), draft("ben", ""), draft("ann", ""), draft("ann", "")];
    for before in [0, 3] {
        let drafts = drafts.clone().map(|draft| Draft { id: Clock::System.new_id(), ..draft });
        let batch = store.append(&drafts, 7, false).await.expect("an answer");
        let ann = batch.appended.iter().filter_map(|appended| match appended {
            Appended::Stored(notification, inbox) if notification.user_id == "ann" => Some((notification.seq, *inbox)),
            _ => None,
        });
        let expected = (before + 1..=before + 3)
            .map(|n: u64| (n, Inbox { last_seq: n, unread: i64::try_from(n).expect("small"), revision: n }));
        assert!(ann.eq(expected), "{batch:?}");
        assert!(batch.repeated.is_empty());
    }
    assert_eq!(store.inbox("ann").await.expect("read"), Inbox { last_seq: 6, unread: 6, revision: 6 });
    assert_eq!(store.inbox("nobody").await.expect("read"), Inbox::default());
}

async fn what_is_read_back_is_what_was_stored(store: Store) {
    let first = stored(&store, 7, &[draft("ann", "r"), draft("ann", "")]).await;
    assert_eq!(store.list("ann", ALL).await.expect("a page").notifications, first);
}

async fn a_repeat_is_answered_with_the_first(store: Store) {
    let first = stored(&store, 7, &[draft("ann", "r")]).await.remove(0);
    let drafts = [draft("ann", "r"), draft("ben", "r"), draft("ben", "r"), draft("ben", "r")];
    let batch = store.append(&drafts, 8, false).await.expect("an answer");
    assert_eq!(batch.appended[0], Appended::Repeat { first, is_ours: false });
    let Appended::Stored(bens, _) = &batch.appended[1] else { panic!("{batch:?}") };
    for again in &batch.appended[2..] {
        assert_eq!(*again, Appended::Repeat { first: bens.clone(), is_ours: false });
    }
    let mut repeated = batch.repeated;
    repeated.sort_by(|one, other| one.0.cmp(&other.0));
    let inbox = Inbox { last_seq: 1, unread: 1, revision: 1 };
    assert_eq!(repeated, [("ann".to_owned(), inbox), ("ben".to_owned(), inbox)]);
    assert_eq!(store.inbox("ann").await.expect("read"), inbox);
}

async fn a_lost_yes_is_found_and_not_stored_again(store: Store) {
    let drafts = [draft("ann", ""), draft("ann", "r")];
    stored(&store, 7, &drafts).await;
    // The second way is what a race with another instance looks like: the INSERT fails, and all is looked up.
    for again in [true, false] {
        let batch = store.append(&drafts, 8, again).await.expect("an answer");
        assert!(batch.appended.iter().all(|each| matches!(each, Appended::Repeat { is_ours: true, .. })), "{batch:?}");
    }
    assert_eq!(store.inbox("ann").await.expect("read"), Inbox { last_seq: 2, unread: 2, revision: 2 });
}

async fn a_full_transaction_fits_into_the_statements(store: Store) {
    let drafts: Vec<Draft> = (0..TRANSACTION_DRAFTS_MAX).map(|number| draft(&format!("user {number}"), "r")).collect();
    assert_eq!(stored(&store, 7, &drafts).await.len(), drafts.len());
    let batch = store.append(&drafts, 8, true).await.expect("an answer");
    assert_eq!(batch.repeated.len(), drafts.len());
}

async fn what_is_read_is_read_once(store: Store) {
    let notifications = stored(&store, 7, &[draft("ann", ""), draft("ann", ""), draft("ann", "")]).await;
    let two = Which::These(notifications[..2].iter().map(|notification| notification.id).collect());
    let inbox = Inbox { last_seq: 3, unread: 1, revision: 4 };
    for changed in [2, 0] {
        let marked = store.mark_read("ann", &two).await.expect("an answer");
        assert_eq!(marked, Some(Marked { changed, inbox }));
    }
    assert_eq!(listed(&store, Page { unread_only: true, ..ALL }).await, (vec![3], false));
    let marked = store.mark_read("ann", &Which::All).await.expect("an answer");
    assert_eq!(marked, Some(Marked { changed: 1, inbox: Inbox { last_seq: 3, unread: 0, revision: 5 } }));
    let nobodys = store.mark_read("nobody", &Which::All).await.expect("an answer");
    assert_eq!(nobodys, Some(Marked::default()));
}

async fn nobody_reads_what_is_anothers(store: Store) {
    let notifications = stored(&store, 7, &[draft("ann", ""), draft("ben", "")]).await;
    for other in [notifications[1].id, Uuid::nil()] {
        let which = Which::These(vec![notifications[0].id, other]);
        assert_eq!(store.mark_read("ann", &which).await.expect("an answer"), None);
    }
    assert_eq!(store.inbox("ann").await.expect("read"), Inbox { last_seq: 1, unread: 1, revision: 1 });
}

async fn pages_end_where_the_next_begins(store: Store) {
    stored(&store, 7, &[draft("ann", ""), draft("ann", ""), draft("ben", ""), draft("ann", "")]).await;
    let page = |from_seq, newest_first| Page { from_seq, newest_first, unread_only: false, size: 2 };
    assert_eq!(listed(&store, page(0, false)).await, (vec![1, 2], true));
    assert_eq!(listed(&store, page(2, false)).await, (vec![3], false));
    assert_eq!(listed(&store, page(0, true)).await, (vec![3, 2], true));
    assert_eq!(listed(&store, page(2, true)).await, (vec![1], false));
    assert_eq!(listed(&store, page(u64::MAX, false)).await, (Vec::new(), false));
}

async fn a_page_of_long_ones_ends_early(store: Store) {
    let mut long = draft("ann", "");
    long.content.data = format!(r#"{{"a":"{}"}}"#, "x".repeat(16_000));
    let drafts: Vec<Draft> = (0..50).map(|_| Draft { id: Clock::System.new_id(), ..long.clone() }).collect();
    stored(&store, 7, &drafts).await;
    let (seqs, more) = listed(&store, ALL).await;
    assert!(more && seqs.len() < 50, "{seqs:?}");
    let last = seqs.last().copied().expect("some");
    assert_eq!(listed(&store, Page { from_seq: last, ..ALL }).await.0[0], last + 1);
}

async fn an_erased_inbox_does_not_begin_again(store: Store) {
    stored(&store, 7, &[draft("ann", "r"), draft("ann", ""), draft("ben", "")]).await;
    let inbox = Inbox { last_seq: 2, unread: 0, revision: 3 };
    assert_eq!(store.erase("ann", &asked()).await.expect("an answer"), (2, inbox));
    assert_eq!(store.erase("ann", &asked()).await.expect("an answer"), (0, inbox));
    assert_eq!(store.erase("nobody", &asked()).await.expect("an answer"), (0, Inbox::default()));
    assert_eq!(listed(&store, ALL).await, (Vec::new(), false));
    assert_eq!(stored(&store, 8, &[draft("ann", "r")]).await[0].seq, 3);
    assert_eq!(store.inbox("ben").await.expect("read").unread, 1);
}

async fn what_is_old_goes_part_by_part(store: Store) {
    let drafts: Vec<Draft> = (0..EXPIRED_MAX).map(|_| draft("ann", "")).collect();
    let read = stored(&store, 1, &drafts).await.remove(0);
    stored(&store, 2, &[draft("ben", "r"), draft("ann", "")]).await;
    stored(&store, 3, &[draft("ann", "")]).await;
    store.mark_read("ann", &Which::These(vec![read.id])).await.expect("an answer").expect("hers");

    let part = store.expire(3).await.expect("an answer");
    let last_seq = 1002;
    assert_eq!(part.removed, 1000);
    assert_eq!(part.changed, [("ann".to_owned(), Inbox { last_seq, unread: 2, revision: 1004 })]);
    assert!(part.more);
    let part = store.expire(3).await.expect("an answer");
    let mut changed = part.changed;
    changed.sort_by(|one, other| one.0.cmp(&other.0));
    let bens = Inbox { last_seq: 1, unread: 0, revision: 2 };
    assert_eq!(changed, [("ann".to_owned(), Inbox { last_seq, unread: 1, revision: 1005 }), ("ben".to_owned(), bens)]);
    assert!(part.removed == 2 && !part.more);

    assert_eq!(store.expire(3).await.expect("an answer"), Expired::default());
    assert_eq!(listed(&store, ALL).await, (vec![1002], false));
    // Its request is forgotten with it.
    assert_eq!(stored(&store, 4, &[draft("ben", "r")]).await[0].seq, 2);
}

async fn what_was_read_goes_without_a_change_of_the_inbox(store: Store) {
    stored(&store, 1, &[draft("ann", "")]).await;
    let marked = store.mark_read("ann", &Which::All).await.expect("an answer").expect("hers");
    assert_eq!(store.expire(2).await.expect("an answer"), Expired { removed: 1, ..Expired::default() });
    assert_eq!(store.inbox("ann").await.expect("read"), marked.inbox);
}

async fn a_database_that_is_gone_is_unavailable(store: Store) {
    close(&store).await;
    assert_eq!(store.append(&[draft("ann", "")], 7, false).await.expect_err("gone").kind, Kind::Unavailable);
}

/// Several notify, read, erase and sweep the same users at once: nobody waits in a circle, and the counts are right.
async fn all_at_once_leaves_the_counts_right(store: Store) {
    const USERS: [&str; 3] = ["ann", "ben", "cid"];
    let store = std::sync::Arc::new(store);
    let mut tasks = tokio::task::JoinSet::new();
    for round in 0..12_i64 {
        let drafts: Vec<Draft> = USERS.iter().rev().map(|user| draft(user, &format!("r{}", round % 5))).collect();
        let appending = store.clone();
        tasks.spawn(async move { appending.append(&drafts, round, false).await.map(drop) });
        let reading = store.clone();
        let user = USERS[usize::try_from(round).expect("small") % 3];
        tasks.spawn(async move { reading.mark_read(user, &Which::All).await.map(drop) });
        let sweeping = store.clone();
        tasks.spawn(async move { sweeping.expire(round - 6).await.map(drop) });
        if round % 4 == 0 {
            let erasing = store.clone();
            tasks.spawn(async move { erasing.erase(user, &asked()).await.map(drop) });
        }
    }
    while let Some(done) = tasks.join_next().await {
        done.expect("no panic").expect("an answer");
    }
    for user in USERS {
        let unread = Page { unread_only: true, ..ALL };
        let listed = store.list(user, unread).await.expect("a page").notifications;
        let inbox = store.inbox(user).await.expect("read");
        assert_eq!(usize::try_from(inbox.unread).ok(), Some(listed.len()), "{user}");
    }
}
