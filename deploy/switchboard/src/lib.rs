//! Puts the services and the edge together, in one process or in several: `serve`, `demo`, the tests and every role
//! call the same [`start`].

mod admin;
pub mod backup;
pub mod config;
pub mod ctl;
pub mod demo;
pub mod doctor;
pub mod moving;
pub mod provision;
pub mod scopes;
pub mod trust;

use std::{fs::DirBuilder, net::SocketAddr, os::unix::fs::DirBuilderExt as _};

use anyhow::Context as _;
use switchboard_bus::Bus;
use switchboard_chassis::{
    Clock, Directory, Lifecycle, Secret,
    db::Db,
    grpc::{Access, Services},
    metrics::{Gauges, process},
    traces::{About, Traces},
};
use switchboard_edge::{Playground, Steering, Upstream, Upstreams};
use tokio::net::TcpListener;

use config::{Config, Role};

pub use trust::Trust;

/// Where a process listens; bound before anything else starts.
#[derive(Default)]
pub struct Listeners {
    /// For operators.
    pub admin: Option<TcpListener>,
    /// For clients, if the process is an edge.
    pub edge: Option<TcpListener>,
    /// For gRPC: every process has something to offer to whoever operates it.
    pub grpc: Option<TcpListener>,
}

impl Listeners {
    /// Binds what `roles` need.
    ///
    /// # Errors
    /// All addresses that are taken or not ours.
    pub fn bind(config: &Config, roles: &[Role]) -> anyhow::Result<Self> {
        let mut mistakes = Vec::new();
        let mut listen = |is_needed: bool, address: SocketAddr, setting: &str| {
            let listening = is_needed.then(|| switchboard_chassis::net::listen(address)).transpose();
            listening.unwrap_or_else(|error| {
                mistakes.push(format!("cannot listen on {address} ({setting}): {error}"));
                None
            })
        };
        let grpc_setting = match roles {
            [Role::Edge] => "grpc.listen: an edge serves gRPC, too: give it another than its neighbours'",
            _ => "grpc.listen",
        };
        let listeners = Self {
            edge: listen(roles.contains(&Role::Edge), config.edge.listen, "edge.listen"),
            grpc: listen(true, config.grpc.listen, grpc_setting),
            admin: listen(true, config.admin.listen, "admin.listen"),
        };
        anyhow::ensure!(mistakes.is_empty(), "{}", mistakes.join("\n"));
        Ok(listeners)
    }

    /// Where they listen: the edge, gRPC, and what operators ask.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn addresses(&self) -> std::io::Result<Addresses> {
        let of = |listener: &Option<TcpListener>| listener.as_ref().map(TcpListener::local_addr).transpose();
        Ok(Addresses { edge: of(&self.edge)?, grpc: of(&self.grpc)?, admin: of(&self.admin)? })
    }
}

/// Where a process listens.
#[derive(Clone, Copy, Debug, Default)]
pub struct Addresses {
    /// For clients.
    pub edge: Option<SocketAddr>,
    /// For services.
    pub grpc: Option<SocketAddr>,
    /// For operators.
    pub admin: Option<SocketAddr>,
}

/// The secrets of a deployment: those that were configured, else those of the data directory, made at first use.
#[derive(Clone, Debug)]
pub struct Secrets {
    /// For calls between services.
    pub grpc_token: Secret,
    /// For tokens of users.
    pub jwt_secret: Secret,
}

impl Secrets {
    /// Reads or makes them, and the data directory.
    ///
    /// # Errors
    /// When the data directory cannot be written.
    pub fn of(config: &Config) -> anyhow::Result<Self> {
        let directory = &config.data_dir;
        // What people wrote is for this process's user alone.
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .with_context(|| format!("cannot make {}", directory.display()))?;
        let secret = |configured: &Secret, name: &str| {
            let file = directory.join(name);
            configured.clone().or_generated(&file).with_context(|| format!("cannot use {}", file.display()))
        };
        Ok(Self {
            grpc_token: secret(&config.grpc.token, "grpc-token")?,
            jwt_secret: secret(&config.auth.jwt.secret, "jwt-secret")?,
        })
    }
}

/// What [`start`] runs besides its configuration.
pub struct Plan {
    /// What the process is.
    pub roles: Vec<Role>,
    /// Where it listens.
    pub listeners: Listeners,
    /// Its place among other instances.
    pub bus: Bus,
    /// What it shows to others, and whom it lets in.
    pub trust: Trust,
    /// The page for trying things out, if it shall have one.
    pub playground: Option<Playground>,
}

