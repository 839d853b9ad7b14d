//! The system that is measured, seen from outside: a door for clients, the people, the processes.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum;
use futures_util::future::try_join_all;
use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::{Value, json};
use switchboard::provision::provision;
use switchboard_chassis::{
    Clock, Secret,
    grpc::{Peer, remote_peer},
};

use crate::{
    options::Options,
    progress::say,
    servers::{self, Started},
    socket::{self, Socket},
    usage::{Usages, Watcher, pin},
};

const TOKEN_TTL_S: i64 = 24 * 3600;
const MICROS: i64 = 1_000_000;
/// Calls under way at once while people are loaded.
const LOADING_MAX: usize = 32;
/// Customers are numbered from here on, their therapists from there on: systems that know numbers only can have them.
pub(crate) const CUSTOMERS_FROM: usize = 1_000_000;
pub(crate) const THERAPISTS_FROM: usize = 5_000_000;

/// How the processes are cut, or whose they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Layout {
    /// Switchboard, one process, `SQLite`.
    OneProcess,
    /// Switchboard, the edge and the services in two processes, `SQLite`.
    Apart,
    /// Switchboard, the edge and the services in two processes, Postgres and NATS.
    Cluster,
    /// The bare room server of tests/bench/floor.rs: no storage, no authentication.
    Floor,
    /// The Django Channels project of tests/bench/django, with Postgres and Redis.
    Django,
}

impl Layout {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::OneProcess => "one process",
            Self::Apart => "edge and services apart",
            Self::Cluster => "edge and services apart, Postgres, NATS",
            Self::Floor => "floor",
            Self::Django => "Django Channels, Postgres, Redis",
        }
    }

    /// When a message survives what, before anyone is told of it.
    fn durability(self) -> &'static str {
        match self {
            Self::OneProcess | Self::Apart => "commit (SQLite, synchronous=FULL)",
            Self::Cluster | Self::Django => "commit (Postgres, synchronous_commit=on)",
            Self::Floor => "none",
        }
    }
}

/// Who sits where.
#[derive(Clone, Debug)]
pub(crate) struct Seat {
    pub(crate) path: String,
    pub(crate) user_id: String,
    pub(crate) role: &'static str,
}

/// The two who share a conversation or a location.
pub(crate) fn customer(n: usize) -> String {
    (CUSTOMERS_FROM + n).to_string()
}

pub(crate) fn therapist(n: usize) -> String {
    (THERAPISTS_FROM + n).to_string()
}

/// One side of a pair's therapy chat.
pub(crate) fn chat(n: usize, is_customer: bool) -> Seat {
    seat(&format!("/ws/chat/{}/{}/", customer(n), therapist(n)), n, is_customer)
}

/// One side of anything of a pair.
pub(crate) fn seat(path: &str, n: usize, is_customer: bool) -> Seat {
    let (user_id, role) = if is_customer { (customer(n), "customer") } else { (therapist(n), "therapist") };
    Seat { path: path.to_owned(), user_id, role }
}

/// Where clients come in.
#[derive(Clone)]
pub(crate) struct Door {
    pub(crate) address: SocketAddr,
    host: Arc<str>,
    key: EncodingKey,
}

impl Door {
    pub(crate) fn new(address: SocketAddr, host: &str, secret: &str) -> Self {
        Self { address, host: host.into(), key: EncodingKey::from_secret(secret.as_bytes()) }
    }

    /// A token as Django's SimpleJWT makes it.
    pub(crate) fn token(&self, user_id: &str, role: &str) -> Result<String> {
        let clock = Clock::System;
        let now = clock.now().div_euclid(MICROS);
        let claims = json!({
            "token_type": "access", "user_id": user_id, "roles": [role],
            "jti": clock.new_id().simple().to_string(), "iat": now, "exp": now + TOKEN_TTL_S,
        });
        Ok(encode(&Header::default(), &claims, &self.key)?)
    }

    pub(crate) async fn enter(&self, seat: &Seat) -> Result<Socket> {
        self.enter_with(seat, "").await
    }

    /// With more in the query, such as `&after=1`.
    pub(crate) async fn enter_with(&self, seat: &Seat, more: &str) -> Result<Socket> {
        let token = self.token(&seat.user_id, seat.role)?;
        socket::connect(self.address, &self.host, &format!("{}?token={token}{more}", seat.path)).await
    }
}

pub(crate) struct System {
    pub(crate) door: Door,
    grpc: Option<Peer>,
    watcher: Watcher,
    layout: Option<Layout>,
    durability: String,
    pinned: Option<usize>,
    /// Ends with it.
    started: Option<Started>,
}

impl System {
    /// Starts it, or looks for it, with so many pairs of people.
    pub(crate) async fn start(options: &Options, pairs: usize) -> Result<Self> {
        let system = match &options.url {
            Some(url) => Self::found(options, url).await?,
            None => Self::started(options, pairs).await?,
        };
        system.people(pairs).await?;
        Ok(system)
    }

