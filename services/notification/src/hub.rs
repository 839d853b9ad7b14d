//! Which users have sessions at this instance, and what those are told.
//!
//! Everything about one user happens under one lock, which is never held over an await. **Guarantee**: what is stored
//! and not covered by the inbox of a session's `Joined` is told to it afterwards, or is known to be missing by a later
//! inbox. It may be told twice; receivers go by `seq` and `revision`.

use std::{
    collections::{HashMap, hash_map::RandomState},
    hash::BuildHasher as _,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use switchboard_bus::{Missed, Wanted};
use switchboard_chassis::{db::Result, error::RETRY_AFTER};
use switchboard_proto::notification::v1::{
    InboxChanged, Notification as WireNotification, Notified, subscribe_response::Event,
};
use switchboard_sessions::Audience;

use crate::{
    convert,
    doorbell::Doorbell,
    model::{Asker, Inbox, Link, Wire},
    store::{LOOK_UP_INBOXES, Store},
};

const SHARDS: usize = 64;

pub(crate) struct Hub {
    shards: Vec<Mutex<HashMap<String, Entry>>>,
    hasher: RandomState,
    store: Arc<Store>,
    doorbell: Doorbell,
}

/// A user with sessions here, or on their way in.
struct Entry {
    /// What other instances tell the user is heard.
    wanted: Wanted,
    audience: Audience<Wire>,
    /// Sessions whose inbox is being read.
    joining: usize,
    /// The newest state that everybody here was told.
    newest: Option<Inbox>,
}

impl Hub {
    pub(crate) fn new(store: Arc<Store>, doorbell: Doorbell) -> Self {
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        Self { shards, hasher: RandomState::new(), store, doorbell }
    }

    fn shard(&self, user_id: &str) -> MutexGuard<'_, HashMap<String, Entry>> {
        #[expect(clippy::cast_possible_truncation, reason = "any part of a hash is one")]
        let hash = self.hasher.hash_one(user_id) as usize;
        self.shards[hash % SHARDS].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a session in and tells it so.
    pub(crate) async fn join(&self, asker: &Asker, user_id: &str) -> Result<()> {
        // From here on, what happens is noted: the inbox that is read may be older. Ends after the lock below.
        let mut joining = Joining::begin(self, user_id);
        joining.wanted.heard().await;
        let read = self.store.inbox(user_id).await?;
        let mut users = self.shard(user_id);
        let entry = users.entry(user_id.to_owned()).or_insert_with(|| Entry::new(self.doorbell.want(user_id)));
        let inbox = entry.admit(read);
        entry.audience.enter(&asker.link, asker.session);
        asker.tell(convert::joined(inbox));
        Ok(())
    }

    /// Lets a session go.
    pub(crate) fn leave(&self, link: &Link, session: u64, user_id: &str) {
        let mut users = self.shard(user_id);
        let Some(entry) = users.get_mut(user_id) else { return };
        entry.audience.leave(link, session);
        if entry.is_over() {
            users.remove(user_id);
        }
    }

    /// Tells a notification that this instance just stored.
    pub(crate) fn notified(&self, notification: WireNotification, inbox: Inbox) {
        let user_id = notification.user_id.clone();
        self.tell_everywhere(&user_id, &convert::notified(notification, inbox), inbox, None);
    }

    /// Tells that this instance just changed an inbox.
    pub(crate) fn changed(&self, user_id: &str, inbox: Inbox, asker: Option<&Asker>) {
        self.tell_everywhere(user_id, &convert::inbox_changed(inbox), inbox, asker);
    }

    /// Tells of an inbox that was found so, to all who were not told: whoever changed it may have lost the answer of
    /// the database, or ended before it told.
    pub(crate) fn found(&self, user_id: &str, inbox: Inbox) {
        self.doorbell.ring(user_id, &convert::inbox_changed(inbox));
        self.catch_up(user_id, inbox);
    }

    /// Tells what another instance told.
    pub(crate) fn overheard(&self, user_id: &str, event: &Event) {
        match event {
            Event::Notified(Notified { notification: Some(_), inbox: Some(inbox) }) => {
                self.tell_here(user_id, event, (*inbox).into(), None);
            }
            Event::InboxChanged(InboxChanged { inbox: Some(inbox) }) => self.catch_up(user_id, (*inbox).into()),
            _ => tracing::debug!("a later version rang"),
        }
    }

    /// The bus may have kept something from us: whoever it concerns and has sessions here is looked up in the database.
    pub(crate) async fn look_again(&self, missed: &Missed) {
        let mut users: Vec<String> = Vec::new();
        for shard in &self.shards {
            let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            let behind = shard.iter().filter(|(_, entry)| missed.of_part(entry.wanted.part()));
            users.extend(behind.map(|(user_id, _)| user_id.clone()));
        }
        for users in users.chunks(LOOK_UP_INBOXES) {
            let inboxes = loop {
                match self.store.inboxes(users).await {
                    Ok(inboxes) => break inboxes,
                    // The database said why in the log. It is asked again: nobody must stay behind.
                    Err(_) => tokio::time::sleep(RETRY_AFTER).await,
                }
            };
            for (user_id, inbox) in inboxes {
                self.catch_up(&user_id, inbox);
            }
        }
    }

    fn tell_everywhere(&self, user_id: &str, event: &Event, inbox: Inbox, asker: Option<&Asker>) {
        self.doorbell.ring(user_id, event);
        self.tell_here(user_id, event, inbox, asker);
    }

    fn tell_here(&self, user_id: &str, event: &Event, inbox: Inbox, asker: Option<&Asker>) {
        match (self.shard(user_id).get_mut(user_id), asker) {
            (Some(entry), asker) => entry.tell(event, inbox, asker),
            // It left meanwhile.
            (None, Some(asker)) => asker.tell(event.clone()),
            (None, None) => {}
        }
    }

    fn catch_up(&self, user_id: &str, inbox: Inbox) {
        if let Some(entry) = self.shard(user_id).get_mut(user_id)
            && entry.newest.is_none_or(|newest| inbox.is_newer_than(newest))
        {
            entry.tell(&convert::inbox_changed(inbox), inbox, None);
        }
    }

    /// How many users it knows.
    #[cfg(test)]
    pub(crate) fn users(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().unwrap_or_else(PoisonError::into_inner).len()).sum()
    }
}

