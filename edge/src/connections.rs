//! What an operator can know of a socket: where it comes from, what it is for, and how much has passed.

use std::{
    net::IpAddr,
    ops::{Deref, DerefMut},
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
};

use switchboard_chassis::metrics::Counter;
use switchboard_proto::edge::v1::Protocol;
use tokio::time::{Duration, Instant};
use tokio_tungstenite::WebSocketStream;
use uuid::Uuid;

/// All roles that somebody enters in; none is the first.
const ROLES: [&str; 12] = [
    "",
    "customer",
    "therapist",
    "patient",
    "professional",
    "device",
    "staff",
    "student",
    "teacher",
    "trainer",
    "client",
    "expert",
];

/// The kinds of sockets, by their URLs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Endpoint {
    Therapy,
    Location,
    Clinic,
    Mobile,
    /// A mobile conversation at the URL that staff may use, too.
    MobileOfStaff,
    MyConversation,
    Mentoring,
    Consultation,
    Notifications,
    Presence,
}

impl Endpoint {
    pub(crate) fn protocol(self) -> Protocol {
        match self {
            Self::Therapy | Self::Location => Protocol::Therapy,
            Self::Clinic => Protocol::Clinic,
            Self::Mobile | Self::MobileOfStaff => Protocol::Mobile,
            Self::MyConversation | Self::Mentoring => Protocol::Mentoring,
            Self::Consultation | Self::Notifications | Self::Presence => Protocol::Consultation,
        }
    }

    /// The URL, as the README names it.
    pub(crate) fn pattern(self) -> &'static str {
        match self {
            Self::Therapy => "/ws/chat/{customer_id}/{therapist_id}/",
            Self::Location => "/ws/location/{customer_id}/{therapist_id}/",
            Self::Clinic => "/ws/chat/{chat_id}/",
            Self::Mobile => "/ws/mobile/chat/{conversation_id}/",
            Self::MobileOfStaff => "/ws/chat/{conversation_id}/",
            Self::MyConversation => "/ws/chat/my-conversation/",
            Self::Mentoring => "/ws/chat/conversations/{id}/",
            Self::Consultation => "/ws/chat/{consultation_id}/",
            Self::Notifications => "/ws/notifications/",
            Self::Presence => "/ws/presence/",
        }
    }
}

/// One socket. There are many: it holds no text, and is as small as it can be.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) opened: Instant,
    /// Its number on the link of its service.
    pub(crate) session: u64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    frames_in: AtomicU32,
    frames_out: AtomicU32,
    /// When the client was heard last, in seconds after it was opened.
    heard_s: AtomicU32,
    /// Nil when there is none.
    conversation: Uuid,
    pub(crate) address: IpAddr,
    pub(crate) endpoint: Endpoint,
    role: u8,
}

/// How much has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Passed {
    pub(crate) frames_in: u32,
    pub(crate) frames_out: u32,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
}

impl Connection {
    pub(crate) fn new(endpoint: Endpoint, role: &str, conversation_id: &str, address: IpAddr, session: u64) -> Self {
        let role = ROLES.iter().position(|known| *known == role).unwrap_or_default();
        Self {
            opened: Instant::now(),
            session,
            bytes_in: AtomicU64::new(0),
            bytes_out: AtomicU64::new(0),
            frames_in: AtomicU32::new(0),
            frames_out: AtomicU32::new(0),
            heard_s: AtomicU32::new(0),
            conversation: Uuid::try_parse(conversation_id).unwrap_or_default(),
            address,
            endpoint,
            role: u8::try_from(role).unwrap_or_default(),
        }
    }

    pub(crate) fn role(&self) -> &'static str {
        ROLES[usize::from(self.role)]
    }

    pub(crate) fn conversation(&self) -> Option<Uuid> {
        (!self.conversation.is_nil()).then_some(self.conversation)
    }

    /// The client was heard of.
    pub(crate) fn heard(&self, at: Instant) {
        let seconds = at.saturating_duration_since(self.opened).as_secs();
        self.heard_s.store(u32::try_from(seconds).unwrap_or(u32::MAX), Ordering::Relaxed);
    }

    /// How long after it was opened the client was heard last.
    pub(crate) fn heard_after(&self) -> Duration {
        Duration::from_secs(self.heard_s.load(Ordering::Relaxed).into())
    }

    /// A frame of the client.
    pub(crate) fn took(&self, bytes: usize) {
        count(&self.frames_in, &self.bytes_in, bytes);
    }

    /// A frame to the client.
    pub(crate) fn gave(&self, bytes: usize) {
        count(&self.frames_out, &self.bytes_out, bytes);
    }

    pub(crate) fn passed(&self) -> Passed {
        Passed {
            frames_in: self.frames_in.load(Ordering::Relaxed),
            frames_out: self.frames_out.load(Ordering::Relaxed),
            bytes_in: self.bytes_in.load(Ordering::Relaxed),
            bytes_out: self.bytes_out.load(Ordering::Relaxed),
        }
    }
}

/// Only the socket's own task counts, so nothing is added at the same time, and nobody waits.
fn count(frames: &AtomicU32, bytes: &AtomicU64, more: usize) {
    frames.store(frames.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
    bytes.store(bytes.load(Ordering::Relaxed).wrapping_add(more as u64), Ordering::Relaxed);
}

/// A socket, and what is counted of it.
pub(crate) struct Counted<S> {
    socket: WebSocketStream<S>,
    pub(crate) connection: Arc<Connection>,
    /// Frames to all sockets of its kind.
    sent: Counter,
}

impl<S> Counted<S> {
    pub(crate) fn new(socket: WebSocketStream<S>, connection: Arc<Connection>, sent: Counter) -> Self {
        Self { socket, connection, sent }
    }

    /// A frame of so many bytes goes out.
    pub(crate) fn gave(&self, bytes: usize) {
        self.sent.inc();
        self.connection.gave(bytes);
    }

    /// What is still to be said is not counted.
    pub(crate) fn into_socket(self) -> WebSocketStream<S> {
        self.socket
    }
}

impl<S> Deref for Counted<S> {
    type Target = WebSocketStream<S>;

    fn deref(&self) -> &WebSocketStream<S> {
        &self.socket
    }
}

impl<S> DerefMut for Counted<S> {
    fn deref_mut(&mut self) -> &mut WebSocketStream<S> {
        &mut self.socket
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// One of nobody.
    pub(crate) fn any() -> Connection {
        Connection::new(Endpoint::Location, "customer", "", IpAddr::from([127, 0, 0, 1]), 1)
    }

    #[tokio::test(start_paused = true)]
    async fn what_passes_is_counted() {
        let connection = any();
        tokio::time::sleep(Duration::from_millis(2_500)).await;
        connection.heard(Instant::now());
        connection.took(3);
        connection.took(4);
        connection.gave(10);
        assert_eq!(connection.passed(), Passed { frames_in: 2, frames_out: 1, bytes_in: 7, bytes_out: 10 });
        assert_eq!(connection.heard_after(), Duration::from_secs(2));
        assert_eq!((connection.role(), connection.conversation()), ("customer", None));
    }

    #[test]
    fn a_socket_s_entry_is_small() {
        assert!(size_of::<Connection>() <= 88, "{}", size_of::<Connection>());
    }
}
