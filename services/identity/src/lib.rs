//! Who people and devices are, and the only place that checks a credential.
//!
//! `api` answers the RPCs, `jwt` checks and makes tokens (pure), `person` says what a user may look like (pure), and
//! `store` holds the SQL.

mod api;
pub mod jwt;
mod person;
mod store;

use serde::{Deserialize, Serialize};
use sqlx::migrate::Migrator;
use switchboard_chassis::{Clock, Secret, db::Db};
use switchboard_proto::identity::v1::identity_service_server::IdentityServiceServer;

pub use api::Identity;

/// The tables of this service.
pub static MIGRATIONS: Migrator = sqlx::migrate!();

/// `[auth]`: how credentials are checked.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AuthConfig {
    /// Tokens.
    pub jwt: JwtConfig,
}

/// `[auth.jwt]`: which tokens are good.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct JwtConfig {
    /// The key of HS256; made in the data directory when not given.
    pub secret: Secret,
    /// How long after its end a token is still good, in seconds.
    pub leeway_s: u32,
    /// Whether a good token of an unknown user creates the user from its claims.
    pub create_users: bool,
}

impl Default for JwtConfig {
    fn default() -> Self {
        Self { secret: Secret::default(), leeway_s: 0, create_users: true }
    }
}

/// The service over its database, ready to be offered by gRPC.
#[must_use]
pub fn service(db: Db, config: &AuthConfig, clock: Clock) -> IdentityServiceServer<Identity> {
    IdentityServiceServer::new(Identity::new(store::Store::new(db), config, clock))
}
