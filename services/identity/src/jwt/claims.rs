//! What a token claims, and which claims are good. Pure: the time is an argument.

use std::collections::HashMap;

use serde::{Deserialize, Deserializer};
use serde_json::Value;
use switchboard_chassis::{Error, Kind, Micros};
use switchboard_proto::identity::v1::User;

use super::{JwtConfig, invalid};

const MICROS: i64 = 1_000_000;

/// What a good token says.
#[derive(Clone, Debug, PartialEq)]
pub struct Claims {
    /// The user as the token describes it; only the id is certain to be there.
    pub user: User,
    /// When the token ends.
    pub expires_at: Micros,
    /// The token's own id (`jti`), if it has one.
    pub token_id: Option<String>,
    /// When the token was issued (`iat`), if it says so.
    pub issued_at: Option<Micros>,
}

/// What claims must be.
pub(super) struct Rules {
    /// Empty for any.
    issuer: String,
    /// Empty for any.
    audience: String,
    lifetime_max_s: i64,
    leeway_s: i64,
}

impl Rules {
    pub(super) fn new(config: &JwtConfig) -> Self {
        Self {
            issuer: config.issuer.clone(),
            audience: config.audience.clone(),
            lifetime_max_s: i64::from(config.lifetime_max_s),
            leeway_s: i64::from(config.leeway_s),
        }
    }

    /// Reads the claims of a token that was signed as it should be.
    ///
    /// # Errors
    /// `TOKEN_EXPIRED` when they would have been good before, else `TOKEN_INVALID`.
    pub(super) fn apply(&self, raw: Raw, now: Micros) -> Result<Claims, Error> {
        if raw.token_type.as_deref().is_some_and(|kind| kind != "access") {
            return Err(invalid("the token is not an access token"));
        }
        if !self.issuer.is_empty() && raw.iss.as_str() != Some(&self.issuer) {
            return Err(invalid("the token is not of this deployment's issuer"));
        }
        if !self.audience.is_empty() && !is_for(&raw.aud, &self.audience) {
            return Err(invalid("the token is not for this deployment's audience"));
        }
        let expires = raw.exp.ok_or_else(|| invalid("the token has no exp"))?;
        let now_s = now.div_euclid(MICROS);
        if now_s >= expires.saturating_add(self.leeway_s) {
            return Err(Error::new(Kind::Unauthenticated, "TOKEN_EXPIRED", "the token has expired"));
        }
        if expires.saturating_sub(raw.iat.unwrap_or(now_s).min(now_s)) > self.lifetime_max_s {
            return Err(invalid("the token lives too long"));
        }
        if raw.nbf.is_some_and(|not_before| not_before > now_s.saturating_add(self.leeway_s)) {
            return Err(invalid("the token is not yet good"));
        }
        let id = raw.user_id.or(raw.sub).filter(|id| !id.trim().is_empty());
        let id = id.ok_or_else(|| invalid("the token names no user"))?;
        Ok(Claims {
            user: User {
                id,
                username: text(raw.username).unwrap_or_default(),
                full_name: text(raw.full_name).or(text(raw.name)).unwrap_or_default(),
                email: text(raw.email).unwrap_or_default(),
                profiles: profiles(raw.profiles),
                roles: roles(raw.roles, raw.role),
                ..User::default()
            },
            expires_at: expires.saturating_add(self.leeway_s).saturating_mul(MICROS),
            token_id: text(raw.jti).filter(|id| !id.is_empty()),
            issued_at: raw.iat.map(|at| at.saturating_mul(MICROS)),
        })
    }
}

/// The claims as other systems write them: ids as numbers or strings, times with or without a fraction.
#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
pub(super) struct Raw {
    token_type: Option<String>,
    #[serde(deserialize_with = "id")]
    user_id: Option<String>,
    #[serde(deserialize_with = "id")]
    sub: Option<String>,
    #[serde(deserialize_with = "seconds")]
    exp: Option<i64>,
    #[serde(deserialize_with = "seconds")]
    iat: Option<i64>,
    #[serde(deserialize_with = "seconds")]
    nbf: Option<i64>,
    iss: Value,
    aud: Value,
    // Other systems have other things under these names, which then say nothing.
    jti: Value,
    username: Value,
    full_name: Value,
    name: Value,
    email: Value,
    role: Value,
    roles: Value,
    profiles: Value,
}

fn is_for(claimed: &Value, audience: &str) -> bool {
    match claimed {
        Value::String(one) => one == audience,
        Value::Array(several) => several.iter().any(|one| one.as_str() == Some(audience)),
        _ => false,
    }
}

fn text(value: Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text),
        _ => None,
    }
}

fn roles(several: Value, one: Value) -> Vec<String> {
    let several = match several {
        Value::Array(several) => several,
        _ => Vec::new(),
    };
    several.into_iter().chain([one]).filter_map(text).collect()
}

fn profiles(profiles: Value) -> HashMap<String, String> {
    match profiles {
        Value::Object(profiles) => profiles.into_iter().filter_map(|(role, id)| Some((role, text(id)?))).collect(),
        _ => HashMap::new(),
    }
}

fn id<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    match Value::deserialize(deserializer)? {
        Value::Null => Ok(None),
        Value::String(id) => Ok(Some(id)),
        Value::Number(id) if id.is_i64() || id.is_u64() => Ok(Some(id.to_string())),
        _ => Err(serde::de::Error::custom("an id is a string or an integer")),
    }
}

#[expect(clippy::cast_possible_truncation, reason = "a float saturates, and so far a time is refused anyway")]
fn seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i64>, D::Error> {
    match Value::deserialize(deserializer)? {
        Value::Null => Ok(None),
        Value::Number(number) => {
            Ok(number.as_i64().or_else(|| number.as_f64().map(|seconds| seconds.floor() as i64)).or(Some(i64::MAX)))
        }
        _ => Err(serde::de::Error::custom("a time is a number")),
    }
}
