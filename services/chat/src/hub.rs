//! Who of this instance is in which conversation, and what they are told.
//!
//! A room exists while somebody of this instance is in it. It tells messages in the order of `seq` and each once: the
//! next in order goes out at once; one that is ahead makes the room read what it misses from the database; one that is
//! behind was told already. Everything about one room happens under one lock, which is never held over an await.

use std::{
    collections::{HashMap, HashSet, hash_map::Entry},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use switchboard_bus::{Missed, Part, Wanted};
use switchboard_chassis::{Clock, clock::timestamp};
use switchboard_proto::{
    chat::v1::{
        Accepted, Conversation as WireConversation, ConversationClosed, Joined, Message as WireMessage,
        ParticipantJoined, ParticipantLeft, converse_response::Event,
    },
    wire,
};
use switchboard_sessions::Audience;
use tokio::sync::Notify;
use uuid::Uuid;

use crate::{
    Asker, Link,
    absence::{Arrival, Arrivals, Noted},
    convert,
    doorbell::{Doorbell, part_of},
    model::{self, Conversation, Kind, Openness, Refusal, Role},
    rules,
    store::{MessagesFrom, Store},
};

const SHARDS: usize = 64;
/// Rooms that look at the database at a time.
const HEADS_MAX: usize = 500;
/// Messages read at a time to close a gap.
const GAP_PAGE: u32 = 256;

pub(crate) struct Hub {
    shards: Vec<Mutex<HashMap<Uuid, Room>>>,
    store: Arc<Store>,
    doorbell: Doorbell,
    clock: Clock,
    noted: Noted,
    arrivals: Arrivals,
}

enum Room {
    /// Somebody reads it from the database. Messages that are stored meanwhile raise the head.
    Loading {
        head: u64,
        loaded: Arc<Notify>,
    },
    Open(OpenRoom),
}

struct OpenRoom {
    conversation: Arc<Conversation>,
    /// What other instances tell of it is heard.
    wanted: Wanted,
    /// The last message that the sessions were told of.
    told: u64,
    /// The newest message known to be stored; above `told` while a gap is being closed.
    head: u64,
    audience: Audience<wire::Chat>,
    /// How many sessions each user has here, per role.
    people: HashMap<(String, Role), usize>,
    /// Who was told to have left.
    gone: HashSet<(String, Role)>,
}

/// Who wants to enter, and how.
#[derive(Clone, Debug)]
pub(crate) struct Entrant {
    pub(crate) user_id: String,
    /// Empty takes the user's own seat.
    pub(crate) role: String,
    /// Not empty: a conversation of another kind is none.
    pub(crate) kinds: Vec<Kind>,
    /// It was in before its stream broke.
    pub(crate) again: bool,
    /// It only looks on, and needs no seat.
    pub(crate) unseen: bool,
}

/// A session that is in.
#[derive(Clone, Debug)]
pub(crate) struct Admitted {
    pub(crate) conversation: Arc<Conversation>,
    pub(crate) user_id: String,
    pub(crate) role: Role,
    /// It only looks on: it is nobody here, and may do nothing.
    pub(crate) unseen: bool,
}

impl Hub {
    pub(crate) fn new(store: Arc<Store>, doorbell: Doorbell, clock: Clock, noted: Noted, arrivals: Arrivals) -> Self {
        Self { shards: (0..SHARDS).map(|_| Mutex::default()).collect(), store, doorbell, clock, noted, arrivals }
    }

    /// How many conversations are open here.
    pub(crate) fn rooms(&self) -> i64 {
        let rooms = self.shards.iter().map(|shard| shard.lock().unwrap_or_else(PoisonError::into_inner).len());
        i64::try_from(rooms.sum::<usize>()).unwrap_or(i64::MAX)
    }

    fn shard(&self, id: Uuid) -> MutexGuard<'_, HashMap<Uuid, Room>> {
        // The last bytes of a version 7 UUID are random.
        let shard = usize::from(id.as_bytes()[15]) % SHARDS;
        self.shards[shard].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a session in, to a conversation that is probably told of in this part. Its `Joined` is on its link before
    /// anything that comes after.
    pub(crate) async fn join(
        &self,
        asker: &Asker,
        conversation_id: Uuid,
        part: Part,
        entrant: Entrant,
    ) -> Result<Admitted, Refusal> {
        loop {
            let loaded = {
                let mut rooms = self.shard(conversation_id);
                match rooms.entry(conversation_id) {
                    Entry::Occupied(mut room) => match room.get_mut() {
                        Room::Open(room) => return self.admit(room, asker, entrant),
                        Room::Loading { loaded, .. } => Some(loaded.clone().notified_owned()),
                    },
                    Entry::Vacant(place) => {
                        place.insert(Room::Loading { head: 0, loaded: Arc::default() });
                        None
                    }
                }
            };
            match loaded {
                Some(loaded) => loaded.await,
                None => self.load(conversation_id, part).await?,
            }
        }
    }

    /// Reads the conversation of a room that is `Loading`.
    async fn load(&self, id: Uuid, part: Part) -> Result<(), Refusal> {
        // If this future is dropped half-way, the room must not stay `Loading`.
        let abandon = Abandon { hub: self, id };
        let found = self.read(id, part).await;
        std::mem::forget(abandon);
        let mut rooms = self.shard(id);
        let Some(Room::Loading { head, loaded }) = rooms.remove(&id) else { return Ok(()) };
        loaded.notify_waiters();
        let (conversation, wanted) = found?;
        let head = head.max(conversation.last_seq);
        let room = OpenRoom {
            conversation: Arc::new(conversation),
            wanted,
            told: head,
            head,
            audience: Audience::default(),
            people: HashMap::new(),
            gone: HashSet::new(),
        };
        rooms.insert(id, Room::Open(room));
        Ok(())
    }

    /// Reads a conversation after the others are heard, so that nothing falls between.
    async fn read(&self, id: Uuid, mut part: Part) -> Result<(Conversation, Wanted), Refusal> {
        loop {
            let mut wanted = self.doorbell.want(part);
            wanted.heard().await;
            let conversation = self.store.conversation(id).await?.ok_or_else(model::no_conversation)?;
            if part_of(&conversation) == part {
                return Ok((conversation, wanted));
            }
            part = part_of(&conversation);
        }
    }

    fn admit(&self, room: &mut OpenRoom, asker: &Asker, entrant: Entrant) -> Result<Admitted, Refusal> {
        let Entrant { user_id, role, kinds, again, unseen } = entrant;
        if unseen {
            return Ok(look_on(room, asker));
        }
        if !kinds.is_empty() && !kinds.contains(&room.conversation.kind) {
            return Err(model::no_conversation());
        }
        let role = rules::enter(&room.conversation, &user_id, &role)?;
        let conversation = WireConversation { last_seq: room.told, ..convert::conversation(&room.conversation) };
        room.audience.enter(&asker.link, asker.session);
        asker.tell(Event::Joined(Joined { conversation: Some(conversation), role: role.as_str().to_owned() }));
        let person = (user_id.clone(), role);
        let was_gone = room.gone.remove(&person);
        let sessions = room.people.entry(person).or_default();
        *sessions += 1;
        if *sessions == 1 && (!again || was_gone) && rules::announces_joins(room.conversation.kind) {
            let at = Some(timestamp(self.clock.now()));
            let joined = ParticipantJoined { user_id: user_id.clone(), role: role.as_str().to_owned(), at };
            self.tell_everywhere(room, Event::ParticipantJoined(joined), None);
        }
        self.arrived(&room.conversation, &user_id);
        Ok(Admitted { conversation: room.conversation.clone(), user_id, role, unseen: false })
    }

    /// Somebody is in a conversation, and misses nothing any more.
    pub(crate) fn arrived(&self, conversation: &Conversation, user_id: &str) {
        if self.noted.notes(conversation.kind) {
            let (conversation_id, user_id, at) = (conversation.id, user_id.to_owned(), self.clock.now());
            self.arrivals.note(Arrival { conversation_id, user_id, at });
        }
    }

    /// Who of a conversation is not there while somebody writes, and shall be notified of it.
    pub(crate) fn absent(&self, conversation: &Conversation, sender_id: &str) -> Vec<String> {
        if !self.noted.notes(conversation.kind) {
            return Vec::new();
        }
        let rooms = self.shard(conversation.id);
        let room = match rooms.get(&conversation.id) {
            Some(Room::Open(room)) => Some(room),
            _ => None,
        };
        let is_away = |user_id: &str| room.is_none_or(|room| !room.has(user_id));
        // A seat may have been erased since the writer came in.
        let seats = room.map_or(&conversation.seats, |room| &room.conversation.seats);
        let others = seats.iter().map(|seat| &seat.user_id).filter(|user_id| *user_id != sender_id);
        others.filter(|user_id| is_away(user_id)).cloned().collect()
    }

    /// Whether somebody is in a conversation, on this instance.
    pub(crate) fn is_there(&self, conversation_id: Uuid, user_id: &str) -> bool {
        match self.shard(conversation_id).get(&conversation_id) {
            Some(Room::Open(room)) => room.has(user_id),
            _ => false,
        }
    }

    /// Lets a session go. The room goes with its last one.
    pub(crate) fn leave(&self, link: &Link, session: u64, admitted: &Admitted, moves: bool) {
        let id = admitted.conversation.id;
        let mut rooms = self.shard(id);
        let Some(Room::Open(room)) = rooms.get_mut(&id) else { return };
        if !room.audience.leave(link, session) {
            return;
        }
        let person = (admitted.user_id.clone(), admitted.role);
        if !admitted.unseen
            && let Some(sessions) = room.people.get_mut(&person)
        {
            *sessions -= 1;
            if *sessions == 0 {
                room.people.remove(&person);
                if !moves && rules::announces_joins(room.conversation.kind) {
                    let at = Some(timestamp(self.clock.now()));
                    let left = ParticipantLeft { user_id: person.0.clone(), role: person.1.as_str().to_owned(), at };
                    room.gone.insert(person);
                    self.tell_everywhere(room, Event::ParticipantLeft(left), None);
                }
            }
        }
        if room.audience.is_empty() {
            rooms.remove(&id);
        }
    }

    /// Tells what is not a message: here and, by the bus, elsewhere.
    pub(crate) fn tell(&self, conversation: &Conversation, event: Event, asker: Option<&Asker>) {
        let id = conversation.id;
        let told = match self.shard(id).get(&id) {
            Some(Room::Open(room)) => {
                self.tell_everywhere(room, event, asker);
                return;
            }
            _ => event,
        };
        self.doorbell.ring(part_of(conversation), id, &told);
        if let Some(asker) = asker {
            asker.tell(Event::Accepted(Accepted {}));
        }
    }

    fn tell_everywhere(&self, room: &OpenRoom, event: Event, asker: Option<&Asker>) {
        self.doorbell.ring(room.wanted.part(), room.conversation.id, &event);
        room.tell_here(&event, asker);
    }

    /// Tells what another instance told. Messages take their place in the order.
    pub(crate) fn overheard(self: &Arc<Self>, conversation_id: Uuid, event: Event) {
        if let Event::Message(message) = event {
            self.arrive_elsewhere(conversation_id, &message.sender_id);
            self.place(conversation_id, message, None);
            return;
        }
        let mut rooms = self.shard(conversation_id);
        let Some(Room::Open(room)) = rooms.get_mut(&conversation_id) else { return };
        if matches!(event, Event::ConversationClosed(_)) {
            room.close();
        }
        room.tell_here(&event, None);
    }

    /// Another instance stored a message, and does not know who is here.
    fn arrive_elsewhere(&self, conversation_id: Uuid, sender_id: &str) {
        if let Some(Room::Open(room)) = self.shard(conversation_id).get(&conversation_id) {
            for (user_id, _) in room.people.keys().filter(|(user_id, _)| user_id != sender_id) {
                self.arrived(&room.conversation, user_id);
            }
        }
    }

    /// Tells a message that was just stored by this instance.
    pub(crate) fn stored(
        self: &Arc<Self>,
        (conversation_id, part): (Uuid, Part),
        message: WireMessage,
        asker: Option<&Asker>,
    ) {
        let event = Event::Message(message);
        self.doorbell.ring(part, conversation_id, &event);
        if let Event::Message(message) = event {
            self.place(conversation_id, message, asker);
        }
    }

    pub(crate) fn closed(&self, conversation: &Conversation) {
        if let Some(Room::Open(room)) = self.shard(conversation.id).get_mut(&conversation.id) {
            room.close();
        }
        self.tell(conversation, Event::ConversationClosed(ConversationClosed {}), None);
    }

    /// The user was erased and sits nowhere any more: nothing that its open sessions say is taken.
    pub(crate) fn unseat(&self, user_id: &str) {
        for shard in &self.shards {
            for room in shard.lock().unwrap_or_else(PoisonError::into_inner).values_mut() {
                if let Room::Open(room) = room
                    && room.conversation.seats.iter().any(|seat| seat.user_id == user_id)
                {
                    room.unseat(user_id);
                }
            }
        }
    }

    /// Whether somebody who entered may still act: a seat may have been erased since.
    pub(crate) fn still_sits(&self, admitted: &Admitted) -> bool {
        let id = admitted.conversation.id;
        match self.shard(id).get(&id) {
            Some(Room::Open(room)) if !Arc::ptr_eq(&room.conversation, &admitted.conversation) => {
                rules::enter(&room.conversation, &admitted.user_id, admitted.role.as_str()).is_ok()
            }
            _ => true,
        }
    }

    fn place(self: &Arc<Self>, id: Uuid, message: WireMessage, asker: Option<&Asker>) {
        let mut rooms = self.shard(id);
        if let Some(Room::Open(room)) = rooms.get_mut(&id)
            && message.seq == room.told + 1
            && room.head == room.told
        {
            room.told = message.seq;
            room.head = message.seq;
            room.tell_here(&Event::Message(message), asker);
            return;
        }
        self.raise(&mut rooms, id, message.seq);
        drop(rooms);
        if let Some(asker) = asker {
            asker.tell(Event::Accepted(Accepted {}));
        }
    }

    /// Messages up to `seq` are known to be stored: a room that was not told of them reads them.
    fn raise(self: &Arc<Self>, rooms: &mut HashMap<Uuid, Room>, id: Uuid, seq: u64) {
        match rooms.get_mut(&id) {
            Some(Room::Open(room)) => {
                let was_closing = room.head > room.told;
                room.head = room.head.max(seq);
                if room.head > room.told && !was_closing {
                    tokio::spawn(self.clone().close_gap(room.conversation.clone()));
                }
            }
            Some(Room::Loading { head, .. }) => *head = (*head).max(seq),
            None => {}
        }
    }

    /// Reads what a room misses until nothing is missing, or nobody is there.
    async fn close_gap(self: Arc<Self>, conversation: Arc<Conversation>) {
        let id = conversation.id;
        loop {
            let (seq, head) = match self.shard(id).get(&id) {
                Some(Room::Open(room)) if room.head > room.told => (room.told, room.head),
                _ => return,
            };
            let from = MessagesFrom { seq, skip: 0, newest_first: false };
            let page = match self.store.messages(&conversation, from, GAP_PAGE).await {
                Ok(page) => page,
                Err(_) => {
                    // The database said why in the log. It is asked again: the room must not stay behind.
                    tokio::time::sleep(switchboard_chassis::error::RETRY_AFTER).await;
                    continue;
                }
            };
            let mut rooms = self.shard(id);
            let Some(Room::Open(room)) = rooms.get_mut(&id) else { return };
            if page.messages.is_empty() {
                // What was announced when this page was read has been erased since.
                room.told = room.told.max(head);
            }
            for message in page.messages {
                if message.seq > room.told {
                    room.told = message.seq;
                    room.head = room.head.max(message.seq);
                    room.tell_here(&Event::Message(convert::message(message)), None);
                }
            }
        }
    }

    /// The bus may have kept something from us: every room that it concerns looks at the database, many in one statement.
    pub(crate) async fn look_again(self: &Arc<Self>, missed: &Missed) {
        for shard in &self.shards {
            let ids: Vec<Uuid> = {
                let rooms = shard.lock().unwrap_or_else(PoisonError::into_inner);
                let behind = rooms.iter().filter(|(_, room)| match room {
                    Room::Open(room) => missed.of_part(room.wanted.part()),
                    Room::Loading { .. } => true,
                });
                behind.map(|(id, _)| *id).collect()
            };
            for ids in ids.chunks(HEADS_MAX) {
                let heads = loop {
                    match self.store.heads(ids).await {
                        Ok(heads) => break heads,
                        Err(_) => tokio::time::sleep(switchboard_chassis::error::RETRY_AFTER).await,
                    }
                };
                for (id, last_seq) in heads {
                    self.raise(&mut self.shard(id), id, last_seq);
                }
            }
        }
    }
}

impl OpenRoom {
    fn tell_here(&self, event: &Event, asker: Option<&Asker>) {
        self.audience.tell(event, asker, || Event::Accepted(Accepted {}));
    }

    /// Whether a user has a session here.
    fn has(&self, user_id: &str) -> bool {
        self.people.keys().any(|(theirs, _)| theirs == user_id)
    }

    fn unseat(&mut self, user_id: &str) {
        let mut conversation = (*self.conversation).clone();
        conversation.seats.retain(|seat| seat.user_id != user_id);
        self.conversation = Arc::new(conversation);
    }

    fn close(&mut self) {
        let conversation = Conversation { openness: Openness::Closed, ..(*self.conversation).clone() };
        self.conversation = Arc::new(conversation);
    }
}

/// Lets somebody in who is nobody in the room.
fn look_on(room: &mut OpenRoom, asker: &Asker) -> Admitted {
    let conversation = WireConversation { last_seq: room.told, ..convert::conversation(&room.conversation) };
    room.audience.enter(&asker.link, asker.session);
    asker.tell(Event::Joined(Joined { conversation: Some(conversation), role: String::new() }));
    Admitted { conversation: room.conversation.clone(), user_id: String::new(), role: Role::Staff, unseen: true }
}

struct Abandon<'a> {
    hub: &'a Hub,
    id: Uuid,
}

impl Drop for Abandon<'_> {
    fn drop(&mut self) {
        if let Some(Room::Loading { loaded, .. }) = self.hub.shard(self.id).remove(&self.id) {
            loaded.notify_waiters();
        }
    }
}
