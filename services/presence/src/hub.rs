//! The state of one instance, and the one task that tells of it.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use switchboard_bus::Bus;
use switchboard_chassis::{Clock, Error, Lifecycle, audit::Asked};
use switchboard_proto::wire::Presence as Wire;
use switchboard_sessions::Link;
use tokio::{sync::Notify, time::Instant};
use uuid::Uuid;

use crate::{
    doorbell::{self, Delta, Ring, Said},
    last_seen::LastSeen,
    roster::{Now, UserId},
    state::{State, Terms},
};

pub(crate) struct Hub {
    /// Frames are put on their links while it is held: so they are in the same order for everybody, and no change
    /// overtakes the roster. It is never held for more than a part of a roster, or one flush.
    state: Mutex<State<Link<Wire>>>,
    /// Something is due earlier than the task knows.
    hurried: Notify,
    instance: Uuid,
    bus: Bus,
    clock: Clock,
    last_seen: Arc<LastSeen>,
}

impl Hub {
    pub(crate) fn new(terms: Terms, bus: Bus, clock: Clock, last_seen: Arc<LastSeen>) -> Self {
        let instance = clock.new_id();
        Self { state: Mutex::new(State::new(instance, terms)), hurried: Notify::new(), instance, bus, clock, last_seen }
    }

    pub(crate) fn bus(&self) -> &Bus {
        &self.bus
    }

    /// For reading. What changes something goes through [`Self::change`].
    pub(crate) fn state(&self) -> MutexGuard<'_, State<Link<Wire>>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, change: impl FnOnce(&mut State<Link<Wire>>) -> T) -> T {
        let mut state = self.state();
        let before = state.due();
        let done = change(&mut state);
        let is_hurried = state.due().is_some_and(|due| before.is_none_or(|before| due < before));
        drop(state);
        if is_hurried {
            self.hurried.notify_one();
        }
        done
    }

    fn now(&self) -> Now {
        Now { timer: Instant::now(), clock: self.clock.now() }
    }

    /// A session opens. Its stream has been told the roster when this is done.
    pub(crate) async fn enter(&self, link: &Link<Wire>, user_id: &str, name: &str) -> UserId {
        let now = self.now();
        let (user_id, mut is_told) = self.change(|state| {
            let (user_id, is_new) = state.enter(link, user_id, name, now);
            if is_new {
                self.last_seen.note([(user_id.clone(), now.clock)]);
            }
            (user_id, tell_part(state, link))
        });
        // Sessions that open together on a new stream share the work.
        while !is_told {
            tokio::task::yield_now().await;
            is_told = tell_part(&mut self.state(), link);
        }
        user_id
    }

    /// A user shall be forgotten; true when there was something to forget.
    pub(crate) async fn forget(&self, user_id: &str, asked: &Asked) -> Result<bool, Error> {
        // Who is in the grace would be noted when it is over.
        self.change(|state| state.roster.forget(user_id));
        self.last_seen.erase(user_id, asked).await
    }

    /// A session ends.
    pub(crate) fn leave(&self, link: &Link<Wire>, user_id: &UserId) {
        let now = self.now();
        self.change(|state| state.leave(link, user_id, now));
    }

    /// Another instance said something.
    pub(crate) fn overheard(&self, ring: Ring) {
        if let Some(ask) = self.change(|state| state.hear(ring, Instant::now())) {
            doorbell::ring(&self.bus, self.instance, || Said::Ask(ask));
        }
    }

    /// Which instance this is.
    pub(crate) fn instance(&self) -> Uuid {
        self.instance
    }

    /// Other instances live, as the database says.
    pub(crate) fn alive(&self, instances: &[Uuid]) {
        self.change(|state| state.alive(instances, Instant::now()));
    }

    /// Something was missed, or everything.
    pub(crate) fn ask_all(&self) {
        if let Some(ask) = self.change(|state| state.ask_all(Instant::now())) {
            doorbell::ring(&self.bus, self.instance, || Said::Ask(ask));
        }
    }

    async fn run(&self, flush_interval: Duration, lifecycle: &Lifecycle) {
        self.ask_all();
        self.flush().await;
        let mut not_before = Instant::now() + flush_interval;
        loop {
            let due = self.state().due();
            tokio::select! {
                biased;
                () = lifecycle.stopped() => break,
                () = sleep_until(due.map(|due| due.max(not_before))) => {}
                () = self.hurried.notified() => continue,
            }
            self.flush().await;
            not_before = Instant::now() + flush_interval;
        }
        self.end();
    }

    /// Only the one task calls it: what is said to other instances must be in the order of its numbers, and a snapshot
    /// must be said before the changes that come after it.
    async fn flush(&self) {
        let now = self.now();
        let (said, snapshot) = {
            let mut state = self.state();
            let flushed = state.flush(now);
            for (link, event) in flushed.frames {
                link.tell(Vec::new(), event, None);
            }
            self.last_seen.note(flushed.seen);
            (flushed.said, flushed.snapshot)
        };
        for numbered in said {
            doorbell::ring(&self.bus, self.instance, || Said::Delta(Delta::new(&numbered)));
        }
        if let Some(seq) = snapshot {
            self.say_snapshot(seq).await;
        }
    }

    async fn say_snapshot(&self, seq: u64) {
        let mut after: Option<UserId> = None;
        for number in 0.. {
            let (part, last) = self.state().snapshot_part(seq, number, after.as_deref());
            let is_last = part.is_last;
            doorbell::ring(&self.bus, self.instance, || Said::Snapshot(part));
            if is_last {
                break;
            }
            after = last;
            tokio::task::yield_now().await;
        }
    }

    /// The process ends: who is still here was online until now. The others are not told: those who come back over
    /// another instance, within a lease, shall not blink.
    fn end(&self) {
        let seen = self.state().roster.own_seen(self.now());
        self.last_seen.note(seen);
        self.last_seen.end();
    }
}

/// Tells a stream the next part of the roster; true when there is no other.
fn tell_part(state: &mut State<Link<Wire>>, link: &Link<Wire>) -> bool {
    let (events, is_whole) = state.next_part(link);
    for event in events {
        link.tell(Vec::new(), event, None);
    }
    is_whole
}

async fn sleep_until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}

/// Starts the task that tells.
pub(crate) fn start(hub: Arc<Hub>, flush_interval: Duration, lifecycle: &Lifecycle) {
    let stopping = lifecycle.clone();
    lifecycle.spawn_essential("presence hub", async move {
        hub.run(flush_interval, &stopping).await;
        Ok::<_, Infallible>(())
    });
}
