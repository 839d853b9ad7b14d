//! What Django signs with `SECRET_KEY`: a session's content, and the hash of a password. Pure.

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use hmac::{Hmac, Mac as _};
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

/// The most that a session's content may unpack to.
const CONTENT_BYTES_MAX: usize = 1 << 20;
/// `SessionBase.key_salt`, and what `Signer` adds.
const SESSION_SALT: &str = "django.contrib.sessions.SessionStoresigner";
/// `AbstractBaseUser.get_session_auth_hash`.
const PASSWORD_SALT: &str = "django.contrib.auth.models.AbstractBaseUser.get_session_auth_hash";

type HmacSha256 = Hmac<Sha256>;

/// `SECRET_KEY` and `SECRET_KEY_FALLBACKS`, as the keys of the two things that are signed with each.
pub(super) struct Keys {
    sessions: Vec<HmacSha256>,
    passwords: Vec<HmacSha256>,
}

/// Who logged in by a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Login {
    pub(super) user_id: String,
    /// What the password's hash was signed to at the time.
    pub(super) auth_hash: String,
}

impl Keys {
    pub(super) fn new<'a>(secrets: impl Iterator<Item = &'a str>) -> Self {
        let (sessions, passwords) =
            secrets.filter_map(|secret| Some((salted(SESSION_SALT, secret)?, salted(PASSWORD_SALT, secret)?))).unzip();
        Self { sessions, passwords }
    }

    /// Opens `django_session.session_data`. None: it is not signed by any of the keys, or nobody is logged in by it.
    pub(super) fn open(&self, session_data: &str) -> Option<Login> {
        // signing.dumps: content:timestamp:signature. When the session ends is in its row, and not in the timestamp.
        let (signed, signature) = session_data.rsplit_once(':')?;
        let signature = BASE64_URL_SAFE_NO_PAD.decode(signature).ok()?;
        let is_by = |key: &HmacSha256| key.clone().chain_update(signed).verify_slice(&signature).is_ok();
        if !self.sessions.iter().any(is_by) {
            return None;
        }
        let (content, _timestamp) = signed.rsplit_once(':')?;
        let json = match content.strip_prefix('.') {
            Some(packed) => {
                let packed = BASE64_URL_SAFE_NO_PAD.decode(packed).ok()?;
                miniz_oxide::inflate::decompress_to_vec_zlib_with_limit(&packed, CONTENT_BYTES_MAX).ok()?
            }
            None => BASE64_URL_SAFE_NO_PAD.decode(content).ok()?,
        };
        let Content { user_id, backend, auth_hash } = serde_json::from_slice(&json).ok()?;
        let user_id = match user_id {
            Value::String(id) => id,
            Value::Number(id) => id.to_string(),
            _ => return None,
        };
        // Without a backend nobody is logged in for Django either.
        (!backend.is_empty()).then_some(Login { user_id, auth_hash })
    }

    /// Whether this is what the password's hash is signed to by any of the keys.
    pub(super) fn is_hash_of(&self, auth_hash: &str, password: &str) -> bool {
        self.passwords.iter().any(|key| {
            let signature = key.clone().chain_update(password).finalize().into_bytes();
            let hex: String = signature.iter().map(|byte| format!("{byte:02x}")).collect();
            hex.as_bytes().ct_eq(auth_hash.as_bytes()).into()
        })
    }
}

/// `django.utils.crypto.salted_hmac`.
fn salted(salt: &str, secret: &str) -> Option<HmacSha256> {
    let key = Sha256::new().chain_update(salt).chain_update(secret).finalize();
    HmacSha256::new_from_slice(&key).ok()
}

/// What a session holds of a login; whatever else an application keeps in it is passed over.
#[derive(Deserialize)]
struct Content {
    #[serde(rename = "_auth_user_id")]
    user_id: Value,
    #[serde(rename = "_auth_user_backend")]
    backend: String,
    #[serde(rename = "_auth_user_hash")]
    auth_hash: String,
}
