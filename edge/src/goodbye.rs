//! Every way in which we end a socket.

use http::StatusCode;

/// A close code, what it says, and whether the client should come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Goodbye {
    /// The WebSocket close code.
    pub code: u16,
    /// A short reason, at most 123 bytes.
    pub reason: &'static str,
    /// Whether to come back, and how.
    pub come_back: ComeBack,
    /// The answer instead of an upgrade, with `edge.refusal = "http"`.
    pub status: StatusCode,
}

/// What a client should do after a goodbye.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ComeBack {
    /// Not with the same URL and credential.
    No,
    /// With a fresh credential.
    NewCredential,
    /// At once or soon, with backoff.
    Yes,
}

const fn goodbye(code: u16, reason: &'static str, come_back: ComeBack, status: StatusCode) -> Goodbye {
    Goodbye { code, reason, come_back, status }
}

use ComeBack::{NewCredential, No, Yes};

/// therapy: the URL lacks an id.
pub const MALFORMED: Goodbye = goodbye(4000, "customer_id and therapist_id are required", No, StatusCode::BAD_REQUEST);
/// therapy, clinic, mentoring, consultation: no credential, or not a good one; or it has ended.
pub const UNAUTHENTICATED: Goodbye = goodbye(4001, "not authenticated", NewCredential, StatusCode::UNAUTHORIZED);
/// therapy, clinic, mentoring, consultation: not yours.
pub const FORBIDDEN: Goodbye = goodbye(4003, "not authorized for this conversation", No, StatusCode::FORBIDDEN);
/// mobile: the device_id is missing or blank.
pub const MOBILE_DEVICE_MISSING: Goodbye = goodbye(4001, "device_id is required", No, StatusCode::BAD_REQUEST);
/// mobile: the device is not registered or not active; or staff's credential is not good.
pub const MOBILE_DEVICE_INVALID: Goodbye =
    goodbye(4002, "invalid or inactive device_id", NewCredential, StatusCode::UNAUTHORIZED);
/// mobile: there is no such conversation.
pub const MOBILE_NOT_FOUND: Goodbye = goodbye(4003, "conversation not found", No, StatusCode::NOT_FOUND);
/// mobile: the conversation is another device's.
pub const MOBILE_FORBIDDEN: Goodbye = goodbye(4004, "not authorized for this conversation", No, StatusCode::FORBIDDEN);
/// clinic, mentoring, consultation: there is no such conversation.
pub const NOT_FOUND: Goodbye = goodbye(4004, "conversation not found", No, StatusCode::NOT_FOUND);
/// The client reads too slowly: what waited for it was dropped, and can be had with `?after=`.
pub const TOO_SLOW: Goodbye = goodbye(4008, "reading too slowly", Yes, StatusCode::SERVICE_UNAVAILABLE);
/// Nothing was heard for too long.
pub const IDLE: Goodbye = goodbye(1001, "idle", Yes, StatusCode::REQUEST_TIMEOUT);
/// RFC 6455: a frame that is not allowed.
pub const PROTOCOL_ERROR: Goodbye = goodbye(1002, "protocol error", No, StatusCode::BAD_REQUEST);
/// RFC 6455: text that is not UTF-8.
pub const NOT_UTF8: Goodbye = goodbye(1007, "text is not UTF-8", No, StatusCode::BAD_REQUEST);
/// A message of more than 64 KiB.
pub const TOO_BIG: Goodbye = goodbye(1009, "message over 64 KiB", No, StatusCode::PAYLOAD_TOO_LARGE);
/// Too many sockets of one user.
pub const TOO_MANY: Goodbye = goodbye(1008, "too many sockets of this user", No, StatusCode::TOO_MANY_REQUESTS);
/// Our fault.
pub const INTERNAL: Goodbye = goodbye(1011, "internal error", Yes, StatusCode::INTERNAL_SERVER_ERROR);
/// The server is draining; goodbyes are spread out so that clients do not come back all at once.
pub const RESTARTING: Goodbye = goodbye(1012, "restarting, come back", Yes, StatusCode::SERVICE_UNAVAILABLE);
/// Too much to do, or a service does not answer.
pub const OVERLOADED: Goodbye = goodbye(1013, "try again later", Yes, StatusCode::SERVICE_UNAVAILABLE);

/// All of them.
pub const ALL: [Goodbye; 17] = [
    MALFORMED,
    UNAUTHENTICATED,
    FORBIDDEN,
    NOT_FOUND,
    MOBILE_DEVICE_MISSING,
    MOBILE_DEVICE_INVALID,
    MOBILE_NOT_FOUND,
    MOBILE_FORBIDDEN,
    TOO_SLOW,
    IDLE,
    PROTOCOL_ERROR,
    NOT_UTF8,
    TOO_BIG,
    TOO_MANY,
    INTERNAL,
    RESTARTING,
    OVERLOADED,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_differ_and_may_be_sent() {
        for (index, goodbye) in ALL.iter().enumerate() {
            // mobile has the codes 4001 to 4004 for other reasons than the other protocols.
            assert!(ALL[index + 1..].iter().all(|other| (other.code, other.reason) != (goodbye.code, goodbye.reason)));
            assert!(matches!(goodbye.code, 1001 | 1002 | 1007..=1009 | 1011..=1013 | 4000..=4999), "{goodbye:?}");
            assert!(goodbye.reason.len() <= 123);
        }
    }
}
