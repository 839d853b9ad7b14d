//! How many cases of which kind.

use std::collections::BTreeMap;

/// What an attack consisted of.
#[derive(Default)]
pub(crate) struct Tally {
    /// Cases of each kind.
    pub(crate) kinds: BTreeMap<&'static str, usize>,
    /// Where an answer is not what a standard says, and why.
    pub(crate) differences: Vec<String>,
    /// What else is worth knowing.
    pub(crate) notes: Vec<String>,
}

impl Tally {
    /// So many cases of a kind.
    pub(crate) fn of(kind: &'static str, count: usize) -> Self {
        let mut tally = Self::default();
        tally.count(kind, count);
        tally
    }

    pub(crate) fn count(&mut self, kind: &'static str, count: usize) {
        *self.kinds.entry(kind).or_default() += count;
    }

    pub(crate) fn note(mut self, note: String) -> Self {
        self.notes.push(note);
        self
    }

    pub(crate) fn cases(&self) -> usize {
        self.kinds.values().sum()
    }

    pub(crate) fn add(&mut self, other: Self) {
        for (kind, count) in other.kinds {
            self.count(kind, count);
        }
        self.differences.extend(other.differences);
        self.notes.extend(other.notes);
    }
}
