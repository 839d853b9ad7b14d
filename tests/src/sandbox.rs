//! The whole system in this process, on free ports, with databases of its own.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::Context as _;
use switchboard::{
    Addresses, Listeners, Plan, Secrets, Trust,
    config::{Config, Role, ServicesConfig},
    provision::provision,
    start,
};
use switchboard_bus::Bus;
use switchboard_chassis::{
    Clock, Lifecycle, Secret,
    grpc::{Peer, remote_peer},
    testing::{Backend, new_postgres_database},
};
use switchboard_identity::jwt;
use switchboard_proto::{
    chat::v1::chat_service_client::ChatServiceClient,
    identity::v1::{User, identity_service_client::IdentityServiceClient},
    location::v1::location_service_client::LocationServiceClient,
    notification::v1::notification_service_client::NotificationServiceClient,
    presence::v1::presence_service_client::PresenceServiceClient,
};

use crate::Client;

/// A running system. Dropping it stops it.
pub struct Sandbox {
    /// `127.0.0.1:<port>` of the edge.
    pub edge: SocketAddr,
    /// `127.0.0.1:<port>` of the gRPC services.
    pub grpc: SocketAddr,
    /// `127.0.0.1:<port>` of what operators ask.
    pub admin: SocketAddr,
    /// The secrets it runs with.
    pub secrets: Secrets,
    /// Ends it.
    pub lifecycle: Lifecycle,
    config: Config,
    bus: Bus,
    // Last, so that the files go after everything else.
    _directory: tempfile::TempDir,
}

impl Sandbox {
    /// Starts a system.
    ///
    /// # Errors
    /// When something cannot start.
    pub async fn start(backend: Backend) -> anyhow::Result<Self> {
        Self::start_with(backend, |_| {}).await
    }

    /// Starts a system with other settings.
    ///
    /// # Errors
    /// When something cannot start.
    pub async fn start_with(backend: Backend, change: impl FnOnce(&mut Config)) -> anyhow::Result<Self> {
        let directory = tempfile::tempdir()?;
        let mut config = Config { data_dir: directory.path().join("data"), ..Config::default() };
        config.edge.listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        config.grpc.listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        config.admin.listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        config.edge.drain_spread_s = 0;
        config.edge.allowed_origins = vec!["https://app.example.org".to_owned()];
        if backend == Backend::Postgres {
            config.store.url = Secret::new(new_postgres_database().await?);
            config.store.connections_max = 4;
        }
        change(&mut config);
        let bus = Bus::local();
        let (addresses, secrets, lifecycle) = run(&config, bus.clone(), &Role::ALL).await?;
        let (edge, grpc) = (addresses.edge.context("an edge")?, addresses.grpc.context("services")?);
        let admin = addresses.admin.context("operators")?;
        Ok(Self { edge, grpc, admin, secrets, lifecycle, config, bus, _directory: directory })
    }

    /// Other instances of some services on the same database and bus; only Postgres can be shared. Their gRPC address,
    /// and what ends them.
    ///
    /// # Errors
    /// When they cannot start.
    pub async fn another(&self, roles: &[Role]) -> anyhow::Result<(SocketAddr, Lifecycle)> {
        let (addresses, _, lifecycle) = run(&self.config, self.bus.another(), roles).await?;
        Ok((addresses.grpc.context("services")?, lifecycle))
    }

    /// An edge over instances of all services at these addresses. Its address, and what ends it.
    ///
    /// # Errors
    /// When it cannot start.
    pub async fn edge_over(&self, instances: &[SocketAddr]) -> anyhow::Result<(SocketAddr, Lifecycle)> {
        let urls: Vec<String> = instances.iter().map(|address| format!("http://{address}")).collect();
        let list = urls.join(",");
        let mut config = self.config.clone();
        config.services = ServicesConfig {
            identity: list.clone(),
            chat: list.clone(),
            location: list.clone(),
            notification: list.clone(),
            presence: list,
            tls: self.config.services.tls.clone(),
        };
        let (addresses, _, lifecycle) = run(&config, self.bus.another(), &[Role::Edge]).await?;
        Ok((addresses.edge.context("an edge")?, lifecycle))
    }

