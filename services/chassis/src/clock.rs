//! Time and identifiers, as arguments.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, SystemTime},
};

use uuid::{NoContext, Timestamp, Uuid};

/// Microseconds since 1970-01-01T00:00:00Z.
pub type Micros = i64;

const MICROS_PER_SECOND: i64 = 1_000_000;

/// Where the time comes from.
#[derive(Clone, Debug)]
pub enum Clock {
    /// The machine's clock.
    System,
    /// A time that a test sets.
    Manual(Arc<AtomicI64>),
}

impl Clock {
    /// The time now.
    #[must_use]
    pub fn now(&self) -> Micros {
        match self {
            #[expect(clippy::disallowed_methods, reason = "the one place that reads the machine's clock")]
            Self::System => SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, micros),
            Self::Manual(now) => now.load(Ordering::Relaxed),
        }
    }

    /// Between half and all of a pause, at random, so that not everybody comes back at the same moment.
    #[must_use]
    pub fn jittered(&self, pause: Duration) -> Duration {
        // The last 32 bits of a version 7 UUID are random.
        let random = u32::try_from(self.new_id().as_u128() & u128::from(u32::MAX)).unwrap_or(0);
        pause.mul_f64(0.5 + 0.5 * f64::from(random) / f64::from(u32::MAX))
    }

    /// A new id: a UUID version 7 (RFC 9562), later ones above earlier ones within a process.
    #[must_use]
    pub fn new_id(&self) -> Uuid {
        match self {
            #[expect(clippy::disallowed_methods, reason = "the one place that makes ids")]
            Self::System => Uuid::now_v7(),
            Self::Manual(now) => {
                let now = now.load(Ordering::Relaxed).max(0);
                let seconds = (now / MICROS_PER_SECOND).unsigned_abs();
                let nanos = u32::try_from(now % MICROS_PER_SECOND * 1_000).unwrap_or(0);
                Uuid::new_v7(Timestamp::from_unix(NoContext, seconds, nanos))
            }
        }
    }
}

/// Whole seconds and the nanoseconds above them, as protobuf's `Timestamp` wants them.
#[must_use]
pub fn split(at: Micros) -> (i64, i32) {
    let nanos = at.rem_euclid(MICROS_PER_SECOND) * 1_000;
    (at.div_euclid(MICROS_PER_SECOND), i32::try_from(nanos).unwrap_or(0))
}

/// The inverse of [`split`].
#[must_use]
pub fn join(seconds: i64, nanos: i32) -> Micros {
    seconds.saturating_mul(MICROS_PER_SECOND).saturating_add(i64::from(nanos) / 1_000)
}

/// A span of time.
#[must_use]
pub fn micros(time: Duration) -> Micros {
    Micros::try_from(time.as_micros()).unwrap_or(Micros::MAX)
}

/// A time as the wire has it.
#[must_use]
pub fn timestamp(at: Micros) -> prost_types::Timestamp {
    let (seconds, nanos) = split(at);
    prost_types::Timestamp { seconds, nanos }
}

/// How long it is from `now` to `at`; zero when `at` is past.
#[must_use]
pub fn until(now: Micros, at: Micros) -> Duration {
    Duration::from_micros(u64::try_from(at.saturating_sub(now)).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_before_1970_split_and_join() {
        for at in [-1, -1_000_001, 0, 1, 1_700_000_000_123_456] {
            let (seconds, nanos) = split(at);
            assert!((0..1_000_000_000).contains(&nanos));
            assert_eq!(join(seconds, nanos), at);
        }
    }

    #[test]
    fn pauses_differ_within_their_bounds() {
        let pause = Duration::from_secs(10);
        let pauses: Vec<Duration> = (0..100).map(|_| Clock::System.jittered(pause)).collect();
        assert!(pauses.iter().all(|each| (pause / 2..=pause).contains(each)));
        assert!(pauses.iter().any(|each| *each != pauses[0]));
    }

    #[test]
    fn ids_of_a_process_rise() {
        let ids: Vec<Uuid> = (0..1_000).map(|_| Clock::System.new_id()).collect();
        assert!(ids.is_sorted());
    }
}
