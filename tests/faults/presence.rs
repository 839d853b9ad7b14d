//! Who is online, as every presence socket is told.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Instant,
};

use serde_json::Value;

use crate::{
    scene::{Scene, lock},
    socket::FrontEnd,
};

/// Who has a presence socket open, and since when. Everybody has one.
#[derive(Default)]
pub(crate) struct People(Mutex<BTreeMap<String, Instant>>);

impl People {
    pub(crate) fn online(&self) -> BTreeSet<String> {
        lock(&self.0).keys().cloned().collect()
    }
}

/// What a socket was told.
#[derive(Default)]
pub(crate) struct View {
    /// The others.
    pub(crate) online: BTreeSet<String>,
    pub(crate) is_open: bool,
    pub(crate) ended: usize,
}

/// A front end that is online, and watches the others.
pub(crate) struct Watcher {
    user: String,
    people: Arc<People>,
    view: Arc<Mutex<View>>,
    scene: Arc<Scene>,
    edge: usize,
    opened_at: Instant,
}

impl Watcher {
    pub(crate) fn new(user: &str, people: Arc<People>, scene: Arc<Scene>) -> (Self, Arc<Mutex<View>>) {
        let view = Arc::<Mutex<View>>::default();
        let opened_at = Instant::now();
        (Self { user: user.to_owned(), people, view: view.clone(), scene, edge: 0, opened_at }, view)
    }

    /// Somebody is said to be gone. Whose socket stayed open is not, as far as a watcher on an edge that nothing happened
    /// to can tell.
    fn went(&self, user: &str) {
        let strike = self.scene.strike();
        let stayed = |since: Instant| since < strike.at;
        let has_stayed = lock(&self.people.0).get(user).is_some_and(|since| stayed(*since));
        if !strike.edges[self.edge] && stayed(self.opened_at) && has_stayed {
            let watcher = &self.user;
            self.scene
                .complain(format!("{watcher} was told that {user} is offline, whose socket is open all the time"));
        }
    }
}

impl FrontEnd for Watcher {
    fn path(&self) -> String {
        "/ws/presence/".to_owned()
    }

    fn opened(&mut self, edge: usize) {
        self.edge = edge;
        self.opened_at = Instant::now();
        lock(&self.people.0).insert(self.user.clone(), self.opened_at);
        let mut view = lock(&self.view);
        view.online.clear();
        view.is_open = true;
    }

    fn heard(&mut self, frame: &Value) {
        let user = frame["user_id"].as_str().unwrap_or_default();
        if user == self.user {
            self.scene.complain(format!("{user} was told of itself: {frame}"));
        }
        match frame["type"].as_str() {
            Some("user_online") => _ = lock(&self.view).online.insert(user.to_owned()),
            Some("user_offline") => {
                self.scene.note(&format!("{} was told that {user} is offline", self.user));
                lock(&self.view).online.remove(user);
                self.went(user);
            }
            _ => {}
        }
    }

    fn ended(&mut self, why: &str) {
        self.left();
        lock(&self.view).ended += 1;
        self.scene.note(&format!("the presence socket of {} ended: {why}", self.user));
        if self.scene.strike().sockets_stay {
            let user = &self.user;
            self.scene.complain(format!("the presence socket of {user} ended, though no edge was touched: {why}"));
        }
    }

    fn left(&mut self) {
        lock(&self.people.0).remove(&self.user);
        lock(&self.view).is_open = false;
    }
}