/// Starts the roles; they run until `lifecycle` ends them.
///
/// # Errors
/// When a database cannot be opened or a service not be reached by its URL.
pub async fn start(config: &Config, secrets: &Secrets, plan: Plan, lifecycle: &Lifecycle) -> anyhow::Result<()> {
    let Plan { roles, listeners, bus, trust, playground } = plan;
    let clock = Clock::System;
    observe(&roles, lifecycle);
    let traces = Traces::start(&config.traces, about(config, &roles, &clock), &trust.traces, lifecycle);
    lifecycle.trace(traces.map_err(anyhow::Error::msg)?);
    bus.observe(lifecycle.metrics());
    if let Some(listener) = listeners.admin {
        lifecycle.spawn_essential("admin server", switchboard_chassis::admin::serve(listener, lifecycle.clone()));
    }
    let guard = trust.guard(secrets);
    let mut services = Services::new(
        guard.clone(),
        &[switchboard_proto::FILE_DESCRIPTOR_SET],
        lifecycle.metrics(),
        lifecycle.traces(),
    );

    services.add(admin::Admin::service(clock.clone())).await;
    let steering = Steering::default();
    let mut absences = None;
    let mut outboxes = Vec::new();
    for role in Role::ALL.into_iter().filter(|role| roles.contains(role)) {
        let open = async |migrations| {
            let db = Db::open(&config.store, &config.data_dir, role.name(), migrations).await?;
            db.observe(lifecycle.metrics(), role.name());
            anyhow::Ok(db)
        };
        // Each service is a member of the bus by itself.
        match role {
            Role::Edge => services.add(steering.service()).await,
            Role::Identity => {
                let db = open(&switchboard_identity::MIGRATIONS).await?;
                let mut auth = config.auth.clone();
                auth.jwt.secret = secrets.jwt_secret.clone();
                let webhooks = &config.webhooks;
                let (service, outbox) =
                    switchboard_identity::service(db, bus.another(), &auth, webhooks, clock.clone(), lifecycle).await?;
                services.add(service).await;
                outboxes.push(outbox);
            }
            Role::Chat => {
                let db = open(&switchboard_chat::MIGRATIONS).await?;
                let (settings, webhooks) = (&config.chat, &config.webhooks);
                let (service, theirs, outbox) =
                    switchboard_chat::service(db, bus.another(), settings, webhooks, clock.clone(), lifecycle).await?;
                services.add(service).await;
                outboxes.push(outbox);
                absences = Some(theirs);
            }
            Role::Location => {
                let db = open(&switchboard_location::MIGRATIONS).await?;
                let config = &config.location;
                let service =
                    switchboard_location::service(db, bus.another(), config, clock.clone(), lifecycle).await?;
                services.add(service).await;
            }
            Role::Notification => {
                let db = open(&switchboard_notification::MIGRATIONS).await?;
                let config = &config.notification;
                let service =
                    switchboard_notification::service(db, bus.another(), config, clock.clone(), lifecycle).await?;
                services.add(service).await;
            }
            Role::Presence => {
                let db = open(&switchboard_presence::MIGRATIONS).await?;
                let config = &config.presence;
                let service =
                    switchboard_presence::service(db, bus.another(), config, clock.clone(), lifecycle).await?;
                services.add(service).await;
            }
        }
    }

    if !outboxes.is_empty() {
        services.add(switchboard_webhooks::service(outboxes)).await;
    }
    let services = services.build();
    let local = services.peer();
    if let Some(listener) = listeners.grpc {
        lifecycle.spawn_server("gRPC server", services.serve(listener, trust.grpc, lifecycle.clone()));
    }
    let access = Access::new(secrets.grpc_token.clone(), trust.services);
    let upstream = |role: Role, list: &str| -> anyhow::Result<Upstream> {
        if roles.contains(&role) {
            return Ok(Upstream::Here(local.clone()));
        }
        let directory = Directory::new(list, lifecycle).map_err(anyhow::Error::msg)?;
        Ok(Upstream::There(directory, access.clone()))
    };
    if let Some(absences) = absences {
        absences.notify(upstream(Role::Notification, &config.services.notification)?.peer(), lifecycle);
    }
    if let Some(listener) = listeners.edge {
        let upstreams = Upstreams {
            identity: upstream(Role::Identity, &config.services.identity)?,
            chat: upstream(Role::Chat, &config.services.chat)?,
            location: upstream(Role::Location, &config.services.location)?,
            notification: upstream(Role::Notification, &config.services.notification)?,
            presence: upstream(Role::Presence, &config.services.presence)?,
        };
        let edge = switchboard_edge::serve(
            config.edge.clone(),
            (listener, trust.edge),
            upstreams,
            playground,
            clock,
            lifecycle.clone(),
            (steering, guard),
        );
        lifecycle.spawn_server("edge", edge);
    }
    lifecycle.started();
    Ok(())
}

/// What a process is called in traces.
fn about(config: &Config, roles: &[Role], clock: &Clock) -> About {
    let service = match (config.traces.service_name.as_str(), roles) {
        ("", [role]) => format!("switchboard-{}", role.name()),
        ("", _) => "switchboard".to_owned(),
        (name, _) => name.to_owned(),
    };
    About { service, version: env!("CARGO_PKG_VERSION"), instance: clock.new_id().to_string() }
}

/// What a process says of itself.
fn observe(roles: &[Role], lifecycle: &Lifecycle) {
    const ROLES: Gauges<1> = Gauges::new("switchboard_role", "1 for each role of the process", &["role"]);
    process::observe(lifecycle.metrics(), env!("CARGO_PKG_VERSION"));
    for role in roles {
        lifecycle.metrics().gauge(&ROLES, [role.name()]).set(1);
    }
}
