//! The words of this service.

use switchboard_chassis::{Error, Kind, Micros};
use switchboard_proto::notification::v1::RefusalReason;
use uuid::Uuid;

/// The shape of this service's stream.
pub(crate) type Wire = switchboard_proto::wire::Notification;
pub(crate) type Link = switchboard_sessions::Link<Wire>;
pub(crate) type Asker = switchboard_sessions::Asker<Wire>;

/// A notification that passed the rules and is not stored yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Draft {
    pub(crate) id: Uuid,
    pub(crate) user_id: String,
    pub(crate) content: Content,
    pub(crate) request_id: Option<String>,
}

/// What a notification says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Content {
    pub(crate) title: String,
    pub(crate) message: String,
    pub(crate) notification_type: String,
    /// A JSON object, or empty.
    pub(crate) data: String,
}

/// A stored notification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Notification {
    pub(crate) id: Uuid,
    pub(crate) user_id: String,
    pub(crate) seq: u64,
    pub(crate) content: Content,
    pub(crate) is_read: bool,
    pub(crate) created_at: Micros,
    pub(crate) request_id: Option<String>,
}

/// The state of an inbox. The default is that of a user of whom nothing is stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Inbox {
    pub(crate) last_seq: u64,
    pub(crate) unread: i64,
    pub(crate) revision: u64,
}

impl Inbox {
    pub(crate) fn is_newer_than(self, other: Self) -> bool {
        self.revision > other.revision
    }

    pub(crate) fn or_newer(self, other: Self) -> Self {
        if other.is_newer_than(self) { other } else { self }
    }
}

/// Which notifications are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Page {
    /// Those above this, or below it when the newest come first; 0 begins at the end that comes first.
    pub(crate) from_seq: u64,
    pub(crate) newest_first: bool,
    pub(crate) unread_only: bool,
    pub(crate) size: u32,
}

/// Which notifications were read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    /// Sorted, each once, at least one.
    These(Vec<Uuid>),
    All,
}

/// What reading changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Marked {
    pub(crate) changed: u64,
    pub(crate) inbox: Inbox,
}

/// Why something was not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) reason: RefusalReason,
    pub(crate) message: String,
}

impl Refusal {
    pub(crate) fn new(reason: RefusalReason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }

    pub(crate) fn invalid(field: &str, description: &str) -> Self {
        Self::new(RefusalReason::InvalidArgument, format!("{field}: {description}"))
    }

    pub(crate) fn no_notification() -> Self {
        Self::new(RefusalReason::NotificationNotFound, "the user has no such notification")
    }

    pub(crate) fn overloaded() -> Self {
        Self::new(RefusalReason::Overloaded, "too much waits already; nothing was stored, try again later")
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        let reason = match error.kind {
            Kind::Invalid => RefusalReason::InvalidArgument,
            _ => RefusalReason::Unavailable,
        };
        Self::new(reason, error.message)
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        use RefusalReason as R;
        let kind = match refusal.reason {
            R::InvalidArgument => {
                let (field, description) = refusal.message.split_once(": ").unwrap_or(("", &refusal.message));
                return Self { reason: reason_name(refusal.reason), ..Self::invalid(field, description) };
            }
            R::NotificationNotFound => Kind::NotFound,
            R::NotJoined => Kind::Precondition,
            R::AlreadyJoined => Kind::Exists,
            R::Overloaded => Kind::Overloaded,
            R::Unavailable => Kind::Unavailable,
            R::Unspecified => Kind::Internal,
        };
        Self::new(kind, reason_name(refusal.reason), refusal.message)
    }
}

impl From<Refusal> for tonic::Status {
    fn from(refusal: Refusal) -> Self {
        Error::from(refusal).into()
    }
}

/// The proto's name without its prefix, as ErrorInfo carries it.
fn reason_name(reason: RefusalReason) -> &'static str {
    reason.as_str_name().trim_start_matches("REFUSAL_REASON_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_an_error_with_its_name() {
        let error = Error::from(Refusal::no_notification());
        assert_eq!((error.kind, error.reason), (Kind::NotFound, "NOTIFICATION_NOT_FOUND"));
        let error = Error::from(Refusal::invalid("title", "too long"));
        assert_eq!((error.kind, error.reason), (Kind::Invalid, "INVALID_ARGUMENT"));
        assert_eq!(error.violations[0].field, "title");
    }
}
