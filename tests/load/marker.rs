//! What every message carries, and what became of the messages.

use std::{
    collections::BTreeSet,
    fmt,
    ops::AddAssign,
    sync::{Arc, LazyLock, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::Result;
use hdrhistogram::Histogram;
use serde_json::{Map, Value, json};

/// As long as a message of a chat is, more or less.
pub(crate) const PADDING: &str = "this is about as long as people's messages are";
/// Around a marker, so that it is found in whatever JSON a protocol puts it. JSON never escapes it.
const FENCE: u8 = b'~';

/// When this program began to count.
static BEGUN: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Names one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Marker {
    /// Whose messages these are.
    pub(crate) stream: u64,
    /// Its place among them, from 0.
    pub(crate) number: u64,
    /// When it was to be sent, in nanoseconds since the beginning.
    due: u128,
}

impl Marker {
    pub(crate) fn new(stream: usize, number: u64, due: Instant) -> Self {
        Self { stream: stream as u64, number, due: due.saturating_duration_since(*BEGUN).as_nanos() }
    }

    pub(crate) fn find(frame: &[u8]) -> Option<Self> {
        let begin = frame.iter().position(|byte| *byte == FENCE)? + 1;
        let length = frame[begin..].iter().position(|byte| *byte == FENCE)?;
        let mut words = std::str::from_utf8(&frame[begin..begin + length]).ok()?.split(' ');
        let mut number = || words.next()?.parse::<u128>().ok();
        Some(Self { stream: number()?.try_into().ok()?, number: number()?.try_into().ok()?, due: number()? })
    }

    /// How long ago it was due.
    pub(crate) fn age(self) -> Duration {
        let due = u64::try_from(self.due).unwrap_or(u64::MAX);
        BEGUN.elapsed().saturating_sub(Duration::from_nanos(due))
    }
}

impl fmt::Display for Marker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "~{} {} {}~ {PADDING}", self.stream, self.number, self.due)
    }
}

/// Lets the clock of markers begin.
pub(crate) fn begin() {
    LazyLock::force(&BEGUN);
}

/// Whether a frame says that something was not done.
pub(crate) fn is_refusal(frame: &[u8]) -> bool {
    frame.windows(7).any(|word| word == b"\"error\"")
}

/// What one socket heard of one stream.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    next: u64,
    missing: BTreeSet<u64>,
    counts: Counts,
}

impl Tally {
    /// Takes note of a message by its number.
    pub(crate) fn hear(&mut self, number: u64) {
        if number >= self.next {
            self.missing.extend(self.next..number);
            self.next = number + 1;
            self.counts.heard += 1;
        } else if self.missing.remove(&number) {
            self.counts.disordered += 1;
            self.counts.heard += 1;
        } else {
            self.counts.doubled += 1;
        }
    }

    pub(crate) fn refuse(&mut self) {
        self.counts.refused += 1;
    }

    pub(crate) fn has(&self, number: u64) -> bool {
        number < self.next && !self.missing.contains(&number)
    }

    pub(crate) fn heard(&self) -> u64 {
        self.counts.heard
    }

    /// What became of the first `sent` messages.
    pub(crate) fn end(self, sent: u64) -> Counts {
        Counts { lost: sent.saturating_sub(self.counts.heard), ..self.counts }
    }
}

/// What became of messages.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    /// Came, once or more often.
    pub(crate) heard: u64,
    /// Never came. Those that were refused are among them.
    pub(crate) lost: u64,
    pub(crate) doubled: u64,
    pub(crate) disordered: u64,
    /// Error frames instead.
    pub(crate) refused: u64,
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.heard += other.heard;
        self.lost += other.lost;
        self.doubled += other.doubled;
        self.disordered += other.disordered;
        self.refused += other.refused;
    }
}

impl Counts {
    /// Adds itself to a run's line.
    pub(crate) fn put(&self, line: &mut Value) {
        line["deliveries"] = json!(self.heard);
        line["lost"] = json!(self.lost);
        line["doubled"] = json!(self.doubled);
        line["disordered"] = json!(self.disordered);
        line["refused"] = json!(self.refused);
    }
}

/// How long things took, for any number of tasks.
#[derive(Clone)]
pub(crate) struct Times(Arc<Mutex<Histogram<u64>>>);

impl Times {
    /// From 0.1 µs to an hour, three digits of each.
    pub(crate) fn new() -> Result<Self> {
        Ok(Self(Arc::new(Mutex::new(Histogram::new_with_bounds(100, 3_600_000_000_000, 3)?))))
    }

    pub(crate) fn record(&self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).saturating_record(nanos);
    }

    /// In milliseconds; nulls when there is nothing.
    pub(crate) fn json(&self) -> Value {
        let times = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let at = |quantile: f64| match times.len() {
            0 => Value::Null,
            _ => json!(rounded(times.value_at_quantile(quantile) as f64 / 1e6)),
        };
        let points = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p999", 0.999), ("max", 1.0)];
        Value::Object(points.iter().map(|(name, quantile)| ((*name).to_owned(), at(*quantile))).collect::<Map<_, _>>())
    }
}

/// To three places.
pub(crate) fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}
