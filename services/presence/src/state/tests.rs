//! Instances without a runtime: what their streams hear, and what goes between them.

mod cases;
mod losses;

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use tokio::time::Instant;

use super::*;
use crate::doorbell::{Delta, Said};

const TERMS: Terms = Terms { grace: Duration::from_secs(2), lease: Duration::from_secs(15), part_users_max: 2 };

type Users = BTreeMap<String, String>;

/// What one stream heard. It insists that nothing is told twice, and that the roster comes first.
#[derive(Default)]
struct View {
    users: Users,
    is_whole: bool,
    frames: usize,
}

impl View {
    fn hear(&mut self, event: Event) {
        self.frames += 1;
        match event {
            Event::Roster(part) => {
                assert!(!self.is_whole, "one roster");
                for user in part.users {
                    assert_eq!(self.users.insert(user.user_id, user.user_name), None, "once in the roster");
                }
                self.is_whole = part.is_last;
            }
            Event::Changes(changes) => {
                assert!(self.is_whole, "the roster comes first");
                assert!(changes.came.len() + changes.went.len() <= TERMS.part_users_max);
                for user in changes.came {
                    let before = self.users.insert(user.user_id, user.user_name.clone());
                    assert_ne!(before, Some(user.user_name), "a change changes something");
                }
                for user_id in changes.went {
                    assert!(self.users.remove(&user_id).is_some(), "who goes was there");
                }
            }
            other => panic!("{other:?}"),
        }
    }
}

/// One instance and its streams.
struct Instance {
    id: Uuid,
    state: State<u8>,
    views: BTreeMap<u8, View>,
    sessions: Vec<(u8, UserId)>,
    seen: BTreeMap<String, Micros>,
}

/// Some instances, what is on its way between them, and the time.
struct World {
    now: Now,
    instances: Vec<Instance>,
    /// From the first to the second.
    on_the_way: BTreeMap<(usize, usize), VecDeque<Ring>>,
}

impl World {
    fn new(instances: usize) -> Self {
        let instance = |number: usize| {
            let id = Uuid::from_u128(number as u128 + 1);
            Instance {
                id,
                state: State::new(id, TERMS),
                views: BTreeMap::new(),
                sessions: Vec::new(),
                seen: BTreeMap::new(),
            }
        };
        let now = Now { timer: Instant::now(), clock: 1_000_000_000 };
        Self { now, instances: (0..instances).map(instance).collect(), on_the_way: BTreeMap::new() }
    }

    fn pass(&mut self, time: Duration) {
        self.now.timer += time;
        self.now.clock += i64::try_from(time.as_micros()).unwrap();
    }

    fn say(&mut self, from: usize, said: Said) {
        let ring = Ring { instance: self.instances[from].id.as_bytes().to_vec(), said: Some(said) };
        for to in (0..self.instances.len()).filter(|to| *to != from) {
            self.on_the_way.entry((from, to)).or_default().push_back(ring.clone());
        }
    }

    /// A session opens; its stream may not have heard the whole roster yet.
    fn begin(&mut self, at: usize, link: u8, user_id: &str, name: &str) {
        let instance = &mut self.instances[at];
        instance.views.entry(link).or_default();
        let (user_id, _) = instance.state.enter(&link, user_id, name, self.now);
        instance.sessions.push((link, user_id));
    }

    /// False when there is no other part.
    fn next_part(&mut self, at: usize, link: u8) -> bool {
        let Instance { state, views, .. } = &mut self.instances[at];
        let Some(view) = views.get_mut(&link) else { return false };
        let (events, is_whole) = state.next_part(&link);
        events.into_iter().for_each(|event| view.hear(event));
        assert_eq!(view.is_whole, is_whole);
        !is_whole
    }

    fn enter(&mut self, at: usize, link: u8, user_id: &str, name: &str) {
        self.begin(at, link, user_id, name);
        while self.next_part(at, link) {}
    }

    fn leave(&mut self, at: usize, session: usize) {
        let instance = &mut self.instances[at];
        let (link, user_id) = instance.sessions.remove(session);
        instance.state.leave(&link, &user_id, self.now);
        if !instance.sessions.iter().any(|(theirs, _)| *theirs == link) {
            instance.views.remove(&link);
        }
    }

    /// Gives back what was said to the others.
    fn flush(&mut self, at: usize) -> Vec<Delta> {
        let instance = &mut self.instances[at];
        let flushed = instance.state.flush(self.now);
        for (link, event) in flushed.frames {
            instance.views.get_mut(&link).expect("a stream with a session").hear(event);
        }
        instance.seen.extend(flushed.seen.into_iter().map(|(user_id, seen)| (user_id.to_string(), seen)));
        let mut said: Vec<Said> = flushed.said.iter().map(|numbered| Said::Delta(Delta::new(numbered))).collect();
        let mut after: Option<UserId> = None;
        for number in 0.. {
            let Some(seq) = flushed.snapshot else { break };
            let (part, last) = instance.state.snapshot_part(seq, number, after.as_deref());
            let is_last = part.is_last;
            said.push(Said::Snapshot(part));
            after = last;
            if is_last {
                break;
            }
        }
        for said in said {
            self.say(at, said);
        }
        flushed.said.iter().map(Delta::new).collect()
    }

    fn deliver(&mut self, from: usize, to: usize) -> bool {
        let Some(ring) = self.on_the_way.get_mut(&(from, to)).and_then(VecDeque::pop_front) else { return false };
        if let Some(ask) = self.instances[to].state.hear(ring, self.now.timer) {
            self.say(to, Said::Ask(ask));
        }
        true
    }

    fn deliver_all(&mut self) {
        let pairs = |world: &Self| world.on_the_way.keys().copied().collect::<Vec<_>>();
        while pairs(self).into_iter().any(|(from, to)| self.deliver(from, to)) {}
    }

    /// Everybody tells and hears for a while, and nothing is lost.
    fn settle(&mut self, time: Duration) {
        let end = self.now.timer + time;
        while self.now.timer < end {
            self.pass(Duration::from_millis(500));
            (0..self.instances.len()).for_each(|at| drop(self.flush(at)));
            self.deliver_all();
        }
    }

    fn view(&self, at: usize, link: u8) -> Vec<(&str, &str)> {
        pairs(&self.instances[at].views[&link].users)
    }

    fn told(&self, at: usize) -> Users {
        let (told, _) = self.instances[at].state.roster.told_part(None, usize::MAX);
        told.into_iter().map(|(user_id, name)| (user_id.to_string(), name.to_string())).collect()
    }
}

fn pairs(users: &Users) -> Vec<(&str, &str)> {
    users.iter().map(|(user_id, name)| (user_id.as_str(), name.as_str())).collect()
}
