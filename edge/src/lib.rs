//! The porch: the only crate that knows WebSocket, client JSON and HTTP.
//!
//! `serve` accepts connections; `routes` names every URL; `handshake` turns a credential into a seat or a documented
//! goodbye; `upgrade` makes the socket; `session` is the one loop of every socket; `dialect` translates; `link` carries
//! all sessions on one gRPC stream to the chat service; `rest` answers the documented REST.

mod closing;
mod credential;
mod dialect;
pub mod documents;
pub mod goodbye;
mod handshake;
mod link;
mod order;
mod people;
mod playground;
mod rest;
mod routes;
mod serve;
mod session;
mod upgrade;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use switchboard_chassis::{Clock, Lifecycle, grpc::Peer};
use switchboard_proto::{
    chat::v1::chat_service_client::ChatServiceClient, identity::v1::identity_service_client::IdentityServiceClient,
};
use tokio::net::TcpListener;

pub use playground::Playground;

use crate::{link::Link, people::People};

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
        if self.ping_interval_s == 0 || self.header_timeout_s == 0 {
            mistakes.push("edge.ping_interval_s, edge.header_timeout_s: must not be 0".to_owned());
        }
        if self.idle_timeout_s <= self.ping_interval_s {
            mistakes.push(
                "edge.idle_timeout_s: must be more than edge.ping_interval_s, or every socket is idle".to_owned(),
            );
        }
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

/// Where the edge finds the services.
#[derive(Clone)]
pub struct Upstreams {
    /// Checks credentials.
    pub identity: Peer,
    /// Keeps conversations.
    pub chat: Peer,
}

/// What all connections share.
pub(crate) struct Edge {
    pub(crate) identity: IdentityServiceClient<Peer>,
    pub(crate) chat: ChatServiceClient<Peer>,
    pub(crate) link: Link,
    pub(crate) people: People,
    pub(crate) config: EdgeConfig,
    pub(crate) playground: Option<Playground>,
    pub(crate) clock: Clock,
    pub(crate) lifecycle: Lifecycle,
}

/// Serves clients until the process has drained.
///
/// # Errors
/// When the listener fails for good.
pub async fn serve(
    config: EdgeConfig,
    listener: TcpListener,
    upstreams: Upstreams,
    playground: Option<Playground>,
    clock: Clock,
    lifecycle: Lifecycle,
) -> std::io::Result<()> {
    let chat = ChatServiceClient::new(upstreams.chat);
    let identity = IdentityServiceClient::new(upstreams.identity);
    let edge = Arc::new(Edge {
        people: People::new(identity.clone()),
        identity,
        link: Link::start(chat.clone(), clock.clone(), &lifecycle),
        chat,
        config,
        playground,
        clock,
        lifecycle: lifecycle.clone(),
    });
    let draining = edge.clone();
    lifecycle.spawn(async move {
        draining.lifecycle.drained().await;
        let over = Duration::from_secs(draining.config.drain_spread_s);
        tokio::select! {
            () = draining.link.end_all(goodbye::RESTARTING, over) => {}
            () = draining.lifecycle.stopped() => {}
        }
    });
    serve::accept(edge, listener).await
}
