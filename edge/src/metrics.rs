//! What the edge counts.

use std::{sync::Arc, time::Duration};

use http::{Method, StatusCode};
use switchboard_chassis::{
    metrics::{
        Counter, CounterSeries, Counters, Gauge, Gauges, Histogram, HistogramSeries, Histograms, Metrics, SECONDS,
    },
    traces::Span,
};

use crate::{
    goodbye::Goodbye,
    playground::File,
    rate::Limit,
    routes::{ClinicEndpoint, MentoringEndpoint, MobileEndpoint, Route, Target},
    session::End,
};

const SOCKETS: Gauges<2> = Gauges::new(
    "switchboard_edge_sockets",
    "WebSockets that are open, without those that are still asking to come in",
    &["protocol", "endpoint"],
);
const RECEIVED: Counters<2> =
    Counters::new("switchboard_edge_frames_received_total", "Frames that clients sent", &["protocol", "endpoint"]);
const SENT: Counters<2> =
    Counters::new("switchboard_edge_frames_sent_total", "Frames that clients were sent", &["protocol", "endpoint"]);
const DROPPED: Counters<3> = Counters::new(
    "switchboard_edge_frames_dropped_total",
    "Frames of clients that were not passed on: rate_limited, overloaded (no room while a service is away), moment (of \
     the moment while a service is away), binary",
    &["protocol", "endpoint", "reason"],
);
const CLOSES: Counters<4> = Counters::new(
    "switchboard_edge_closes_total",
    "WebSockets that ended, by our close code, or with the code `client` when the client or its network ended it, \
     `operator` when an operator did",
    &["protocol", "endpoint", "code", "reason"],
);
const RESUMES: Counters<2> = Counters::new(
    "switchboard_edge_resumes_total",
    "Sockets that joined again because their link broke or their instance changed",
    &["protocol", "endpoint"],
);
const HANDSHAKES: Counters<2> = Counters::new(
    "switchboard_edge_handshakes_total",
    "Visitors who asked for a WebSocket: accepted, or why not",
    &["endpoint", "result"],
);
const HANDSHAKE_SECONDS: Histograms<1> = Histograms::new(
    "switchboard_edge_handshake_duration_seconds",
    "From a visitor's request to its seat or its refusal",
    &["endpoint"],
    SECONDS,
);
const ROOM: Counters<1> = Counters::new(
    "switchboard_edge_room_refusals_total",
    "Visitors for whom there was no room, by the limit that was reached",
    &["limit"],
);
const REQUESTS: Counters<3> = Counters::new(
    "switchboard_edge_http_requests_total",
    "HTTP requests other than for WebSockets",
    &["route", "method", "status"],
);
const REQUEST_SECONDS: Histograms<1> = Histograms::new(
    "switchboard_edge_http_request_duration_seconds",
    "From the head of an HTTP request to its answer",
    &["route"],
    SECONDS,
);
const CALLS_LIMITED: Counters<0> =
    Counters::new("switchboard_edge_http_rate_limited_total", "HTTP calls beyond their user's rate", &[]);
const ACCEPTED: Counters<0> =
    Counters::new("switchboard_edge_tcp_accepted_total", "TCP connections that were accepted", &[]);
const FAILED: Counters<1> = Counters::new(
    "switchboard_edge_tcp_failures_total",
    "TCP connections that came to nothing: accept (our fault, such as too many open files), tls",
    &["reason"],
);
const ROSTER: Gauges<0> =
    Gauges::new("switchboard_edge_roster_users", "Users whom this edge takes for online, here or elsewhere", &[]);
const STREAMS: Gauges<1> =
    Gauges::new("switchboard_edge_link_streams", "Streams to instances of a service; 0 is no link", &["service"]);
const SESSIONS: Gauges<1> =
    Gauges::new("switchboard_edge_link_sessions", "Sessions on the links to a service", &["service"]);
const INBOX: Gauges<1> = Gauges::new(
    "switchboard_edge_inbox_events_max",
    "Events that wait in the fullest of up to 4,096 inboxes; at 256 a socket is dropped",
    &["service"],
);
const DIALS: Counters<2> =
    Counters::new("switchboard_edge_link_dials_total", "Tries to open a stream: ok or failed", &["service", "result"]);
const LOSSES: Counters<1> =
    Counters::new("switchboard_edge_link_losses_total", "Streams that were there and ended", &["service"]);
const LINK_SENT: Counters<1> =
    Counters::new("switchboard_edge_link_frames_sent_total", "Actions put on a link", &["service"]);
const LINK_RECEIVED: Counters<1> =
    Counters::new("switchboard_edge_link_frames_received_total", "Frames read from a link", &["service"]);
