//! Whole instances over their gRPC interface, in memory.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use switchboard_bus::Bus;
use switchboard_chassis::{
    Clock, Lifecycle, clock,
    db::{Db, OpenError, StoreConfig},
    error::reason,
};
use switchboard_proto::presence::v1::{
    Answer, EraseUserRequest, GetPresenceRequest, Join, Leave, ListOnlineRequest, OnlineUser, Presence as UserPresence,
    RefusalReason, TrackRequest, TrackResponse, presence_service_client::PresenceServiceClient,
    presence_service_server::PresenceServiceServer, track_request::Action, track_response::Event,
};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use crate::{MIGRATIONS, Presence, PresenceConfig, service};

const LONG: Duration = Duration::from_secs(30);
const START: i64 = 1_700_000_000_000_000;

fn quick() -> PresenceConfig {
    PresenceConfig { grace_ms: 20, lease_s: 3600, flush_interval_ms: 1 }
}

#[derive(Clone)]
struct Instance {
    client: PresenceServiceClient<PresenceServiceServer<Presence>>,
    lifecycle: Lifecycle,
    now: Arc<AtomicI64>,
}

impl Instance {
    async fn start(bus: &Bus, config: &PresenceConfig, dir: &Path) -> Self {
        let db = loop {
            match Db::open(&StoreConfig::default(), dir, "presence", &MIGRATIONS).await {
                // The streams of the instance before it are about to end.
                Err(OpenError::InUse(_)) => tokio::task::yield_now().await,
                other => break other.expect("a database"),
            }
        };
        let (lifecycle, now) = (Lifecycle::new(), Arc::new(AtomicI64::new(START)));
        let clock = Clock::Manual(now.clone());
        let service = service(db, bus.another(), config, clock, &lifecycle).await.expect("a bus");
        Self { client: PresenceServiceClient::new(service), lifecycle, now }
    }

    async fn track(&self) -> Track {
        let (requests, receiver) = mpsc::channel(16);
        let frames = self.client.clone().track(ReceiverStream::new(receiver)).await.expect("a stream").into_inner();
        Track { requests, frames, changes: Vec::new() }
    }

    async fn presence(&self, user_id: &str) -> UserPresence {
        let request = GetPresenceRequest { user_ids: vec![user_id.to_owned()] };
        self.client.clone().get_presence(request).await.expect("an answer").into_inner().presences.remove(0)
    }

    async fn online(&self, page_size: i32, page_token: &str) -> (Vec<String>, String, i64) {
        let request = ListOnlineRequest { page_size, page_token: page_token.to_owned() };
        let page = self.client.clone().list_online(request).await.expect("an answer").into_inner();
        (page.users.into_iter().map(|user| user.user_id).collect(), page.next_page_token, page.total_size)
    }
}

struct Track {
    requests: mpsc::Sender<TrackRequest>,
    frames: Streaming<TrackResponse>,
    /// Heard and not asked for yet.
    changes: Vec<String>,
}

impl Track {
    async fn act(&self, session: u64, request: u64, action: Action) {
        let request = TrackRequest { session, request, action: Some(action), ..TrackRequest::default() };
        self.requests.send(request).await.expect("an open stream");
    }

    async fn join(&self, session: u64, user_id: &str, user_name: &str) {
        let join = Join { user_id: user_id.to_owned(), user_name: user_name.to_owned() };
        self.act(session, session, Action::Join(join)).await;
    }

    async fn leave(&self, session: u64) {
        self.act(session, 0, Action::Leave(Leave::default())).await;
    }

    async fn next(&mut self) -> TrackResponse {
        tokio::time::timeout(LONG, self.frames.message()).await.expect("in time").expect("no error").expect("a frame")
    }

    /// The next one who came (with a +) or went (with a -).
    async fn change(&mut self) -> String {
        while self.changes.is_empty() {
            self.hear().await;
        }
        self.changes.remove(0)
    }

    /// Hears one frame, and keeps the changes.
    async fn hear(&mut self) -> TrackResponse {
        let frame = self.next().await;
        if let Some(Event::Changes(changes)) = &frame.event {
            self.changes.extend(changes.came.iter().map(|user| format!("+{} {}", user.user_id, user.user_name)));
            self.changes.extend(changes.went.iter().map(|user_id| format!("-{user_id}")));
        }
        frame
    }

