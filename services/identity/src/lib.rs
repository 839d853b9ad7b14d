//! Who people and devices are, and the only place that checks a credential.
//!
//! `api` answers the RPCs, `django` checks the session cookies of a Django, `jwt` checks and makes tokens,
//! `person` says what a user may look like (pure), and `store` holds the SQL.

mod api;
mod django;
pub mod jwt;
mod news;
mod person;
mod standing;
mod store;
mod ticket;

use serde::{Deserialize, Serialize};
use sqlx::migrate::Migrator;
use switchboard_bus::Bus;
use switchboard_chassis::{Clock, Lifecycle, db::Db};
use switchboard_proto::identity::v1::identity_service_server::IdentityServiceServer;
use switchboard_webhooks::{Outbox, WebhooksConfig};

pub use api::Identity;
pub use django::DjangoConfig;
pub use jwt::JwtConfig;

/// The tables of this service.
pub static MIGRATIONS: Migrator = sqlx::migrate!();

/// `[auth]`: how credentials are checked.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AuthConfig {
    /// Tokens.
    pub jwt: JwtConfig,
    /// Session cookies of a Django.
    pub django: DjangoConfig,
}

/// Starts one instance over its database and its place on the bus. Besides the service, what other systems are told by
/// webhook.
///
/// # Errors
/// When the bus or the Django database cannot be reached, the keys of tokens not be read, or webhooks not be delivered as
/// they are configured.
pub async fn service(
    db: Db,
    bus: Bus,
    config: &AuthConfig,
    webhooks: &WebhooksConfig,
    clock: Clock,
    lifecycle: &Lifecycle,
) -> std::io::Result<(IdentityServiceServer<Identity>, Outbox)> {
    let outbox = Outbox::new("identity", &db, webhooks, clock.clone())?;
    outbox.deliver(lifecycle)?;
    let news = news::News::start(bus, lifecycle).await?;
    let django = if config.django.is_configured() {
        Some(django::Django::open(&config.django).await.map_err(std::io::Error::other)?)
    } else {
        None
    };
    let store = store::Store::new(db, outbox.clone(), lifecycle);
    let identity = Identity::new(store, news, django, config, clock, lifecycle.clone())?;
    Ok((IdentityServiceServer::new(identity), outbox))
}

/// Whether the database of a Django can be reached, and has what is configured.
///
/// # Errors
/// What is wrong, without a secret.
pub async fn check_django(config: &DjangoConfig) -> Result<(), String> {
    django::Django::open(config).await.map(drop).map_err(|error| error.to_string())
}