const SLOW: Counters<1> = Counters::new(
    "switchboard_edge_sessions_dropped_total",
    "Sessions that were dropped because their inbox was full: their clients read too slowly",
    &["service"],
);
const CONFLATED: Counters<1> = Counters::new(
    "switchboard_edge_events_conflated_total",
    "Events that a newer one took the place of before a slow client read them",
    &["service"],
);
const ROUND_TRIP: Histograms<1> = Histograms::new(
    "switchboard_edge_link_round_trip_seconds",
    "How long a link takes to a service and back, its queues included; tried every five seconds",
    &["service"],
    SECONDS,
);

/// The sockets that there are: a protocol's, and the service behind them.
const KINDS: [(Limit, &str); 8] = [
    (Limit::Therapy, "chat"),
    (Limit::Clinic, "chat"),
    (Limit::Mobile, "chat"),
    (Limit::Mentoring, "chat"),
    (Limit::Consultation, "chat"),
    (Limit::Therapy, "location"),
    (Limit::Consultation, "notification"),
    (Limit::Consultation, "presence"),
];

/// What all sockets of one kind count.
pub(crate) struct SocketCounts {
    open: Gauge,
    pub(crate) received: Counter,
    pub(crate) sent: Counter,
    pub(crate) resumed: Counter,
    pub(crate) rate_limited: Counter,
    pub(crate) overloaded: Counter,
    pub(crate) of_the_moment: Counter,
    pub(crate) binary: Counter,
    closes: CounterSeries<4>,
    protocol: &'static str,
    endpoint: &'static str,
}

impl SocketCounts {
    fn new(metrics: &Metrics, protocol: &'static str, endpoint: &'static str) -> Self {
        let kind = [protocol, endpoint];
        let dropped = |reason| metrics.counter(&DROPPED, [protocol, endpoint, reason]);
        let counts = Self {
            open: metrics.gauge(&SOCKETS, kind),
            received: metrics.counter(&RECEIVED, kind),
            sent: metrics.counter(&SENT, kind),
            resumed: metrics.counter(&RESUMES, kind),
            rate_limited: dropped("rate_limited"),
            overloaded: dropped("overloaded"),
            of_the_moment: dropped("moment"),
            binary: dropped("binary"),
            closes: metrics.counters(&CLOSES),
            protocol,
            endpoint,
        };
        // There from the beginning, so that their first rise is one.
        for goodbye in [crate::goodbye::TOO_SLOW, crate::goodbye::INTERNAL, crate::goodbye::OVERLOADED] {
            let _ = counts.close(&goodbye.code.to_string(), &slug(goodbye));
        }
        counts
    }

    fn close(&self, code: &str, reason: &str) -> Counter {
        self.closes.of([self.protocol, self.endpoint, code, reason])
    }

    fn closed(&self, end: &End) {
        match end {
            End::Gone => self.close("client", "gone").inc(),
            End::Goodbye(goodbye) => self.close(&goodbye.code.to_string(), &slug(*goodbye)).inc(),
            // With any code that the operator likes, so without it.
            End::Dismissed(_) => self.close("operator", "dismissed").inc(),
        };
    }
}

/// A socket that is open, until this is dropped.
pub(crate) struct OpenSocket(pub(crate) Arc<SocketCounts>, Who);

/// At whose socket, for logs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Who {
    /// Nothing for a device, whose id is a credential.
    pub(crate) user_id: Option<Box<str>>,
    /// The conversation, or the pair of a share; nothing where there is none.
    pub(crate) conversation: Option<Box<str>>,
}

impl OpenSocket {
    fn new(counts: Arc<SocketCounts>, who: Who) -> Self {
        counts.open.inc();
        let SocketCounts { protocol, endpoint, .. } = *counts;
        let (user_id, conversation) = (who.user_id.as_deref(), who.conversation.as_deref());
        tracing::debug!(target: "sockets", user_id, conversation, protocol, endpoint, "a socket opened");
        Self(counts, who)
    }

    /// Says of a frame on whose socket it came.
    pub(crate) fn describe(&self, frame: &mut Span) {
        if frame.is_recorded() {
            let Self(counts, Who { user_id, conversation }) = self;
            frame.set("switchboard.protocol", || counts.protocol);
            frame.set("switchboard.endpoint", || counts.endpoint);
            for (key, value) in [("user.id", user_id), ("switchboard.conversation.id", conversation)] {
                if let Some(value) = value {
                    frame.set(key, || value.to_string());
                }
            }
        }
    }

