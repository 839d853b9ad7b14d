//! The floor: what a WebSocket room server costs that does nothing else. No storage, no authentication, no limits.
//!
//! `floor 127.0.0.1:9000` answers therapy's chat and location at any path; who is at the same path is in the same room.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use anyhow::{Context as _, Result};
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use switchboard_chassis::Clock;
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::mpsc,
};
use tokio_tungstenite::{
    accept_hdr_async_with_config,
    tungstenite::{
        Message, Utf8Bytes,
        handshake::server::{ErrorResponse, Request, Response},
        protocol::WebSocketConfig,
    },
};

/// A small one leaves stragglers when many come at once.
const BACKLOG: u32 = 4096;
/// Frames that wait for one socket.
const WAITING_MAX: usize = 256;
const READ_BUFFER_BYTES: usize = 4096;

type Room = HashMap<u64, mpsc::Sender<Utf8Bytes>>;

#[derive(Default)]
struct Rooms {
    rooms: Mutex<HashMap<String, Room>>,
    next: AtomicU64,
}

#[tokio::main]
async fn main() -> Result<()> {
    let address: std::net::SocketAddr = std::env::args().nth(1).context("floor ADDRESS")?.parse()?;
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    let listener: TcpListener = socket.listen(BACKLOG)?;
    let rooms = Arc::<Rooms>::default();
    loop {
        let (stream, _) = listener.accept().await?;
        let rooms = rooms.clone();
        // A visitor who fails is a visitor who is gone.
        tokio::spawn(async move { serve(stream, &rooms).await.ok() });
    }
}

async fn serve(stream: TcpStream, rooms: &Rooms) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut path = String::new();
    #[expect(clippy::result_large_err, reason = "tungstenite's own type")]
    let look = |request: &Request, response: Response| -> Result<Response, ErrorResponse> {
        request.uri().path().clone_into(&mut path);
        Ok(response)
    };
    let config = WebSocketConfig::default().read_buffer_size(READ_BUFFER_BYTES).write_buffer_size(0);
    let (mut sink, mut stream) = accept_hdr_async_with_config(stream, look, Some(config)).await?.split();
    let (sender, mut outgoing) = mpsc::channel::<Utf8Bytes>(WAITING_MAX);
    let me = rooms.next.fetch_add(1, Relaxed);
    rooms.change(|rooms| rooms.entry(path.clone()).or_default().insert(me, sender));
    let writing = tokio::spawn(async move {
        while let Some(text) = outgoing.recv().await {
            if sink.send(Message::Text(text)).await.is_err() {
                return;
            }
        }
    });
    while let Some(Ok(frame)) = stream.next().await {
        if let Message::Text(text) = frame
            && let Some(answer) = answer(&text, rooms)
        {
            let answer = Utf8Bytes::from(answer);
            rooms.change(|rooms| {
                for member in rooms.get(&path).into_iter().flat_map(HashMap::values) {
                    // Who does not read loses it.
                    let _ = member.try_send(answer.clone());
                }
            });
        }
    }
    rooms.change(|rooms| {
        if let Some(room) = rooms.get_mut(&path) {
            room.remove(&me);
            if room.is_empty() {
                rooms.remove(&path);
            }
        }
    });
    writing.abort();
    Ok(())
}

/// What everybody in the room is told.
fn answer(text: &str, rooms: &Rooms) -> Option<String> {
    let frame: Value = serde_json::from_str(text).ok()?;
    let told = match (&frame["message"], &frame["latitude"], &frame["longitude"]) {
        (Value::String(message), ..) => json!({
            "type": "message", "message": message, "sender_id": "0",
            "message_id": rooms.next.fetch_add(1, Relaxed).to_string(), "timestamp": Clock::System.now(),
        }),
        (_, latitude @ Value::Number(_), longitude @ Value::Number(_)) => {
            json!({ "type": "location", "latitude": latitude, "longitude": longitude, "therapist_id": "0" })
        }
        _ => return None,
    };
    Some(told.to_string())
}

impl Rooms {
    fn change<T>(&self, change: impl FnOnce(&mut HashMap<String, Room>) -> T) -> T {
        change(&mut self.rooms.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
