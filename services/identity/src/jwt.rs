//! JSON Web Tokens (RFC 7519) as Django's SimpleJWT and other issuers make them.
//!
//! A token is taken apart (`token`), its signature is checked with keys from one source (`key`; from a `file` or from an
//! issuer's `jwks`, which is `fetch`ed), and only then are its claims read (`claims`). Keys are parsed when they come,
//! not when they are used.

mod claims;
mod config;
mod fetch;
mod file;
mod jwks;
mod key;
mod token;

/// Fetches a JWKS, and says how many keys it has, of whatever kind.
///
/// # Errors
/// Why there is none.
pub async fn reach_jwks(url: &str) -> Result<usize, String> {
    let fetcher = fetch::Fetcher::new(url).map_err(|error| error.to_string())?;
    let document = fetcher.fetch().await?;
    let document: serde_json::Value =
        serde_json::from_slice(&document).map_err(|_| "what was fetched is not JSON".to_owned())?;
    document["keys"].as_array().map(Vec::len).ok_or_else(|| "what was fetched has no `keys`".to_owned())
}

#[cfg(test)]
mod fixtures;
#[cfg(test)]
mod tests;

use std::io;

use jsonwebtoken::{EncodingKey, Header, encode};
use serde::Serialize;
use switchboard_chassis::{Error, Kind, Lifecycle, Micros, Secret, reload::Reloaded};
use switchboard_proto::identity::v1::User;

use self::{
    claims::{Raw, Rules},
    config::Source,
    fetch::Fetcher,
    jwks::{Jwks, Pace},
    key::{Key, KeySet, Verdict},
    token::Unchecked,
};

pub use claims::Claims;
pub use config::{Algorithm, JwtConfig};

const MICROS: i64 = 1_000_000;

/// Checks tokens.
pub struct Verifier {
    keys: Keys,
    rules: Rules,
}

enum Keys {
    Fixed(KeySet),
    File(Reloaded<KeySet>),
    Jwks(Jwks),
}

impl Verifier {
    /// Gets the keys ready, and keeps them current until `lifecycle` ends. An issuer that cannot be reached is tried
    /// again in the background.
    ///
    /// # Errors
    /// When a file with keys is wrong, or the machine trusts no certificate and `jwks_url` needs some.
    pub fn start(config: &JwtConfig, lifecycle: &Lifecycle) -> io::Result<Self> {
        let named = |setting: &str, wrong: String| io::Error::other(format!("auth.jwt.{setting}: {wrong}"));
        let keys = match config.source() {
            Source::Secret(secret) => Keys::Fixed(KeySet::unnamed(vec![Key::secret(config.algorithm, secret)])),
            Source::File(path) => Keys::File(
                file::watch(path, config.algorithm, lifecycle).map_err(|wrong| named("public_key_file", wrong))?,
            ),
            Source::Jwks(url) => {
                let fetcher = Fetcher::new(url).map_err(|error| named("jwks_url", error.to_string()))?;
                if fetcher.is_exposed() {
                    tracing::warn!(
                        "auth.jwt.jwks_url is not https: who can change its answers on their way can be anybody"
                    );
                }
                let only = Some(config.algorithm).filter(|algorithm| !algorithm.has_shared_secret());
                Keys::Jwks(Jwks::start(fetcher, only, Pace::new(config.jwks_refresh_s), lifecycle))
            }
        };
        Ok(Self { keys, rules: Rules::new(config) })
    }

    /// Checks a token. Waits only for an issuer's new keys: see `jwks_url`.
    ///
    /// # Errors
    /// `TOKEN_EXPIRED` when it would have been good before; `KEYS_UNAVAILABLE` when its key may be one that cannot be
    /// fetched now; else `TOKEN_INVALID`.
    pub async fn verify(&self, token: &str, now: Micros) -> Result<Claims, Error> {
        let token = Unchecked::read(token)?;
        let verdict = match &self.keys {
            Keys::Fixed(keys) => keys.verdict(&token),
            Keys::File(keys) => keys.now().verdict(&token),
            Keys::Jwks(keys) => {
                keys.check(&token).await?;
                Verdict::Signed
            }
        };
        if verdict != Verdict::Signed {
            return Err(invalid("the token is not one of ours"));
        }
        self.rules.apply(token.claims::<Raw>()?, now)
    }
}

/// Makes an HS256 token for a user, good from `now` for `ttl_s` seconds.
///
/// # Errors
/// When the claims cannot be written as JSON.
pub fn sign(secret: &Secret, user: &User, now: Micros, ttl_s: i64) -> Result<String, jsonwebtoken::errors::Error> {
    sign_with(Algorithm::Hs256, secret, user, now, ttl_s)
}

/// Makes a token by another algorithm that has a secret.
///
/// # Errors
/// When the algorithm has none, or the claims cannot be written as JSON.
pub fn sign_with(
    algorithm: Algorithm,
    secret: &Secret,
    user: &User,
    now: Micros,
    ttl_s: i64,
) -> Result<String, jsonwebtoken::errors::Error> {
    #[derive(Serialize)]
    struct Made<'a> {
        token_type: &'static str,
        user_id: &'a str,
        #[serde(skip_serializing_if = "<[String]>::is_empty")]
        roles: &'a [String],
        #[serde(skip_serializing_if = "str::is_empty")]
        username: &'a str,
        #[serde(skip_serializing_if = "str::is_empty")]
        full_name: &'a str,
        #[serde(skip_serializing_if = "str::is_empty")]
        email: &'a str,
        iat: i64,
        exp: i64,
    }
    let iat = now.div_euclid(MICROS);
    let made = Made {
        token_type: "access",
        user_id: &user.id,
        roles: &user.roles,
        username: &user.username,
        full_name: &user.full_name,
        email: &user.email,
        iat,
        exp: iat.saturating_add(ttl_s),
    };
    encode(&Header::new(algorithm.into()), &made, &EncodingKey::from_secret(secret.expose().as_bytes()))
}

fn invalid(message: &str) -> Error {
    Error::new(Kind::Unauthenticated, "TOKEN_INVALID", message)
}
