//! The words of this service.

use switchboard_chassis::Micros;
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
pub(crate) type Refusal = switchboard_sessions::Refusal<RefusalReason>;

pub(crate) fn no_notification() -> Refusal {
    Refusal::new(RefusalReason::NotificationNotFound, "the user has no such notification")
}
