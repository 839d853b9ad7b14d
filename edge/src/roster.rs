//! Who is online, as the presence service tells this edge, once for all of its presence sockets.
//!
//! Each person is encoded once, when that person comes; a newcomer's roster is a list of shared encodings. After the
//! link broke, people are taken for online until the new stream has told of everybody and a lease has passed: those who
//! come back over another edge, which may take longer, do not blink.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use switchboard_chassis::Lifecycle;
use switchboard_proto::{
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
}

/// What a watcher hears. When it ends, the watcher was too slow.
pub(crate) type Batches = mpsc::Receiver<Arc<[News]>>;

/// Cheap to clone.
#[derive(Clone)]
pub(crate) struct Roster {
    state: Arc<Mutex<State>>,
    lifecycle: Lifecycle,
}

#[derive(Default)]
struct State {
    /// In the order of the ids, which is the order of a newcomer's roster.
    online: BTreeMap<Arc<str>, Entry>,
    watchers: Vec<mpsc::Sender<Arc<[News]>>>,
    /// Which stream it is, and which roster of that stream.
    stream: u64,
    has_roster: bool,
    is_partial: bool,
}

struct Entry {
    frame: Utf8Bytes,
    /// Whether the newest roster has this person.
    is_confirmed: bool,
}

impl Roster {
    pub(crate) fn new(lifecycle: Lifecycle) -> Self {
        Self { state: Arc::default(), lifecycle }
    }

    /// Everybody who is online, and from then on who comes and goes.
    pub(crate) fn watch(&self) -> (Vec<News>, Batches) {
        let (sender, batches) = mpsc::channel(BATCHES_MAX);
        let mut state = self.lock();
        state.watchers.push(sender);
        (state.online.iter().map(|(user_id, entry)| entry.news(user_id)).collect(), batches)
    }

    /// Those of some people who are online.
    pub(crate) fn among<'a>(&self, user_ids: impl Iterator<Item = &'a str>) -> Vec<News> {
        let state = self.lock();
        user_ids.filter_map(|id| state.online.get_key_value(id).map(|(user_id, entry)| entry.news(user_id))).collect()
    }

    /// Takes what the link brings for the whole stream.
    pub(crate) fn hear(&self, whole: Whole<wire::Presence>) {
        let mut state = self.lock();
        match whole {
            Whole::Up => {
                state.stream += 1;
                (state.has_roster, state.is_partial) = (false, false);
            }
            Whole::Event(Event::Roster(roster)) => {
                if !state.is_partial {
                    state.is_partial = true;
                    state.online.values_mut().for_each(|entry| entry.is_confirmed = false);
                }
                let news = state.come(roster.users);
                state.tell(news);
                if roster.is_last {
                    state.is_partial = false;
                    // A later roster of the same stream comes after a time in which nobody here watched.
                    if std::mem::replace(&mut state.has_roster, true) {
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

    fn drop_unconfirmed_after(&self, lease: Duration, stream: u64) {
        let roster = self.clone();
        self.lifecycle.spawn(async move {
            tokio::select! {
                () = tokio::time::sleep(lease) => {
                    let mut state = roster.lock();
                    // A newer stream has a lease of its own.
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
        Some(News { frame: presence::offline(&user_id), user_id })
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
        let batch: Arc<[News]> = news.into();
        self.watchers.retain(|watcher| watcher.try_send(batch.clone()).is_ok());
    }
}

impl Entry {
    fn news(&self, user_id: &Arc<str>) -> News {
        News { user_id: user_id.clone(), frame: self.frame.clone() }
    }
}

#[cfg(test)]
mod tests {
    use switchboard_proto::presence::v1::Roster as Part;

    use super::*;

    const LEASE: Duration = Duration::from_secs(15);

    fn user(id: &str) -> OnlineUser {
        OnlineUser { user_id: id.to_owned(), user_name: id.to_uppercase() }
    }

    fn part(ids: &[&str], is_last: bool) -> Whole<wire::Presence> {
        let lease = LEASE.try_into().ok();
        Whole::Event(Event::Roster(Part { users: ids.iter().map(|id| user(id)).collect(), is_last, lease }))
    }

    fn changes(came: &[&str], went: &[&str]) -> Whole<wire::Presence> {
        Whole::Event(Event::Changes(Changes {
            came: came.iter().map(|id| user(id)).collect(),
            went: went.iter().map(|id| (*id).to_owned()).collect(),
        }))
    }

    fn sorted(news: &[News]) -> Vec<String> {
        let mut frames: Vec<String> = news.iter().map(|news| news.frame.to_string()).collect();
        frames.sort();
        frames
    }

    fn online(ids: &[&str]) -> Vec<String> {
        ids.iter().map(|id| presence::online(&user(id)).to_string()).collect()
    }

    fn offline(id: &str) -> Vec<String> {
        vec![presence::offline(id).to_string()]
    }

    fn roster() -> Roster {
        let roster = Roster::new(Lifecycle::new());
        roster.hear(Whole::Up);
        roster.hear(part(&["a"], false));
        roster.hear(part(&["b"], true));
        roster
    }

    #[tokio::test(start_paused = true)]
    async fn a_watcher_is_given_who_is_there_and_then_who_comes_and_goes() {
        let roster = roster();
        let (there, mut batches) = roster.watch();
        assert_eq!(sorted(&there), online(&["a", "b"]));
        roster.hear(changes(&["c", "a"], &["b", "nobody"]));
        let batch = batches.recv().await.expect("a batch");
        assert_eq!(sorted(&batch[..1]), online(&["c"]), "a was there already");
        assert_eq!(sorted(&batch[1..]), offline("b"));
        assert_eq!(sorted(&roster.among(["a", "b"].into_iter())), online(&["a"]));
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_broken_link_nobody_blinks_and_who_stays_away_goes_after_the_lease() {
        let roster = roster();
        let (_, mut batches) = roster.watch();
        roster.hear(Whole::Up);
        roster.hear(part(&["a"], true));
        assert!(batches.try_recv().is_err(), "b may be on the way");
        let before = tokio::time::Instant::now();
        let batch = batches.recv().await.expect("a batch");
        assert_eq!(sorted(&batch), offline("b"));
        assert!(before.elapsed() >= LEASE);
    }

    #[tokio::test(start_paused = true)]
    async fn who_comes_back_within_the_lease_was_never_gone() {
        let roster = roster();
        let (_, mut batches) = roster.watch();
        roster.hear(Whole::Up);
        roster.hear(part(&[], true));
        roster.hear(changes(&["b", "a"], &[]));
        tokio::time::sleep(LEASE * 2).await;
        assert!(batches.try_recv().is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_roster_after_a_time_without_watchers_is_the_whole_truth() {
        let roster = roster();
        roster.hear(part(&["b", "c"], true));
        assert_eq!(sorted(&roster.watch().0), online(&["b", "c"]));
    }

    #[tokio::test(start_paused = true)]
    async fn who_reads_too_slowly_is_dropped_and_holds_up_nobody() {
        let roster = roster();
        let (_, mut slow) = roster.watch();
        for _ in 0..=BATCHES_MAX {
            roster.hear(changes(&["c"], &[]));
            roster.hear(changes(&[], &["c"]));
        }
        let (_, mut fresh) = roster.watch();
        roster.hear(changes(&["d"], &[]));
        assert!(fresh.recv().await.is_some());
        let mut heard = 0;
        while slow.recv().await.is_some() {
            heard += 1;
        }
        assert_eq!(heard, BATCHES_MAX);
    }
}
