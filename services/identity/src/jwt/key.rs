//! Keys that tokens are checked with, and the choice among several. Pure.

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use jsonwebtoken::{
    DecodingKey,
    crypto::verify,
    jwk::{AlgorithmParameters, EllipticCurve},
};
use switchboard_chassis::Secret;

use super::{Algorithm, token::Unchecked};

/// What RFC 7518, section 3.3, wants at least, and what our RSA implementation takes at most.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=4096;
/// Ed25519's public keys, and the coordinates of P-256.
const COORDINATE_BYTES: usize = 32;
/// How many keys a token is tried with, when it names none, or several keys have the same name.
pub(super) const TRIES_MAX: usize = 16;

/// One key for one algorithm.
pub(super) struct Key {
    pub(super) algorithm: Algorithm,
    /// As a key set names it (`kid`).
    pub(super) id: Option<String>,
    key: DecodingKey,
}

impl Key {
    pub(super) fn secret(algorithm: Algorithm, secret: &Secret) -> Self {
        Self { algorithm, id: None, key: DecodingKey::from_secret(secret.expose().as_bytes()) }
    }

    /// A public key, whose kind decides the algorithm.
    ///
    /// # Errors
    /// What is wrong with it, after "the key is".
    pub(super) fn public(parameters: &AlgorithmParameters) -> Result<Self, &'static str> {
        let bytes = |text: &str| BASE64_URL_SAFE_NO_PAD.decode(text).map_err(|_| "not base64url");
        let (algorithm, key) = match parameters {
            AlgorithmParameters::RSA(rsa) => (Algorithm::Rs256, self::rsa(&bytes(&rsa.n)?, &bytes(&rsa.e)?)?),
            AlgorithmParameters::EllipticCurve(ec) if ec.curve == EllipticCurve::P256 => {
                if [bytes(&ec.x)?.len(), bytes(&ec.y)?.len()] != [COORDINATE_BYTES; 2] {
                    return Err("not a point on P-256");
                }
                (Algorithm::Es256, DecodingKey::from_ec_components(&ec.x, &ec.y).map_err(|_| "not a point on P-256")?)
            }
            AlgorithmParameters::OctetKeyPair(ed) if ed.curve == EllipticCurve::Ed25519 => {
                // A shorter one would be a panic at its first use.
                if bytes(&ed.x)?.len() != COORDINATE_BYTES {
                    return Err("not one of Ed25519");
                }
                (Algorithm::EdDsa, DecodingKey::from_ed_components(&ed.x).map_err(|_| "not one of Ed25519")?)
            }
            AlgorithmParameters::OctetKey(_) => return Err("a secret, which a public set cannot have"),
            _ => return Err("neither RSA nor P-256 nor Ed25519"),
        };
        // Whether the numbers are a key shows at its use.
        verify("", &[], &key, algorithm.into()).map_err(|_| "not a point on its curve")?;
        Ok(Self { algorithm, id: None, key })
    }

    fn has_signed(&self, token: &Unchecked<'_>) -> bool {
        verify(token.signature, token.message.as_bytes(), &self.key, self.algorithm.into()).unwrap_or(false)
    }
}

fn rsa(modulus: &[u8], exponent: &[u8]) -> Result<DecodingKey, &'static str> {
    let bits = match modulus.iter().position(|byte| *byte != 0) {
        Some(zeros) => (modulus.len() - zeros) * 8 - modulus[zeros].leading_zeros() as usize,
        None => 0,
    };
    if !RSA_BITS.contains(&bits) {
        return Err("RSA, but not of 2,048 to 4,096 bits");
    }
    let is_odd = |number: &[u8]| number.last().is_some_and(|byte| byte % 2 == 1);
    let is_one = |number: &[u8]| {
        number.split_last().is_some_and(|(last, rest)| *last == 1 && rest.iter().all(|byte| *byte == 0))
    };
    if !is_odd(modulus) || !is_odd(exponent) || is_one(exponent) || exponent.len() > 4 {
        return Err("RSA with impossible numbers");
    }
    Ok(DecodingKey::from_rsa_raw_components(modulus, exponent))
}

/// What a set of keys says of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// One of them signed it.
    Signed,
    /// None of those signed it that could have.
    Forged,
    /// None of them did, and another set may have its key.
    Unknown,
}

/// Keys that are good at the same time.
#[derive(Default)]
pub(super) struct KeySet {
    pub(super) keys: Vec<Key>,
    /// Whether a token must name its key, if it names any.
    pub(super) has_names: bool,
}

impl KeySet {
    /// Keys of one algorithm; a token may call them what it likes.
    pub(super) fn unnamed(keys: Vec<Key>) -> Self {
        Self { keys, has_names: false }
    }

    pub(super) fn verdict(&self, token: &Unchecked<'_>) -> Verdict {
        let name = token.key_id.as_deref().filter(|_| self.has_names);
        let may_have_signed =
            |key: &&Key| key.algorithm == token.algorithm && name.is_none_or(|name| key.id.as_deref() == Some(name));
        let mut keys = self.keys.iter().filter(may_have_signed).take(TRIES_MAX).peekable();
        let is_known = !self.has_names || (name.is_some() && keys.peek().is_some());
        match keys.any(|key| key.has_signed(token)) {
            true => Verdict::Signed,
            false if is_known => Verdict::Forged,
            false => Verdict::Unknown,
        }
    }

    /// What is in it, for the log.
    pub(super) fn describe(&self) -> String {
        let name = |key: &Key| format!("{} {}", key.id.as_deref().unwrap_or("-"), key.algorithm);
        self.keys.iter().map(name).collect::<Vec<_>>().join(", ")
    }
}
