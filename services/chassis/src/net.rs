//! Listening sockets as we want them.

use std::{io, net::SocketAddr};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;

/// A short backlog makes stragglers of many seconds when thousands of clients come back at once.
const BACKLOG: i32 = 4096;

/// A peer that acknowledges or reads nothing of what waits for it for so long is cut off: an HTTP client that does not
/// read its answers would hold them for ever. As long as a silent WebSocket may stay by default.
#[cfg(target_os = "linux")]
const UNREAD_MAX: std::time::Duration = std::time::Duration::from_secs(60);

/// Listens with a long backlog; accepted connections inherit `TCP_NODELAY` and, on Linux, `TCP_USER_TIMEOUT`.
///
/// # Errors
/// When the address is taken or not ours.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_tcp_nodelay(true)?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(UNREAD_MAX))?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}