    async fn started(options: &Options, pairs: usize) -> Result<Self> {
        let layout = options.layout();
        say(&format!("starting {}", layout.name()));
        let started = servers::start(layout, options.server_core, pairs).await?;
        if let Some(core) = options.server_core {
            for watched in &started.watched {
                pin(watched.process, core)?;
            }
        }
        let grpc = started.grpc.map(|grpc| remote_peer(&format!("http://{grpc}"), &Secret::new(servers::GRPC_TOKEN)));
        Ok(Self {
            door: Door::new(started.edge, &started.edge.to_string(), servers::JWT_SECRET),
            grpc: grpc.transpose()?,
            watcher: Watcher(started.watched.clone()),
            layout: Some(layout),
            durability: layout.durability().to_owned(),
            pinned: options.server_core,
            started: Some(started),
        })
    }

    async fn found(options: &Options, url: &str) -> Result<Self> {
        let host = url.strip_prefix("ws://").context("--url must begin with ws://")?.trim_end_matches('/');
        let mut addresses = tokio::net::lookup_host(host).await.context("--url needs a host and a port")?;
        let address = addresses.next().context("--url names no address")?;
        let secret = options.jwt_secret.as_deref().context("--url needs --jwt-secret")?;
        let grpc = match (&options.grpc_url, &options.grpc_token) {
            (Some(url), Some(token)) => Some(remote_peer(url, &Secret::new(token.clone()))?),
            _ => None,
        };
        Ok(Self {
            door: Door::new(address, host, secret),
            grpc,
            watcher: Watcher(options.process.clone()),
            layout: None,
            durability: options.durability.clone().unwrap_or_else(|| "not told".to_owned()),
            pinned: None,
            started: None,
        })
    }

    /// Makes the pairs known.
    async fn people(&self, pairs: usize) -> Result<()> {
        match (&self.grpc, self.layout) {
            (Some(peer), _) => self.provision(peer, pairs).await,
            // Those who start with people of their own.
            (None, Some(_)) => Ok(()),
            (None, None) => self.introduce(pairs).await,
        }
    }

    async fn provision(&self, peer: &Peer, pairs: usize) -> Result<()> {
        let lines = |n: usize| {
            let (customer, therapist) = (customer(n), therapist(n));
            let seats = json!([{"user_id": customer, "role": "customer"}, {"user_id": therapist, "role": "therapist"}]);
            [
                json!({"user": {"id": customer, "roles": ["customer", "patient"]}}),
                json!({"user": {"id": therapist, "roles": ["therapist", "professional"]}}),
                json!({"conversation": {"kind": "CONVERSATION_KIND_THERAPY", "participants": seats}}),
            ]
            .map(|line| line.to_string())
            .join("\n")
        };
        let all: Vec<usize> = (0..pairs).collect();
        let loading = all.chunks(pairs.div_ceil(LOADING_MAX).max(1)).map(|part| {
            let lines = part.iter().map(|n| lines(*n)).collect::<Vec<_>>().join("\n");
            let peer = peer.clone();
            async move { provision(&lines, peer.clone(), peer).await }
        });
        try_join_all(loading).await?;
        Ok(())
    }

    /// A server that makes users of those who show a good token: each shows it once. The first of a pair is turned away
    /// there, because the other is not known yet.
    async fn introduce(&self, pairs: usize) -> Result<()> {
        let all: Vec<usize> = (0..pairs).collect();
        for part in all.chunks(LOADING_MAX) {
            let visits = part.iter().flat_map(|n| [chat(*n, true), chat(*n, false)]).map(|seat| async move {
                // Why not is told by the visit that is measured.
                let _ = self.door.enter(&seat).await;
            });
            futures_util::future::join_all(visits).await;
        }
        Ok(())
    }

    /// The way to its services.
    pub(crate) fn grpc(&self) -> Result<Peer> {
        match &self.grpc {
            Some(peer) => Ok(peer.clone()),
            None => bail!("this scenario needs the gRPC of a Switchboard: --grpc-url and --grpc-token"),
        }
    }

    /// How long its own processes took until all of them took connections.
    pub(crate) fn serves_after(&self) -> Result<Duration> {
        Ok(self.started.as_ref().context("a server that ran already cannot be seen to start")?.serves_after)
    }

    pub(crate) fn watcher(&self) -> Watcher {
        self.watcher.clone()
    }

    pub(crate) fn usages(&self) -> Result<Usages> {
        self.watcher.usages()
    }

    /// Adds to a run's line what the system was.
    pub(crate) fn put(&self, line: &mut Value) -> Result<()> {
        line["layout"] = json!(self.layout.map_or("a server that ran already", Layout::name));
        line["durability"] = json!(self.durability);
        line["server_core"] = json!(self.pinned);
        line["rss_mib"] = self.usages()?.mib();
        Ok(())
    }
}
