//! Why something was not done: on a stream an event, of a unary call a status.

use switchboard_chassis::{Error, Kind};
use switchboard_proto::wire::Reason;

/// A refusal, for programs (`reason`) and for people (`message`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal<R> {
    /// One of the service's reasons.
    pub reason: R,
    /// Lowercase, short, without content.
    pub message: String,
}

impl<R: Reason> Refusal<R> {
    /// A refusal.
    pub fn new(reason: R, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }

    /// A wrong field.
    #[must_use]
    pub fn invalid(field: &str, description: &str) -> Self {
        Self::new(R::INVALID_ARGUMENT, format!("{field}: {description}"))
    }

    /// Too much waits.
    #[must_use]
    pub fn overloaded() -> Self {
        Self::new(R::OVERLOADED, "too much waits already; nothing was stored, try again later")
    }
}

impl<R: Reason> From<Error> for Refusal<R> {
    fn from(error: Error) -> Self {
        let reason = if error.kind == Kind::Invalid { R::INVALID_ARGUMENT } else { R::UNAVAILABLE };
        Self::new(reason, error.message)
    }
}

impl<R: Reason> From<Refusal<R>> for Error {
    fn from(Refusal { reason, message }: Refusal<R>) -> Self {
        match Kind::from(reason.code()) {
            Kind::Invalid => {
                let (field, description) = message.split_once(": ").unwrap_or(("", &message));
                Self { reason: reason.name(), ..Self::invalid(field, description) }
            }
            kind => Self::new(kind, reason.name(), message),
        }
    }
}

impl<R: Reason> From<Refusal<R>> for tonic::Status {
    fn from(refusal: Refusal<R>) -> Self {
        Error::from(refusal).into()
    }
}

#[cfg(test)]
mod tests {
    use switchboard_proto::notification::v1::RefusalReason;

    use super::*;

    #[test]
    fn a_refusal_is_an_error_with_its_name() {
        let error = Error::from(Refusal::new(RefusalReason::NotificationNotFound, "none"));
        assert_eq!((error.kind, error.reason), (Kind::NotFound, "NOTIFICATION_NOT_FOUND"));
        let error = Error::from(Refusal::<RefusalReason>::invalid("title", "too long"));
        assert_eq!((error.kind, error.reason), (Kind::Invalid, "INVALID_ARGUMENT"));
        assert_eq!(error.violations[0].field, "title");
        let error = Error::from(Refusal::<RefusalReason>::overloaded());
        assert_eq!((error.kind, error.reason), (Kind::Overloaded, "OVERLOADED"));
    }
}
