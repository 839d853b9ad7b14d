//! What all checkers share: whether they talk, what is being done to the cluster, and what was seen that must not be.

use std::{
    io::Write as _,
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use switchboard_chassis::{Clock, Micros, clock::timestamp};
use tokio::sync::watch;

/// What a fault concerns, so that the checkers know what they may expect of the rest.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Strike {
    /// Since when.
    pub(crate) at: Instant,
    /// Which edges.
    pub(crate) edges: [bool; 2],
    /// Whether all sockets must stay open.
    pub(crate) sockets_stay: bool,
}

pub(crate) struct Scene {
    began: (Instant, Micros),
    /// Since when everybody talks, if they do.
    talking: Mutex<Option<Instant>>,
    /// Rises when everybody shall go home.
    rounds: watch::Sender<u32>,
    strike: Mutex<Strike>,
    violations: Mutex<Vec<String>>,
    timeline: Mutex<std::fs::File>,
}

impl Scene {
    /// What happens is written to a file of this directory.
    pub(crate) fn new(directory: &Path) -> anyhow::Result<Self> {
        let now = Instant::now();
        Ok(Self {
            began: (now, Clock::System.now()),
            talking: Mutex::new(None),
            rounds: watch::Sender::new(0),
            strike: Mutex::new(Strike { at: now, edges: [true; 2], sockets_stay: false }),
            violations: Mutex::default(),
            timeline: Mutex::new(std::fs::File::create(directory.join("timeline.log"))?),
        })
    }

    /// Since when everybody talks, if they do.
    pub(crate) fn talking(&self) -> Option<Instant> {
        *lock(&self.talking)
    }

    pub(crate) fn talk(&self) {
        lock(&self.talking).get_or_insert_with(Instant::now);
    }

    pub(crate) fn hush(&self) {
        *lock(&self.talking) = None;
    }

    /// When everybody shall go home.
    pub(crate) fn rounds(&self) -> watch::Receiver<u32> {
        self.rounds.subscribe()
    }

    pub(crate) fn go_home(&self) {
        self.rounds.send_modify(|round| *round += 1);
    }

    pub(crate) fn strike(&self) -> Strike {
        *lock(&self.strike)
    }

    pub(crate) fn strikes(&self, edges: [bool; 2], sockets_stay: bool) {
        *lock(&self.strike) = Strike { at: Instant::now(), edges, sockets_stay };
    }

    /// Something was seen that must never be.
    pub(crate) fn complain(&self, violation: String) {
        self.note(&format!("VIOLATION {violation}"));
        lock(&self.violations).push(violation);
    }

    /// What was complained of so far.
    pub(crate) fn violations(&self) -> Vec<String> {
        lock(&self.violations).clone()
    }

    /// A line of the timeline, with the time that the processes' logs have.
    pub(crate) fn note(&self, what: &str) {
        // For people: the suite goes on without it.
        let _ = writeln!(lock(&self.timeline), "{} {what}", self.clock(Instant::now()));
    }

    /// A time as the processes' logs have it.
    pub(crate) fn clock(&self, at: Instant) -> String {
        let since = at.saturating_duration_since(self.began.0);
        let micros = self.began.1.saturating_add(i64::try_from(since.as_micros()).unwrap_or(i64::MAX));
        timestamp(micros).to_string()
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Randomness that can be repeated: xorshift64* (Vigna 2016).
#[derive(Clone, Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    /// Different ones for different seeds and purposes.
    pub(crate) fn new(seed: u64, purpose: u64) -> Self {
        let mixed = (seed << 20 ^ purpose).wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        Self(mixed ^ mixed >> 29 | 1)
    }

    /// Below `end`, which is not 0.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let high = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33;
        usize::try_from(high).unwrap_or(0) % end
    }

    pub(crate) fn between(&mut self, from: Duration, to: Duration) -> Duration {
        let millis = usize::try_from((to - from).as_millis()).unwrap_or(0);
        from + Duration::from_millis(self.below(millis + 1) as u64)
    }

    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}
