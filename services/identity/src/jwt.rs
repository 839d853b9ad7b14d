//! JSON Web Tokens (RFC 7519) as Django's SimpleJWT issues them. Pure: the time and the key are arguments.

use std::collections::HashMap;

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, encode};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};
use switchboard_chassis::{Error, Kind, Micros, Secret};
use switchboard_proto::identity::v1::User;

/// A token that lives longer is refused: ten years.
const LIFETIME_MAX_S: i64 = 10 * 365 * 24 * 3600;
const MICROS: i64 = 1_000_000;

/// Checks tokens by one pinned algorithm and its key.
#[derive(Clone)]
pub struct Verifier {
    key: DecodingKey,
    validation: Validation,
    leeway_s: i64,
}

/// What a good token says.
#[derive(Clone, Debug, PartialEq)]
pub struct Claims {
    /// The user as the token describes it; only the id is certain to be there.
    pub user: User,
    /// When the token ends.
    pub expires_at: Micros,
}

impl Verifier {
    /// HS256 with a shared secret.
    #[must_use]
    pub fn hs256(secret: &Secret, leeway_s: u32) -> Self {
        let mut validation = Validation::new(Algorithm::HS256);
        // Times are checked here, against a clock that is an argument; the audience is not pinned.
        validation.validate_exp = false;
        validation.validate_nbf = false;
        validation.validate_aud = false;
        validation.required_spec_claims.clear();
        Self { key: DecodingKey::from_secret(secret.expose().as_bytes()), validation, leeway_s: i64::from(leeway_s) }
    }

    /// Checks a token.
    ///
    /// # Errors
    /// `TOKEN_EXPIRED` when it would have been good before, else `TOKEN_INVALID`.
    pub fn verify(&self, token: &str, now: Micros) -> Result<Claims, Error> {
        let raw: Raw =
            decode(token, &self.key, &self.validation).map_err(|_| invalid("the token is not one of ours"))?.claims;
        if raw.token_type.as_deref().is_some_and(|kind| kind != "access") {
            return Err(invalid("the token is not an access token"));
        }
        let expires = raw.exp.ok_or_else(|| invalid("the token has no exp"))?;
        let now_s = now.div_euclid(MICROS);
        if now_s >= expires.saturating_add(self.leeway_s) {
            return Err(Error::new(Kind::Unauthenticated, "TOKEN_EXPIRED", "the token has expired"));
        }
        if expires.saturating_sub(raw.iat.unwrap_or(now_s).min(now_s)) > LIFETIME_MAX_S {
            return Err(invalid("the token lives longer than ten years"));
        }
        if raw.nbf.is_some_and(|not_before| not_before > now_s.saturating_add(self.leeway_s)) {
            return Err(invalid("the token is not yet good"));
        }
        let id = raw.user_id.as_ref().or(raw.sub.as_ref()).filter(|id| !id.trim().is_empty());
        let id = id.ok_or_else(|| invalid("the token names no user"))?.clone();
        let text = |name: &str| raw.text(name).unwrap_or_default().to_owned();
        Ok(Claims {
            user: User {
                id,
                username: text("username"),
                full_name: raw.text("full_name").or(raw.text("name")).unwrap_or_default().to_owned(),
                email: text("email"),
                profiles: raw.profiles(),
                roles: raw.roles(),
                ..User::default()
            },
            expires_at: expires.saturating_add(self.leeway_s).saturating_mul(MICROS),
        })
    }
}

/// Makes an HS256 token for a user, good from `now` for `ttl_s` seconds.
///
/// # Errors
/// When the claims cannot be written as JSON.
pub fn sign(secret: &Secret, user: &User, now: Micros, ttl_s: i64) -> Result<String, jsonwebtoken::errors::Error> {
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
    encode(&Header::new(Algorithm::HS256), &made, &EncodingKey::from_secret(secret.expose().as_bytes()))
}

fn invalid(message: &str) -> Error {
    Error::new(Kind::Unauthenticated, "TOKEN_INVALID", message)
}

/// The claims as other systems write them: ids as numbers or strings, times with or without a fraction.
#[derive(Deserialize)]
struct Raw {
    token_type: Option<String>,
    #[serde(default, deserialize_with = "id")]
    user_id: Option<String>,
    #[serde(default, deserialize_with = "id")]
    sub: Option<String>,
    #[serde(default, deserialize_with = "seconds")]
    exp: Option<i64>,
    #[serde(default, deserialize_with = "seconds")]
    iat: Option<i64>,
    #[serde(default, deserialize_with = "seconds")]
    nbf: Option<i64>,
    /// What describes the user; other systems have other things under these names, which then say nothing.
    #[serde(flatten)]
    rest: Map<String, Value>,
}

impl Raw {
    fn text(&self, name: &str) -> Option<&str> {
        self.rest.get(name)?.as_str()
    }

