//! `[auth.jwt]`: its settings, and what can be wrong with them.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use switchboard_chassis::{Secret, reload::Files, web::check_url};

use super::file;

/// Shorter secrets can be guessed (RFC 7518, section 3.2, wants 256 bits for HS256).
const SECRET_BYTES_MIN: usize = 32;
/// Ten years: also how long a revocation is remembered.
const LIFETIME_MAX_S: u32 = 10 * 365 * 24 * 3600;
const REFRESH_S_MIN: u64 = 10;
const REFRESH_S_MAX: u64 = 24 * 3600;

/// How a token is signed (RFC 7518, RFC 8037).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Algorithm {
    /// A shared secret with SHA-256.
    #[default]
    Hs256,
    /// A shared secret with SHA-384.
    Hs384,
    /// A shared secret with SHA-512.
    Hs512,
    /// RSA (PKCS 1, version 1.5) of 2,048 to 4,096 bits with SHA-256.
    Rs256,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// Ed25519.
    #[serde(rename = "EdDSA")]
    EdDsa,
}

impl Algorithm {
    const ALL: [Self; 6] = [Self::Hs256, Self::Hs384, Self::Hs512, Self::Rs256, Self::Es256, Self::EdDsa];

    /// As it is written in settings and in a token.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Hs256 => "HS256",
            Self::Hs384 => "HS384",
            Self::Hs512 => "HS512",
            Self::Rs256 => "RS256",
            Self::Es256 => "ES256",
            Self::EdDsa => "EdDSA",
        }
    }

    /// Whether who checks a token could as well have signed it.
    #[must_use]
    pub fn has_shared_secret(self) -> bool {
        matches!(self, Self::Hs256 | Self::Hs384 | Self::Hs512)
    }

    /// `None` for anything else, `none` among it.
    pub(super) fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name() == name)
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl From<Algorithm> for jsonwebtoken::Algorithm {
    fn from(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Hs256 => Self::HS256,
            Algorithm::Hs384 => Self::HS384,
            Algorithm::Hs512 => Self::HS512,
            Algorithm::Rs256 => Self::RS256,
            Algorithm::Es256 => Self::ES256,
            Algorithm::EdDsa => Self::EdDSA,
        }
    }
}

/// `[auth.jwt]`: which tokens are good. The keys come from one place: `secret`, `public_key_file` or `jwks_url`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct JwtConfig {
    /// How tokens are signed; no other algorithm is accepted. With `jwks_url`, the default leaves it to each key, which
    /// is never a shared secret.
    pub algorithm: Algorithm,
    /// The key of HS256, HS384 and HS512, at least 32 bytes; made in the data directory when no key is given.
    pub secret: Secret,
    /// A file of at most 64 KiB with the public keys (PEM) of RS256, ES256 or EdDSA: each of them is good. It is read
    /// again within seconds of a change; a change that cannot be read changes nothing.
    pub public_key_file: PathBuf,
    /// Where the issuer publishes its keys (RFC 7517). While it cannot be reached, the keys that it named last are good;
    /// before it was reached for the first time, tokens are answered with `KEYS_UNAVAILABLE`.
    pub jwks_url: String,
    /// How often the keys are fetched from `jwks_url`, in seconds, 10 to 86,400. A token that names an unknown key has
    /// them fetched at once, but at most every 10 seconds.
    pub jwks_refresh_s: u64,
    /// What a token's `iss` must be; anything, or nothing, when empty.
    pub issuer: String,
    /// What a token's `aud` must be or contain; anything, or nothing, when empty.
    pub audience: String,
    /// A token that is good for longer than so many seconds is refused; at most ten years.
    pub lifetime_max_s: u32,
    /// How long after its end, and before its beginning, a token is good all the same, in seconds.
    pub leeway_s: u32,
    /// Whether a good token of an unknown user creates the user from its claims.
    pub create_users: bool,
}

