//! Who is online, as the presence service tells this edge, once for all of its presence sockets.
//!
//! Each person is encoded once, when that person comes, and all sockets share the bytes. A newcomer takes the roster part
//! by part, as its socket drains, and passes over the batches that a part knows already. After the link broke, people are taken for online until the new stream has told of everybody and a lease has passed: those who
//! come back over another edge, which may take longer, do not blink.

use std::{
    collections::BTreeMap,
    ops::Bound,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use switchboard_chassis::Lifecycle;
use switchboard_proto::{
    part,
    presence::v1::{Changes, OnlineUser, track_response::Event},
    wire,
};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Utf8Bytes;

use crate::{dialect::consultation::presence, link::Whole};

/// Batches of changes that wait for one socket. A socket that lets more wait is reading too slowly.
const BATCHES_MAX: usize = 256;

/// Somebody came or went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct News {
    pub(crate) user_id: Arc<str>,
    /// What a client is told.
    pub(crate) frame: Utf8Bytes,
    pub(crate) is_online: bool,
}

/// Who came and went together. All watchers share one.
#[derive(Debug)]
pub(crate) struct Batch {
    /// Rises with each batch.
    pub(crate) version: u64,
    pub(crate) news: Vec<News>,
}

/// What a watcher hears. When it ends, the watcher was too slow.
pub(crate) type Batches = mpsc::Receiver<Arc<Batch>>;

/// Some of those who are online, after all batches up to a version.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) version: u64,
    /// In the order of the ids.
    pub(crate) online: Vec<News>,
    /// Whether nobody comes after them.
    pub(crate) is_last: bool,
}

/// Cheap to clone.
#[derive(Clone)]
pub(crate) struct Roster {
    state: Arc<Mutex<State>>,
    key: Arc<str>,
    lifecycle: Lifecycle,
}

#[derive(Default)]
struct State {
    /// In the order of the ids, which is the order in which a newcomer is told.
    online: BTreeMap<Arc<str>, Entry>,
    watchers: Vec<mpsc::Sender<Arc<Batch>>>,
    version: u64,
    /// Which roster it is, or which stream that has brought none yet.
    stream: u64,
    /// A roster is coming, and is not whole yet.
    is_partial: bool,
}

struct Entry {
    frame: Utf8Bytes,
    /// Whether the newest roster has this person.
    is_confirmed: bool,
}

impl Roster {
    /// The key is this edge's own.
    pub(crate) fn new(key: &str, lifecycle: Lifecycle) -> Self {
        Self { state: Arc::default(), key: Arc::from(key), lifecycle }
    }

    /// What brings all presence sessions of this edge to one instance: the roster is told once for a stream.
    pub(crate) fn home(&self) -> part::Part {
        part::named(&[self.key.as_bytes()])
    }

    /// How many are taken for online.
    pub(crate) fn count(&self) -> i64 {
        i64::try_from(self.lock().online.len()).unwrap_or(i64::MAX)
    }

    /// Who comes and goes from now on.
    pub(crate) fn watch(&self) -> Batches {
        let (sender, batches) = mpsc::channel(BATCHES_MAX);
        let mut state = self.lock();
        state.forget_gone_watchers();
        state.watchers.push(sender);
        batches
    }

    /// At most so many of those who are online, after an id.
    pub(crate) fn part(&self, after: Option<&str>, size: usize) -> Part {
        let state = self.lock();
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut rest = state.online.range::<str, _>((from, Bound::Unbounded));
        let online = rest.by_ref().take(size).map(|(user_id, entry)| entry.news(user_id)).collect();
        Part { version: state.version, online, is_last: rest.next().is_none() }
    }

