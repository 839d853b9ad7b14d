//! Which parts of a subject a subscription hears.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::{Notify, watch};

use crate::Missed;

/// A part of a subject: what concerns one thing is told in that thing's part.
pub type Part = u16;

/// How long somebody who wants a part waits for the bus. Who waited in vain looks at the database later.
pub(crate) const PATIENCE: Duration = Duration::from_secs(1);

/// What a subject is divided into, for one subscription. Cheap to clone; a part is heard while somebody wants it.
#[derive(Clone, Debug, Default)]
pub struct Parts(Arc<Wishes>);

#[derive(Debug, Default)]
struct Wishes {
    wanted: Mutex<BTreeMap<Part, Wish>>,
    changed: Notify,
    /// Every part is heard as soon as it is wanted.
    is_prompt: bool,
}

#[derive(Debug)]
struct Wish {
    wanted: usize,
    is_heard: watch::Sender<bool>,
}

impl Parts {
    /// Of a bus on which every part is heard at once.
    pub(crate) fn prompt() -> Self {
        Self(Arc::new(Wishes { is_prompt: true, ..Wishes::default() }))
    }

    /// Hears a part from now on, or a moment later: see [`Wanted::heard`].
    #[must_use]
    pub fn want(&self, part: Part) -> Wanted {
        let mut wanted = self.wanted();
        let is_new = !wanted.contains_key(&part);
        let wish = wanted.entry(part).or_insert_with(|| Wish { wanted: 0, is_heard: watch::Sender::new(false) });
        wish.wanted += 1;
        if self.0.is_prompt {
            wish.is_heard.send_replace(true);
        }
        let is_heard = wish.is_heard.subscribe();
        drop(wanted);
        if is_new {
            self.0.changed.notify_one();
        }
        Wanted { parts: self.clone(), part, is_heard }
    }

    /// Whether somebody wants a part.
    pub(crate) fn has(&self, part: Part) -> bool {
        self.wanted().contains_key(&part)
    }

    /// Those that somebody wants.
    pub(crate) fn all(&self) -> BTreeSet<Part> {
        self.wanted().keys().copied().collect()
    }

    /// Completes when another part may be wanted, or one is not wanted any more.
    pub(crate) async fn changed(&self) {
        self.0.changed.notified().await;
    }

    /// A part is heard, or cannot be heard for now and need not be waited for.
    pub(crate) fn settle(&self, part: Part) {
        if let Some(wish) = self.wanted().get(&part) {
            wish.is_heard.send_replace(true);
        }
    }

    fn wanted(&self) -> MutexGuard<'_, BTreeMap<Part, Wish>> {
        self.0.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Somebody wants a part of a subject, until this is dropped.
#[derive(Debug)]
pub struct Wanted {
    parts: Parts,
    part: Part,
    is_heard: watch::Receiver<bool>,
}

impl Wanted {
    /// The part.
    #[must_use]
    pub fn part(&self) -> Part {
        self.part
    }

    /// Whether the part is heard already: what is read from the database now, and what is heard from now on, is
    /// everything.
    #[must_use]
    pub fn is_heard(&self) -> bool {
        *self.is_heard.borrow()
    }

    /// Completes when the part is heard; or after a second, when the bus does not answer. Then the part is missed
    /// ([`Heard::Missed`](crate::Heard::Missed)) when it is heard at last.
    pub async fn heard(&mut self) {
        // Nobody drops the wish while it is wanted.
        let _ = tokio::time::timeout(PATIENCE, self.is_heard.wait_for(|is_heard| *is_heard)).await;
    }
}

impl Drop for Wanted {
    fn drop(&mut self) {
        let mut wanted = self.parts.wanted();
        if let Some(wish) = wanted.get_mut(&self.part) {
            wish.wanted -= 1;
            if wish.wanted == 0 {
                wanted.remove(&self.part);
                self.parts.0.changed.notify_one();
            }
        }
    }
}

/// Where a payload is told: to all subscriptions of a subject, or in a part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Subject {
    pub(crate) name: &'static str,
    pub(crate) part: Option<Part>,
}

impl Subject {
    /// As it is on the wire.
    pub(crate) fn after(self, prefix: &str) -> String {
        match self {
            Self { name, part: None } => format!("{prefix}.{name}"),
            Self { name, part: Some(part) } => format!("{prefix}.{name}.{part}"),
        }
    }
}

impl From<&'static str> for Subject {
    fn from(name: &'static str) -> Self {
        Self { name, part: None }
    }
}

impl From<(&'static str, Part)> for Subject {
    fn from((name, part): (&'static str, Part)) -> Self {
        Self { name, part: Some(part) }
    }
}

impl Missed {
    /// Of everything.
    #[must_use]
    pub fn everything() -> Self {
        Self { everything: true, ..Self::default() }
    }

    /// Adds what was told to all, or in a part.
    pub(crate) fn add(&mut self, part: Option<Part>) {
        match part {
            _ if self.everything => {}
            None => self.whole = true,
            Some(part) => _ = self.parts.insert(part),
        }
    }

    /// Whether there is nothing.
    pub(crate) fn is_nothing(&self) -> bool {
        !self.everything && !self.whole && self.parts.is_empty()
    }

    /// Whether something may be missing of what was told to all.
    #[must_use]
    pub fn of_all(&self) -> bool {
        self.everything || self.whole
    }

    /// Whether something may be missing in a part.
    #[must_use]
    pub fn of_part(&self, part: Part) -> bool {
        self.everything || self.parts.contains(&part)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_part_is_wanted_for_as_long_as_anybody_wants_it() {
        let parts = Parts::default();
        let (one, other, third) = (parts.want(1), parts.want(1), parts.want(2));
        parts.changed().await;
        assert_eq!(parts.all(), [1, 2].into());
        drop(one);
        assert!(parts.has(1));
        drop(other);
        parts.changed().await;
        assert_eq!(parts.all(), [2].into());
        drop(third);
        assert!(!parts.has(2));
    }

    #[tokio::test(start_paused = true)]
    async fn who_wants_a_part_waits_for_it_and_not_for_ever() {
        let parts = Parts::default();
        let mut wanted = parts.want(1);
        wanted.heard().await;
        assert!(!wanted.is_heard());
        parts.settle(1);
        wanted.heard().await;
        assert!(wanted.is_heard() && parts.want(1).is_heard());
        drop(wanted);
        assert!(!parts.want(1).is_heard(), "it was not heard in between");
        assert!(Parts::prompt().want(1).is_heard());
    }

    #[test]
    fn what_is_missed_is_told_by_part() {
        let mut missed = Missed::default();
        assert!(missed.is_nothing());
        missed.add(Some(3));
        assert!(missed.of_part(3) && !missed.of_part(4) && !missed.of_all());
        missed.add(None);
        assert!(missed.of_all() && !missed.of_part(4));
        assert!(Missed::everything().of_all() && Missed::everything().of_part(4));
    }
}
