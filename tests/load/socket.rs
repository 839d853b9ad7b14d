//! A lean WebSocket client: what a server costs is to be measured, not what its load costs.
//!
//! It reads whole frames out of one buffer, answers pings, and masks with zeros, which the server has to undo as with any
//! other mask. It copies no payload and never waits for a full socket unless it is told to.

use std::{io, net::SocketAddr, ops::Range, sync::Arc, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use tokio::{
    net::TcpStream,
    sync::{Mutex, OwnedMutexGuard},
};

/// How long a handshake may take.
const HANDSHAKE_MAX: Duration = Duration::from_secs(60);
const READ_BYTES: usize = 16 * 1024;
const HEAD_BYTES_MAX: usize = 16 * 1024;

const TEXT: u8 = 0x1;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xA;

/// The writing side; may be shared.
#[derive(Clone)]
pub(crate) struct Sender {
    stream: Arc<TcpStream>,
    /// Whoever writes, until its frame is whole.
    turn: Arc<Mutex<()>>,
}

/// The reading side.
pub(crate) struct Receiver {
    sender: Sender,
    buffer: Vec<u8>,
    /// Up to here it was read.
    start: usize,
}

/// Both sides.
pub(crate) type Socket = (Sender, Receiver);

/// What a server says.
#[derive(Debug)]
pub(crate) enum Frame<'a> {
    Text(&'a [u8]),
    Close(u16, String),
}

/// Connects and upgrades.
pub(crate) async fn connect(address: SocketAddr, host: &str, path: &str) -> Result<Socket> {
    tokio::time::timeout(HANDSHAKE_MAX, upgrade(address, host, path)).await.context("no answer to the handshake")?
}

async fn upgrade(address: SocketAddr, host: &str, path: &str) -> Result<Socket> {
    let stream = TcpStream::connect(address).await.context("connecting")?;
    stream.set_nodelay(true)?;
    let sender = Sender { stream: Arc::new(stream), turn: Arc::default() };
    let mut receiver = Receiver { sender: sender.clone(), buffer: Vec::new(), start: 0 };
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    );
    sender.write(request.as_bytes(), 0).await?;
    let end = loop {
        if let Some(end) = receiver.buffer.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            break end + 4;
        }
        ensure!(receiver.buffer.len() < HEAD_BYTES_MAX, "the answer's head does not end");
        receiver.fill().await.context("reading the answer to the handshake")?;
    };
    if !receiver.buffer.starts_with(b"HTTP/1.1 101") {
        let line = receiver.buffer.split(|byte| *byte == b'\r').next().unwrap_or_default();
        bail!("no upgrade: {}", String::from_utf8_lossy(line));
    }
    receiver.start = end;
    Ok((sender, receiver))
}

impl Sender {
    /// Sends a text, waiting while the socket is full.
    pub(crate) async fn send(&self, text: &str) -> Result<()> {
        let frame = frame(TEXT, text.as_bytes());
        let _turn = self.turn.lock().await;
        Ok(self.write(&frame, 0).await?)
    }

    /// Sends a text without waiting; what the socket does not take now goes as soon as it does, in order.
    pub(crate) fn post(&self, text: &str) {
        let frame = frame(TEXT, text.as_bytes());
        if let Ok(turn) = self.turn.clone().try_lock_owned() {
            match self.stream.try_write(&frame) {
                Ok(written) if written == frame.len() => {}
                Ok(written) => self.go_on(Some(turn), frame, written),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.go_on(Some(turn), frame, 0),
                // Whoever reads is told.
                Err(_) => {}
            }
        } else {
            self.go_on(None, frame, 0);
        }
    }

    fn go_on(&self, turn: Option<OwnedMutexGuard<()>>, frame: Vec<u8>, written: usize) {
        let sender = self.clone();
        tokio::spawn(async move {
            let _turn = match turn {
                Some(turn) => turn,
                None => sender.turn.clone().lock_owned().await,
            };
            // Whoever reads is told.
            let _ = sender.write(&frame, written).await;
        });
    }

    async fn write(&self, bytes: &[u8], mut written: usize) -> io::Result<()> {
        while written < bytes.len() {
            self.stream.writable().await?;
            match self.stream.try_write(&bytes[written..]) {
                Ok(more) => written += more,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl Receiver {
    /// The next text or close frame. May be dropped while it waits: nothing is lost.
    pub(crate) async fn next(&mut self) -> Result<Frame<'_>> {
        loop {
            let Some((opcode, payload)) = self.whole_frame()? else {
                self.fill().await?;
                continue;
            };
            match opcode {
                TEXT => return Ok(Frame::Text(&self.buffer[payload])),
                CLOSE => {
                    let payload = &self.buffer[payload];
                    let code = payload.first_chunk::<2>().map_or(1005, |code| u16::from_be_bytes(*code));
                    let reason = String::from_utf8_lossy(payload.get(2..).unwrap_or_default()).into_owned();
                    return Ok(Frame::Close(code, reason));
                }
                PING => {
                    let answer = frame(PONG, &self.buffer[payload]);
                    let _turn = self.sender.turn.lock().await;
                    self.sender.write(&answer, 0).await?;
                }
                PONG => {}
                other => bail!("a frame with the opcode {other}"),
            }
        }
    }

    /// The next text; a close is an error.
    pub(crate) async fn text(&mut self) -> Result<&[u8]> {
        match self.next().await? {
            Frame::Text(text) => Ok(text),
            Frame::Close(code, reason) => bail!("closed with {code} {reason}"),
        }
    }

    fn whole_frame(&mut self) -> Result<Option<(u8, Range<usize>)>> {
        let bytes = &self.buffer[self.start..];
        let [first, second, ..] = *bytes else { return Ok(None) };
        ensure!(first & 0x80 != 0, "a frame in pieces");
        let (length, head) = match second {
            126 => match bytes.get(2..).and_then(<[u8]>::first_chunk::<2>) {
                Some(length) => (u64::from(u16::from_be_bytes(*length)), 4),
                None => return Ok(None),
            },
            127 => match bytes.get(2..).and_then(<[u8]>::first_chunk::<8>) {
                Some(length) => (u64::from_be_bytes(*length), 10),
                None => return Ok(None),
            },
            length => (u64::from(length), 2),
        };
        let begin = self.start + head;
        let end = begin + usize::try_from(length)?;
        if self.buffer.len() < end {
            return Ok(None);
        }
        self.start = end;
        Ok(Some((first & 0x0F, begin..end)))
    }

    async fn fill(&mut self) -> Result<()> {
        loop {
            self.sender.stream.readable().await?;
            match self.read_now() {
                Ok(0) => bail!("the connection ended"),
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn read_now(&mut self) -> io::Result<usize> {
        let mut bytes = [0; READ_BYTES];
        let count = self.sender.stream.try_read(&mut bytes)?;
        self.buffer.drain(..self.start);
        self.start = 0;
        self.buffer.extend_from_slice(&bytes[..count]);
        Ok(count)
    }
}

/// A client's frame, masked with zeros.
fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(payload.len() + 14);
    frame.push(0x80 | opcode);
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(length), _) if length < 126 => frame.push(0x80 | length),
        (_, Ok(length)) => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&length.to_be_bytes());
        }
        _ => {
            frame.push(0x80 | 127);
            frame.extend_from_slice(&(payload.len() as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(payload);
    frame
}
