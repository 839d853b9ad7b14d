//! The feed: everything that was stored, told to other services.
//!
//! A watcher reads pages of names at its own pace, and what they name just before it is told. So a slow one holds a page of
//! names and a few messages, and what is erased is told for a second at most.

use std::{
    collections::{HashMap, VecDeque},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use futures_util::{Stream, stream};
use switchboard_chassis::{Error, Kind as Wrong, Lifecycle, clock::timestamp, db::Result as Stored};
use switchboard_proto::chat::v1::{
    SeqRange, WatchEventType, WatchHeartbeat, WatchRequest, WatchResponse, WatchStart, WatchedClosing, WatchedErasure,
    WatchedOpening, WatchedReceipts, watch_response::Event,
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};
use tonic::Status;
use uuid::Uuid;

use crate::{
    bell::{Bell, Ear},
    convert,
    model::Kind,
    store::{
        Store,
        feed::{BadPlace, Entry, EventRow, Gone, Happening, Moved, Page, Place, What},
    },
};

/// Of one instance.
pub(crate) const WATCHERS_MAX: usize = 64;
/// A watcher that is told nothing else is told at least so often up to where there was nothing.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// How often is looked without a ring.
const POLL: Duration = Duration::from_secs(1);
/// What was stored while another transaction runs is looked for again after this time, doubling up to `POLL`.
const PENDING: Duration = Duration::from_millis(10);
/// Rings within this time are one.
const CALM: Duration = Duration::from_millis(5);
/// What is read of the database just before it is told.
const READ_MAX: usize = 32;
/// What was read longer ago is read again.
const FRESH: Duration = Duration::from_secs(1);

/// What the RPC needs.
#[derive(Clone)]
pub(crate) struct Feed {
    store: Arc<Store>,
    bell: Bell,
    places: Arc<Semaphore>,
    lifecycle: Lifecycle,
}

/// What is told to one watcher.
pub type WatchStream = Pin<Box<dyn Stream<Item = Result<WatchResponse, Status>> + Send>>;

impl Feed {
    pub(crate) fn new(store: Arc<Store>, bell: Bell, lifecycle: Lifecycle) -> Self {
        Self { store, bell, places: Arc::new(Semaphore::new(WATCHERS_MAX)), lifecycle }
    }

    /// Something was stored.
    pub(crate) fn ring(&self) {
        self.bell.ring();
    }

    pub(crate) async fn watch(&self, request: WatchRequest) -> Result<WatchStream, Error> {
        let filter = Filter::read(&request)?;
        let permit = self.places.clone().try_acquire_owned().map_err(|_| {
            Error::new(Wrong::Overloaded, "OVERLOADED", "too many watchers here: end some, or ask another instance")
        })?;
        // Before the place is read, so that nothing falls between.
        let ear = self.bell.ear();
        let place = self.place(&request).await?;
        let watcher = Watcher {
            store: self.store.clone(),
            filter,
            ear,
            place,
            names: VecDeque::new(),
            read: VecDeque::new(),
            read_at: Instant::now(),
            after_page: None,
            wait: None,
            told_at: None,
            lifecycle: self.lifecycle.clone(),
            _permit: permit,
        };
        Ok(Box::pin(stream::unfold(Some(watcher), |watcher| async {
            let mut watcher = watcher?;
            match watcher.next().await {
                Ok(response) => Some((Ok(response), Some(watcher))),
                Err(status) => Some((Err(status), None)),
            }
        })))
    }

    async fn place(&self, request: &WatchRequest) -> Result<Place, Error> {
        if request.cursor.is_empty() {
            return Ok(match request.start() {
                WatchStart::Oldest => self.store.oldest(),
                WatchStart::Now | WatchStart::Unspecified => self.store.newest().await?,
            });
        }
        let foreign = || Error::invalid("cursor", "is not one that we gave");
        let place = Place::read(&request.cursor).ok_or_else(foreign)?;
        match self.store.check_place(place).await? {
            Ok(()) => Ok(place),
            Err(BadPlace::Foreign) => Err(foreign()),
            Err(BadPlace::Ahead) => Err(Error::new(
                Wrong::Precondition,
                "CURSOR_AHEAD",
                "the cursor is from after everything that this database has seen: it was restored; begin anew",
            )),
        }
    }
}

/// What a watcher wants to be told.
struct Filter {
    /// None is all.
    kinds: Vec<i32>,
    types: Vec<WatchEventType>,
}

impl Filter {
    fn read(request: &WatchRequest) -> Result<Self, Error> {
        let kinds: Vec<Kind> = request.kinds().collect();
        let types: Vec<WatchEventType> = request.types().collect();
        if kinds.len() < request.kinds.len() || kinds.contains(&Kind::Unspecified) {
            return Err(Error::invalid("kinds", "not all are kinds of conversation"));
        }
        if types.len() < request.types.len() || types.contains(&WatchEventType::Unspecified) {
            return Err(Error::invalid("types", "not all are types of event"));
        }
        Ok(Self { kinds: request.kinds.clone(), types })
    }

    fn wants(&self, entry: &Entry) -> bool {
        let event_type = match entry.what {
            What::Message(_) => WatchEventType::Message,
            What::Event(Happening::Opened, _) => WatchEventType::ConversationOpened,
            What::Event(Happening::Closed, _) => WatchEventType::ConversationClosed,
            What::Event(Happening::Receipts, _) => WatchEventType::Receipts,
            What::Event(Happening::Erased, _) => WatchEventType::Erased,
            What::Unknown => return false,
        };
        (self.kinds.is_empty() || self.kinds.contains(&entry.kind))
            && (self.types.is_empty() || self.types.contains(&event_type))
    }
}

struct Watcher {
    store: Arc<Store>,
    filter: Filter,
    ear: Ear,
    /// Up to here everything was told, or not wanted.
    place: Place,
    /// What is to be told after it.
    names: VecDeque<Entry>,
    /// The first of it, as it was read at `read_at`; `None` when it is gone.
    read: VecDeque<(Entry, Option<Event>)>,
    read_at: Instant,
    /// Where all of `names` end, and how long is waited there: `None` not at all.
    after_page: Option<(Place, Option<Duration>)>,
    /// How long is waited before the next page, at most.
    wait: Option<Duration>,
    told_at: Option<Instant>,
    lifecycle: Lifecycle,
    _permit: OwnedSemaphorePermit,
}

impl Watcher {
    async fn next(&mut self) -> Result<WatchResponse, Status> {
        if self.told_at.is_none() {
            return Ok(self.heartbeat());
        }
        loop {
            if self.lifecycle.is_draining() {
                return Err(
                    Error::new(Wrong::Unavailable, "UNAVAILABLE", "this instance is ending; go on at another").into()
                );
            }
            self.keep_fresh();
            if let Some((entry, event)) = self.read.pop_front() {
                self.place = entry.place;
                if let Some(event) = event {
                    return Ok(self.tell(entry.kind, event));
                }
            } else if !self.names.is_empty() {
                self.read_some().await?;
            } else if let Some((end, wait)) = self.after_page.take() {
                (self.place, self.wait) = (end, wait);
            } else if self.told_at.is_some_and(|told_at| told_at.elapsed() >= HEARTBEAT) {
                return Ok(self.heartbeat());
            } else {
                self.read_page().await?;
            }
        }
    }

    fn tell(&mut self, kind: i32, event: Event) -> WatchResponse {
        self.told_at = Some(Instant::now());
        WatchResponse { cursor: self.place.write(), kind, event: Some(event) }
    }

    fn heartbeat(&mut self) -> WatchResponse {
        self.tell(Kind::Unspecified.into(), Event::Heartbeat(WatchHeartbeat {}))
    }

    /// What was read long ago may be gone by now.
    fn keep_fresh(&mut self) {
        if self.read_at.elapsed() > FRESH {
            for (entry, _) in self.read.drain(..).rev() {
                self.names.push_front(entry);
            }
        }
    }

    async fn read_page(&mut self) -> Result<(), Status> {
        if let Some(wait) = self.wait {
            let due = self.told_at.map_or(HEARTBEAT, |told_at| HEARTBEAT.saturating_sub(told_at.elapsed()));
            tokio::select! {
                () = self.ear.rung() => tokio::time::sleep(CALM).await,
                () = tokio::time::sleep(wait.min(due)) => {}
                () = self.lifecycle.drained() => return Ok(()),
            }
        }
        self.ear.clear();
        let Page { entries, end, is_full, is_pending } = self.store.page_after(self.place).await?;
        let wait = if is_full {
            None
        } else if is_pending {
            // Nothing rings when a transaction has ended.
            let longer = self.wait.filter(|_| entries.is_empty()).map_or(PENDING, |wait| wait * 2);
            Some(longer.min(POLL))
        } else {
            Some(POLL)
        };
        self.names.extend(entries.into_iter().filter(|entry| self.filter.wants(entry)));
        self.after_page = Some((end, wait));
        Ok(())
    }

    async fn read_some(&mut self) -> Result<(), Status> {
        let names: Vec<Entry> = self.names.iter().take(READ_MAX).copied().collect();
        self.read_at = Instant::now();
        let mut read = Reading::of(&self.store, &names).await?;
        let mut events = Vec::with_capacity(names.len());
        for entry in &names {
            events.push((*entry, read.event(&self.store, entry).await?));
        }
        self.names.drain(..names.len());
        self.read.extend(events);
        Ok(())
    }
}

/// What names name.
struct Reading {
    messages: HashMap<(Uuid, i64), switchboard_proto::chat::v1::Message>,
    events: HashMap<i64, EventRow>,
}

impl Reading {
    async fn of(store: &Store, names: &[Entry]) -> Stored<Self> {
        let messages: Vec<(Uuid, i64)> = names
            .iter()
            .filter_map(|entry| match entry.what {
                What::Message(seq) => Some((entry.conversation_id, seq)),
                _ => None,
            })
            .collect();
        let events: Vec<i64> = names
            .iter()
            .filter_map(|entry| match entry.what {
                What::Event(_, place) => Some(place),
                _ => None,
            })
            .collect();
        let messages = store.messages_at(&messages).await?.into_iter().map(|message| {
            let key = (message.conversation_id, i64::try_from(message.seq).unwrap_or(i64::MAX));
            (key, convert::message(message))
        });
        let events = store.events_at(&events).await?.into_iter().map(|row| (row.place, row));
        Ok(Self { messages: messages.collect(), events: events.collect() })
    }

    /// `None` when it is gone.
    async fn event(&mut self, store: &Store, entry: &Entry) -> Stored<Option<Event>> {
        let conversation_id = entry.conversation_id;
        let (happening, place) = match entry.what {
            What::Message(seq) => return Ok(self.messages.remove(&(conversation_id, seq)).map(Event::Message)),
            What::Unknown => return Ok(None),
            What::Event(happening, place) => (happening, place),
        };
        let Some(row) = self.events.remove(&place) else { return Ok(None) };
        Ok(match happening {
            Happening::Opened | Happening::Closed => store.conversation(conversation_id).await?.map(|conversation| {
                let conversation = Some(convert::conversation(&conversation));
                match happening {
                    Happening::Opened => Event::ConversationOpened(WatchedOpening { conversation }),
                    _ => Event::ConversationClosed(WatchedClosing { conversation }),
                }
            }),
            Happening::Receipts => serde_json::from_str(&row.detail).ok().map(|Moved { role, status, ranges }| {
                Event::Receipts(WatchedReceipts {
                    conversation_id: conversation_id.to_string(),
                    user_id: row.user_id.unwrap_or_default(),
                    role,
                    status,
                    messages: ranges.into_iter().map(|(first, last)| SeqRange { first, last }).collect(),
                    at: Some(timestamp(row.at)),
                })
            }),
            Happening::Erased => serde_json::from_str(&row.detail).ok().map(|Gone { user_id_sha256, messages }| {
                Event::Erased(WatchedErasure {
                    conversation_id: conversation_id.to_string(),
                    user_id_sha256,
                    messages: i64::try_from(messages).unwrap_or(i64::MAX),
                    at: Some(timestamp(row.at)),
                })
            }),
        })
    }
}

#[cfg(test)]
mod tests;
