//! What stands for a credential that was good, while something lives on it. Pure.

use prost::Message;
use switchboard_chassis::{Error, Micros};

/// What must still hold. Only this service reads it; instances of neighbouring versions must understand it: only add
/// fields.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Ticket {
    /// Who must exist and be active; empty for a device.
    #[prost(string, tag = "1")]
    pub(crate) user_id: String,
    #[prost(oneof = "Of", tags = "2, 3, 4, 5")]
    pub(crate) of: Option<Of>,
}

/// What kind of credential it was.
#[derive(Clone, PartialEq, prost::Oneof)]
pub(crate) enum Of {
    /// Must be registered and active.
    #[prost(string, tag = "2")]
    Device(String),
    /// Must not be revoked.
    #[prost(message, tag = "3")]
    Token(Token),
    /// The hash of a session of ours, which must not have ended.
    #[prost(string, tag = "4")]
    Session(String),
    /// The key of a session of Django's, which must be good there.
    #[prost(string, tag = "5")]
    Django(String),
}

/// How a token may be revoked.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Token {
    /// Its `jti`; empty without.
    #[prost(string, tag = "1")]
    pub(crate) id: String,
    /// When it was issued; one that does not say so was before everything.
    #[prost(int64, tag = "2")]
    pub(crate) issued_at: Micros,
}

impl Ticket {
    pub(crate) fn of(user_id: &str, of: Of) -> Self {
        Self { user_id: user_id.to_owned(), of: Some(of) }
    }

    /// # Errors
    /// When it is none of ours.
    pub(crate) fn read(ticket: &[u8]) -> Result<Self, Error> {
        Self::decode(ticket).map_err(|_| Error::invalid("tickets", "one of them was not given out by this service"))
    }
}
