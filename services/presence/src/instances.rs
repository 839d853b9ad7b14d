//! What the instances tell each other of their users, and what one makes of it. Pure.
//!
//! Each instance is the only writer of its own set. It numbers its changes; who hears a number that is not the next one
//! asks for the whole set. An instance that is not heard of for the time of its lease is gone.

use std::{collections::BTreeMap, time::Duration};

use switchboard_chassis::{Micros, clock::micros};
use tokio::time::Instant;
use uuid::Uuid;

use crate::{
    doorbell::{Ask, Delta, Ring, Said, Snapshot},
    roster::{Change, Name, Now, Roster, UserId},
    state::Terms,
};

/// One instance, or all, are not asked more often.
const ASK_INTERVAL: Duration = Duration::from_secs(1);

/// What this instance said, and whom it heard.
pub(crate) struct Instances {
    id: Uuid,
    terms: Terms,
    /// The number of the last changes that were said.
    seq: u64,
    said_at: Option<Instant>,
    others: BTreeMap<Uuid, Other>,
    asked_all_at: Option<Instant>,
}

struct Other {
    /// The number of the last changes that were heard; none while something is missing.
    seq: Option<u64>,
    heard_at: Instant,
    asked_at: Option<Instant>,
    parts: Option<Parts>,
}

/// The parts of a snapshot so far.
struct Parts {
    seq: u64,
    next: u32,
    users: BTreeMap<UserId, Name>,
}

/// Changes of this instance's users, with their number. None is a sign of life.
pub(crate) struct Numbered {
    pub(crate) seq: u64,
    pub(crate) changes: Vec<Change<Name>>,
}

/// What must be said to what was heard.
#[derive(Debug, PartialEq)]
pub(crate) enum Reply {
    /// Something is missing.
    Ask(Ask),
    /// Somebody misses what this instance has.
    Snapshot,
}

impl Instances {
    pub(crate) fn new(id: Uuid, terms: Terms) -> Self {
        Self { id, terms, seq: 0, said_at: None, others: BTreeMap::new(), asked_all_at: None }
    }

    /// How many there are, this one included.
    pub(crate) fn count(&self) -> usize {
        self.others.len() + 1
    }

    pub(crate) fn seq(&self) -> u64 {
        self.seq
    }

    /// When there is something to do: to say that this instance lives, or to let another go.
    pub(crate) fn due(&self) -> Option<Instant> {
        let lapse_at = self.others.values().map(|other| other.lapses_at(self.terms.lease)).min();
        [self.heartbeat_at(), lapse_at].into_iter().flatten().min()
    }

    fn heartbeat_at(&self) -> Option<Instant> {
        Some(self.said_at? + self.terms.lease / 3)
    }

    /// Numbers what the others must be told now.
    pub(crate) fn say(&mut self, changes: Vec<Change<Name>>, now: Instant) -> Vec<Numbered> {
        let mut said = Vec::new();
        let mut rest = changes.into_iter().peekable();
        while rest.peek().is_some() {
            self.seq += 1;
            said.push(Numbered { seq: self.seq, changes: rest.by_ref().take(self.terms.part_users_max).collect() });
        }
        if said.is_empty() && self.heartbeat_at().is_none_or(|at| at <= now) {
            said.push(Numbered { seq: self.seq, changes: Vec::new() });
        }
        if !said.is_empty() {
            self.said_at = Some(now);
        }
        said
    }

    /// Asks everybody for everything, if that was not just done.
    pub(crate) fn ask_all(&mut self, now: Instant) -> Option<Ask> {
        is_time(&mut self.asked_all_at, now).then(Ask::default)
    }

