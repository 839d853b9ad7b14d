//! Connections that say nothing.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};
use tonic::transport::server::Connected;

/// The bytes with which a client begins (RFC 9113, section 3.4).
const PREFACE_BYTES: usize = 24;

/// A connection that ends when its client does not say in time that it speaks HTTP/2. After that, keepalive looks after it.
pub(crate) struct Punctual<S> {
    stream: S,
    /// Until enough was read.
    late: Option<(Pin<Box<Sleep>>, usize)>,
}

impl<S> Punctual<S> {
    pub(crate) fn new(stream: S, within: Duration) -> Self {
        Self { stream, late: Some((Box::pin(sleep(within)), PREFACE_BYTES)) }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Punctual<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if let Some((late, missing)) = &mut self.late {
            *missing = missing.saturating_sub(buffer.filled().len() - before);
            if *missing == 0 {
                self.late = None;
            } else if late.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Punctual<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

impl<S: Connected> Connected for Punctual<S> {
    type ConnectInfo = S::ConnectInfo;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.stream.connect_info()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    const WITHIN: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn who_says_nothing_or_half_of_it_is_cut_off() {
        for said in [0, PREFACE_BYTES - 1] {
            let (mut client, server) = duplex(64);
            let mut server = Punctual::new(server, WITHIN);
            client.write_all(&vec![b'P'; said]).await.expect("sent");
            let mut read = [0; 64];
            let mut bytes = 0;
            let error = loop {
                match server.read(&mut read).await {
                    Ok(more) => bytes += more,
                    Err(error) => break error,
                }
            };
            assert_eq!((bytes, error.kind()), (said, io::ErrorKind::TimedOut));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_began_may_be_silent() {
        let (mut client, server) = duplex(64);
        let mut server = Punctual::new(server, WITHIN);
        client.write_all(&[b'P'; PREFACE_BYTES]).await.expect("sent");
        let mut read = [0; 64];
        assert_eq!(server.read(&mut read).await.expect("bytes"), PREFACE_BYTES);
        let silent = tokio::time::timeout(WITHIN * 10, server.read(&mut read)).await;
        assert!(silent.is_err(), "{silent:?}");
    }
}
