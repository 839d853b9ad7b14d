//! Who of this instance is in which share, and where its therapist is.

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, Hash, RandomState},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use prost::Message as _;
use switchboard_bus::{Bus, Heard, Parts, Subscription, Wanted};
use switchboard_chassis::{Clock, Lifecycle, Micros, clock::micros, error::RETRY_AFTER, secret::sha256_hex};
use switchboard_proto::{
    location::v1::{Joined, Moved, share_response::Event},
    part,
    wire::{Location, Misuse, Wire as _},
};
use switchboard_sessions::{Asker, Audience, Link};

use crate::{
    model::{Pair, Position, Role},
    store::Store,
};

const SUBJECT: &str = "location.events";
const SHARDS: usize = 64;

pub(crate) struct Hub {
    shards: Vec<Mutex<Shares>>,
    hasher: RandomState,
    bus: Bus,
    parts: Parts,
    clock: Clock,
    expire_after: Duration,
}

type Shares = HashMap<Key, Share>;

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Key {
    customer_id: String,
    therapist_id: String,
}

#[derive(Default)]
struct Share {
    audience: Audience<Location>,
    /// While somebody is here, what other instances tell of it is heard.
    wanted: Option<Wanted>,
    last: Option<Position>,
    /// The last position is not stored yet.
    is_unstored: bool,
}

/// What goes over the bus. Instances of neighbouring versions must understand it: only add fields.
#[derive(Clone, PartialEq, prost::Message)]
struct Ring {
    /// A therapist moved.
    #[prost(message, optional, tag = "1")]
    moved: Option<Moved>,
    /// A user was erased: what is remembered of that user's shares is forgotten.
    #[prost(string, tag = "2")]
    erased_user_id: String,
}

impl Hub {
    /// How many shares are known here.
    pub(crate) fn shares(&self) -> i64 {
        let shares = self.shards.iter().map(|shard| shard.lock().unwrap_or_else(PoisonError::into_inner).len());
        i64::try_from(shares.sum::<usize>()).unwrap_or(i64::MAX)
    }

    /// What is heard of other instances is to be given to [`listen`].
    pub(crate) async fn new(bus: Bus, clock: Clock, expire_after: Duration) -> std::io::Result<(Self, Subscription)> {
        let subscription = bus.subscribe(SUBJECT).await?;
        let parts = subscription.parts().clone();
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        Ok((Self { shards, hasher: RandomState::new(), bus, parts, clock, expire_after }, subscription))
    }

    /// Hears what other instances tell of a share.
    pub(crate) fn want(&self, pair: &Pair) -> Wanted {
        self.parts.want(part::of_pair(pair))
    }

    pub(crate) fn now(&self) -> Micros {
        self.clock.now()
    }

    /// Positions from before are too old.
    pub(crate) fn horizon(&self) -> Micros {
        self.now().saturating_sub(micros(self.expire_after))
    }

    fn shard(&self, key: &Key) -> MutexGuard<'_, Shares> {
        let shards = u64::try_from(SHARDS).unwrap_or(u64::MAX);
        let shard = usize::try_from(self.hasher.hash_one(key) % shards).unwrap_or_default();
        self.shards[shard].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a session in; `stored` is what the database knows since the share is heard.
    pub(crate) fn join(
        &self,
        asker: &Asker<Location>,
        (pair, wanted): (&Pair, Wanted),
        role: Role,
        stored: Option<Position>,
    ) {
        let horizon = self.horizon();
        let key = Key::from(pair);
        let mut shares = self.shard(&key);
        let share = shares.entry(key).or_default();
        // What is remembered may be newer than what was stored when it was read, or older: another instance's.
        let last = share.last.max_by_time(stored).filter(|last| last.at >= horizon);
        share.audience.enter(&asker.link, asker.session);
        share.wanted.get_or_insert(wanted);
        // Under the lock, so that positions come after it.
        asker.tell(Event::Joined(Joined {
            pair: Some(pair.clone()),
            role: role.as_str().to_owned(),
            last: last.map(Into::into),
        }));
    }

    /// Lets a session go.
    pub(crate) fn leave(&self, link: &Link<Location>, session: u64, pair: &Pair) {
        let key = Key::from(pair);
        let mut shares = self.shard(&key);
        let Some(share) = shares.get_mut(&key) else { return };
        share.audience.leave(link, session);
        if share.audience.is_empty() {
            share.wanted = None;
        }
        if share.is_over() {
            shares.remove(&key);
        }
    }

    /// Tells where a therapist is: here and, by the bus, elsewhere. It is stored a moment later.
    pub(crate) fn moved(&self, pair: &Pair, position: Position, asker: Option<&Asker<Location>>) {
        let moved = Moved { pair: Some(pair.clone()), position: Some(position.into()) };
        self.bus.publish((SUBJECT, part::of_pair(pair)), || {
            Ring { moved: Some(moved.clone()), ..Ring::default() }.encode_to_vec().into()
        });
        let key = Key::from(pair);
        let mut shares = self.shard(&key);
        let share = shares.entry(key).or_default();
        (share.last, share.is_unstored) = (Some(position), true);
        share.audience.tell(&Event::Moved(moved), asker, || Location::misused(Misuse::NotJoined));
    }

    /// The newest position of a share that this instance remembers.
    pub(crate) fn last(&self, pair: &Pair) -> Option<Position> {
        let key = Key::from(pair);
        self.shard(&key).get(&key).and_then(|share| share.last)
    }

