//! A front end's socket: opened again whenever it ends, at any edge that answers.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::Value;
use tokio::{
    net::TcpStream,
    sync::watch,
    time::{MissedTickBehavior, interval, sleep, timeout},
};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async, tungstenite::Message};

use crate::{cluster::token, scene::Scene};

const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// A front end does not wait longer for an edge that takes the connection and says nothing.
const HANDSHAKE_MAX: Duration = Duration::from_secs(3);
const TICK: Duration = Duration::from_millis(20);

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// What one kind of front end does with its socket.
pub(crate) trait FrontEnd: Send + 'static {
    /// The path of its next socket, and perhaps a query.
    fn path(&self) -> String;
    /// There is a socket, at this edge.
    fn opened(&mut self, edge: usize);
    /// A text frame came.
    fn heard(&mut self, frame: &Value);
    /// What is to be sent now.
    fn due(&mut self) -> Vec<String> {
        Vec::new()
    }
    /// The socket ended; the front end itself did not end it.
    fn ended(&mut self, why: &str);
    /// The front end goes home, to its first edge.
    fn left(&mut self);
}

/// Where a front end dials.
pub(crate) struct Dialer {
    pub(crate) edges: [SocketAddr; 2],
    /// Where it dials first.
    pub(crate) home: usize,
    /// Whether it dials nowhere else.
    pub(crate) stays_home: bool,
    pub(crate) token: String,
}

impl Dialer {
    pub(crate) fn new(edges: [SocketAddr; 2], home: usize, user: &str) -> anyhow::Result<Self> {
        Ok(Self { edges, home, stays_home: false, token: token(user)? })
    }

    async fn dial(&self, edge: usize, path: &str) -> Option<Socket> {
        let mark = if path.contains('?') { '&' } else { '?' };
        let url = format!("ws://{}{path}{mark}token={}", self.edges[edge], self.token);
        Some(timeout(HANDSHAKE_MAX, connect_async(url)).await.ok()?.ok()?.0)
    }
}

/// Keeps a front end's socket open for ever.
pub(crate) async fn run(mut front_end: impl FrontEnd, dialer: Dialer, scene: Arc<Scene>) {
    let mut rounds = scene.rounds();
    // Since something was heard, as front ends count.
    let mut failures = 0_usize;
    loop {
        let edge = if dialer.stays_home { dialer.home } else { (dialer.home + failures) % dialer.edges.len() };
        let mut was_heard = false;
        if let Some(mut socket) = dialer.dial(edge, &front_end.path()).await {
            front_end.opened(edge);
            let away = (edge != dialer.home).then_some(&mut rounds);
            match talk(&mut socket, &mut front_end, away, &mut was_heard).await {
                End::Ended(why) => front_end.ended(&why),
                End::GoesHome => {
                    front_end.left();
                    // It may be gone already, or its edge too busy to answer.
                    let _ = timeout(PAUSE_MAX, socket.close(None)).await;
                    failures = 0;
                    continue;
                }
            }
        }
        failures = if was_heard { 0 } else { failures + 1 };
        let doublings = u32::try_from(failures.saturating_sub(1)).unwrap_or(u32::MAX);
        sleep(PAUSE_MIN.saturating_mul(2_u32.saturating_pow(doublings)).min(PAUSE_MAX)).await;
    }
}

enum End {
    Ended(String),
    GoesHome,
}

async fn talk(
    socket: &mut Socket,
    front_end: &mut impl FrontEnd,
    mut away: Option<&mut watch::Receiver<u32>>,
    was_heard: &mut bool,
) -> End {
    if let Some(rounds) = &mut away {
        rounds.mark_unchanged();
    }
    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            frame = socket.next() => match frame {
                Some(Ok(Message::Text(text))) => match serde_json::from_str(&text) {
                    Ok(frame) => {
                        *was_heard = true;
                        front_end.heard(&frame);
                    }
                    Err(error) => return End::Ended(format!("a frame that is not JSON ({error}): {text}")),
                },
                Some(Ok(Message::Close(frame))) => {
                    return End::Ended(frame.map_or_else(|| "closed without a code".to_owned(), |frame| frame.to_string()));
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => return End::Ended(error.to_string()),
                None => return End::Ended("the connection ended".to_owned()),
            },
            _ = tick.tick() => {
                for text in front_end.due() {
                    if let Err(error) = socket.send(Message::text(text)).await {
                        return End::Ended(error.to_string());
                    }
                }
            }
            Some(_) = async { Some(away.as_mut()?.changed().await) } => return End::GoesHome,
        }
    }
}
