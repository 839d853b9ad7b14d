//! Presence by its contract: over gRPC and sockets, on both databases, with one instance and two.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use switchboard::config::Role;
use switchboard_edge::Audience;
use switchboard_proto::{
    presence::v1::{
        EraseUserRequest, GetPresenceRequest, Join, ListOnlineRequest, Presence, RefusalReason, TrackRequest,
        TrackResponse, presence_service_client::PresenceServiceClient, track_request::Action, track_response::Event,
    },
    wire::{self, Wire as _},
};
use switchboard_tests::{Backend, Client, PATIENCE, Sandbox};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Code, Streaming};

const PATH: &str = "/ws/presence/";
const PEOPLE: &str = r#"
{"user": {"id": "1", "full_name": "One", "roles": ["client"]}}
{"user": {"id": "2", "full_name": "Two", "roles": ["expert"]}}
{"user": {"id": "3", "full_name": "Three", "roles": ["expert"]}}
"#;

fn online(user_id: &str, user_name: &str) -> Value {
    json!({ "type": "user_online", "user_id": user_id, "user_name": user_name })
}

fn offline(user_id: &str) -> Value {
    json!({ "type": "user_offline", "user_id": user_id })
}

/// A stream of sessions by hand, as another edge has one. What is for the whole stream is kept as it tells.
struct Stream {
    requests: mpsc::UnboundedSender<TrackRequest>,
    frames: Streaming<TrackResponse>,
    roster: BTreeMap<String, String>,
}

impl Stream {
    async fn open(service: &mut PresenceServiceClient<switchboard_chassis::grpc::Peer>) -> anyhow::Result<Self> {
        let (requests, outgoing) = mpsc::unbounded_channel();
        let frames = service.track(UnboundedReceiverStream::new(outgoing)).await?.into_inner();
        Ok(Self { requests, frames, roster: BTreeMap::new() })
    }

    fn ask(&self, session: u64, action: Action) -> anyhow::Result<()> {
        Ok(self.requests.send(wire::Presence::request(session, session, action))?)
    }

    fn join(&self, session: u64, user_id: &str, user_name: &str) -> anyhow::Result<()> {
        self.ask(session, Action::Join(Join { user_id: user_id.into(), user_name: user_name.into() }))
    }

    /// The next event for a session; those for the whole stream are taken in.
    async fn next(&mut self) -> anyhow::Result<Event> {
        loop {
            let event = self.any().await?;
            if matches!(event, Event::Joined(_) | Event::Refused(_)) {
                return Ok(event);
            }
        }
    }

    async fn any(&mut self) -> anyhow::Result<Event> {
        let frame = tokio::time::timeout(PATIENCE, self.frames.message()).await??;
        let event = frame.and_then(|frame| frame.event).ok_or_else(|| anyhow::anyhow!("the stream ended"))?;
        let (came, went) = match &event {
            Event::Roster(roster) => (roster.users.clone(), Vec::new()),
            Event::Changes(changes) => (changes.came.clone(), changes.went.clone()),
            _ => Default::default(),
        };
        self.roster.extend(came.into_iter().map(|user| (user.user_id, user.user_name)));
        self.roster.retain(|user_id, _| !went.contains(user_id));
        Ok(event)
    }
}