    /// Forgets the positions of a user who was erased at a time, here and elsewhere. Whoever calls it has the store's
    /// turn: what is on its way to the database is forgotten, too.
    pub(crate) fn forget(&self, user_id: &str, erased_at: Micros) {
        self.bus
            .publish(SUBJECT, || Ring { erased_user_id: user_id.to_owned(), ..Ring::default() }.encode_to_vec().into());
        self.forget_here(erased_at, |id| id == user_id);
    }

    fn forget_here(&self, erased_at: Micros, is_erased: impl Fn(&str) -> bool) {
        for shard in &self.shards {
            shard.lock().unwrap_or_else(PoisonError::into_inner).retain(|key, share| {
                let is_old = share.last.is_some_and(|last| last.at <= erased_at);
                if is_old && (is_erased(&key.customer_id) || is_erased(&key.therapist_id)) {
                    (share.last, share.is_unstored) = (None, false);
                }
                !share.is_over()
            });
        }
    }

    /// Forgets what other instances erased.
    async fn forget_erased(&self, store: &Store) {
        let erasures = loop {
            match store.erasures(self.horizon()).await {
                Ok(erasures) => break erasures,
                // The database said why in the log. It is asked again: what was erased must not be told.
                Err(_) => tokio::time::sleep(RETRY_AFTER).await,
            }
        };
        let _turn = store.turn().await;
        for (user, erased_at) in erasures {
            self.forget_here(erased_at, |id| sha256_hex(id) == user);
        }
    }

    /// What is to be stored, in the order of the pairs. What is too old is forgotten.
    pub(crate) fn unstored(&self) -> Vec<(Pair, Position)> {
        let horizon = self.horizon();
        let mut unstored = Vec::new();
        for shard in &self.shards {
            shard.lock().unwrap_or_else(PoisonError::into_inner).retain(|key, share| {
                share.last = share.last.filter(|last| last.at >= horizon);
                share.is_unstored &= share.last.is_some();
                if let Some(last) = share.last.filter(|_| share.is_unstored) {
                    unstored.push((key.clone(), last));
                }
                !share.is_over()
            });
        }
        unstored.sort_by(|(one, _), (other, _)| one.cmp(other));
        unstored.into_iter().map(|(key, position)| (key.into(), position)).collect()
    }

    /// These were stored. Until then they are remembered, also where nobody is any more.
    pub(crate) fn stored(&self, positions: &[(Pair, Position)]) {
        for (pair, position) in positions {
            let key = Key::from(pair);
            let mut shares = self.shard(&key);
            let Some(share) = shares.get_mut(&key) else { continue };
            // A newer one may have come meanwhile.
            share.is_unstored &= share.last != Some(*position);
            if share.is_over() {
                shares.remove(&key);
            }
        }
    }

    fn overheard(&self, moved: Moved) {
        let (Some(pair), Some(position)) = (&moved.pair, &moved.position) else { return };
        let key = Key::from(pair);
        let mut shares = self.shard(&key);
        let Some(share) = shares.get_mut(&key) else { return };
        let at = position.at.map_or(0, |at| switchboard_chassis::clock::join(at.seconds, at.nanos));
        let position = Position {
            latitude: position.latitude,
            longitude: position.longitude,
            accuracy_m: position.accuracy_m,
            heading_deg: position.heading_deg,
            at,
        };
        // Whoever reported it stores it.
        share.last = share.last.max_by_time(Some(position));
        share.audience.tell(&Event::Moved(moved), None, || Location::misused(Misuse::NotJoined));
    }
}

impl Share {
    fn is_over(&self) -> bool {
        self.audience.is_empty() && !self.is_unstored
    }
}

trait MaxByTime {
    fn max_by_time(self, other: Self) -> Self;
}

impl MaxByTime for Option<Position> {
    fn max_by_time(self, other: Self) -> Self {
        match (self, other) {
            (Some(one), Some(other)) => Some(if other.at > one.at { other } else { one }),
            (one, other) => one.or(other),
        }
    }
}

impl From<&Pair> for Key {
    fn from(Pair { customer_id, therapist_id }: &Pair) -> Self {
        Self { customer_id: customer_id.clone(), therapist_id: therapist_id.clone() }
    }
}

impl From<Key> for Pair {
    fn from(Key { customer_id, therapist_id }: Key) -> Self {
        Self { customer_id, therapist_id }
    }
}

/// Hears the other instances from now on. Positions that are missed are of the past: the next comes soon. Who was erased
/// is in the database.
pub(crate) fn listen(hub: Arc<Hub>, store: Arc<Store>, mut subscription: Subscription, lifecycle: &Lifecycle) {
    let stopping = lifecycle.clone();
    lifecycle.spawn_essential("location doorbell", async move {
        loop {
            let heard = tokio::select! {
                heard = subscription.next() => heard.ok_or("the bus is gone")?,
                () = stopping.stopped() => return Ok::<_, &'static str>(()),
            };
            match heard {
                Heard::Missed(missed) if missed.of_all() => hub.forget_erased(&store).await,
                Heard::Missed(_) => {}
                Heard::Payload(payload) => match Ring::decode(payload) {
                    Ok(Ring { moved, erased_user_id }) => {
                        if !erased_user_id.is_empty() {
                            hub.forget_erased(&store).await;
                        }
                        if let Some(moved) = moved {
                            hub.overheard(moved);
                        }
                    }
                    Err(error) => tracing::warn!(%error, "a ring that cannot be read"),
                },
            }
        }
    });
}
