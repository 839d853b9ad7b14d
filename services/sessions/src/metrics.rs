//! What the streams of a service count.

use switchboard_chassis::metrics::{Counter, CounterSeries, Counters, Gauge, Gauges, Metrics};

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