impl Default for JwtConfig {
    fn default() -> Self {
        Self {
            algorithm: Algorithm::default(),
            secret: Secret::default(),
            public_key_file: PathBuf::new(),
            jwks_url: String::new(),
            jwks_refresh_s: 300,
            issuer: String::new(),
            audience: String::new(),
            lifetime_max_s: LIFETIME_MAX_S,
            leeway_s: 0,
            create_users: true,
        }
    }
}

/// Where the keys come from.
pub(super) enum Source<'a> {
    Secret(&'a Secret),
    File(&'a Path),
    Jwks(&'a str),
}

impl JwtConfig {
    pub(super) fn source(&self) -> Source<'_> {
        if !self.jwks_url.is_empty() {
            Source::Jwks(&self.jwks_url)
        } else if !self.public_key_file.as_os_str().is_empty() {
            Source::File(&self.public_key_file)
        } else {
            Source::Secret(&self.secret)
        }
    }

    /// What is wrong with it, named by the setting. Reads the file with public keys.
    #[must_use]
    pub fn mistakes(&self) -> Vec<String> {
        let mut mistakes = Vec::new();
        let given: Vec<&str> = [
            ("auth.jwt.secret", !self.secret.is_empty()),
            ("auth.jwt.public_key_file", !self.public_key_file.as_os_str().is_empty()),
            ("auth.jwt.jwks_url", !self.jwks_url.is_empty()),
        ]
        .into_iter()
        .filter_map(|(setting, is_given)| is_given.then_some(setting))
        .collect();
        if given.len() > 1 {
            mistakes.push(format!("{}: give one of them; keys come from one place", given.join(", ")));
        } else {
            mistakes.extend(self.source_mistake());
        }
        let secret = self.secret.expose();
        if !secret.is_empty() && secret.len() < SECRET_BYTES_MIN {
            mistakes.push(format!("auth.jwt.secret: at least {SECRET_BYTES_MIN} bytes; leave it out to have one made"));
        }
        if !(REFRESH_S_MIN..=REFRESH_S_MAX).contains(&self.jwks_refresh_s) {
            mistakes.push(format!("auth.jwt.jwks_refresh_s: {REFRESH_S_MIN} to {REFRESH_S_MAX}"));
        }
        if !(1..=LIFETIME_MAX_S).contains(&self.lifetime_max_s) {
            mistakes.push(format!("auth.jwt.lifetime_max_s: 1 to {LIFETIME_MAX_S}"));
        }
        mistakes
    }

    fn source_mistake(&self) -> Option<String> {
        let algorithm = self.algorithm;
        match self.source() {
            Source::Secret(_) if !algorithm.has_shared_secret() => {
                Some(format!("auth.jwt.algorithm: {algorithm} needs auth.jwt.public_key_file or auth.jwt.jwks_url"))
            }
            Source::File(_) if algorithm.has_shared_secret() => {
                Some("auth.jwt.algorithm: RS256, ES256 or EdDSA, as auth.jwt.public_key_file has it".to_owned())
            }
            Source::Jwks(_) if algorithm.has_shared_secret() && algorithm != Algorithm::default() => Some(format!(
                "auth.jwt.algorithm: {algorithm} has a secret, and auth.jwt.jwks_url is public; leave it out, or RS256, ES256 or EdDSA"
            )),
            Source::Secret(_) => None,
            Source::File(path) => {
                let wrong = file::read(path, algorithm, &mut Files::default()).err()?;
                Some(format!("auth.jwt.public_key_file: {wrong}"))
            }
            Source::Jwks(url) => check_url(url).err().map(|wrong| format!("auth.jwt.jwks_url: {wrong}")),
        }
    }

    /// The algorithm to sign a token with that this deployment takes.
    ///
    /// # Errors
    /// What to do, when only somebody else can sign one.
    pub fn signing_algorithm(&self) -> Result<Algorithm, String> {
        let public = match self.source() {
            Source::Secret(_) if self.algorithm.has_shared_secret() => return Ok(self.algorithm),
            Source::Secret(_) => "auth.jwt.algorithm",
            Source::File(_) => "auth.jwt.public_key_file",
            Source::Jwks(_) => "auth.jwt.jwks_url",
        };
        Err(format!(
            "tokens are checked with public keys here ({public}), so only their issuer, who has the private key, can \
             sign one: get a token there; or, to try things out, configure auth.jwt.secret and sign with that"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(change: impl FnOnce(&mut JwtConfig)) -> JwtConfig {
        let mut config = JwtConfig::default();
        change(&mut config);
        config
    }

    #[test]
    fn every_algorithm_has_its_name_in_settings_and_tokens() {
        for algorithm in Algorithm::ALL {
            assert_eq!(serde_json::to_value(algorithm).expect("text"), algorithm.name());
            assert_eq!(Algorithm::by_name(algorithm.name()), Some(algorithm));
            let theirs: jsonwebtoken::Algorithm = algorithm.into();
            assert_eq!(format!("{theirs:?}"), algorithm.name());
        }
        for other in ["none", "None", "", "hs256", "RS512", "ES384", "Ed25519"] {
            assert_eq!(Algorithm::by_name(other), None);
        }
    }

    #[test]
    fn mistakes_are_named() {
        let long = || Secret::new("x".repeat(SECRET_BYTES_MIN));
        let cases: [(JwtConfig, &[&str]); 12] = [
            (config(|_| {}), &[]),
            (config(|config| (config.secret, config.algorithm) = (long(), Algorithm::Hs512)), &[]),
            (config(|config| config.jwks_url = "https://id.example.org/jwks".into()), &[]),
            (config(|config| config.secret = Secret::new("short")), &["auth.jwt.secret: at least 32"]),
            (config(|config| config.algorithm = Algorithm::Rs256), &["auth.jwt.algorithm: RS256 needs"]),
            (
                config(|config| config.public_key_file = "/does/not/exist".into()),
                &["auth.jwt.algorithm: RS256, ES256 or EdDSA"],
            ),
            (
                config(|config| {
                    (config.public_key_file, config.algorithm) = ("/does/not/exist".into(), Algorithm::Es256);
                }),
                &["auth.jwt.public_key_file: /does/not/exist: No such file"],
            ),
            (
                config(|config| (config.secret, config.jwks_url) = (long(), "https://id.example.org/".into())),
                &["auth.jwt.secret, auth.jwt.jwks_url: give one of them"],
            ),
            (
                config(|config| {
                    (config.jwks_url, config.algorithm) = ("https://id.example.org/".into(), Algorithm::Hs384);
                }),
                &["auth.jwt.algorithm: HS384 has a secret"],
            ),
            (config(|config| config.jwks_url = "ftp://id".into()), &["auth.jwt.jwks_url: "]),
            (config(|config| config.jwks_refresh_s = 9), &["auth.jwt.jwks_refresh_s: 10 to 86400"]),
            (config(|config| config.lifetime_max_s = 0), &["auth.jwt.lifetime_max_s: 1 to"]),
        ];
        for (config, wanted) in cases {
            let mistakes = config.mistakes();
            assert_eq!(mistakes.len(), wanted.len(), "{mistakes:?}");
            for (mistake, wanted) in mistakes.iter().zip(wanted) {
                assert!(mistake.starts_with(wanted), "{mistake}");
            }
        }
    }

    #[test]
    fn only_a_secret_signs() {
        assert_eq!(config(|_| {}).signing_algorithm(), Ok(Algorithm::Hs256));
        let public = config(|config| config.jwks_url = "https://id.example.org/".into());
        let told = public.signing_algorithm().expect_err("public keys");
        assert!(told.contains("auth.jwt.jwks_url") && told.contains("issuer"), "{told}");
    }
}
