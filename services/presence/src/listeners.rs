//! The streams that hear who is online, and how far each was told. Pure.
//!
//! A new stream is told the roster in parts, in the order of the ids, and changes of other parts come in between. So
//! nobody waits while a long roster is made, and nothing is missed or told twice: a change of somebody whom the roster
//! has passed is kept for after its last part, and any other is in the parts to come.

use std::{sync::Arc, time::Duration};

use switchboard_proto::presence::v1::{Changes, OnlineUser, Roster as Part, track_response::Event};

use crate::roster::{Change, Roster, UserId};

/// The streams that have a session in. `L` is the way to one.
pub(crate) struct Listeners<L> {
    lease: Duration,
    part_users_max: usize,
    all: Vec<Listener<L>>,
}

struct Listener<L> {
    link: L,
    /// At least one.
    sessions: usize,
    progress: Progress,
}

enum Progress {
    /// Is being told the roster.
    Roster {
        /// Up to this id it was.
        up_to: Option<UserId>,
        /// The changes that come after it.
        kept: Vec<Event>,
    },
    /// Was told everything.
    Changes,
}

impl<L: Clone + PartialEq> Listeners<L> {
    pub(crate) fn new(lease: Duration, part_users_max: usize) -> Self {
        Self { lease, part_users_max, all: Vec::new() }
    }

    /// A session opened. With the first of its stream, the stream is to be told.
    pub(crate) fn enter(&mut self, link: &L) {
        match self.all.iter_mut().find(|listener| listener.link == *link) {
            Some(listener) => listener.sessions += 1,
            None => {
                let progress = Progress::Roster { up_to: None, kept: Vec::new() };
                self.all.push(Listener { link: link.clone(), sessions: 1, progress });
            }
        }
    }

    /// A session ended. With the last of its stream, the stream is told no more.
    pub(crate) fn leave(&mut self, link: &L) {
        let Some(place) = self.all.iter().position(|listener| listener.link == *link) else { return };
        self.all[place].sessions -= 1;
        if self.all[place].sessions == 0 {
            self.all.swap_remove(place);
        }
    }

    /// What a stream is to be told next of the roster, and whether it then was told all of it.
    pub(crate) fn next_part(&mut self, link: &L, roster: &Roster) -> (Vec<Event>, bool) {
        let listener = self.all.iter_mut().find(|listener| listener.link == *link);
        let Some(Listener { progress, .. }) = listener else { return (Vec::new(), true) };
        let Progress::Roster { up_to, kept } = progress else { return (Vec::new(), true) };
        let (told, is_last) = roster.told_part(up_to.as_deref(), self.part_users_max);
        let users = told.iter().map(|(user_id, name)| online_user(user_id, name)).collect();
        let last = told.last().map(|(user_id, _)| (*user_id).clone());
        let lease = prost_types::Duration::try_from(self.lease).ok();
        let mut events = vec![Event::Roster(Part { users, is_last, lease })];
        if is_last {
            events.append(kept);
            *progress = Progress::Changes;
        } else {
            *up_to = last;
        }
        (events, is_last)
    }

    /// Tells all streams what changed: gives back what goes out now.
    pub(crate) fn tell(&mut self, changes: &[Change<Arc<str>>]) -> Vec<(L, Event)> {
        let mut frames = Vec::new();
        for changes in changes.chunks(self.part_users_max) {
            let mut whole = None;
            for listener in &mut self.all {
                match &mut listener.progress {
                    Progress::Changes => {
                        let event = whole.get_or_insert_with(|| event(changes)).clone();
                        frames.push((listener.link.clone(), event));
                    }
                    Progress::Roster { up_to: Some(up_to), kept } => {
                        // In the order of the ids, as the roster.
                        let passed = &changes[..changes.partition_point(|(user_id, _)| user_id <= up_to)];
                        if !passed.is_empty() {
                            kept.push(event(passed));
                        }
                    }
                    Progress::Roster { up_to: None, .. } => {}
                }
            }
        }
        frames
    }
}

/// Somebody who is online, as the wire has it.
pub(crate) fn online_user(user_id: &str, user_name: &str) -> OnlineUser {
    OnlineUser { user_id: user_id.to_owned(), user_name: user_name.to_owned() }
}

fn event(changes: &[Change<Arc<str>>]) -> Event {
    let mut event = Changes::default();
    for (user_id, name) in changes {
        match name {
            Some(name) => event.came.push(online_user(user_id, name)),
            None => event.went.push(user_id.as_ref().to_owned()),
        }
    }
    Event::Changes(event)
}
