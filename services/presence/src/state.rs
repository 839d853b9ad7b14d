//! What one instance knows: who is online, the other instances, and its streams. Pure: it says what must be told.

use std::time::Duration;

use switchboard_chassis::Micros;
use switchboard_proto::presence::v1::track_response::Event;
use tokio::time::Instant;
use uuid::Uuid;

use crate::{
    doorbell::{Ask, Person, Ring, Snapshot},
    instances::{Instances, Numbered, Reply},
    listeners::Listeners,
    roster::{Now, Roster, UserId},
};

/// Users in one frame of a stream, and in one message between instances.
pub(crate) const PART_USERS_MAX: usize = 1000;

/// How long things last, and how large they are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    pub(crate) grace: Duration,
    pub(crate) lease: Duration,
    pub(crate) part_users_max: usize,
}

/// `L` is the way to a stream.
pub(crate) struct State<L> {
    terms: Terms,
    pub(crate) roster: Roster,
    instances: Instances,
    listeners: Listeners<L>,
    /// Since when somebody has wanted to know whom this instance has.
    asked_at: Option<Instant>,
}

/// What a flush has to tell.
pub(crate) struct Flushed<L> {
    /// To the streams, in this order.
    pub(crate) frames: Vec<(L, Event)>,
    /// To the other instances, in this order.
    pub(crate) said: Vec<Numbered>,
    /// After that, whom this instance has: the number of a snapshot that somebody wants.
    pub(crate) snapshot: Option<u64>,
    /// When those who went were last online.
    pub(crate) seen: Vec<(UserId, Micros)>,
}

impl<L: Clone + PartialEq> State<L> {
    pub(crate) fn new(instance: Uuid, terms: Terms) -> Self {
        Self {
            terms,
            roster: Roster::new(terms.grace),
            instances: Instances::new(instance, terms),
            listeners: Listeners::new(terms.lease, terms.part_users_max),
            asked_at: None,
        }
    }

    /// When the next flush has something to do.
    pub(crate) fn due(&self) -> Option<Instant> {
        [self.roster.due(), self.instances.due(), self.asked_at].into_iter().flatten().min()
    }

    /// A session opened; true when the user was not here, not even in the grace.
    pub(crate) fn enter(&mut self, link: &L, user_id: &str, name: &str, now: Now) -> (UserId, bool) {
        self.listeners.enter(link);
        self.roster.enter(user_id, name, now)
    }

    /// How many instances there are, as far as this one hears, itself included.
    pub(crate) fn instances(&self) -> usize {
        self.instances.count()
    }

    /// What the stream of a session that opened is to be told next of the roster, and whether it then was told all of it.
    pub(crate) fn next_part(&mut self, link: &L) -> (Vec<Event>, bool) {
        self.listeners.next_part(link, &self.roster)
    }

    /// A session ended.
    pub(crate) fn leave(&mut self, link: &L, user_id: &UserId, now: Now) {
        self.listeners.leave(link);
        self.roster.leave(user_id, now);
    }

    /// Another instance said something: gives back what to ask.
    pub(crate) fn hear(&mut self, ring: Ring, now: Instant) -> Option<Ask> {
        match self.instances.hear(ring, &mut self.roster, now)? {
            Reply::Ask(ask) => Some(ask),
            Reply::Snapshot => {
                self.asked_at.get_or_insert(now);
                None
            }
        }
    }

    /// Other instances live, even if nothing is heard of them.
    pub(crate) fn alive(&mut self, instances: &[Uuid], now: Instant) {
        self.instances.alive(instances, now);
    }

    /// Asks everybody for everything, if that was not just done.
    pub(crate) fn ask_all(&mut self, now: Instant) -> Option<Ask> {
        self.instances.ask_all(now)
    }

    /// Lets those go who are gone, and says what must be told.
    pub(crate) fn flush(&mut self, now: Now) -> Flushed<L> {
        let mut seen = self.roster.expire(now);
        seen.append(&mut self.instances.expire(&mut self.roster, now));
        let frames = self.listeners.tell(&self.roster.take_untold());
        let said = self.instances.say(self.roster.take_unpublished(), now.timer);
        let snapshot = self.asked_at.take().map(|_| self.instances.seq());
        Flushed { frames, said, snapshot, seen }
    }

    /// A part of those whom this instance has, after an id, and the last id of the part. No flush may come between two
    /// parts; joins and leaves may.
    pub(crate) fn snapshot_part(&self, seq: u64, part: u32, after: Option<&str>) -> (Snapshot, Option<UserId>) {
        let (own, is_last) = self.roster.own_part(after, self.terms.part_users_max);
        let last = own.last().map(|(user_id, _)| (*user_id).clone());
        let users = own.into_iter().map(|(user_id, name)| Person::new(user_id, name)).collect();
        (Snapshot { seq, part, is_last, users }, last)
    }
}

#[cfg(test)]
mod tests;
