//! How a socket is closed so that the client learns why.

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    time::timeout,
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{self, Message, Utf8Bytes, error::CapacityError, protocol::CloseFrame},
};

use crate::{
    goodbye::{self, Goodbye},
    standing::Farewell,
};

/// What is read of a client after the end, at most.
const LINGER_BYTES_MAX: u64 = 1 << 20;
/// How long a client has to answer our close frame.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Closes a socket with a code that arrives: the client's answer is awaited before the connection goes.
pub(crate) async fn say_goodbye<S>(socket: WebSocketStream<S>, last_words: Option<Utf8Bytes>, goodbye: Goodbye)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    close(socket, last_words, CloseFrame { code: goodbye.code.into(), reason: goodbye.reason.into() }).await;
}

/// The same with what an operator says.
pub(crate) async fn dismiss<S>(socket: WebSocketStream<S>, Farewell { code, reason }: &Farewell)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    close(socket, None, CloseFrame { code: (*code).into(), reason: reason.clone() }).await;
}

async fn close<S>(mut socket: WebSocketStream<S>, last_words: Option<Utf8Bytes>, close: CloseFrame)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let closing = async {
        if let Some(words) = last_words {
            socket.feed(Message::Text(words)).await?;
        }
        socket.send(Message::Close(Some(close))).await
    };
    // Whoever does not take it in time does not get it.
    if let Ok(Ok(())) = timeout(CLOSE_TIMEOUT, closing).await {
        hang_up(socket).await;
    }
}

/// Lets a closing handshake finish. What the client still sends is read to its end: a connection that is closed with
/// unread bytes is reset, and a reset may overtake our close frame.
pub(crate) async fn hang_up<S: AsyncRead + AsyncWrite + Unpin>(mut socket: WebSocketStream<S>) {
    let finishing = async {
        while let Some(Ok(_)) = socket.next().await {}
        let stream = socket.get_mut();
        stream.shutdown().await?;
        tokio::io::copy(&mut stream.take(LINGER_BYTES_MAX), &mut tokio::io::sink()).await
    };
    // Whoever takes longer is cut off.
    let _ = timeout(CLOSE_TIMEOUT, finishing).await;
}

/// What a client is told that broke the rules of WebSocket, or ours; `None` when it is gone.
pub(crate) fn blame(error: &tungstenite::Error) -> Option<Goodbye> {
    match error {
        // RFC 6455, 5.2: the highest bit of a length of 64 bits is 0.
        tungstenite::Error::Capacity(CapacityError::MessageTooLong { size, .. }) if size.leading_zeros() == 0 => {
            Some(goodbye::PROTOCOL_ERROR)
        }
        tungstenite::Error::Capacity(_) => Some(goodbye::TOO_BIG),
        tungstenite::Error::Utf8(_) => Some(goodbye::NOT_UTF8),
        tungstenite::Error::Protocol(tungstenite::error::ProtocolError::ResetWithoutClosingHandshake) => None,
        tungstenite::Error::Protocol(_) => Some(goodbye::PROTOCOL_ERROR),
        _ => None,
    }
}
