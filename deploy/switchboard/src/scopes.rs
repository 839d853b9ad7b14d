//! What a caller of the gRPC services must have the right to, method by method.
//!
//! `read` looks; `write` does what users do, in anybody's name, and notifies them; `admin` decides who people are,
//! erases them, looks on at what they say, and steers processes. Each includes those before it. Whoever checks a credential shows one, so that is reading; and a stream of
//! sessions speaks for any user, so that is writing.

use switchboard_chassis::grpc::{
    Scope::{Admin, Read, Write},
    Scopes,
};

/// All methods of all services. A method that is not here needs `admin`.
pub const SCOPES: Scopes = &[
    ("switchboard.identity.v1.IdentityService/Authenticate", Read),
    ("switchboard.identity.v1.IdentityService/Recheck", Read),
    ("switchboard.identity.v1.IdentityService/WatchRevocations", Read),
    ("switchboard.identity.v1.IdentityService/GetUser", Read),
    ("switchboard.identity.v1.IdentityService/BatchGetUsers", Read),
    ("switchboard.identity.v1.IdentityService/Revoke", Admin),
    ("switchboard.identity.v1.IdentityService/UpsertUser", Admin),
    ("switchboard.identity.v1.IdentityService/ListUsers", Admin),
    ("switchboard.identity.v1.IdentityService/DeleteUser", Admin),
    ("switchboard.identity.v1.IdentityService/RegisterDevice", Admin),
    ("switchboard.identity.v1.IdentityService/DeactivateDevice", Admin),
    ("switchboard.identity.v1.IdentityService/ListDevices", Admin),
    ("switchboard.identity.v1.IdentityService/CreateSession", Admin),
    ("switchboard.identity.v1.IdentityService/DeleteSession", Admin),
    ("switchboard.chat.v1.ChatService/GetConversation", Read),
    ("switchboard.chat.v1.ChatService/ListConversations", Read),
    ("switchboard.chat.v1.ChatService/ListMessages", Read),
    ("switchboard.chat.v1.ChatService/ListContacts", Read),
    ("switchboard.chat.v1.ChatService/Watch", Read),
    ("switchboard.chat.v1.ChatService/BatchGetMessages", Read),
    ("switchboard.chat.v1.ChatService/Converse", Write),
    ("switchboard.chat.v1.ChatService/OpenConversation", Write),
    ("switchboard.chat.v1.ChatService/SendMessage", Write),
    ("switchboard.chat.v1.ChatService/UpdateReceipts", Write),
    ("switchboard.chat.v1.ChatService/CloseConversation", Write),
    ("switchboard.chat.v1.ChatService/EraseUser", Admin),
    ("switchboard.chat.v1.ChatService/ExportConversations", Admin),
    ("switchboard.chat.v1.ChatService/ImportConversations", Admin),
    ("switchboard.chat.v1.ChatService/ImportMessages", Admin),
    ("switchboard.location.v1.LocationService/GetLastPosition", Read),
    ("switchboard.location.v1.LocationService/Share", Write),
    ("switchboard.location.v1.LocationService/ReportPosition", Write),
    ("switchboard.location.v1.LocationService/EraseUser", Admin),
    ("switchboard.notification.v1.NotificationService/ListNotifications", Read),
    ("switchboard.notification.v1.NotificationService/GetInbox", Read),
    ("switchboard.notification.v1.NotificationService/Subscribe", Write),
    ("switchboard.notification.v1.NotificationService/Notify", Write),
    ("switchboard.notification.v1.NotificationService/BatchNotify", Write),
    ("switchboard.notification.v1.NotificationService/MarkRead", Write),
    ("switchboard.notification.v1.NotificationService/EraseUser", Admin),
    ("switchboard.presence.v1.PresenceService/GetPresence", Read),
    ("switchboard.presence.v1.PresenceService/ListOnline", Read),
    ("switchboard.presence.v1.PresenceService/Track", Write),
    ("switchboard.presence.v1.PresenceService/EraseUser", Admin),
    ("switchboard.edge.v1.EdgeService/ListConnections", Read),
    ("switchboard.edge.v1.EdgeService/GetConnection", Read),
    ("switchboard.edge.v1.EdgeService/DisconnectConnections", Admin),
    ("switchboard.edge.v1.EdgeService/TailConversation", Admin),
    ("switchboard.edge.v1.EdgeService/Drain", Admin),
    ("switchboard.edge.v1.EdgeService/Resume", Admin),
    ("switchboard.admin.v1.AdminService/GetLogFilter", Read),
    ("switchboard.admin.v1.AdminService/SetLogFilter", Admin),
    ("switchboard.webhook.v1.WebhookService/ListDeadLetters", Read),
    ("switchboard.webhook.v1.WebhookService/RetryDeadLetters", Write),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_method_of_every_service_is_there_once() {
        let methods: BTreeSet<String> = switchboard_proto::reflect::pool()
            .services()
            .flat_map(|service| {
                let methods: Vec<_> =
                    service.methods().map(|method| format!("{}/{}", service.full_name(), method.name())).collect();
                methods
            })
            .collect();
        let listed: BTreeSet<String> = SCOPES.iter().map(|(method, _)| (*method).to_owned()).collect();
        assert_eq!(methods, listed, "scopes.rs says what each method needs");
        assert_eq!(listed.len(), SCOPES.len(), "a method is there twice");
    }
}
