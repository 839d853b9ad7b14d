//! The wire: Switchboard's gRPC interfaces.
//!
//! The `.proto` files under `proto/switchboard/` are the interface; `src/gen/` is generated from them and committed, so
//! that a build needs no `protoc`. After changing a `.proto` file run
//! `SWITCHBOARD_REGENERATE=1 cargo test -p switchboard-proto`; without the variable the same test compares.

/// `switchboard.identity.v1`: who people and devices are.
pub mod identity {
    /// Version 1.
    pub mod v1 {
        include!("gen/switchboard.identity.v1.rs");
    }
}

/// `switchboard.chat.v1`: conversations, messages, receipts, typing and joins.
pub mod chat {
    /// Version 1.
    pub mod v1 {
        include!("gen/switchboard.chat.v1.rs");
    }
}

/// `switchboard.location.v1`: where therapists are.
pub mod location {
    /// Version 1.
    pub mod v1 {
        include!("gen/switchboard.location.v1.rs");
    }
}

/// `switchboard.notification.v1`: inboxes and unread counts.
pub mod notification {
    /// Version 1.
    #[allow(clippy::large_enum_variant)]
    pub mod v1 {
        include!("gen/switchboard.notification.v1.rs");
    }
}

/// `switchboard.presence.v1`: who is online.
pub mod presence {
    /// Version 1.
    pub mod v1 {
        include!("gen/switchboard.presence.v1.rs");
    }
}

/// `switchboard.webhook.v1`: what could not be delivered.
pub mod webhook {
    /// Version 1.
    pub mod v1 {
        include!("gen/switchboard.webhook.v1.rs");
    }
}

/// `switchboard.edge.v1`: the sockets of an edge.
pub mod edge {
    /// Version 1.
    #[allow(clippy::large_enum_variant)]
    pub mod v1 {
        include!("gen/switchboard.edge.v1.rs");
    }
}

/// `switchboard.admin.v1`: one process.
pub mod admin {
    /// Version 1.
    pub mod v1 {
        include!("gen/switchboard.admin.v1.rs");
    }
}

pub mod json;
pub mod part;
pub mod reflect;
pub mod wire;

/// All interfaces as one encoded `FileDescriptorSet`, for gRPC reflection and for reading their JSON form.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!("gen/descriptors.bin");
