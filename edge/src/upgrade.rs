//! From an HTTP request to a WebSocket (RFC 6455, section 4.2), with buffers of our own choosing.
//!
//! warp's own upgrade gives each socket a read buffer of 128 KiB; this one has 512 bytes, which grow for a message
//! that needs it.

use http::{
    HeaderMap, HeaderValue, Response, StatusCode,
    header::{
        CONNECTION, CONTENT_LENGTH, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
        SEC_WEBSOCKET_VERSION, TRANSFER_ENCODING, UPGRADE,
    },
};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use switchboard_chassis::tls::TlsStream;
use tokio::net::TcpStream;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        handshake::derive_accept_key,
        protocol::{Role, WebSocketConfig},
    },
};
use tokio_util::either::Either;

/// The most bytes of a message, as consultation.md documents it.
pub(crate) const MESSAGE_BYTES_MAX: usize = 64 << 10;
const READ_BUFFER_BYTES: usize = 512;
/// Frames are gathered up to this much before they are written.
const WRITE_BUFFER_BYTES: usize = 16 << 10;
const WRITE_BUFFER_BYTES_MAX: usize = 512 << 10;

/// What a client comes by. Boxed, because the state of TLS is large and most edges have none.
pub(crate) type Wire = Either<TcpStream, Box<TlsStream>>;

/// What is wrong with a request for a socket.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NotAnUpgrade;

/// Checks a request for a socket and gives the key to accept it with.
pub(crate) fn accept_key(headers: &HeaderMap) -> Result<String, NotAnUpgrade> {
    let has = |name, token: &str| {
        headers
            .get_all(name)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .any(|value| value.trim().eq_ignore_ascii_case(token))
    };
    // Each may come once.
    let only = |name| {
        let mut values = headers.get_all(name).iter();
        values.next().filter(|_| values.next().is_none())
    };
    let is_version_13 = only(SEC_WEBSOCKET_VERSION).is_some_and(|version| version == "13");
    // What follows the head are frames: nobody may take them for a body, or a body for them.
    let has_body =
        headers.contains_key(TRANSFER_ENCODING) || headers.get(CONTENT_LENGTH).is_some_and(|length| length != "0");
    match only(SEC_WEBSOCKET_KEY) {
        Some(key)
            if is_version_13 && !has_body && has(UPGRADE, "websocket") && has(CONNECTION, "upgrade") && is_key(key) =>
        {
            Ok(derive_accept_key(key.as_bytes()))
        }
        _ => Err(NotAnUpgrade),
    }
}

/// 16 bytes in base64.
fn is_key(key: &HeaderValue) -> bool {
    let key = key.as_bytes();
    key.len() == 24
        && key.ends_with(b"==")
        && key[..22].iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/'))
}

/// The answer that makes the connection a socket.
pub(crate) fn switching(accept: &str, subprotocol: Option<HeaderValue>) -> Response<&'static str> {
    let mut response = Response::new("");
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    if let Ok(accept) = HeaderValue::from_str(accept) {
        headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    }
    if let Some(subprotocol) = subprotocol {
        headers.insert(SEC_WEBSOCKET_PROTOCOL, subprotocol);
    }
    response
}

/// The answer to a request that does not ask for a socket where only sockets are.
pub(crate) fn required() -> Response<&'static str> {
    let mut response = Response::new("this URL speaks WebSocket, version 13: connect with a WebSocket client\n");
    *response.status_mut() = StatusCode::UPGRADE_REQUIRED;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
    response
}

/// Waits for the connection to be ours. `None` when it ended first.
pub(crate) async fn socket(on_upgrade: OnUpgrade) -> Option<WebSocketStream<Wire>> {
    let upgraded = on_upgrade.await.ok()?;
    // The plain stream below hyper's wrapping: less memory and one call less for each byte.
    let parts = upgraded.downcast::<TokioIo<Wire>>().ok()?;
    let read = parts.read_buf.to_vec();
    Some(WebSocketStream::from_partially_read(parts.io.into_inner(), read, Role::Server, Some(config())).await)
}

/// The limits and the buffers of every socket.
pub(crate) fn config() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(WRITE_BUFFER_BYTES)
        .max_write_buffer_size(WRITE_BUFFER_BYTES_MAX)
        .max_message_size(Some(MESSAGE_BYTES_MAX))
        .max_frame_size(Some(MESSAGE_BYTES_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(changes: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let right = [
            ("upgrade", "WebSocket"),
            ("connection", "keep-alive, Upgrade"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ];
        for (name, value) in right.iter().chain(changes) {
            headers.insert(*name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn the_key_of_the_rfc() {
        assert_eq!(accept_key(&headers(&[])).as_deref(), Ok("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    }

    #[test]
    fn what_is_no_upgrade() {
        for change in [
            ("upgrade", "h2c"),
            ("connection", "close"),
            ("sec-websocket-version", "8"),
            ("sec-websocket-key", "short"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=!"),
            ("content-length", "5"),
            ("transfer-encoding", "chunked"),
        ] {
            assert_eq!(accept_key(&headers(&[change])), Err(NotAnUpgrade), "{change:?}");
        }
    }
}
