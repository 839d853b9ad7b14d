//! Sending times that wait for nobody (open loop).

use std::time::{Duration, Instant};

use tokio::sync::mpsc;

/// Ticks at fixed times, to a fraction of a millisecond: tokio's own timers are a millisecond coarse.
pub(crate) struct Pace {
    /// The first tick.
    pub(crate) begin: Instant,
    interval: Duration,
    pub(crate) count: u64,
}

impl Pace {
    /// So many a second for so long, a moment from now.
    pub(crate) fn new(a_second: u32, seconds: u64) -> Self {
        let begin = Instant::now() + Duration::from_millis(200);
        Self { begin, interval: Duration::from_secs(1) / a_second.max(1), count: u64::from(a_second) * seconds }
    }

    /// When a tick is due.
    pub(crate) fn due(&self, tick: u64) -> Instant {
        self.begin + Duration::from_nanos((self.interval.as_nanos() as u64).saturating_mul(tick))
    }

    /// After the last one.
    pub(crate) fn end(&self) -> Instant {
        self.due(self.count)
    }

    /// Every tick's number when it is due. Late ones come at once.
    pub(crate) fn start(&self) -> mpsc::UnboundedReceiver<u64> {
        let (ticks, receiver) = mpsc::unbounded_channel();
        let pace = Self { ..*self };
        std::thread::spawn(move || {
            for tick in 0..pace.count {
                if let Some(wait) = pace.due(tick).checked_duration_since(Instant::now()) {
                    std::thread::sleep(wait);
                }
                if ticks.send(tick).is_err() {
                    return;
                }
            }
        });
        receiver
    }
}
