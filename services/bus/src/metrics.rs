//! What the bus counts.

use std::sync::OnceLock;

use switchboard_chassis::metrics::{
    Counter, CounterSeries, Counters, Gauge, Gauges, Histogram, HistogramSeries, Histograms, Metrics, SECONDS,
};

const PUBLISHED: Counters<0> =
    Counters::new("switchboard_bus_published_total", "Payloads that this process gave to the bus", &[]);
const RECEIVED: Counters<1> =
    Counters::new("switchboard_bus_received_total", "Payloads that subscribers were told", &["subject"]);
const MISSED: Counters<1> = Counters::new(
    "switchboard_bus_missed_total",
    "How often subscribers were told that they may have missed something: a gap in the numbers, a lost connection, a \
     member that fell silent, a slow subscriber",
    &["subject"],
);
const DROPPED: Counters<1> = Counters::new(
    "switchboard_bus_dropped_total",
    "Payloads that were not sent: disconnected, overflow (too much waited), too_large",
    &["reason"],
);
const CONNECTED: Gauges<0> =
    Gauges::new("switchboard_bus_connected", "1 while there is a connection to NATS, and on a local bus", &[]);
const OUTBOX: Gauges<0> =
    Gauges::new("switchboard_bus_outbox_bytes", "What waits to be sent to NATS; beyond 16 MiB it is dropped", &[]);
const ROUND_TRIP: Histograms<1> = Histograms::new(
    "switchboard_bus_round_trip_seconds",
    "How long a message takes over NATS and back, the queues of this process included; tried every two seconds",
    &["subject"],
    SECONDS,
);

/// See the module.
pub(crate) struct BusCounts {
    pub(crate) published: Counter,
    pub(crate) disconnected: Counter,
    pub(crate) overflow: Counter,
    pub(crate) too_large: Counter,
    pub(crate) connected: Gauge,
    pub(crate) outbox: Gauge,
    received: CounterSeries<1>,
    missed: CounterSeries<1>,
    round_trip: HistogramSeries<1>,
}

/// What one subscription counts.
#[derive(Clone, Debug)]
pub(crate) struct SubjectCounts {
    pub(crate) received: Counter,
    pub(crate) missed: Counter,
}

/// Set when somebody wants to know. The first who does hears of it: a bus is one process's.
pub(crate) type Counts = OnceLock<BusCounts>;

impl BusCounts {
    pub(crate) fn new(metrics: &Metrics) -> Self {
        let dropped = |reason| metrics.counter(&DROPPED, [reason]);
        Self {
            published: metrics.counter(&PUBLISHED, []),
            disconnected: dropped("disconnected"),
            overflow: dropped("overflow"),
            too_large: dropped("too_large"),
            connected: metrics.gauge(&CONNECTED, []),
            outbox: metrics.gauge(&OUTBOX, []),
            received: metrics.counters(&RECEIVED),
            missed: metrics.counters(&MISSED),
            round_trip: metrics.histograms(&ROUND_TRIP),
        }
    }

    pub(crate) fn subject(&self, subject: &str) -> SubjectCounts {
        // There on a local bus, too, where nothing is tried.
        let _ = self.round_trip(subject);
        SubjectCounts { received: self.received.of([subject]), missed: self.missed.of([subject]) }
    }

    pub(crate) fn round_trip(&self, subject: &str) -> Histogram {
        self.round_trip.of([subject])
    }
}
