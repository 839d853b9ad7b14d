//! Whether the credentials that live sockets came with are still good.
//!
//! Identity tells of whom credentials ended before their time, and those are checked again at once. What it told while
//! nobody listened is found by checking everything when the stream is there again, and every minute besides; sessions of
//! another system, which tells nobody, are checked every few seconds. While identity does not answer, nobody is logged
//! out for it.

use std::{
    collections::BTreeMap,
    ops::Bound,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::{FutureExt as _, future::BoxFuture};
use prost_types::Timestamp;
use serde::{Deserialize, Serialize};
use switchboard_chassis::{Clock, Lifecycle, clock, error::reason, grpc::Peer};
use switchboard_proto::identity::v1::{
    AuthenticateRequest, Principal, RecheckRequest, WatchRevocationsRequest, authenticate_request,
    identity_service_client::IdentityServiceClient, principal, watch_revocations_response::Subject,
};
use tokio::{
    sync::oneshot,
    time::{Instant, MissedTickBehavior, interval, timeout},
};
use tokio_tungstenite::tungstenite::Utf8Bytes;
use tonic::{Code, Status};
use uuid::{Builder, Uuid, Variant, Version};

use crate::{
    connections::Connection,
    dialect::{iso, json},
};

/// Tickets that identity checks at a time.
const TICKETS_MAX: usize = 1_000;
/// How often everything is checked.
const EVERYTHING_EVERY: Duration = Duration::from_secs(60);
/// Before identity is asked again that did not answer.
const WATCH_AGAIN: Duration = Duration::from_millis(500);
/// For the answer to one check.
const CHECK_TIMEOUT: Duration = Duration::from_secs(5);
/// Sockets that are looked at under one lock.
const LOOKED_AT_MAX: usize = 1_024;
/// A UUID has two bits of its own among the lower 64.
const KEY_MAX: u64 = (1 << 62) - 1;
/// A longer frame is not looked through for a token: no token is so long.
const REFRESH_BYTES_MAX: usize = 16 << 10;

/// The credentials of all sockets of this edge. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Credentials(Arc<Shared>);

struct Shared {
    identity: IdentityServiceClient<Peer>,
    clock: Clock,
    /// How often identity told anything, or may have.
    news: AtomicU64,
    held: Mutex<Held>,
    /// Tells the sockets of this edge from those of others.
    edge: u64,
}

#[derive(Default)]
struct Held {
    last: u64,
    /// In the order in which they came.
    sockets: BTreeMap<u64, Socket>,
}

struct Socket {
    whose: Whose,
    ticket: Vec<u8>,
    ends_elsewhere: bool,
    end: Option<oneshot::Sender<Ended>>,
    connection: Arc<Connection>,
}

/// Why a socket must end: by what an operator says, or else because its credential is good no more.
pub(crate) type Ended = Option<Arc<Farewell>>;

/// What an operator says to those whose sockets are closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Farewell {
    pub(crate) code: u16,
    pub(crate) reason: Utf8Bytes,
}

/// A socket, as it is looked at.
pub(crate) struct Seen<'a> {
    pub(crate) id: Uuid,
    pub(crate) key: u64,
    pub(crate) whose: &'a Whose,
    pub(crate) connection: &'a Arc<Connection>,
}

/// Whom a credential stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Whose {
    User(String),
    Device(String),
}

/// How far the news had come before a credential was checked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Before(u64);

/// A credential that was good just now.
#[derive(Clone, Debug)]
pub(crate) struct Proof {
    whose: Whose,
    ticket: Vec<u8>,
    ends_elsewhere: bool,
    /// When it ends by itself.
    expires_at: Option<Timestamp>,
    before: Before,
    /// A token can be followed by another one.
    is_token: bool,
}

/// What a socket lives on. Dropping it lets go of it.
pub(crate) struct Credential {
    credentials: Credentials,
    key: u64,
    ended: oneshot::Receiver<Ended>,
    /// When it ends by itself.
    pub(crate) expires_at: Option<Instant>,
    is_token: bool,
}

/// What came of [`Credential::refresh`].
pub(crate) type Refreshed = Result<Proof, Utf8Bytes>;

impl Credentials {
    pub(crate) fn new(identity: IdentityServiceClient<Peer>, clock: Clock) -> Self {
        // The last 62 bits of a version 7 UUID are random.
        let edge = clock.new_id().as_u64_pair().1;
        Self(Arc::new(Shared { identity, clock, news: AtomicU64::new(0), held: Mutex::default(), edge }))
    }

