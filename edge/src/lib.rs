//! The porch: the only crate that knows WebSocket, client JSON and HTTP.
//!
//! `serve` accepts connections; `routes` names every URL; `handshake` turns a credential into a seat or a documented
//! goodbye; `upgrade` makes the socket; `session` is the one loop of every socket, and `handlers` what each kind of
//! socket does in it; `dialect` translates; `link` carries all sessions on one gRPC stream to a service; `roster` knows
//! who is online; `rate` counts; `rest` answers the documented REST.

mod calls;
mod client_address;
mod closing;
mod connections;
mod credential;
mod dialect;
pub mod documents;
pub mod goodbye;
mod handlers;
mod handshake;
mod link;
mod metrics;
mod order;
mod people;
mod playground;
mod rate;
mod rest;
mod room;
mod roster;
mod routes;
mod serve;
mod session;
mod standing;
mod steering;
mod tail;
mod upgrade;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use switchboard_chassis::{
    Clock, Lifecycle,
    grpc::{Guard, Peer},
    lifecycle::Readiness,
    tls::{PublicTlsConfig, ServerTls},
};
use switchboard_proto::{
    chat::v1::chat_service_client::ChatServiceClient, identity::v1::identity_service_client::IdentityServiceClient,
    location::v1::location_service_client::LocationServiceClient,
    notification::v1::notification_service_client::NotificationServiceClient,
    presence::v1::presence_service_client::PresenceServiceClient, wire,
};
use tokio::{net::TcpListener, sync::Semaphore};

pub use link::Upstream;
pub use playground::Playground;
pub use rate::RateLimits;
pub use steering::Steering;

use crate::{
    client_address::Proxies, goodbye::Goodbye, handlers::chat::Backstage, link::Link, metrics::EdgeCounts,
    people::People, rate::Rates, room::Room, roster::Roster, standing::Credentials, steering::Gate,
};

/// `[edge]`: what clients connect to.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EdgeConfig {
    /// Where WebSocket and REST listen.
    pub listen: SocketAddr,
    /// Origins, besides the server's own host, whose pages may use a session cookie: `https://app.example.com`, or
    /// `https://*.example.com` for every host below.
    pub allowed_origins: Vec<String>,
    /// How a visitor is refused: `close` accepts the socket and closes it with the documented code, which browsers can
    /// see; `http` answers 400, 401, 403 or 404 instead of the upgrade.
    pub refusal: Refusal,
    /// How often each socket is pinged, in seconds.
    pub ping_interval_s: u64,
    /// A socket of which nothing was heard for so long, not even a pong, is closed with 1001; in seconds.
    pub idle_timeout_s: u64,
    /// How long a client may take to send a request's head, in seconds.
    pub header_timeout_s: u64,
    /// Over how long the goodbyes of a draining edge are spread, in seconds.
    pub drain_spread_s: u64,
    /// How often the sessions of another system (Django's) are checked that sockets live on, in seconds.
    pub recheck_interval_s: u64,
    /// Sockets at once; who comes beyond is told 1013.
    pub sockets_max: usize,
    /// Sockets of one user or device at once; who comes beyond is told 1008. 0 is no limit.
    pub sockets_per_user_max: usize,
    /// Sockets from one address at once (an IPv6 network of /64 is one); who comes beyond is told 1013. 0 is no limit. The
    /// machine's own addresses are not counted.
    pub sockets_per_address_max: usize,
    /// Handshakes a second from one address, of which ten seconds' may come at once; who comes beyond is told 1013. 0 is
    /// no limit. The machine's own addresses are not counted.
    pub handshakes_per_address_s: u32,
    /// Visitors at once who ask for a socket and have not got it yet; who comes beyond is told 1013, so that those who
    /// are let in are served.
    pub handshakes_max: usize,
    /// Of whom a presence socket is told: `everyone`, or `contacts`, those who share a conversation with its user.
    pub presence_audience: Audience,
    /// How many frames a user may send in a minute.
    pub rate_limits: RateLimits,
    /// Addresses and networks (`10.0.0.0/8`) of proxies, which are believed what they say of a request: `Forwarded`,
    /// `X-Forwarded-For`, `X-Forwarded-Proto`, `X-Forwarded-Host`.
    pub trusted_proxies: Vec<String>,
    /// Whether `/` is a page for trying things out, to which credentials are brought along. The demonstration has it
    /// anyway, with its people.
    pub playground: bool,
    /// `[edge.tls]`
    pub tls: PublicTlsConfig,
}

