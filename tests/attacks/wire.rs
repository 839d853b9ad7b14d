//! WebSocket as bytes: what no library would send.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context as _, ensure};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    time::timeout,
};

use crate::stage::Stage;

/// How long an answer may take before it counts as missing.
pub(crate) const ANSWER_MAX: Duration = Duration::from_secs(20);
pub(crate) const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

pub(crate) const FIN: u8 = 0x80;
pub(crate) const CONTINUATION: u8 = 0;
pub(crate) const TEXT: u8 = 1;
pub(crate) const BINARY: u8 = 2;
pub(crate) const CLOSE: u8 = 8;
pub(crate) const PING: u8 = 9;
pub(crate) const PONG: u8 = 10;

/// How a frame's length is written.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Length {
    /// In the fewest bytes, as it must be.
    Minimal,
    /// In 16 bits.
    Short,
    /// In 64 bits.
    Long,
    /// In 64 bits, and not the true one.
    Announced(u64),
}

/// A masked frame.
pub(crate) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    frame_with(first, Length::Minimal, Some(MASK), payload)
}

/// Any frame.
pub(crate) fn frame_with(first: u8, length: Length, mask: Option<[u8; 4]>, payload: &[u8]) -> Vec<u8> {
    let masked = if mask.is_some() { 0x80 } else { 0 };
    let size = payload.len();
    let mut bytes = vec![first];
    match (length, u8::try_from(size), u16::try_from(size)) {
        (Length::Minimal, Ok(size @ 0..=125), _) => bytes.push(masked | size),
        (Length::Minimal | Length::Short, _, Ok(size)) => {
            bytes.push(masked | 126);
            bytes.extend(size.to_be_bytes());
        }
        (Length::Announced(size), ..) => {
            bytes.push(masked | 127);
            bytes.extend(size.to_be_bytes());
        }
        _ => {
            bytes.push(masked | 127);
            bytes.extend((size as u64).to_be_bytes());
        }
    }
    bytes.extend(mask.unwrap_or_default().iter().take(if mask.is_some() { 4 } else { 0 }));
    bytes.extend(payload.iter().zip(mask.unwrap_or_default().iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

/// A whole text message.
pub(crate) fn text(words: &str) -> Vec<u8> {
    frame(FIN | TEXT, words.as_bytes())
}

/// A close frame with a code and a reason.
pub(crate) fn close(code: u16, reason: &[u8]) -> Vec<u8> {
    frame(FIN | CLOSE, &[&code.to_be_bytes(), reason].concat())
}

/// What a server said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    Text(String),
    Pong(Vec<u8>),
    /// A close frame; the code if there is one.
    Close(Option<u16>),
    /// The connection is over.
    End,
}

/// The client's end of a connection that has become a WebSocket.
pub(crate) struct Raw {
    pub(crate) stream: TcpStream,
    read: Vec<u8>,
}

impl Raw {
    /// Connects to a path, which holds its token.
    pub(crate) async fn open(edge: SocketAddr, path: &str) -> anyhow::Result<Self> {
        Self::upgrade(TcpStream::connect(edge).await?, path).await
    }

    /// The same as a user.
    pub(crate) async fn open_as(stage: &Stage, path: &str, user_id: &str) -> anyhow::Result<Self> {
        Self::open(stage.edge, &stage.path(path, user_id)?).await
    }

    /// The same, with a small buffer for what it does not read.
    pub(crate) async fn open_narrow(edge: SocketAddr, path: &str) -> anyhow::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.set_recv_buffer_size(4 << 10)?;
        Self::upgrade(socket.connect(edge).await?, path).await
    }

    async fn upgrade(mut stream: TcpStream, path: &str) -> anyhow::Result<Self> {
        stream.set_nodelay(true)?;
        stream.write_all(request(path).as_bytes()).await?;
        let mut raw = Self { stream, read: Vec::new() };
        let head = loop {
            if let Some(end) = raw.read.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break raw.read.drain(..end + 4).collect::<Vec<_>>();
            }
            ensure!(raw.read_more().await? > 0, "the connection ended in the handshake");
        };
        let head = String::from_utf8_lossy(&head).into_owned();
        ensure!(head.starts_with("HTTP/1.1 101 "), "{head}");
        Ok(raw)
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        Ok(timeout(ANSWER_MAX, self.stream.write_all(bytes)).await.context("nobody reads")??)
    }

    /// The next frame that is not a ping.
    pub(crate) async fn next(&mut self) -> anyhow::Result<Heard> {
        loop {
            if let Some(heard) = self.take()? {
                return Ok(heard);
            }
            match self.read_more().await {
                Ok(0) => return Ok(Heard::End),
                Ok(_) => {}
                Err(error) if error.is::<std::io::Error>() => return Ok(Heard::End),
                Err(error) => return Err(error),
            }
        }
    }

    async fn read_more(&mut self) -> anyhow::Result<usize> {
        Ok(timeout(ANSWER_MAX, self.stream.read_buf(&mut self.read)).await.context("nothing came in time")??)
    }

    /// A frame of what has been read, if there is a whole one.
    fn take(&mut self) -> anyhow::Result<Option<Heard>> {
        loop {
            let [first, length, rest @ ..] = &self.read[..] else { return Ok(None) };
            let (length, head) = match (*length, rest) {
                (length @ 0..=125, _) => (usize::from(length), 2),
                (126, [high, low, ..]) => (usize::from(u16::from_be_bytes([*high, *low])), 4),
                (127, [0, 0, 0, 0, a, b, c, d, ..]) => (u32::from_be_bytes([*a, *b, *c, *d]) as usize, 10),
                _ => return Ok(None),
            };
            if self.read.len() < head + length {
                return Ok(None);
            }
            let first = *first;
            let payload = self.read[head..head + length].to_vec();
            self.read.drain(..head + length);
            ensure!(first & 0xf0 == FIN, "a server frame begins with {first:#x}");
            return Ok(Some(match first & 0xf {
                TEXT => Heard::Text(String::from_utf8(payload)?),
                PONG => Heard::Pong(payload),
                CLOSE => Heard::Close(payload.get(..2).map(|code| u16::from_be_bytes([code[0], code[1]]))),
                PING => continue,
                other => anyhow::bail!("a server frame of kind {other}"),
            }));
        }
    }
}

/// A request for a socket.
pub(crate) fn request(path: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nhost: switchboard\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: {KEY}\r\n\r\n"
    )
}
