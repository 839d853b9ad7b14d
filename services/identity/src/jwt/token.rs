//! A token before anything in it is believed (RFC 7515, compact serialization). Pure.

use std::borrow::Cow;

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use serde::{Deserialize, Deserializer, de::IgnoredAny};
use switchboard_chassis::Error;

use super::{Algorithm, invalid};

/// A longer token is refused unread.
const TOKEN_BYTES_MAX: usize = 64 * 1024;

/// The parts of a token, of which only the header has been read.
pub(super) struct Unchecked<'a> {
    pub(super) algorithm: Algorithm,
    /// The key that is said to have signed it (`kid`).
    pub(super) key_id: Option<String>,
    /// What is signed: header and payload as they stand.
    pub(super) message: &'a str,
    pub(super) signature: &'a str,
    payload: &'a str,
}

impl<'a> Unchecked<'a> {
    /// Takes a token apart.
    ///
    /// # Errors
    /// `TOKEN_INVALID` when it is none, or is signed by an algorithm or with an extension that we do not know.
    pub(super) fn read(token: &'a str) -> Result<Self, Error> {
        let shape = || invalid("the token is not a JWT");
        if token.len() > TOKEN_BYTES_MAX {
            return Err(invalid("the token is longer than 64 KiB"));
        }
        let (message, signature) = token.rsplit_once('.').ok_or_else(shape)?;
        let (header, payload) = message.split_once('.').ok_or_else(shape)?;
        if payload.contains('.') {
            return Err(shape());
        }
        let header = BASE64_URL_SAFE_NO_PAD.decode(header).map_err(|_| shape())?;
        let header: Header<'_> = object(&header).ok_or_else(shape)?;
        if header.crit {
            return Err(invalid("the token has a critical extension"));
        }
        let algorithm = Algorithm::by_name(&header.alg).ok_or_else(|| invalid("the token's algorithm is not taken"))?;
        Ok(Self { algorithm, key_id: header.kid, message, signature, payload })
    }

    /// What it claims; only to be asked of a token that has been checked.
    ///
    /// # Errors
    /// `TOKEN_INVALID` when it is not what we read.
    pub(super) fn claims<T: for<'de> Deserialize<'de>>(&self) -> Result<T, Error> {
        let payload =
            BASE64_URL_SAFE_NO_PAD.decode(self.payload).map_err(|_| invalid("the token's payload is not base64url"))?;
        object(&payload).ok_or_else(|| invalid("the token's claims have a wrong shape"))
    }
}

/// What a JSON object says. An array is none, though serde would take its items for the fields.
fn object<'a, T: Deserialize<'a>>(text: &'a [u8]) -> Option<T> {
    text.trim_ascii_start().starts_with(b"{").then(|| serde_json::from_slice(text).ok())?
}

#[derive(Deserialize)]
struct Header<'a> {
    #[serde(borrow)]
    alg: Cow<'a, str>,
    #[serde(default)]
    kid: Option<String>,
    /// Extensions that must be understood; we understand none.
    #[serde(default, deserialize_with = "is_there")]
    crit: bool,
}

fn is_there<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    IgnoredAny::deserialize(deserializer).map(|_| true)
}