    /// What a client's frame is called that does this.
    pub(crate) fn named(&self, action: &str) -> String {
        format!("{} {action}", self.0.protocol)
    }

    /// It ended.
    pub(crate) fn closed(&self, end: &End) {
        let Self(counts, Who { user_id, conversation }) = self;
        counts.closed(end);
        let (code, why) = match end {
            End::Gone => (None, "the client or its network ended it"),
            End::Goodbye(goodbye) => (Some(goodbye.code), goodbye.reason),
            End::Dismissed(farewell) => (Some(farewell.code), "an operator ended it"),
        };
        let SocketCounts { protocol, endpoint, .. } = **counts;
        let (user_id, conversation) = (user_id.as_deref(), conversation.as_deref());
        tracing::debug!(target: "sockets", user_id, conversation, protocol, endpoint, code, why, "a socket closed");
    }
}

impl Drop for OpenSocket {
    fn drop(&mut self) {
        self.0.open.dec();
    }
}

/// For people who are refused because there is no room.
#[derive(Clone, Default)]
pub(crate) struct RoomCounts {
    pub(crate) pace: Counter,
    pub(crate) handshakes: Counter,
    pub(crate) sockets: Counter,
    pub(crate) of_address: Counter,
    pub(crate) of_user: Counter,
}

impl RoomCounts {
    pub(crate) fn new(metrics: &Metrics) -> Self {
        let limit = |name| metrics.counter(&ROOM, [name]);
        Self {
            pace: limit("handshakes_per_address_s"),
            handshakes: limit("handshakes_max"),
            sockets: limit("sockets_max"),
            of_address: limit("sockets_per_address_max"),
            of_user: limit("sockets_per_user_max"),
        }
    }
}

/// What a link counts.
#[derive(Clone)]
pub(crate) struct LinkCounts {
    pub(crate) streams: Gauge,
    pub(crate) sessions: Gauge,
    pub(crate) inbox_max: Gauge,
    pub(crate) dialled: Counter,
    pub(crate) not_dialled: Counter,
    pub(crate) lost: Counter,
    pub(crate) sent: Counter,
    pub(crate) received: Counter,
    pub(crate) slow: Counter,
    pub(crate) conflated: Counter,
    pub(crate) round_trip: Histogram,
}

impl Default for LinkCounts {
    /// Of nobody's concern.
    fn default() -> Self {
        Self::new(&Metrics::default(), "none")
    }
}

impl LinkCounts {
    pub(crate) fn new(metrics: &Metrics, service: &'static str) -> Self {
        Self {
            streams: metrics.gauge(&STREAMS, [service]),
            sessions: metrics.gauge(&SESSIONS, [service]),
            inbox_max: metrics.gauge(&INBOX, [service]),
            dialled: metrics.counter(&DIALS, [service, "ok"]),
            not_dialled: metrics.counter(&DIALS, [service, "failed"]),
            lost: metrics.counter(&LOSSES, [service]),
            sent: metrics.counter(&LINK_SENT, [service]),
            received: metrics.counter(&LINK_RECEIVED, [service]),
            slow: metrics.counter(&SLOW, [service]),
            conflated: metrics.counter(&CONFLATED, [service]),
            round_trip: metrics.histogram(&ROUND_TRIP, [service]),
        }
    }
}

/// What all connections count together.
pub(crate) struct EdgeCounts {
    pub(crate) accepted: Counter,
    pub(crate) not_accepted: Counter,
    pub(crate) tls_failed: Counter,
    pub(crate) calls_limited: Counter,
    pub(crate) roster: Gauge,
    sockets: Vec<(Limit, &'static str, Arc<SocketCounts>)>,
    handshakes: CounterSeries<2>,
    handshake_seconds: HistogramSeries<1>,
    requests: CounterSeries<3>,
    request_seconds: HistogramSeries<1>,
}

impl EdgeCounts {
    pub(crate) fn new(metrics: &Metrics) -> Self {
        let sockets = KINDS.map(|(limit, endpoint)| {
            (limit, endpoint, Arc::new(SocketCounts::new(metrics, limit.protocol(), endpoint)))
        });
        Self {
            accepted: metrics.counter(&ACCEPTED, []),
            not_accepted: metrics.counter(&FAILED, ["accept"]),
            tls_failed: metrics.counter(&FAILED, ["tls"]),
            calls_limited: metrics.counter(&CALLS_LIMITED, []),
            roster: metrics.gauge(&ROSTER, []),
            sockets: sockets.into(),
            handshakes: metrics.counters(&HANDSHAKES),
            handshake_seconds: metrics.histograms(&HANDSHAKE_SECONDS),
            requests: metrics.counters(&REQUESTS),
            request_seconds: metrics.histograms(&REQUEST_SECONDS),
        }
    }