    /// Those of some people who are online.
    pub(crate) fn among<'a>(&self, user_ids: impl Iterator<Item = &'a str>) -> Part {
        let state = self.lock();
        let found = user_ids.filter_map(|id| state.online.get_key_value(id));
        let online = found.map(|(user_id, entry)| entry.news(user_id)).collect();
        Part { version: state.version, online, is_last: true }
    }

    /// Takes what the link brings for the whole stream.
    pub(crate) fn hear(&self, whole: Whole<wire::Presence>) {
        let mut state = self.lock();
        match whole {
            Whole::Up => {
                state.stream += 1;
                state.is_partial = false;
            }
            Whole::Event(Event::Roster(roster)) => {
                if !state.is_partial {
                    state.is_partial = true;
                    state.stream += 1;
                    state.online.values_mut().for_each(|entry| entry.is_confirmed = false);
                }
                let news = state.come(roster.users);
                state.tell(news);
                if roster.is_last {
                    state.is_partial = false;
                    state.forget_gone_watchers();
                    // Where nobody was told of them, nobody can blink.
                    if state.watchers.is_empty() {
                        state.drop_unconfirmed();
                    } else {
                        let lease = roster.lease.and_then(|lease| Duration::try_from(lease).ok()).unwrap_or_default();
                        self.drop_unconfirmed_after(lease, state.stream);
                    }
                }
            }
            Whole::Event(Event::Changes(Changes { came, went })) => {
                let mut news = state.come(came);
                news.extend(went.iter().filter_map(|user_id| state.go(user_id)));
                state.tell(news);
            }
            Whole::Event(_) => {}
        }
    }

    /// Unless a newer roster comes meanwhile, with a lease of its own.
    fn drop_unconfirmed_after(&self, lease: Duration, stream: u64) {
        let roster = self.clone();
        self.lifecycle.spawn(async move {
            tokio::select! {
                () = tokio::time::sleep(lease) => {
                    let mut state = roster.lock();
                    if state.stream == stream {
                        state.drop_unconfirmed();
                    }
                }
                () = roster.lifecycle.drained() => {}
            }
        });
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// These are online; those of whom that is news.
    fn come(&mut self, users: Vec<OnlineUser>) -> Vec<News> {
        let mut news = Vec::new();
        for user in users {
            let frame = presence::online(&user);
            match self.online.get_mut(user.user_id.as_str()) {
                Some(entry) if entry.frame == frame => entry.is_confirmed = true,
                _ => {
                    let user_id: Arc<str> = user.user_id.into();
                    let entry = Entry { frame, is_confirmed: true };
                    news.push(entry.news(&user_id));
                    self.online.insert(user_id, entry);
                }
            }
        }
        news
    }

    fn go(&mut self, user_id: &str) -> Option<News> {
        let (user_id, _) = self.online.remove_entry(user_id)?;
        Some(News { frame: presence::offline(&user_id), user_id, is_online: false })
    }

    fn forget_gone_watchers(&mut self) {
        self.watchers.retain(|watcher| !watcher.is_closed());
    }

    fn drop_unconfirmed(&mut self) {
        let gone: Vec<Arc<str>> =
            self.online.iter().filter(|(_, entry)| !entry.is_confirmed).map(|(user_id, _)| user_id.clone()).collect();
        let news = gone.iter().filter_map(|user_id| self.go(user_id)).collect();
        self.tell(news);
    }

    /// One list for all watchers. A watcher that is too slow, or gone, is dropped.
    fn tell(&mut self, news: Vec<News>) {
        if news.is_empty() {
            return;
        }
        self.version += 1;
        let batch = Arc::new(Batch { version: self.version, news });
        self.watchers.retain(|watcher| watcher.try_send(batch.clone()).is_ok());
    }
}

impl Entry {
    fn news(&self, user_id: &Arc<str>) -> News {
        News { user_id: user_id.clone(), frame: self.frame.clone(), is_online: true }
    }
}

#[cfg(test)]
mod tests {
    use switchboard_proto::presence::v1::Roster as Told;

    use super::*;

    const LEASE: Duration = Duration::from_secs(15);

    fn user(id: &str) -> OnlineUser {
        OnlineUser { user_id: id.to_owned(), user_name: id.to_uppercase() }
    }

    fn told(ids: &[&str], is_last: bool) -> Whole<wire::Presence> {
        let lease = LEASE.try_into().ok();
        Whole::Event(Event::Roster(Told { users: ids.iter().map(|id| user(id)).collect(), is_last, lease }))
    }

