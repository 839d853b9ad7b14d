//! How many frames and calls a user may make in a minute.
//!
//! A sliding log, as Django REST framework's throttles keep it: in no minute are there more than the limit, wherever
//! the minute begins. The count is this edge's own; what is refused is not counted.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

const WINDOW: Duration = Duration::from_secs(60);
/// Users are looked through for those of whom nothing was heard in a minute when there are twice as many as after the
/// last look.
const LOOK_THROUGH_MIN: usize = 1024;

/// `[edge.rate_limits]`: frames a minute of each user or device on a protocol's sockets; 0 is no limit.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RateLimits {
    /// therapy's, chat and location together.
    pub therapy: u32,
    /// clinic's.
    pub clinic: u32,
    /// mobile's.
    pub mobile: u32,
    /// mentoring's.
    pub mentoring: u32,
    /// consultation's: chat, notifications and presence together, and with them the user's REST calls under any
    /// protocol.
    pub consultation: u32,
}

impl Default for RateLimits {
    fn default() -> Self {
        Self { therapy: 0, clinic: 0, mobile: 0, mentoring: 0, consultation: 300 }
    }
}

/// Which limit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Limit {
    Therapy,
    Clinic,
    Mobile,
    Mentoring,
    Consultation,
}

impl Limit {
    /// The protocol that it is of.
    pub(crate) fn protocol(self) -> &'static str {
        match self {
            Self::Therapy => "therapy",
            Self::Clinic => "clinic",
            Self::Mobile => "mobile",
            Self::Mentoring => "mentoring",
            Self::Consultation => "consultation",
        }
    }
}

/// Too many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limited {
    /// In whole seconds, at least 1.
    pub(crate) retry_after_s: u64,
}

/// What was let pass in the last minute.
#[derive(Debug, Default)]
struct Window(VecDeque<Instant>);

impl Window {
    fn take(&mut self, limit: usize, now: Instant) -> Result<(), Limited> {
        while self.0.front().is_some_and(|first| now >= *first + WINDOW) {
            self.0.pop_front();
        }
        match self.0.front() {
            Some(first) if self.0.len() >= limit => {
                let wait = (*first + WINDOW).saturating_duration_since(now);
                Err(Limited { retry_after_s: wait.as_millis().div_ceil(1_000).try_into().unwrap_or(1).max(1) })
            }
            _ => {
                self.0.push_back(now);
                Ok(())
            }
        }
    }

    fn is_over(&self, now: Instant) -> bool {
        self.0.back().is_none_or(|last| now >= *last + WINDOW)
    }
}

/// What every user did in the last minute.
#[derive(Debug)]
pub(crate) struct Rates {
    limits: RateLimits,
    users: Mutex<Users>,
}

#[derive(Debug)]
struct Users {
    windows: HashMap<(Limit, String), Arc<Mutex<Window>>>,
    look_through_at: usize,
}

impl Rates {
    pub(crate) fn new(limits: RateLimits) -> Self {
        let users = Users { windows: HashMap::new(), look_through_at: LOOK_THROUGH_MIN };
        Self { limits, users: Mutex::new(users) }
    }

    /// What counts a user's frames; all of the user's sockets share one.
    pub(crate) fn meter(&self, limit: Limit, user_id: &str, now: Instant) -> Meter {
        let most = match limit {
            Limit::Therapy => self.limits.therapy,
            Limit::Clinic => self.limits.clinic,
            Limit::Mobile => self.limits.mobile,
            Limit::Mentoring => self.limits.mentoring,
            Limit::Consultation => self.limits.consultation,
        };
        if most == 0 {
            return Meter(None);
        }
        let mut users = self.users.lock().unwrap_or_else(PoisonError::into_inner);
        if users.windows.len() >= users.look_through_at {
            users.windows.retain(|_, window| Arc::strong_count(window) > 1 || !lock(window).is_over(now));
            users.look_through_at = LOOK_THROUGH_MIN.max(users.windows.len() * 2);
        }
        let window = users.windows.entry((limit, user_id.to_owned())).or_default().clone();
        Meter(Some((window, usize::try_from(most).unwrap_or(usize::MAX))))
    }
}

/// Counts. Cheap to clone; clones count together.
#[derive(Clone, Debug)]
pub(crate) struct Meter(Option<(Arc<Mutex<Window>>, usize)>);

impl Meter {
    /// Lets one more pass, or not.
    pub(crate) fn take(&self, now: Instant) -> Result<(), Limited> {
        match &self.0 {
            Some((window, limit)) => lock(window).take(*limit, now),
            None => Ok(()),
        }
    }
}

fn lock(window: &Mutex<Window>) -> MutexGuard<'_, Window> {
    window.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rates(consultation: u32) -> Rates {
        Rates::new(RateLimits { consultation, ..RateLimits::default() })
    }

    #[test]
    fn the_frame_beyond_the_limit_is_told_when_to_come_back() {
        let start = Instant::now();
        let rates = rates(300);
        let socket = rates.meter(Limit::Consultation, "1", start);
        for frame in 0..299 {
            assert_eq!(socket.take(start + Duration::from_millis(frame)), Ok(()));
        }
        let rest = rates.meter(Limit::Consultation, "1", start);
        assert_eq!(rest.take(start + Duration::from_secs(20)), Ok(()), "another socket or a call counts with it");
        assert_eq!(socket.take(start + Duration::from_secs(20)), Err(Limited { retry_after_s: 40 }));
        assert_eq!(rest.take(start + Duration::from_millis(59_999)), Err(Limited { retry_after_s: 1 }));
        assert_eq!(socket.take(start + Duration::from_secs(60)), Ok(()));
        assert_eq!(rates.meter(Limit::Consultation, "2", start).take(start), Ok(()), "somebody else");
        assert_eq!(rates.meter(Limit::Clinic, "1", start).take(start), Ok(()), "no limit");
    }

    #[test]
    fn who_is_silent_for_a_minute_is_forgotten() {
        let start = Instant::now();
        let rates = rates(1);
        let held = rates.meter(Limit::Consultation, "held", start);
        for user in 1..LOOK_THROUGH_MIN * 2 {
            let meter = rates.meter(Limit::Consultation, &user.to_string(), start);
            assert_eq!(meter.take(start), Ok(()));
        }
        let _ = rates.meter(Limit::Consultation, "late", start + WINDOW);
        assert_eq!(rates.users.lock().expect("a lock").windows.len(), 2);
        assert_eq!(held.take(start), Ok(()));
    }

    proptest! {
        #[test]
        fn no_minute_has_more_than_the_limit(
            limit in 1usize..8,
            pauses in prop::collection::vec(0u64..30_000, 1..80),
        ) {
            let mut window = Window::default();
            let mut now = Instant::now();
            let mut passed: Vec<Instant> = Vec::new();
            for pause in pauses {
                now += Duration::from_millis(pause);
                match window.take(limit, now) {
                    Ok(()) => passed.push(now),
                    Err(Limited { retry_after_s }) => {
                        prop_assert!((1..=60).contains(&retry_after_s));
                        let later = now + Duration::from_secs(retry_after_s);
                        let then = passed.iter().filter(|at| later < **at + WINDOW).count();
                        prop_assert!(then < limit, "it may come back then");
                    }
                }
            }
            for first in &passed {
                prop_assert!(passed.iter().filter(|at| *at >= first && **at < *first + WINDOW).count() <= limit);
            }
        }
    }
}
