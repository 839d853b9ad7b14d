//! A side of a conversation, as a careful front end: it shows each message once, and repeats what it has not seen come
//! back.

use std::{
    collections::{BTreeSet, HashSet},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    scene::{Dice, Scene, lock},
    socket::FrontEnd,
};

/// Between two messages of a side.
const SAY_MIN: Duration = Duration::from_millis(250);
const SAY_MAX: Duration = Duration::from_millis(400);
/// What has not come back for so long is sent again.
const ECHO_MAX: Duration = Duration::from_secs(5);
/// After an error frame, what has not come back is sent again.
const AGAIN_AFTER_ERROR: Duration = Duration::from_millis(500);

/// What a side said and saw.
#[derive(Default)]
pub(crate) struct Record {
    /// What it said; its place here is in its words.
    pub(crate) sent: Vec<Sent>,
    /// Every message that came, over all sockets.
    pub(crate) shown: Vec<Shown>,
    pub(crate) is_open: bool,
    /// Sockets that ended.
    pub(crate) ended: usize,
    /// Error frames, each text once.
    pub(crate) errors: BTreeSet<String>,
}

/// A message that a side said.
pub(crate) struct Sent {
    /// When the user said it.
    pub(crate) at: Instant,
    /// How often the front end sent it.
    pub(crate) times: u32,
    /// The id with which it first came back, and when: it is acknowledged.
    pub(crate) echo: Option<(String, Instant)>,
}

/// A message that came.
pub(crate) struct Shown {
    pub(crate) id: String,
    /// Which of the side's own it is.
    pub(crate) own: Option<usize>,
    pub(crate) at: Instant,
    /// Over which of the side's sockets.
    pub(crate) socket: usize,
}

/// A front end of one side.
pub(crate) struct Side {
    user: String,
    conversation: String,
    record: Arc<Mutex<Record>>,
    scene: Arc<Scene>,
    dice: Dice,
    /// When the user says something next.
    says_at: Instant,
    is_greeted: bool,
    /// What has not come back, and when it is sent (again).
    pending: Vec<(usize, Instant)>,
    seen: HashSet<String>,
    last_seen: Option<String>,
    sockets: usize,
}

/// How a side calls its messages: the same id however often it is sent.
pub(crate) fn client_message_id(user: &str, n: usize) -> String {
    format!("{user}-{n}")
}

/// What a side says.
pub(crate) fn words(user: &str, n: usize) -> String {
    format!("{user} says {n}")
}

impl Side {
    pub(crate) fn new(user: &str, conversation: &str, scene: Arc<Scene>, dice: Dice) -> (Self, Arc<Mutex<Record>>) {
        let record = Arc::<Mutex<Record>>::default();
        let side = Self {
            user: user.to_owned(),
            conversation: conversation.to_owned(),
            record: record.clone(),
            scene,
            dice,
            says_at: Instant::now(),
            is_greeted: false,
            pending: Vec::new(),
            seen: HashSet::new(),
            last_seen: None,
            sockets: 0,
        };
        (side, record)
    }

    /// The user says what is due: also what was due while there was no socket.
    fn say(&mut self, now: Instant) {
        let Some(since) = self.scene.talking() else { return };
        self.says_at = self.says_at.max(since);
        let mut record = lock(&self.record);
        while self.says_at <= now {
            self.pending.push((record.sent.len(), now));
            record.sent.push(Sent { at: self.says_at, times: 0, echo: None });
            self.says_at += self.dice.between(SAY_MIN, SAY_MAX);
        }
    }

    fn shown(&mut self, data: &Value) {
        let text = |field: &str| data[field].as_str().unwrap_or_default();
        let (id, now) = (text("id").to_owned(), Instant::now());
        let number = text("content").rsplit(' ').next().and_then(|n| n.parse::<usize>().ok());
        // The same user may write from elsewhere, too.
        let own = number.filter(|n| text("content") == words(&self.user, *n));
        let mut record = lock(&self.record);
        if let Some(sent) = own.and_then(|n| record.sent.get_mut(n)) {
            sent.echo.get_or_insert_with(|| (id.clone(), now));
        }
        record.shown.push(Shown { id: id.clone(), own, at: now, socket: self.sockets });
        self.pending.retain(|(n, _)| Some(*n) != own);
        if self.seen.insert(id.clone()) {
            self.last_seen = Some(id);
        }
    }
}

impl FrontEnd for Side {
    fn path(&self) -> String {
        let after = self.last_seen.as_ref().map(|id| format!("?after={id}")).unwrap_or_default();
        format!("/ws/chat/{}/{after}", self.conversation)
    }

    fn opened(&mut self, _: usize) {
        self.sockets += 1;
        self.is_greeted = false;
        lock(&self.record).is_open = true;
        let now = Instant::now();
        self.pending.iter_mut().for_each(|(_, at)| *at = now);
    }

    fn heard(&mut self, frame: &Value) {
        match frame["type"].as_str() {
            Some("connection_established") => self.is_greeted = true,
            Some("chat_message") => self.shown(&frame["data"]),
            Some("error") => {
                let text = frame["message"].as_str().unwrap_or_default().to_owned();
                if text.starts_with("after ") {
                    self.scene
                        .complain(format!("{} asked for what came after {:?}: {text}", self.user, self.last_seen));
                }
                self.scene.note(&format!("{} was told: {text}", self.user));
                lock(&self.record).errors.insert(text);
                let again = Instant::now() + AGAIN_AFTER_ERROR;
                self.pending.iter_mut().for_each(|(_, at)| *at = again.min(*at));
            }
            _ => {}
        }
    }

    fn due(&mut self) -> Vec<String> {
        let now = Instant::now();
        self.say(now);
        if !self.is_greeted {
            return Vec::new();
        }
        let mut record = lock(&self.record);
        let mut frames = Vec::new();
        for (n, at) in self.pending.iter_mut().filter(|(_, at)| *at <= now) {
            *at = now + ECHO_MAX;
            record.sent[*n].times += 1;
            let (text, id) = (words(&self.user, *n), client_message_id(&self.user, *n));
            frames.push(json!({ "type": "chat_message", "message": text, "client_message_id": id }).to_string());
        }
        frames
    }

    fn ended(&mut self, why: &str) {
        self.left();
        lock(&self.record).ended += 1;
        self.scene.note(&format!("the chat socket of {} ended: {why}", self.user));
        if self.scene.strike().sockets_stay {
            self.scene.complain(format!("the chat socket of {} ended, though no edge was touched: {why}", self.user));
        }
    }

    fn left(&mut self) {
        lock(&self.record).is_open = false;
    }
}