    /// Hears that a session is in.
    async fn joined(&mut self, session: u64) {
        loop {
            let frame = self.hear().await;
            if frame.sessions == [session] {
                assert!(matches!(frame.event, Some(Event::Joined(_))), "{frame:?}");
                return;
            }
        }
    }

    async fn refusal(&mut self) -> (RefusalReason, String) {
        match self.next().await.event {
            Some(Event::Refused(refused)) => (refused.reason(), refused.message),
            other => panic!("{other:?}"),
        }
    }
}

fn dir() -> TempDir {
    tempfile::tempdir().expect("a directory")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_hears_the_roster_then_its_join_then_the_changes() {
    let dir = dir();
    let instance = Instance::start(&Bus::local(), &quick(), dir.path()).await;
    let mut first = instance.track().await;
    first.join(1, "a", "Pat").await;
    let Some(Event::Roster(roster)) = first.next().await.event else { panic!("the roster") };
    assert_eq!((roster.users.len(), roster.is_last), (0, true));
    assert_eq!(roster.lease.map(|lease| lease.seconds), Some(3600));
    first.joined(1).await;
    assert_eq!(first.change().await, "+a Pat");

    let mut second = instance.track().await;
    second.join(7, "b", "").await;
    let Some(Event::Roster(roster)) = second.next().await.event else { panic!("the roster") };
    assert_eq!(roster.users, [OnlineUser { user_id: "a".to_owned(), user_name: "Pat".to_owned() }]);
    second.joined(7).await;
    assert_eq!(second.change().await, "+b b");
    assert_eq!(first.change().await, "+b b");

    // A later session of a stream only hears that it is in.
    first.join(2, "a", "Pat").await;
    let frame = first.next().await;
    assert_eq!(frame.sessions, [2]);
    assert_eq!(frame.answer, Some(Answer { session: 2, request: 2 }));
    assert!(matches!(frame.event, Some(Event::Joined(_))));

    second.leave(7).await;
    assert_eq!(first.change().await, "-b");
    // A stream without sessions hears nothing, and everything when it has one again.
    second.join(8, "c", "c").await;
    let Some(Event::Roster(roster)) = second.next().await.event else { panic!("the roster") };
    assert_eq!(roster.users.len(), 1);
    assert_eq!(first.change().await, "+c c");
    drop(second);
    assert_eq!(first.change().await, "-c");
}

#[tokio::test(flavor = "multi_thread")]
async fn instances_tell_each_other() {
    let (dirs, bus) = ([dir(), dir()], Bus::local());
    let old = Instance::start(&bus, &quick(), dirs[0].path()).await;
    let mut on_old = old.track().await;
    on_old.join(1, "a", "Pat").await;
    assert_eq!(on_old.change().await, "+a Pat");
    // A new one asks who is there.
    let new = Instance::start(&bus, &quick(), dirs[1].path()).await;
    let mut on_new = new.track().await;
    on_new.join(1, "b", "Bea").await;
    assert_eq!(on_old.change().await, "+b Bea");
    while new.online(0, "").await.2 < 2 {
        on_new.hear().await;
    }
    assert!(new.presence("a").await.is_online);
    on_old.leave(1).await;
    while on_new.change().await != "-a" {}
    assert!(!new.presence("a").await.is_online);
    old.lifecycle.stop();
    old.lifecycle.finish(Duration::ZERO).await.expect("a good end");
    new.lifecycle.stop();
    new.lifecycle.finish(Duration::ZERO).await.expect("a good end");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_online_last_is_known_after_a_restart() {
    let (dir, bus) = (dir(), Bus::local());
    let instance = Instance::start(&bus, &quick(), dir.path()).await;
    assert_eq!(instance.presence("a").await.last_seen_at, None, "never");
    let mut stream = instance.track().await;
    stream.join(1, "z", "z").await;
    stream.join(2, "a", "Pat").await;
    while stream.change().await != "+a Pat" {}
    instance.now.store(START + 5, Ordering::Relaxed);
    let presence = instance.presence("a").await;
    assert_eq!((presence.is_online, presence.last_seen_at), (true, Some(clock::timestamp(START + 5))), "now");
    stream.leave(2).await;
    while stream.change().await != "-a" {}
    instance.now.store(START + 9, Ordering::Relaxed);
    assert_eq!(instance.presence("a").await.last_seen_at, Some(clock::timestamp(START + 5)), "not written yet");
    instance.lifecycle.stop();
    instance.lifecycle.finish(Duration::ZERO).await.expect("a good end");
    drop((instance, stream));

    let instance = Instance::start(&bus, &quick(), dir.path()).await;
    let seen = |at| UserPresence { is_online: false, last_seen_at: Some(clock::timestamp(at)), ..Default::default() };
    assert_eq!(instance.presence("a").await, UserPresence { user_id: "a".to_owned(), ..seen(START + 5) });
    assert_eq!(instance.presence("z").await, UserPresence { user_id: "z".to_owned(), ..seen(START + 9) }, "at the end");
    let erase = |user_id: &str| {
        let request = EraseUserRequest { user_id: user_id.to_owned() };
        let mut client = instance.client.clone();
        async move { client.erase_user(request).await.expect("an answer").into_inner().erased }
    };
    assert!(erase("a").await);
    assert!(!erase("a").await);
    assert_eq!(instance.presence("a").await.last_seen_at, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_online_is_listed_in_pages() {
    let dir = dir();
    let instance = Instance::start(&Bus::local(), &quick(), dir.path()).await;
    let mut stream = instance.track().await;
    for (session, user_id) in (1..).zip(["c", "a", "d", "b"]) {
        stream.join(session, user_id, "").await;
    }
    stream.joined(4).await;
    let ids = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>();
    assert_eq!(instance.online(3, "").await, (ids(&["a", "b", "c"]), "c".to_owned(), 4));
    assert_eq!(instance.online(3, "c").await, (ids(&["d"]), String::new(), 4));
    assert_eq!(instance.online(4, "").await, (ids(&["a", "b", "c", "d"]), String::new(), 4));
    assert_eq!(instance.online(0, "zzz").await, (Vec::new(), String::new(), 4));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_refused_and_nothing_ends() {
    let dir = dir();
    let instance = Instance::start(&Bus::local(), &quick(), dir.path()).await;
    let mut stream = instance.track().await;
    let long = "é".repeat(256);
    for (user_id, user_name, message) in [
        ("", "Pat", "user_id: is required"),
        (long.as_str(), "Pat", "user_id: at most 255 characters"),
        ("a\0", "Pat", "user_id: must not contain NUL"),
        ("a", long.as_str(), "user_name: at most 255 characters"),
    ] {
        stream.join(1, user_id, user_name).await;
        assert_eq!(stream.refusal().await, (RefusalReason::InvalidArgument, message.to_owned()));
    }
    stream.join(1, &long[2..], &long[2..]).await;
    stream.joined(1).await;
    stream.join(1, "b", "").await;
    while stream.hear().await.answer.is_none() {}
    stream.join(2, "c", "").await;
    stream.joined(2).await;

    let mut client = instance.client.clone();
    for user_ids in [vec!["a".to_owned(); 501], vec![String::new()], vec![long.clone()]] {
        let status = client.get_presence(GetPresenceRequest { user_ids }).await.expect_err("wrong");
        assert_eq!(reason(&status), "INVALID_ARGUMENT");
    }
    for page_size in [-1, 1001] {
        let request = ListOnlineRequest { page_size, page_token: String::new() };
        assert_eq!(reason(&client.list_online(request).await.expect_err("wrong")), "INVALID_ARGUMENT");
    }
    let status = client.erase_user(EraseUserRequest::default()).await.expect_err("wrong");
    assert_eq!(reason(&status), "INVALID_ARGUMENT");
}

#[test]
fn a_configuration_is_checked() {
    assert!(PresenceConfig::default().mistakes().is_empty());
    let wrong = PresenceConfig { grace_ms: u64::MAX, lease_s: 2, flush_interval_ms: 0 };
    assert_eq!(wrong.mistakes().len(), 3);
}