    /// A socket of a protocol comes, over a service's link.
    pub(crate) fn socket(&self, limit: Limit, endpoint: &'static str, who: Who) -> OpenSocket {
        let kind = self.sockets.iter().find(|(its, service, _)| *its == limit && *service == endpoint);
        let (.., counts) = kind.unwrap_or(&self.sockets[0]);
        OpenSocket::new(counts.clone(), who)
    }

    /// A visitor was let in, or not.
    pub(crate) fn handshake(
        &self,
        target: &Target,
        refused: Option<(Goodbye, bool)>,
        took: Duration,
        traced: &mut Span,
    ) {
        let endpoint = name(target);
        let result = match refused {
            None => "accepted".to_owned(),
            Some((_, true)) => "foreign_origin".to_owned(),
            Some((goodbye, false)) => slug(goodbye),
        };
        traced.set("switchboard.endpoint", || endpoint);
        traced.set("switchboard.handshake", || result.clone());
        self.handshakes.of([endpoint, &result]).inc();
        self.handshake_seconds.of([endpoint]).observe(took.as_secs_f64());
    }

    /// A request was answered that was not for a socket.
    pub(crate) fn answered(&self, route: &'static str, method: &Method, status: StatusCode, took: Duration) {
        // Anybody can make up a method.
        let known =
            [Method::GET, Method::POST, Method::HEAD, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS];
        let method = if known.contains(method) { method.as_str() } else { "other" };
        self.requests.of([route, method, status.as_str()]).inc();
        self.request_seconds.of([route]).observe(took.as_secs_f64());
    }
}

/// A goodbye's reason as a label.
fn slug(goodbye: Goodbye) -> String {
    let words: Vec<String> = goodbye
        .reason
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_ascii_lowercase)
        .collect();
    words.join("_")
}

/// What a visitor wanted.
fn name(target: &Target) -> &'static str {
    match target {
        Target::Therapy { .. } => "therapy",
        Target::Conversation(_) => "conversation",
        Target::Location { .. } => "location",
        Target::Notifications => "notifications",
        Target::Presence => "presence",
        Target::Number(_) | Target::Mobile(_) => "mobile",
        Target::MyConversation | Target::Mentoring(_) => "mentoring",
        Target::Incomplete => "incomplete",
    }
}

/// A URL without what differs.
pub(crate) fn pattern(route: Option<&Route>) -> &'static str {
    match route {
        None => "unknown",
        Some(Route::Socket(_)) => "/ws/",
        Some(Route::Live) => "/healthz",
        Some(Route::Ready) => "/readyz",
        Some(Route::Playground(File::Metrics)) => "/playground.metrics",
        Some(Route::Playground(_)) => "/",
        Some(Route::Clinic(endpoint)) => match endpoint {
            ClinicEndpoint::Chats => "/chat/chats/",
            ClinicEndpoint::Chat(_) => "/chat/chats/{id}/",
            ClinicEndpoint::Messages(_) => "/chat/chats/{id}/messages/",
            ClinicEndpoint::SendMessage(_) => "/chat/chats/{id}/send_message/",
            ClinicEndpoint::MarkRead(_) => "/chat/chats/{id}/mark_read/",
        },
        Some(Route::Mobile(endpoint)) => match endpoint {
            MobileEndpoint::CreateSession => "/mobile/sessions/create/",
            MobileEndpoint::Start => "/mobile/chat/start/",
            MobileEndpoint::List => "/mobile/chat/list/",
            MobileEndpoint::Detail(_) => "/mobile/chat/{id}/detail/",
            MobileEndpoint::SendMessage(_) => "/mobile/chat/{id}/send-message/",
        },
        Some(Route::Mentoring(endpoint)) => match endpoint {
            MentoringEndpoint::MyConversation => "/chat/my-conversation/",
            MentoringEndpoint::MyMessages => "/chat/my-conversation/messages/",
            MentoringEndpoint::Conversations => "/chat/teacher/conversations/",
            MentoringEndpoint::Messages(_) => "/chat/teacher/conversations/{id}/messages/",
            MentoringEndpoint::MarkRead(_) => "/chat/conversations/{id}/mark-read/",
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_words() {
        assert_eq!(slug(crate::goodbye::RESTARTING), "restarting_come_back");
        let names: std::collections::BTreeSet<String> = crate::goodbye::ALL.map(slug).into();
        assert!(
            names
                .iter()
                .all(|name| name.bytes().all(|byte| byte.is_ascii_lowercase() || b"_0123456789".contains(&byte)))
        );
    }
}