    fn changes(came: &[&str], went: &[&str]) -> Whole<wire::Presence> {
        Whole::Event(Event::Changes(Changes {
            came: came.iter().map(|id| user(id)).collect(),
            went: went.iter().map(|id| (*id).to_owned()).collect(),
        }))
    }

    fn frames(news: &[News]) -> Vec<String> {
        news.iter().map(|news| news.frame.to_string()).collect()
    }

    fn online(ids: &[&str]) -> Vec<String> {
        ids.iter().map(|id| presence::online(&user(id)).to_string()).collect()
    }

    fn offline(id: &str) -> Vec<String> {
        vec![presence::offline(id).to_string()]
    }

    fn roster() -> Roster {
        let roster = Roster::new("edge", Lifecycle::new());
        roster.hear(Whole::Up);
        roster.hear(told(&["a"], false));
        roster.hear(told(&["b"], true));
        roster
    }

    fn whole(roster: &Roster) -> Vec<String> {
        frames(&roster.part(None, 100).online)
    }

    #[tokio::test(start_paused = true)]
    async fn a_newcomer_takes_the_roster_in_parts_and_then_hears_who_comes_and_goes() {
        let roster = roster();
        let mut batches = roster.watch();
        let first = roster.part(None, 1);
        assert_eq!((frames(&first.online), first.is_last), (online(&["a"]), false));
        roster.hear(changes(&["c", "a"], &["b", "nobody"]));
        let rest = roster.part(Some("a"), 1);
        assert_eq!((frames(&rest.online), rest.is_last), (online(&["c"]), true));
        let batch = batches.recv().await.expect("a batch");
        assert_eq!(frames(&batch.news), [online(&["c"]), offline("b")].concat(), "a was there already");
        assert!(batch.version > first.version && batch.version <= rest.version);
        assert_eq!(frames(&roster.among(["a", "b"].into_iter()).online), online(&["a"]));
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_broken_link_nobody_blinks_and_who_stays_away_goes_after_the_lease() {
        let roster = roster();
        let mut batches = roster.watch();
        roster.hear(Whole::Up);
        roster.hear(told(&["a"], true));
        // The first session to come back left again: the next one brings another roster.
        let before = tokio::time::Instant::now();
        roster.hear(told(&["a"], true));
        assert!(batches.try_recv().is_err(), "b may be on the way");
        let batch = batches.recv().await.expect("a batch");
        assert_eq!(frames(&batch.news), offline("b"));
        assert!(before.elapsed() >= LEASE);
    }

    #[tokio::test(start_paused = true)]
    async fn who_comes_back_within_the_lease_was_never_gone() {
        let roster = roster();
        let mut batches = roster.watch();
        roster.hear(Whole::Up);
        roster.hear(told(&[], true));
        roster.hear(changes(&["b", "a"], &[]));
        tokio::time::sleep(LEASE * 2).await;
        assert!(batches.try_recv().is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_roster_after_a_time_without_watchers_is_the_whole_truth() {
        let roster = roster();
        drop(roster.watch());
        roster.hear(told(&["b", "c"], true));
        assert_eq!(whole(&roster), online(&["b", "c"]));
        roster.hear(Whole::Up);
        roster.hear(told(&["d"], true));
        assert_eq!(whole(&roster), online(&["d"]), "also over a new stream");
    }

    #[tokio::test(start_paused = true)]
    async fn who_reads_too_slowly_is_dropped_and_holds_up_nobody() {
        let roster = roster();
        let mut slow = roster.watch();
        for _ in 0..=BATCHES_MAX {
            roster.hear(changes(&["c"], &[]));
            roster.hear(changes(&[], &["c"]));
        }
        let mut fresh = roster.watch();
        roster.hear(changes(&["d"], &[]));
        assert!(fresh.recv().await.is_some());
        let mut heard = 0;
        while slow.recv().await.is_some() {
            heard += 1;
        }
        assert_eq!(heard, BATCHES_MAX);
    }
}