    /// A socket's id: a UUID of version 8, of this edge's own number and the socket's.
    fn id(&self, key: u64) -> Uuid {
        let id = Uuid::from_u64_pair(self.0.edge, key & KEY_MAX);
        Builder::from_bytes(id.into_bytes()).with_version(Version::Custom).with_variant(Variant::RFC4122).into_uuid()
    }

    /// The key of a socket of this edge.
    pub(crate) fn key(&self, id: Uuid) -> Option<u64> {
        let key = id.as_u64_pair().1 & KEY_MAX;
        (self.id(key) == id).then_some(key)
    }

    /// How many sockets there are.
    pub(crate) fn count(&self) -> usize {
        self.held().sockets.len()
    }

    /// Looks at some sockets that came after the one with this key, in their order. The key to go
    /// on from; `None` when there are no more.
    pub(crate) fn look(&self, after: u64, mut look: impl FnMut(Seen<'_>)) -> Option<u64> {
        let held = self.held();
        let mut last = None;
        let after = (Bound::Excluded(after), Bound::Unbounded);
        for (key, Socket { whose, connection, .. }) in held.sockets.range(after).take(LOOKED_AT_MAX) {
            look(Seen { id: self.id(*key), key: *key, whose, connection });
            last = Some(*key);
        }
        last
    }

    /// Looks at one socket.
    pub(crate) fn look_at<T>(&self, key: u64, look: impl FnOnce(Seen<'_>) -> T) -> Option<T> {
        let held = self.held();
        let Socket { whose, connection, .. } = held.sockets.get(&key)?;
        Some(look(Seen { id: self.id(key), key, whose, connection }))
    }

    /// Tells a socket to end; false when it has ended, or is ending.
    pub(crate) fn dismiss(&self, key: u64, farewell: &Arc<Farewell>) -> bool {
        let end = self.held().sockets.get_mut(&key).and_then(|socket| socket.end.take());
        end.is_some_and(|end| end.send(Some(farewell.clone())).is_ok())
    }

    /// To be called before a credential is checked that may be held.
    pub(crate) fn before(&self) -> Before {
        Before(self.0.news.load(Ordering::Acquire))
    }

    /// Holds the credential of a socket.
    pub(crate) fn hold(&self, proof: Proof, connection: Arc<Connection>) -> Credential {
        let (end, ended) = oneshot::channel();
        let Proof { whose, ticket, ends_elsewhere, expires_at, before, is_token } = proof;
        let socket = Socket { whose, ticket, ends_elsewhere, end: Some(end), connection };
        let key = {
            let mut held = self.held();
            held.last += 1;
            let key = held.last;
            held.sockets.insert(key, socket);
            key
        };
        self.check_if_news(key, before);
        Credential { credentials: self.clone(), key, ended, expires_at: self.ends_at(expires_at), is_token }
    }

    /// What was told since a credential was checked was not told of its socket.
    fn check_if_news(&self, key: u64, before: Before) {
        if self.before().0 != before.0 {
            let credentials = self.clone();
            tokio::spawn(async move { credentials.check(vec![key]).await });
        }
    }

    fn ends_at(&self, expires_at: Option<Timestamp>) -> Option<Instant> {
        let at = expires_at?;
        Some(Instant::now() + clock::until(self.0.clock.now(), clock::join(at.seconds, at.nanos)))
    }

    /// Keeps looking until the process stops. Sessions of other systems are checked every `interval`.
    pub(crate) fn start(&self, every: Duration, lifecycle: &Lifecycle) {
        let (looking, stopping) = (self.clone(), lifecycle.clone());
        // The soft end does not wait for it: there are sockets to look after to the last.
        tokio::spawn(async move {
            tokio::select! {
                () = looking.watch() => {}
                () = looking.poll(every) => {}
                () = stopping.stopped() => {}
            }
        });
    }

    async fn watch(&self) {
        let mut is_failing = false;
        loop {
            match self.0.identity.clone().watch_revocations(WatchRevocationsRequest {}).await {
                Ok(stream) => {
                    is_failing = false;
                    let mut stream = stream.into_inner();
                    self.heard(&Subject::Everybody(Default::default())).await;
                    while let Ok(Some(news)) = stream.message().await {
                        let subject = news.subject.unwrap_or(Subject::Everybody(Default::default()));
                        self.heard(&subject).await;
                    }
                }
                Err(status) if !std::mem::replace(&mut is_failing, true) => {
                    tracing::warn!(code = ?status.code(), message = status.message(), "identity tells no revocations");
                }
                Err(_) => {}
            }
            tokio::time::sleep(self.0.clock.jittered(WATCH_AGAIN)).await;
        }
    }

    async fn poll(&self, every: Duration) {
        let mut tick = interval(every);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut everything_at = Instant::now() + EVERYTHING_EVERY;
        loop {
            tick.tick().await;
            let is_everything = Instant::now() >= everything_at;
            if is_everything {
                everything_at = Instant::now() + EVERYTHING_EVERY;
            }
            self.check(self.those(|socket| is_everything || socket.ends_elsewhere)).await;
        }
    }

    async fn heard(&self, subject: &Subject) {
        self.0.news.fetch_add(1, Ordering::AcqRel);
        self.check(match subject {
            Subject::UserId(id) => self.those(|socket| matches!(&socket.whose, Whose::User(whose) if whose == id)),
            Subject::DeviceId(id) => self.those(|socket| matches!(&socket.whose, Whose::Device(whose) if whose == id)),
            Subject::Everybody(_) => self.those(|_| true),
        })
        .await;
    }

    fn those(&self, which: impl Fn(&Socket) -> bool) -> Vec<u64> {
        self.held().sockets.iter().filter(|(_, socket)| which(socket)).map(|(key, _)| *key).collect()
    }

    /// Ends the sockets among these whose credentials are good no more.
    async fn check(&self, keys: Vec<u64>) {
        for keys in keys.chunks(TICKETS_MAX) {
            let (keys, tickets): (Vec<u64>, Vec<Vec<u8>>) = {
                let held = self.held();
                keys.iter().filter_map(|key| Some((*key, held.sockets.get(key)?.ticket.clone()))).unzip()
            };
            if keys.is_empty() {
                continue;
            }
            let mut identity = self.0.identity.clone();
            let asking = identity.recheck(RecheckRequest { tickets: tickets.clone() });
            let asked = timeout(CHECK_TIMEOUT, asking).await;
            match asked.unwrap_or_else(|_| Err(Status::deadline_exceeded("identity does not answer"))) {
                Ok(answer) => {
                    let ended = answer.into_inner().ended;
                    let mut held = self.held();
                    for place in ended.into_iter().filter_map(|place| usize::try_from(place).ok()) {
                        if let (Some(key), Some(ticket)) = (keys.get(place), tickets.get(place))
                            && let Some(socket) = held.sockets.get_mut(key)
                            // It may have got another one meanwhile.
                            && socket.ticket == *ticket
                            && let Some(end) = socket.end.take()
                        {
                            // It may be ending by itself.
                            let _ = end.send(None);
                        }
                    }
                }
                Err(status) => {
                    tracing::warn!(code = ?status.code(), message = status.message(), "credentials cannot be checked");
                    return;
                }
            }
        }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.0.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Whose {
    fn of(principal: &Principal) -> Self {
        match &principal.subject {
            Some(principal::Subject::Device(device)) => Self::Device(device.device_id.clone()),
            Some(principal::Subject::User(user)) => Self::User(user.id.clone()),
            None => Self::User(String::new()),
        }
    }
}

impl Proof {
    pub(crate) fn of(principal: &Principal, before: Before, is_token: bool) -> Self {
        let Principal { ticket, ends_elsewhere, expires_at, .. } = principal;
        let (ticket, whose) = (ticket.clone(), Whose::of(principal));
        Self { whose, ticket, ends_elsewhere: *ends_elsewhere, expires_at: *expires_at, before, is_token }
    }
}

impl Credential {
    /// Completes when it is good no more, before its time, or when an operator ends the socket.
    pub(crate) async fn ended(&mut self) -> Ended {
        match (&mut self.ended).await {
            Ok(ended) => ended,
            // Only when this very thing is dropped.
            Err(_) => std::future::pending().await,
        }
    }

    /// Another token for the one that it lives on, if a frame brings one. The future gives what the client is told if it
    /// is refused.
    pub(crate) fn refresh(&self, text: &str) -> Option<BoxFuture<'static, Refreshed>> {
        if !self.is_token || text.len() > REFRESH_BYTES_MAX || !text.contains("\"refresh\"") {
            return None;
        }
        let frame: Refresh = serde_json::from_str(text).ok().filter(|frame: &Refresh| frame.kind == "refresh")?;
        let whose = self.credentials.held().sockets.get(&self.key).map(|socket| socket.whose.clone());
        let (mut identity, before) = (self.credentials.0.identity.clone(), self.credentials.before());
        let credential = Some(authenticate_request::Credential::Token(frame.token));
        let asking = async move {
            let refused = |reason: &str, message: &str| json(&Refused::new(reason, message));
            let asked = timeout(CHECK_TIMEOUT, identity.authenticate(AuthenticateRequest { credential })).await;
            match asked.unwrap_or_else(|_| Err(Status::deadline_exceeded("identity does not answer"))) {
                Ok(answer) => match answer.into_inner().principal {
                    Some(principal) if whose == Some(Whose::of(&principal)) => Ok(Proof::of(&principal, before, true)),
                    _ => Err(refused("OTHER_USER", "the token is another user's")),
                },
                Err(status) if status.code() == Code::Unauthenticated => {
                    Err(refused(&reason(&status), status.message()))
                }
                Err(_) => Err(refused("UNAVAILABLE", "temporarily unavailable, send it again")),
            }
        };
        Some(asking.boxed())
    }

    /// Lives on another token from now on; what the client is told.
    pub(crate) fn renew(&mut self, proof: Proof) -> Utf8Bytes {
        let Proof { ticket, expires_at, before, .. } = proof;
        self.expires_at = self.credentials.ends_at(expires_at);
        if let Some(socket) = self.credentials.held().sockets.get_mut(&self.key) {
            socket.ticket = ticket;
        }
        self.credentials.check_if_news(self.key, before);
        let expires_at = iso(expires_at);
        json(&Renewed { kind: "refreshed", expires_at })
    }
}

impl Drop for Credential {
    fn drop(&mut self) {
        self.credentials.held().sockets.remove(&self.key);
    }
}

/// `{"type":"refresh","token":"..."}`
#[derive(Deserialize)]
struct Refresh {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    token: String,
}

#[derive(Serialize)]
struct Renewed {
    #[serde(rename = "type")]
    kind: &'static str,
    expires_at: String,
}

#[derive(Serialize)]
struct Refused<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    reason: &'a str,
    message: &'a str,
}

impl<'a> Refused<'a> {
    fn new(reason: &'a str, message: &'a str) -> Self {
        Self { kind: "refresh_refused", reason, message }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use switchboard_chassis::{Secret, grpc::remote_peer};

    use super::*;

    /// One that nobody checks.
    pub(crate) fn free(expires_at: Option<Instant>) -> Credential {
        let nowhere = remote_peer("http://127.0.0.1:1", &Secret::default()).expect("a peer");
        let credentials = Credentials::new(IdentityServiceClient::new(nowhere), Clock::System);
        let proof = Proof::of(&Principal::default(), credentials.before(), false);
        let mut credential = credentials.hold(proof, Arc::new(crate::connections::tests::any()));
        credential.expires_at = expires_at;
        credential
    }

    #[tokio::test]
    async fn sockets_are_found_by_ids_of_their_own_edge() {
        let (mine, other) = (free(None), free(None));
        let id = mine.credentials.id(mine.key);
        assert_eq!((id.get_version_num(), id.get_variant()), (8, Variant::RFC4122));
        assert_eq!(mine.credentials.key(id), Some(mine.key));
        assert_eq!(other.credentials.key(id), None, "another edge's");
        assert_eq!(mine.credentials.key(Uuid::nil()), None);
    }

    #[tokio::test]
    async fn an_operator_ends_a_socket_once() {
        let mut credential = free(None);
        let credentials = credential.credentials.clone();
        let farewell = Arc::new(Farewell { code: 1008, reason: "out".into() });
        assert!(credentials.dismiss(credential.key, &farewell));
        assert!(!credentials.dismiss(credential.key, &farewell), "it is ending");
        assert_eq!(credential.ended().await, Some(farewell.clone()));
        let key = credential.key;
        drop(credential);
        assert!(!credentials.dismiss(key, &farewell) && credentials.count() == 0);
    }

    #[tokio::test]
    async fn all_sockets_are_looked_at_in_their_order() {
        let first = free(None);
        let more = LOOKED_AT_MAX + 10;
        let proof = Proof::of(&Principal::default(), first.credentials.before(), false);
        let connection = Arc::new(crate::connections::tests::any());
        let held: Vec<_> = (0..more).map(|_| first.credentials.hold(proof.clone(), connection.clone())).collect();
        let (mut after, mut seen) = (0, Vec::new());
        while let Some(last) = first.credentials.look(after, |socket| seen.push(socket.key)) {
            after = last;
        }
        assert!(seen.is_sorted() && seen.len() == more + 1 && first.credentials.count() == more + 1);
        drop(held);
    }
}
