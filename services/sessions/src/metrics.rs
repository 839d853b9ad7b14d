//! What the streams of a service count.

use switchboard_chassis::metrics::{
    Counter, CounterSeries, Counters, Gauge, Gauges, Histogram, Histograms, ITEMS, Metrics, SECONDS,
};

const STREAMS: Gauges<1> =
    Gauges::new("switchboard_service_streams", "Streams of sessions that are open", &["service"]);
const SESSIONS: Gauges<1> =
    Gauges::new("switchboard_service_sessions", "Sessions that have joined or are joining", &["service"]);
const RECEIVED: Counters<1> =
    Counters::new("switchboard_service_actions_received_total", "Actions of sessions", &["service"]);
const SENT: Counters<1> = Counters::new(
    "switchboard_service_events_sent_total",
    "Events told, once for each stream however many of its sessions hear them",
    &["service"],
);
const QUEUE: Gauges<1> = Gauges::new(
    "switchboard_service_stream_queue_frames",
    "Frames that wait for callers to read them; at 16,384 of one stream it is ended",
    &["service"],
);
const REFUSALS: Counters<2> = Counters::new(
    "switchboard_service_refusals_total",
    "Actions that were refused, by the reason that the caller was told",
    &["service", "reason"],
);
const ENDED: Counters<2> = Counters::new(
    "switchboard_service_streams_ended_total",
    "Streams that ended: caller (it went, or its connection), overflown (it stopped reading), drained, stopped",
    &["service", "reason"],
);
const BATCH: Histograms<1> =
    Histograms::new("switchboard_store_commit_batch_items", "Items that one task stored together", &["writer"], ITEMS);
const COMMIT: Histograms<1> = Histograms::new(
    "switchboard_store_commit_duration_seconds",
    "How long it took to store a batch and to tell it, tries again included",
    &["writer"],
    SECONDS,
);
const WAITING: Gauges<1> = Gauges::new(
    "switchboard_store_commit_queue_items",
    "Items that wait to be stored; beyond 8,192 callers are refused",
    &["writer"],
);
const FULL: Counters<1> = Counters::new(
    "switchboard_store_commit_refusals_total",
    "Items that were refused because too many waited",
    &["writer"],
);

/// What one stream of a service counts.
#[derive(Debug)]
pub(crate) struct StreamCounts {
    pub(crate) streams: Gauge,
    pub(crate) sessions: Gauge,
    pub(crate) received: Counter,
    pub(crate) sent: Counter,
    pub(crate) queue: Gauge,
    refusals: CounterSeries<2>,
    ended: CounterSeries<2>,
    service: &'static str,
}

impl StreamCounts {
    pub(crate) fn new(metrics: &Metrics, service: &'static str) -> Self {
        let counts = Self {
            streams: metrics.gauge(&STREAMS, [service]),
            sessions: metrics.gauge(&SESSIONS, [service]),
            received: metrics.counter(&RECEIVED, [service]),
            sent: metrics.counter(&SENT, [service]),
            queue: metrics.gauge(&QUEUE, [service]),
            refusals: metrics.counters(&REFUSALS),
            ended: metrics.counters(&ENDED),
            service,
        };
        // There from the beginning, so that their first rise is one.
        for reason in ["overloaded", "unavailable"] {
            let _ = counts.refusals.of([service, reason]);
        }
        let _ = counts.ended.of([service, "overflown"]);
        counts
    }

    pub(crate) fn refused(&self, reason: &str) {
        self.refusals.of([self.service, reason]).inc();
    }

    pub(crate) fn ended(&self, reason: &str) {
        self.ended.of([self.service, reason]).inc();
    }
}

/// What one task counts that stores.
#[derive(Clone, Debug)]
pub(crate) struct CommitCounts {
    pub(crate) batch: Histogram,
    pub(crate) seconds: Histogram,
    pub(crate) waiting: Gauge,
    pub(crate) full: Counter,
}

impl CommitCounts {
    pub(crate) fn new(metrics: &Metrics, name: &str) -> Self {
        let writer = [name];
        Self {
            batch: metrics.histogram(&BATCH, writer),
            seconds: metrics.histogram(&COMMIT, writer),
            waiting: metrics.gauge(&WAITING, writer),
            full: metrics.counter(&FULL, writer),
        }
    }
}
