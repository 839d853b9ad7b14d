//! A user's socket for notifications.

use std::{
    sync::{Arc, Mutex},
    time::Instant,
};

use serde_json::Value;

use crate::{
    scene::{Scene, lock},
    socket::FrontEnd,
};

/// What was notified, and what came.
#[derive(Clone, Default)]
pub(crate) struct Record {
    /// Each request that was made; its place here is in its id.
    pub(crate) asked: Vec<Asked>,
    pub(crate) sockets: Vec<Socket>,
    pub(crate) is_open: bool,
    pub(crate) ended: usize,
}

/// A request to notify.
#[derive(Clone)]
pub(crate) struct Asked {
    pub(crate) at: Instant,
    /// The notification's id, when it was answered, and when.
    pub(crate) answer: Option<(String, Instant)>,
}

/// What one socket was told.
#[derive(Clone, Default)]
pub(crate) struct Socket {
    /// The unread count that it began with.
    pub(crate) first_count: Option<i64>,
    /// The notifications' ids.
    pub(crate) told: Vec<String>,
    pub(crate) last_count: i64,
}

/// The socket's front end.
pub(crate) struct Inbox {
    user: String,
    record: Arc<Mutex<Record>>,
    scene: Arc<Scene>,
}

impl Inbox {
    pub(crate) fn new(user: &str, scene: Arc<Scene>) -> (Self, Arc<Mutex<Record>>) {
        let record = Arc::<Mutex<Record>>::default();
        (Self { user: user.to_owned(), record: record.clone(), scene }, record)
    }
}

impl FrontEnd for Inbox {
    fn path(&self) -> String {
        "/ws/notifications/".to_owned()
    }

    fn opened(&mut self, _: usize) {
        let mut record = lock(&self.record);
        record.sockets.push(Socket::default());
        record.is_open = true;
    }

    fn heard(&mut self, frame: &Value) {
        let mut record = lock(&self.record);
        let Some(socket) = record.sockets.last_mut() else { return };
        match frame["type"].as_str() {
            Some("notification") => socket.told.push(frame["data"]["id"].as_str().unwrap_or_default().to_owned()),
            Some("unread_count") => {
                let count = frame["count"].as_i64().unwrap_or(-1);
                // Nobody reads here: a count never falls.
                if count < socket.last_count {
                    let last = socket.last_count;
                    self.scene.complain(format!("the unread count of {} went from {last} to {count}", self.user));
                }
                socket.first_count.get_or_insert(count);
                socket.last_count = count;
            }
            _ => {}
        }
    }

    fn ended(&mut self, why: &str) {
        self.left();
        lock(&self.record).ended += 1;
        self.scene.note(&format!("the notifications socket of {} ended: {why}", self.user));
        if self.scene.strike().sockets_stay {
            let user = &self.user;
            self.scene.complain(format!("the notifications socket of {user} ended, though no edge was touched: {why}"));
        }
    }

    fn left(&mut self) {
        lock(&self.record).is_open = false;
    }
}

/// How the service calls what it asks for: the same id however often it asks.
pub(crate) fn request_id(user: &str, n: usize) -> String {
    format!("{user}-request-{n}")
}
