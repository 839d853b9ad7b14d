//! Signatures as the Standard Webhooks specification has them.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hmac::{Hmac, Mac as _};
use sha2::Sha256;
use switchboard_chassis::Secret;

const PREFIX: &str = "whsec_";
const KEY_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// A key.
#[derive(Clone)]
pub(crate) struct Key(Vec<u8>);

impl Key {
    /// # Errors
    /// What a secret must be.
    pub(crate) fn read(secret: &Secret) -> Result<Self, &'static str> {
        let text = secret.expose();
        let key = STANDARD.decode(text.strip_prefix(PREFIX).unwrap_or(text)).ok();
        key.filter(|key| KEY_BYTES.contains(&key.len()))
            .map(Self)
            .ok_or("must be whsec_ and the base64 of 24 to 64 random bytes: echo whsec_$(openssl rand -base64 32)")
    }

    fn sign(&self, id: &str, timestamp: i64, body: &str) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes keys of any length");
        mac.update(format!("{id}.{timestamp}.{body}").as_bytes());
        format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
    }
}

/// The header `webhook-signature`: by each of the keys.
pub(crate) fn signatures(keys: &[Key], id: &str, timestamp: i64, body: &str) -> String {
    keys.iter().map(|key| key.sign(id, timestamp, body)).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification's libraries.
    #[test]
    fn signs_as_others_do() {
        let key = Key::read(&Secret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")).expect("a key");
        let signed = signatures(
            std::slice::from_ref(&key),
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1_614_265_330,
            r#"{"test": 2432232314}"#,
        );
        assert_eq!(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        assert_eq!(signatures(&[key.clone(), key], "x", 1, "").split(' ').count(), 2);
    }

    #[test]
    fn weak_secrets_are_refused() {
        for weak in ["", "whsec_", "whsec_c2hvcnQ=", "not base64!", "MfKQ9r8GKYqrTwjUPD8ILPZIo2La"] {
            assert!(Key::read(&Secret::new(weak)).is_err(), "{weak}");
        }
    }
}