impl Default for EdgeConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8000)),
            allowed_origins: Vec::new(),
            refusal: Refusal::Close,
            ping_interval_s: 25,
            idle_timeout_s: 60,
            header_timeout_s: 10,
            drain_spread_s: 5,
            recheck_interval_s: 3,
            sockets_max: 100_000,
            sockets_per_user_max: 100,
            sockets_per_address_max: 10_000,
            handshakes_per_address_s: 500,
            handshakes_max: 2_000,
            presence_audience: Audience::Everyone,
            rate_limits: RateLimits::default(),
            trusted_proxies: Vec::new(),
            playground: false,
            tls: PublicTlsConfig::default(),
        }
    }
}

impl EdgeConfig {
    /// What is wrong with it.
    #[must_use]
    pub fn mistakes(&self) -> Vec<String> {
        let mut mistakes = Vec::new();
        for origin in &self.allowed_origins {
            if !origin.starts_with("http://") && !origin.starts_with("https://") || origin.ends_with('/') {
                mistakes
                    .push(format!("edge.allowed_origins: {origin}: an origin is https://host or https://host:port"));
            }
        }
        if self.ping_interval_s == 0 || self.header_timeout_s == 0 || self.recheck_interval_s == 0 {
            mistakes
                .push("edge.ping_interval_s, edge.header_timeout_s, edge.recheck_interval_s: must not be 0".to_owned());
        }
        if self.sockets_max == 0 || self.handshakes_max == 0 {
            mistakes.push("edge.sockets_max, edge.handshakes_max: must not be 0".to_owned());
        }
        if self.idle_timeout_s <= self.ping_interval_s {
            mistakes.push(
                "edge.idle_timeout_s: must be more than edge.ping_interval_s, or every socket is idle".to_owned(),
            );
        }
        if let Err(wrong) = Proxies::read(&self.trusted_proxies) {
            mistakes.extend(wrong.into_iter().map(|wrong| format!("edge.trusted_proxies: {wrong}")));
        }
        mistakes.extend(self.tls.mistakes("edge.tls"));
        mistakes
    }
}

/// See [`EdgeConfig::refusal`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Refusal {
    /// Accept, then close.
    Close,
    /// Do not accept.
    Http,
}

/// See [`EdgeConfig::presence_audience`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Audience {
    /// Everybody who is online.
    Everyone,
    /// Those who share a conversation.
    Contacts,
}

/// Where the edge finds the services.
#[derive(Clone)]
pub struct Upstreams {
    /// Checks credentials.
    pub identity: Upstream,
    /// Keeps conversations.
    pub chat: Upstream,
    /// Knows where therapists are.
    pub location: Upstream,
    /// Keeps inboxes.
    pub notification: Upstream,
    /// Knows who is online.
    pub presence: Upstream,
}

/// The streams of this edge.
#[derive(Clone)]
pub(crate) struct Links {
    pub(crate) chat: Link<wire::Chat>,
    pub(crate) location: Link<wire::Location>,
    pub(crate) notification: Link<wire::Notification>,
    pub(crate) presence: Link<wire::Presence>,
}

impl Links {
    /// Whether there is a stream to each service.
    fn readiness(&self) -> Readiness {
        let down: Vec<&str> = [
            ("chat", self.chat.is_up()),
            ("location", self.location.is_up()),
            ("notification", self.notification.is_up()),
            ("presence", self.presence.is_up()),
        ]
        .into_iter()
        .filter_map(|(service, is_up)| (!is_up).then_some(service))
        .collect();
        let missing = format!("no link to: {}", down.join(", "));
        match down.as_slice() {
            [] => Readiness::Ready,
            // Conversations are what an edge is for: without the others it still is of use.
            down if down.contains(&"chat") => Readiness::NotReady(missing),
            _ => Readiness::Partly(missing),
        }
    }

    async fn end_all(&self, goodbye: Goodbye, over: Duration) {
        tokio::join!(
            self.chat.end_all(goodbye, over),
            self.location.end_all(goodbye, over),
            self.notification.end_all(goodbye, over),
            self.presence.end_all(goodbye, over),
        );
    }
}