async fn contract(backend: Backend) -> anyhow::Result<()> {
    let sandbox = Sandbox::start_with(backend, |config| config.presence.grace_ms = 50).await?;
    let mut service = sandbox.presence()?;
    let mut stream = Stream::open(&mut service).await?;
    stream.join(0, "1", "")?;
    assert!(
        matches!(stream.next().await?, Event::Refused(refused) if refused.reason() == RefusalReason::InvalidArgument)
    );
    for wrong in ["", "NUL \0", &"x".repeat(256)] {
        stream.join(1, wrong, "")?;
        let refused = stream.next().await?;
        assert!(matches!(refused, Event::Refused(refused) if refused.reason() == RefusalReason::InvalidArgument));
    }
    for (session, user_id, user_name) in [(1, "a", "Ada"), (2, "b", ""), (3, "a", "Ada L.")] {
        stream.join(session, user_id, user_name)?;
        assert!(matches!(stream.next().await?, Event::Joined(_)));
    }
    stream.join(1, "c", "")?;
    assert!(
        matches!(stream.next().await?, Event::Refused(refused) if refused.reason() == RefusalReason::AlreadyJoined)
    );
    while stream.roster.len() < 2 || stream.roster["a"] != "Ada L." {
        stream.any().await?;
    }
    assert_eq!(stream.roster["b"], "b", "who has no name is called by the id");

    let of = |user_ids: &[&str]| GetPresenceRequest { user_ids: user_ids.iter().map(|id| (*id).into()).collect() };
    let found = service.get_presence(of(&["b", "nobody", "a"])).await?.into_inner().presences;
    let known: Vec<(&str, bool, bool)> = found
        .iter()
        .map(|Presence { user_id, is_online, last_seen_at }| (user_id.as_str(), *is_online, last_seen_at.is_some()))
        .collect();
    assert_eq!(known, [("b", true, true), ("nobody", false, false), ("a", true, true)]);
    let too_many: Vec<&str> = vec!["x"; 501];
    assert_eq!(service.get_presence(of(&too_many)).await.expect_err("too many").code(), Code::InvalidArgument);

    let first = ListOnlineRequest { page_size: 1, page_token: String::new() };
    let page = service.list_online(first).await?.into_inner();
    assert_eq!((page.users[0].user_id.as_str(), page.total_size), ("a", 2));
    let next = ListOnlineRequest { page_size: 1, page_token: page.next_page_token };
    let page = service.list_online(next).await?.into_inner();
    assert_eq!((page.users[0].user_id.as_str(), page.next_page_token.as_str()), ("b", ""));

    // One of two sessions goes: nothing is told. Then the other: that is.
    stream.ask(1, Action::Leave(switchboard_proto::presence::v1::Leave::default()))?;
    stream.ask(2, Action::Leave(switchboard_proto::presence::v1::Leave::default()))?;
    while stream.roster.contains_key("b") {
        stream.any().await?;
    }
    assert!(stream.roster.contains_key("a"));
    let found = service.get_presence(of(&["b"])).await?.into_inner().presences;
    assert!(!found[0].is_online && found[0].last_seen_at.is_some());
    assert!(service.erase_user(EraseUserRequest { user_id: "b".into() }).await?.into_inner().erased);
    let found = service.get_presence(of(&["b"])).await?.into_inner().presences;
    assert_eq!(found[0].last_seen_at, None);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn contract_on_sqlite() -> anyhow::Result<()> {
    contract(Backend::Sqlite).await
}

#[tokio::test(flavor = "multi_thread")]
async fn contract_on_postgres() -> anyhow::Result<()> {
    contract(Backend::Postgres).await
}

/// A page that is loaded anew does not flicker; a socket that dies without a word goes after the grace.
#[tokio::test(flavor = "multi_thread")]
async fn a_reload_does_not_flicker_and_a_dead_socket_goes() -> anyhow::Result<()> {
    let sandbox = Sandbox::start_with(Backend::Sqlite, |config| config.presence.grace_ms = 5_000).await?;
    sandbox.provision(PEOPLE).await?;
    let mut one = sandbox.connect(PATH, "1").await?;
    let mut two = sandbox.connect(PATH, "2").await?;
    assert_eq!(one.next().await?, online("2", "Two"));
    for _ in 0..5 {
        two.close().await?;
        two = sandbox.connect(PATH, "2").await?;
        assert_eq!(two.next().await?, online("1", "One"));
    }
    // No closing handshake.
    drop(two);
    assert_eq!(one.next().await?, offline("2"), "and nothing before it");
    Ok(())
}

/// A user with sockets on two edges is online as long as one of them is; an instance that ends takes only its own.
#[tokio::test(flavor = "multi_thread")]
async fn two_instances_are_one_presence() -> anyhow::Result<()> {
    let sandbox = Sandbox::start_with(Backend::Postgres, |config| {
        (config.presence.grace_ms, config.presence.lease_s) = (100, 3);
    })
    .await?;
    sandbox.provision(PEOPLE).await?;
    let (address, lifecycle) = sandbox.another(&[Role::Presence]).await?;
    let mut second = PresenceServiceClient::new(sandbox.peer_at(address)?);
    let mut one = sandbox.connect(PATH, "1").await?;
    let mut elsewhere = Stream::open(&mut second).await?;
    elsewhere.join(1, "2", "Two")?;
    elsewhere.join(2, "3", "Three")?;
    let mut told = [one.next().await?, one.next().await?].map(|frame| frame["user_id"].to_string());
    told.sort();
    assert_eq!(told, [r#""2""#, r#""3""#]);
    while !elsewhere.roster.contains_key("1") {
        elsewhere.any().await?;
    }
    let here = sandbox.connect(PATH, "3").await?;
    let found = second.get_presence(GetPresenceRequest { user_ids: vec!["1".into(), "3".into()] }).await?.into_inner();
    assert!(found.presences.iter().all(|presence| presence.is_online));
    lifecycle.stop();
    assert_eq!(one.next().await?, offline("2"), "3 has a socket here");
    drop(here);
    assert_eq!(one.next().await?, offline("3"));
    Ok(())
}

/// With the audience `contacts`, one is told of those with whom one shares a conversation.
#[tokio::test(flavor = "multi_thread")]
async fn contacts_are_told_of_each_other_alone() -> anyhow::Result<()> {
    let sandbox =
        Sandbox::start_with(Backend::Sqlite, |config| config.edge.presence_audience = Audience::Contacts).await?;
    let shared = r#"{"conversation": {"kind": "CONVERSATION_KIND_CONSULTATION", "participants": [{"user_id": "1", "role": "client"}, {"user_id": "2", "role": "expert"}]}}"#;
    sandbox.provision(&format!("{PEOPLE}{shared}\n")).await?;
    let mut stranger = sandbox.connect(PATH, "3").await?;
    let mut one = sandbox.connect(PATH, "1").await?;
    let mut two = sandbox.connect(PATH, "2").await?;
    assert_eq!(two.next().await?, online("1", "One"), "and not of 3, who was there first");
    assert_eq!(one.next().await?, online("2", "Two"));
    two.close().await?;
    assert_eq!(one.next().await?, offline("2"));
    stranger.send("{}").await?;
    assert_eq!(stranger.next().await?["type"], "error", "nothing was told before");
    Ok(())
}

async fn roster_of(socket: &mut Client, users: usize) -> anyhow::Result<usize> {
    let mut ids = std::collections::HashSet::new();
    while ids.len() < users {
        let frame = socket.next().await?;
        assert_eq!(frame["type"], "user_online");
        ids.insert(frame["user_id"].to_string());
    }
    Ok(ids.len())
}

/// 10,000 come at once: each watcher is told of each, in few frames of the stream; a newcomer gets the whole roster.
#[tokio::test(flavor = "multi_thread")]
async fn a_storm_of_joins_is_told_in_batches() -> anyhow::Result<()> {
    const USERS: u64 = 10_000;
    let sandbox = Sandbox::start(Backend::Sqlite).await?;
    sandbox.provision(PEOPLE).await?;
    let mut service = sandbox.presence()?;
    let mut watcher = sandbox.connect(PATH, "1").await?;
    let mut beside = Stream::open(&mut service).await?;
    beside.join(1, "beside", "")?;
    beside.next().await?;

    let storm = Stream::open(&mut service).await?;
    for user in 1..=USERS {
        storm.join(user, &format!("user-{user}"), "Somebody")?;
    }
    let mut frames = 0;
    while beside.roster.len() < usize::try_from(USERS)? + 2 {
        beside.any().await?;
        frames += 1;
    }
    assert!(frames < 500, "{frames} frames for {USERS} joins");
    assert_eq!(roster_of(&mut watcher, usize::try_from(USERS)? + 1).await?, usize::try_from(USERS)? + 1);
    let mut newcomer = sandbox.connect(PATH, "2").await?;
    roster_of(&mut newcomer, usize::try_from(USERS)? + 2).await?;
    Ok(())
}