    fn roles(&self) -> Vec<String> {
        let several = self.rest.get("roles").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
        several.chain(self.text("role")).map(str::to_owned).collect()
    }

    fn profiles(&self) -> HashMap<String, String> {
        let profiles = self.rest.get("profiles").and_then(Value::as_object).into_iter().flatten();
        profiles.filter_map(|(role, id)| Some((role.clone(), id.as_str()?.to_owned()))).collect()
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW: i64 = 1_800_000_000;

    fn secret() -> Secret {
        Secret::new("a test's secret of more than 32 bytes")
    }

    fn token(claims: &Value, algorithm: Algorithm) -> String {
        encode(&Header::new(algorithm), claims, &EncodingKey::from_secret(secret().expose().as_bytes())).expect("token")
    }

    fn verify(claims: &Value) -> Result<Claims, &'static str> {
        verify_token(&token(claims, Algorithm::HS256))
    }

    fn verify_token(token: &str) -> Result<Claims, &'static str> {
        Verifier::hs256(&secret(), 0).verify(token, NOW * MICROS).map_err(|error| error.reason)
    }

    #[test]
    fn what_is_refused() {
        let cases = [
            (json!({"user_id": 1}), "TOKEN_INVALID"),
            (json!({"user_id": 1, "exp": "soon"}), "TOKEN_INVALID"),
            (json!({"user_id": 1, "exp": NOW}), "TOKEN_EXPIRED"),
            (json!({"user_id": 1, "exp": NOW - 1}), "TOKEN_EXPIRED"),
            (json!({"user_id": 1, "exp": NOW + LIFETIME_MAX_S + 1}), "TOKEN_INVALID"),
            (json!({"user_id": 1, "exp": 1e300}), "TOKEN_INVALID"),
            (json!({"user_id": 1, "exp": NOW + 9, "nbf": NOW + 5}), "TOKEN_INVALID"),
            (json!({"user_id": 1, "exp": NOW + 9, "token_type": "refresh"}), "TOKEN_INVALID"),
            (json!({"exp": NOW + 9}), "TOKEN_INVALID"),
            (json!({"user_id": "", "exp": NOW + 9}), "TOKEN_INVALID"),
            (json!({"user_id": true, "exp": NOW + 9}), "TOKEN_INVALID"),
            (json!({"user_id": 1.5, "exp": NOW + 9}), "TOKEN_INVALID"),
        ];
        for (claims, reason) in cases {
            assert_eq!(verify(&claims), Err(reason), "{claims}");
        }
        assert_eq!(
            verify_token(&token(&json!({"user_id": 1, "exp": NOW + 9}), Algorithm::HS512)),
            Err("TOKEN_INVALID"),
            "another algorithm"
        );
        // {"alg":"none","typ":"JWT"} . {"user_id":1,"exp":1800000009} .
        let none = "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.eyJ1c2VyX2lkIjoxLCJleHAiOjE4MDAwMDAwMDl9.";
        assert_eq!(verify_token(none), Err("TOKEN_INVALID"));
        for junk in ["", "a", "a.b.c", "....", "Bearer x"] {
            assert_eq!(verify_token(junk), Err("TOKEN_INVALID"));
        }
    }

    #[test]
    fn ids_are_numbers_or_strings_in_user_id_or_sub() {
        for (claims, id) in [
            (json!({"user_id": 123, "exp": NOW + 9}), "123"),
            (json!({"user_id": "123", "exp": NOW + 9, "token_type": "access"}), "123"),
            (json!({"sub": "u-1", "exp": NOW + 9}), "u-1"),
            (json!({"user_id": 5, "sub": "x", "exp": 1_800_000_009.5}), "5"),
        ] {
            assert_eq!(verify(&claims).map(|claims| claims.user.id), Ok(id.to_owned()));
        }
    }

    #[test]
    fn claims_of_other_shapes_say_nothing() {
        let claims = json!({"user_id": 1, "exp": NOW + 9, "email": null, "roles": null, "role": "client", "username": 5,
            "profiles": {"patient": 7, "professional": "d"}, "name": "Ada", "full_name": ["x"]});
        let user = verify(&claims).expect("good").user;
        assert_eq!((user.full_name.as_str(), user.roles), ("Ada", vec!["client".to_owned()]));
        assert_eq!(user.profiles.len(), 1);
    }

    #[test]
    fn what_is_signed_verifies() {
        let user =
            User { id: "7".into(), full_name: "Ada L.".into(), roles: vec!["customer".into()], ..User::default() };
        let token = sign(&secret(), &user, NOW * MICROS, 60).expect("token");
        let claims = verify_token(&token).expect("good");
        assert_eq!(claims.user, user);
        assert_eq!(claims.expires_at, (NOW + 60) * MICROS);
    }
}