/// What all connections share.
pub(crate) struct Edge {
    pub(crate) identity: IdentityServiceClient<Peer>,
    pub(crate) chat: ChatServiceClient<Peer>,
    pub(crate) notification: NotificationServiceClient<Peer>,
    pub(crate) links: Links,
    pub(crate) roster: Roster,
    pub(crate) credentials: Credentials,
    pub(crate) counts: EdgeCounts,
    pub(crate) rates: Rates,
    pub(crate) room: Room,
    pub(crate) gate: Gate,
    /// Operators who may still look on.
    pub(crate) tails: Arc<Semaphore>,
    pub(crate) people: People,
    pub(crate) backstage: Arc<Backstage>,
    pub(crate) config: EdgeConfig,
    pub(crate) playground: Option<Playground>,
    /// Whom the playground tells what this process counts.
    pub(crate) guard: Guard,
    pub(crate) clock: Clock,
    pub(crate) lifecycle: Lifecycle,
}

/// Serves clients until the process has drained, by TLS when the listener has a certificate. Meanwhile operators have
/// `steering`, and those whom `guard` lets look see on the playground what the process counts.
///
/// # Errors
/// When the listener fails for good.
pub async fn serve(
    config: EdgeConfig,
    (listener, tls): (TcpListener, Option<ServerTls>),
    upstreams: Upstreams,
    playground: Option<Playground>,
    clock: Clock,
    lifecycle: Lifecycle,
    (steering, guard): (Steering, Guard),
) -> std::io::Result<()> {
    let roster = Roster::new(&clock.new_id().to_string(), lifecycle.clone());
    let hearing = roster.clone();
    let Upstreams { identity, chat, location, notification, presence } = upstreams;
    let playground = playground.or_else(|| config.playground.then(Playground::of_nobody));
    let shows_calls = playground.as_ref().is_some_and(|playground| playground.calls.is_some());
    let peer = |service: &Upstream| if shows_calls { calls::watched(service.peer()) } else { service.peer() };
    let (identity, chat_calls) = (IdentityServiceClient::new(peer(&identity)), ChatServiceClient::new(peer(&chat)));
    let notification_calls = NotificationServiceClient::new(peer(&notification));
    let links = Links {
        chat: Link::start(chat, ChatServiceClient::new, clock.clone(), &lifecycle, |_| {}),
        location: Link::start(location, LocationServiceClient::new, clock.clone(), &lifecycle, |_| {}),
        notification: Link::start(notification, NotificationServiceClient::new, clock.clone(), &lifecycle, |_| {}),
        presence: Link::start(presence, PresenceServiceClient::new, clock.clone(), &lifecycle, move |whole| {
            hearing.hear(whole);
        }),
    };
    let credentials = Credentials::new(identity.clone(), clock.clone());
    credentials.start(Duration::from_secs(config.recheck_interval_s), &lifecycle);
    let people = People::new(identity.clone());
    let backstage = Backstage { chat: chat_calls.clone(), people: people.clone(), clock: clock.clone() };
    let edge = Arc::new(Edge {
        credentials,
        people,
        backstage: Arc::new(backstage),
        identity,
        links,
        chat: chat_calls,
        notification: notification_calls,
        roster,
        counts: EdgeCounts::new(lifecycle.metrics()),
        rates: Rates::new(config.rate_limits.clone()),
        room: Room::new(&config, lifecycle.metrics()),
        gate: Gate::default(),
        tails: Arc::new(Semaphore::new(tail::TAILS_MAX)),
        playground,
        guard,
        config,
        clock,
        lifecycle: lifecycle.clone(),
    });
    lifecycle.check(edge.gate.readiness());
    let watched = edge.links.clone();
    lifecycle.check(move || watched.readiness());
    let (roster, users) = (edge.roster.clone(), edge.counts.roster.clone());
    lifecycle.metrics().sample(move || _ = users.set(roster.count()));
    let draining = edge.clone();
    lifecycle.spawn(async move {
        draining.lifecycle.drained().await;
        let over = Duration::from_secs(draining.config.drain_spread_s);
        tokio::select! {
            () = draining.links.end_all(goodbye::RESTARTING, over) => {}
            () = draining.lifecycle.stopped() => {}
        }
    });
    steering.take(&edge);
    let keeping = edge.clone();
    lifecycle.spawn(async move { keeping.gate.keep(&keeping.links, &keeping.lifecycle).await });
    serve::accept(edge, listener, tls).await
}
