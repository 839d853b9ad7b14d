//! How many may come: at once, of one user, and from one address.
//!
//! Addresses of this machine are not counted: they are a proxy's, or an operator's. An IPv6 address stands for its /64,
//! which is what one customer of a network has.

use std::{
    collections::HashMap,
    hash::Hash,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

use switchboard_chassis::metrics::{Counter, Metrics};

use crate::{EdgeConfig, metrics::RoomCounts};

/// Handshakes that an address may make at once after it made none, in seconds of its pace.
const BURST: Duration = Duration::from_secs(10);
/// Addresses are looked through for those that have rested when there are twice as many as after the last look.
const LOOK_THROUGH_MIN: usize = 1024;

/// How many more may come.
pub(crate) struct Room {
    handshakes: Arc<Semaphore>,
    sockets: Arc<Semaphore>,
    addresses: Arc<Crowd<IpAddr>>,
    users: Arc<Crowd<String>>,
    paces: Mutex<Paces>,
    counts: RoomCounts,
}

/// A place for a socket. Dropping it gives it back.
#[derive(Debug)]
pub(crate) struct SocketPlace {
    _socket: OwnedSemaphorePermit,
    _address: Option<Place<IpAddr>>,
}

impl Room {
    pub(crate) fn new(config: &EdgeConfig, metrics: &Metrics) -> Self {
        let of = |most: usize| Arc::new(Semaphore::new(most.min(Semaphore::MAX_PERMITS)));
        Self {
            handshakes: of(config.handshakes_max),
            sockets: of(config.sockets_max),
            addresses: Arc::new(Crowd::new(config.sockets_per_address_max)),
            users: Arc::new(Crowd::new(config.sockets_per_user_max)),
            paces: Mutex::new(Paces::new(config.handshakes_per_address_s)),
            counts: RoomCounts::new(metrics),
        }
    }

    /// Whether an address keeps the pace of handshakes; what asks counts as one.
    pub(crate) fn keeps_pace(&self, address: IpAddr) -> bool {
        let keeps = counted(address).is_none_or(|address| lock(&self.paces).take(address, Instant::now()));
        if !keeps {
            self.counts.pace.inc();
        }
        keeps
    }

    /// A place for a handshake from an address, and one for the socket that it leads to.
    pub(crate) fn take(&self, address: IpAddr) -> Option<(OwnedSemaphorePermit, SocketPlace)> {
        if !self.keeps_pace(address) {
            return None;
        }
        let counted = counted(address);
        let counted_as = |limit: &Counter| _ = limit.inc();
        let handshake = self.handshakes.clone().try_acquire_owned();
        let handshake = handshake.inspect_err(|_| counted_as(&self.counts.handshakes)).ok()?;
        let socket = self.sockets.clone().try_acquire_owned();
        let socket = socket.inspect_err(|_| counted_as(&self.counts.sockets)).ok()?;
        let address = match counted.map(|address| self.addresses.enter(address)) {
            Some(None) => {
                counted_as(&self.counts.of_address);
                return None;
            }
            Some(place) => place,
            None => None,
        };
        Some((handshake, SocketPlace { _socket: socket, _address: address }))
    }

    /// A place for a socket of a user or a device.
    pub(crate) fn of_user(&self, user_id: &str) -> Option<Place<String>> {
        let place = self.users.enter(user_id.to_owned());
        if place.is_none() {
            self.counts.of_user.inc();
        }
        place
    }
}

/// What is counted for an address; nothing for this machine's own.
fn counted(address: IpAddr) -> Option<IpAddr> {
    match address.to_canonical() {
        address if address.is_loopback() => None,
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Some(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into())
        }
        address => Some(address),
    }
}

/// How many of each there are.
#[derive(Debug)]
struct Crowd<K> {
    /// 0 is no limit.
    most: usize,
    there: Mutex<HashMap<K, usize>>,
}

/// One of a [`Crowd`]. Dropping it leaves.
#[derive(Debug)]
pub(crate) struct Place<K: Hash + Eq> {
    crowd: Arc<Crowd<K>>,
    key: K,
}

impl<K: Hash + Eq + Clone> Crowd<K> {
    fn new(most: usize) -> Self {
        Self { most, there: Mutex::default() }
    }

