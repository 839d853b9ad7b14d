//! Which place each notification of a batch takes, and which is a repeat. Pure.
//!
//! First [`plan`] says how much each inbox grows; then the database raises the inboxes; then [`Plan::place`] gives the
//! places that were made.

use std::collections::{BTreeMap, HashMap};

use switchboard_chassis::Micros;
use uuid::Uuid;

use crate::model::{Draft, Inbox, Notification};

/// What became of one draft.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Appended {
    /// It was stored; the inbox with it.
    Stored(Notification, Inbox),
    /// Its user has it already. `is_ours`: an earlier try of this very draft stored it, and nobody was told.
    Repeat { first: Notification, is_ours: bool },
}

/// What a batch does.
#[derive(Debug)]
pub(crate) struct Plan<'a> {
    fates: Vec<(&'a Draft, Fate)>,
    /// How many notifications each inbox gains, at least one, in the order of the users' ids.
    pub(crate) gains: BTreeMap<&'a str, u64>,
}

#[derive(Debug)]
enum Fate {
    New,
    /// It is stored already.
    Known(Notification),
    /// It repeats an earlier draft of the same batch.
    Again(usize),
}

/// Says which drafts are new, given what is stored of them.
pub(crate) fn plan<'a>(drafts: &'a [Draft], known: &[Notification]) -> Plan<'a> {
    let by_id: HashMap<Uuid, &Notification> = known.iter().map(|known| (known.id, known)).collect();
    let by_request: HashMap<(&str, &str), &Notification> =
        known.iter().filter_map(|known| Some((request(&known.user_id, &known.request_id)?, known))).collect();
    let mut gains = BTreeMap::new();
    let mut earlier: HashMap<(&str, &str), usize> = HashMap::new();
    let mut fates = Vec::with_capacity(drafts.len());
    for (index, draft) in drafts.iter().enumerate() {
        let request = request(&draft.user_id, &draft.request_id);
        let again = request.and_then(|request| earlier.get(&request));
        let known = request.and_then(|request| by_request.get(&request)).or_else(|| by_id.get(&draft.id));
        let fate = match (again, known) {
            (Some(index), _) => Fate::Again(*index),
            (None, Some(known)) => Fate::Known((*known).clone()),
            (None, None) => {
                *gains.entry(draft.user_id.as_str()).or_default() += 1;
                Fate::New
            }
        };
        if let Some(request) = request {
            earlier.entry(request).or_insert(index);
        }
        fates.push((draft, fate));
    }
    Plan { fates, gains }
}

fn request<'a>(user_id: &'a str, request_id: &'a Option<String>) -> Option<(&'a str, &'a str)> {
    request_id.as_deref().map(|request_id| (user_id, request_id))
}

impl Plan<'_> {
    /// Gives the places; `raised` are the inboxes that gained, after they did.
    pub(crate) fn place(self, raised: &HashMap<String, Inbox>, now: Micros) -> Vec<Appended> {
        let mut inboxes: HashMap<&str, Inbox> = HashMap::new();
        for (user_id, gained) in &self.gains {
            let Inbox { last_seq, unread, revision } = raised.get(*user_id).copied().unwrap_or_default();
            let before = Inbox {
                last_seq: last_seq.saturating_sub(*gained),
                unread: unread.saturating_sub_unsigned(*gained),
                revision: revision.saturating_sub(*gained),
            };
            inboxes.insert(user_id, before);
        }
        let mut appended: Vec<Appended> = Vec::with_capacity(self.fates.len());
        for (draft, fate) in self.fates {
            let result = match fate {
                Fate::New => {
                    let inbox = inboxes.entry(&draft.user_id).or_default();
                    inbox.last_seq += 1;
                    inbox.unread += 1;
                    inbox.revision += 1;
                    Appended::Stored(stored(draft, inbox.last_seq, now), *inbox)
                }
                Fate::Known(first) => Appended::Repeat { is_ours: first.id == draft.id, first },
                Fate::Again(index) => match &appended[index] {
                    Appended::Stored(first, _) | Appended::Repeat { first, .. } => {
                        Appended::Repeat { first: first.clone(), is_ours: false }
                    }
                },
            };
            appended.push(result);
        }
        appended
    }
}

fn stored(draft: &Draft, seq: u64, now: Micros) -> Notification {
    let Draft { id, user_id, content, request_id } = draft.clone();
    Notification { id, user_id, seq, content, is_read: false, created_at: now, request_id }
}

#[cfg(test)]
mod tests;