impl Entry {
    fn new(wanted: Wanted) -> Self {
        Self { wanted, audience: Audience::default(), joining: 0, newest: None }
    }

    /// What a newcomer is told, whose inbox was `read` while others may have been told of something newer.
    fn admit(&mut self, read: Inbox) -> Inbox {
        let inbox = self.newest.map_or(read, |newest| newest.or_newer(read));
        // Those who are here already may not have been told of it yet.
        if self.audience.is_empty() {
            self.newest = Some(inbox);
        }
        inbox
    }

    fn tell(&mut self, event: &Event, inbox: Inbox, asker: Option<&Asker>) {
        self.newest = Some(self.newest.map_or(inbox, |newest| newest.or_newer(inbox)));
        self.audience.tell(event, asker, || event.clone());
    }

    fn is_over(&self) -> bool {
        self.joining == 0 && self.audience.is_empty()
    }
}

/// A session on its way in: keeps its user's entry until it is dropped.
struct Joining<'a> {
    hub: &'a Hub,
    user_id: &'a str,
    wanted: Wanted,
}

impl<'a> Joining<'a> {
    fn begin(hub: &'a Hub, user_id: &'a str) -> Self {
        let want = || hub.doorbell.want(user_id);
        hub.shard(user_id).entry(user_id.to_owned()).or_insert_with(|| Entry::new(want())).joining += 1;
        Self { hub, user_id, wanted: want() }
    }
}

impl Drop for Joining<'_> {
    fn drop(&mut self) {
        let mut users = self.hub.shard(self.user_id);
        let Some(entry) = users.get_mut(self.user_id) else { return };
        entry.joining -= 1;
        if entry.is_over() {
            users.remove(self.user_id);
        }
    }
}

#[cfg(test)]
mod tests;
