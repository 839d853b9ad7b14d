//! Between our words and the wire's.

use prost_types::Struct;
use switchboard_chassis::clock::timestamp;
use switchboard_proto::{
    json,
    notification::v1::{self as wire, subscribe_response::Event},
};

use crate::model::{Inbox, Notification};

pub(crate) fn notification(notification: Notification) -> wire::Notification {
    let Notification { id, user_id, seq, content, is_read, created_at, request_id } = notification;
    wire::Notification {
        id: id.to_string(),
        user_id,
        seq,
        title: content.title,
        message: content.message,
        notification_type: content.notification_type,
        data: data(&content.data),
        is_read,
        created_at: Some(timestamp(created_at)),
        request_id: request_id.unwrap_or_default(),
    }
}

/// What was checked when it was stored; empty is none.
fn data(text: &str) -> Option<Struct> {
    serde_json::from_str(text).ok().map(json::to_struct)
}

impl From<Inbox> for wire::Inbox {
    fn from(inbox: Inbox) -> Self {
        Self { unread_count: inbox.unread, last_seq: inbox.last_seq, revision: inbox.revision }
    }
}

impl From<wire::Inbox> for Inbox {
    fn from(inbox: wire::Inbox) -> Self {
        Self { last_seq: inbox.last_seq, unread: inbox.unread_count, revision: inbox.revision }
    }
}

pub(crate) fn notified(notification: wire::Notification, inbox: Inbox) -> Event {
    Event::Notified(wire::Notified { notification: Some(notification), inbox: Some(inbox.into()) })
}

pub(crate) fn inbox_changed(inbox: Inbox) -> Event {
    Event::InboxChanged(wire::InboxChanged { inbox: Some(inbox.into()) })
}

pub(crate) fn joined(inbox: Inbox) -> Event {
    Event::Joined(wire::Joined { inbox: Some(inbox.into()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_data_and_empty_data_differ() {
        assert_eq!(data(""), None);
        assert_eq!(data("{}"), Some(Struct::default()));
    }
}