    /// Loads people and conversations: see `switchboard provision --help`.
    ///
    /// # Errors
    /// When a line is wrong.
    pub async fn provision(&self, lines: &str) -> anyhow::Result<()> {
        provision(lines, self.peer()?, self.peer()?).await?;
        Ok(())
    }

    /// A token for a user, good for an hour.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn token(&self, user_id: &str) -> anyhow::Result<String> {
        self.token_for(&User { id: user_id.to_owned(), ..User::default() }, 3600)
    }

    /// A token that says more, good for `ttl_s` seconds.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn token_for(&self, user: &User, ttl_s: i64) -> anyhow::Result<String> {
        Ok(jwt::sign(&self.secrets.jwt_secret, user, Clock::System.now(), ttl_s)?)
    }

    /// Connects to a path as a user.
    ///
    /// # Errors
    /// When the server does not upgrade.
    pub async fn connect(&self, path: &str, user_id: &str) -> anyhow::Result<Client> {
        self.connect_at(self.edge, path, user_id).await
    }

    /// Connects to a path of another edge as a user.
    ///
    /// # Errors
    /// When the server does not upgrade.
    pub async fn connect_at(&self, edge: SocketAddr, path: &str, user_id: &str) -> anyhow::Result<Client> {
        let mark = if path.contains('?') { '&' } else { '?' };
        let token = self.token(user_id)?;
        Client::connect(&format!("ws://{edge}{path}{mark}token={token}"), &[]).await
    }

    /// The way to this sandbox's services.
    ///
    /// # Errors
    /// When the address is not a URL.
    pub fn peer(&self) -> anyhow::Result<Peer> {
        self.peer_at(self.grpc)
    }

    /// The way to services at another address, with this sandbox's token.
    ///
    /// # Errors
    /// When the address is not a URL.
    pub fn peer_at(&self, address: SocketAddr) -> anyhow::Result<Peer> {
        Ok(remote_peer(&format!("http://{address}"), &self.secrets.grpc_token)?)
    }

    /// The chat service, over real gRPC.
    ///
    /// # Errors
    /// When the address is not a URL.
    pub fn chat(&self) -> anyhow::Result<ChatServiceClient<Peer>> {
        Ok(ChatServiceClient::new(self.peer()?))
    }

    /// The location service, over real gRPC.
    ///
    /// # Errors
    /// When the address is not a URL.
    pub fn locations(&self) -> anyhow::Result<LocationServiceClient<Peer>> {
        Ok(LocationServiceClient::new(self.peer()?))
    }

    /// The notification service, over real gRPC.
    ///
    /// # Errors
    /// When the address is not a URL.
    pub fn notifications(&self) -> anyhow::Result<NotificationServiceClient<Peer>> {
        Ok(NotificationServiceClient::new(self.peer()?))
    }

    /// The presence service, over real gRPC.
    ///
    /// # Errors
    /// When the address is not a URL.
    pub fn presence(&self) -> anyhow::Result<PresenceServiceClient<Peer>> {
        Ok(PresenceServiceClient::new(self.peer()?))
    }

    /// The identity service, over real gRPC.
    ///
    /// # Errors
    /// When the address is not a URL.
    pub fn identity(&self) -> anyhow::Result<IdentityServiceClient<Peer>> {
        Ok(IdentityServiceClient::new(self.peer()?))
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.lifecycle.stop();
    }
}

async fn run(config: &Config, bus: Bus, roles: &[Role]) -> anyhow::Result<(Addresses, Secrets, Lifecycle)> {
    let lifecycle = Lifecycle::new();
    let trust = Trust::of(config, roles, &lifecycle)?;
    let listeners = Listeners::bind(config, roles)?;
    let addresses = listeners.addresses()?;
    let secrets = Secrets::of(config)?;
    let plan = Plan { roles: roles.to_vec(), listeners, bus, trust, playground: None };
    start(config, &secrets, plan, &lifecycle).await?;
    Ok((addresses, secrets, lifecycle))
}