    /// Another instance said something.
    pub(crate) fn hear(&mut self, ring: Ring, roster: &mut Roster, now: Instant) -> Option<Reply> {
        let sender = Uuid::from_slice(&ring.instance).ok()?;
        match ring.said? {
            Said::Ask(ask) => {
                (ask.instance.is_empty() || ask.instance == self.id.as_bytes()).then_some(Reply::Snapshot)
            }
            Said::Delta(delta) => {
                let other = self.other(sender, now);
                if other.is_next(&delta) {
                    other.seq = Some(delta.seq);
                    roster.change_elsewhere(sender, delta.into_changes(), now);
                    return None;
                }
                other.seq = None;
                other.ask(sender, now)
            }
            Said::Snapshot(part) => {
                let other = self.other(sender, now);
                // Somebody else asked for it: nothing is missing here.
                if other.seq == Some(part.seq) {
                    return None;
                }
                let (seq, is_last) = (part.seq, part.is_last);
                match other.collect(part) {
                    None => other.ask(sender, now),
                    Some(_) if !is_last => None,
                    Some(users) => {
                        let users = std::mem::take(users);
                        other.parts = None;
                        other.seq = Some(seq);
                        tracing::info!(instance = %sender, users = users.len(), "an instance told whom it has");
                        roster.replace_elsewhere(sender, users, now);
                        None
                    }
                }
            }
        }
    }

    /// Those that are known live, even if nothing is heard of them.
    pub(crate) fn alive(&mut self, instances: &[Uuid], now: Instant) {
        for id in instances {
            if let Some(other) = self.others.get_mut(id) {
                other.heard_at = now;
            }
        }
    }

    /// Lets those go that are gone, and says when their users were last online, where this instance has to note it.
    pub(crate) fn expire(&mut self, roster: &mut Roster, now: Now) -> Vec<(UserId, Micros)> {
        let lease = self.terms.lease;
        let gone: Vec<(Uuid, Other)> =
            self.others.extract_if(.., |_, other| other.lapses_at(lease) <= now.timer).collect();
        let mut seen = Vec::new();
        for (instance, other) in gone {
            let users = roster.drop_elsewhere(instance, now.timer);
            let (users_count, instances) = (users.len(), self.others.len());
            tracing::warn!(%instance, users = users_count, instances, "an instance is not heard of any more");
            // It may not have noted it itself. One does it for all: the eldest that is left.
            if self.others.keys().all(|other| self.id < *other) {
                let silent = now.timer.saturating_duration_since(other.heard_at);
                let at = now.clock.saturating_sub(micros(silent));
                seen.extend(users.into_iter().filter(|id| roster.name(id).is_none()).map(|id| (id, at)));
            }
        }
        seen
    }

    /// The one that said something just now. A new one has nobody at number 0, so that its first changes are the next.
    fn other(&mut self, id: Uuid, now: Instant) -> &mut Other {
        let known = self.others.len();
        let other = self.others.entry(id).or_insert_with(|| {
            tracing::info!(instance = %id, instances = known + 1, "an instance is there");
            Other { seq: Some(0), heard_at: now, asked_at: None, parts: None }
        });
        other.heard_at = now;
        other
    }
}

impl Other {
    fn lapses_at(&self, lease: Duration) -> Instant {
        self.heard_at + lease
    }

    fn is_next(&self, delta: &Delta) -> bool {
        let before = if delta.is_empty() { Some(delta.seq) } else { delta.seq.checked_sub(1) };
        self.seq.is_some() && self.seq == before
    }

    fn ask(&mut self, id: Uuid, now: Instant) -> Option<Reply> {
        is_time(&mut self.asked_at, now).then(|| Reply::Ask(Ask { instance: id.as_bytes().to_vec() }))
    }

    /// Adds a part of a snapshot; none when one before it is missing.
    fn collect(&mut self, part: Snapshot) -> Option<&mut BTreeMap<UserId, Name>> {
        if part.part == 0 {
            self.parts = Some(Parts { seq: part.seq, next: 0, users: BTreeMap::new() });
        }
        let parts = self.parts.take_if(|parts| parts.seq == part.seq && parts.next == part.part)?;
        let parts = self.parts.insert(parts);
        parts.next += 1;
        parts.users.extend(part.users.into_iter().map(|person| person.into_user()));
        Some(&mut parts.users)
    }
}

/// Whether something may be asked (again), and if so, that it was.
fn is_time(asked_at: &mut Option<Instant>, now: Instant) -> bool {
    let is_time = asked_at.is_none_or(|at| at + ASK_INTERVAL <= now);
    if is_time {
        *asked_at = Some(now);
    }
    is_time
}