    /// `None` when as many are there as may be.
    fn enter(self: &Arc<Self>, key: K) -> Option<Place<K>> {
        let mut there = lock(&self.there);
        let count = there.entry(key.clone()).or_default();
        if self.most > 0 && *count >= self.most {
            return None;
        }
        *count += 1;
        drop(there);
        Some(Place { crowd: self.clone(), key })
    }
}

impl<K: Hash + Eq> Drop for Place<K> {
    fn drop(&mut self) {
        let mut there = lock(&self.crowd.there);
        if let Some(count) = there.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                there.remove(&self.key);
            }
        }
    }
}

/// How fast each address makes handshakes: the generic cell rate algorithm (ITU-T I.371), which needs one time for each.
#[derive(Debug)]
struct Paces {
    /// Between two handshakes at the full pace; `None` is no limit.
    interval: Option<Duration>,
    /// When the next one would come if the address kept the pace exactly.
    due: HashMap<IpAddr, Instant>,
    look_through_at: usize,
}

impl Paces {
    fn new(a_second: u32) -> Self {
        let interval = Duration::from_secs(1).checked_div(a_second);
        Self { interval, due: HashMap::new(), look_through_at: LOOK_THROUGH_MIN }
    }

    /// Lets one more pass, or not.
    fn take(&mut self, address: IpAddr, now: Instant) -> bool {
        let Some(interval) = self.interval else { return true };
        if self.due.len() >= self.look_through_at {
            self.due.retain(|_, due| *due > now);
            self.look_through_at = LOOK_THROUGH_MIN.max(self.due.len() * 2);
        }
        let due = self.due.entry(address).or_insert(now);
        let at = (*due).max(now);
        let is_early = at.saturating_duration_since(now) + interval > BURST;
        if !is_early {
            *due = at + interval;
        }
        !is_early
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAR: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const OTHER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));

    #[tokio::test(start_paused = true)]
    async fn an_address_keeps_its_pace_after_a_burst() {
        let mut paces = Paces::new(5);
        let now = Instant::now();
        assert_eq!((0..100).filter(|_| paces.take(FAR, now)).count(), 50);
        assert!(paces.take(OTHER, now), "another one is not concerned");
        for second in 1..5 {
            let now = now + Duration::from_secs(second);
            assert_eq!((0..100).filter(|_| paces.take(FAR, now)).count(), 5);
        }
        let later = now + Duration::from_secs(60);
        assert_eq!((0..100).filter(|_| paces.take(FAR, later)).count(), 50);
        assert!((0..100).all(|_| Paces::new(0).take(FAR, now)));
    }

    #[tokio::test(start_paused = true)]
    async fn addresses_that_rest_are_forgotten() {
        let mut paces = Paces::new(5);
        let now = Instant::now();
        for n in 0..10_000_u32 {
            paces.take(IpAddr::V4(n.into()), now + Duration::from_secs(n.into()));
        }
        assert!(paces.due.len() <= LOOK_THROUGH_MIN, "{}", paces.due.len());
    }

    #[test]
    fn a_place_is_given_back() {
        let crowd = Arc::new(Crowd::new(2));
        let places = [crowd.enter("ann"), crowd.enter("ann")];
        assert!(places.iter().all(Option::is_some) && crowd.enter("ann").is_none() && crowd.enter("ben").is_some());
        drop(places);
        assert!(crowd.enter("ann").is_some());
        assert!(lock(&crowd.there).is_empty());
        let unlimited = Arc::new(Crowd::new(0));
        let places: Vec<_> = (0..1_000).map(|_| unlimited.enter("ann")).collect();
        assert!(places.iter().all(Option::is_some));
    }

    #[test]
    fn what_is_counted_for_an_address() {
        let counted = |address: &str| counted(address.parse().expect("an address")).map(|address| address.to_string());
        assert_eq!(counted("127.0.0.1"), None);
        assert_eq!(counted("::1"), None);
        assert_eq!(counted("::ffff:127.0.0.9"), None);
        assert_eq!(counted("::ffff:192.0.2.1").as_deref(), Some("192.0.2.1"));
        assert_eq!(counted("2001:db8:1:2:3:4:5:6").as_deref(), Some("2001:db8:1:2::"));
    }
}
