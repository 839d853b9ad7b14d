//! Location by its contract: over gRPC and sockets, on both databases, with one instance and two.

use switchboard::config::Role;
use switchboard_proto::{
    location::v1::{
        EraseUserRequest, GetLastPositionRequest, Join, Pair, Position, RefusalReason, ReportPositionRequest,
        ShareRequest, ShareResponse, location_service_client::LocationServiceClient, share_request::Action,
        share_response::Event,
    },
    wire::{Answer, Location, Wire as _},
};
use switchboard_tests::{Backend, PATIENCE, Sandbox};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Code, Streaming};

const PEOPLE: &str = r#"
{"user": {"id": "1", "roles": ["customer"]}}
{"user": {"id": "2", "roles": ["therapist"]}}
"#;

fn pair() -> Option<Pair> {
    Some(Pair { customer_id: "1".into(), therapist_id: "2".into() })
}

fn at(latitude: f64) -> Position {
    Position { latitude, longitude: 7.5, ..Position::default() }
}

/// A stream of sessions by hand.
struct Stream {
    requests: mpsc::UnboundedSender<ShareRequest>,
    frames: Streaming<ShareResponse>,
}

impl Stream {
    async fn open(sandbox: &Sandbox) -> anyhow::Result<Self> {
        let (requests, outgoing) = mpsc::unbounded_channel();
        let frames = sandbox.locations()?.share(UnboundedReceiverStream::new(outgoing)).await?.into_inner();
        Ok(Self { requests, frames })
    }

    fn ask(&self, session: u64, request: u64, action: Action) -> anyhow::Result<()> {
        Ok(self.requests.send(Location::request(session, request, action))?)
    }

    fn join(&self, session: u64, user_id: &str, role: &str) -> anyhow::Result<()> {
        self.ask(session, session, Action::Join(Join { pair: pair(), user_id: user_id.into(), role: role.into() }))
    }

    async fn next(&mut self) -> anyhow::Result<(Vec<u64>, Event, Option<Answer>)> {
        let frame = tokio::time::timeout(PATIENCE, self.frames.message()).await??;
        match frame.map(Location::split_response) {
            Some((sessions, Some(event), answer)) => Ok((sessions, event, answer)),
            other => anyhow::bail!("{other:?}"),
        }
    }

    async fn refused(&mut self) -> anyhow::Result<RefusalReason> {
        match self.next().await? {
            (_, Event::Refused(refused), Some(_)) => Ok(refused.reason()),
            other => anyhow::bail!("{other:?}"),
        }
    }
}

async fn contract(backend: Backend) -> anyhow::Result<()> {
    let sandbox = Sandbox::start(backend).await?;
    let mut service = sandbox.locations()?;
    let get = GetLastPositionRequest { pair: pair() };
    let none = service.get_last_position(get.clone()).await.expect_err("nothing was reported");
    assert_eq!((none.code(), switchboard_chassis::error::reason(&none).as_str()), (Code::NotFound, "NO_POSITION"));

    let mut stream = Stream::open(&sandbox).await?;
    stream.ask(1, 1, Action::Report(at(1.0)))?;
    assert_eq!(stream.refused().await?, RefusalReason::NotJoined);
    stream.join(0, "2", "")?;
    stream.ask(0, 9, Action::Join(Join { pair: pair(), user_id: "2".into(), role: String::new() }))?;
    let mut misused = stream.next().await?;
    if misused.2.is_none() {
        misused = stream.next().await?;
    }
    assert!(matches!(misused.1, Event::Refused(_)));
    for (user_id, role, reason) in [
        ("3", "", RefusalReason::NotAParticipant),
        ("1", "therapist", RefusalReason::NotAParticipant),
        ("1", "patient", RefusalReason::InvalidArgument),
        ("", "", RefusalReason::InvalidArgument),
    ] {
        stream.join(5, user_id, role)?;
        assert_eq!(stream.refused().await?, reason, "{user_id} as {role}");
    }
    for (session, user_id, role) in [(1, "2", ""), (2, "1", ""), (3, "3", "staff")] {
        stream.join(session, user_id, role)?;
        let (sessions, joined, _) = stream.next().await?;
        assert!(matches!(joined, Event::Joined(joined) if joined.last.is_none()));
        assert_eq!(sessions, [session]);
    }
    stream.join(1, "2", "")?;
    assert_eq!(stream.refused().await?, RefusalReason::AlreadyJoined);

    // One frame for all sessions of the stream, with the answer on it.
    let exact = Position { accuracy_m: Some(4.5), heading_deg: Some(0.0), ..at(40.7128) };
    stream.ask(1, 7, Action::Report(exact))?;
    let (sessions, moved, answer) = stream.next().await?;
    assert_eq!((sessions.len(), answer), (3, Some(Answer { session: 1, request: 7 })));
    let Event::Moved(moved) = moved else { panic!("{moved:?}") };
    let told = moved.position.expect("a position");
    assert!(told.at.is_some());
    assert_eq!(Position { at: None, ..told }, exact);
    for session in [2, 3] {
        stream.ask(session, 8, Action::Report(at(1.0)))?;
        assert_eq!(stream.refused().await?, RefusalReason::NotTheTherapist);
    }
    stream.ask(1, 9, Action::Report(at(f64::NAN)))?;
    assert_eq!(stream.refused().await?, RefusalReason::InvalidArgument);

    // By a service, to the same sessions; what is last is last.
    let report = |position| ReportPositionRequest { pair: pair(), position };
    let reported = service.report_position(report(Some(at(-3.0)))).await?.into_inner().position;
    assert!(matches!(stream.next().await?.1, Event::Moved(moved) if moved.position == reported));
    assert_eq!(service.get_last_position(get.clone()).await?.into_inner().position, reported);
    stream.join(4, "1", "")?;
    assert!(matches!(stream.next().await?.1, Event::Joined(joined) if joined.last == reported));
    for wrong in [None, Some(at(91.0)), Some(Position { accuracy_m: Some(-1.0), ..at(1.0) })] {
        assert_eq!(service.report_position(report(wrong)).await.expect_err("wrong").code(), Code::InvalidArgument);
    }

    let erased = service.erase_user(EraseUserRequest { user_id: "1".into() }).await?.into_inner();
    assert!(erased.positions_erased <= 1, "it may not have been stored yet");
    assert_eq!(service.get_last_position(get).await.expect_err("erased").code(), Code::NotFound);
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

/// A socket on one instance hears a therapist on another, and the other's positions are stored for both.
#[tokio::test(flavor = "multi_thread")]
async fn two_instances_are_one_service() -> anyhow::Result<()> {
    let sandbox = Sandbox::start_with(Backend::Postgres, |config| config.location.store_interval_ms = 10).await?;
    sandbox.provision(PEOPLE).await?;
    let (address, lifecycle) = sandbox.another(&[Role::Location]).await?;
    let mut second = LocationServiceClient::new(sandbox.peer_at(address)?);
    let mut customer = sandbox.connect("/ws/location/1/2/", "1").await?;
    let reported = ReportPositionRequest { pair: pair(), position: Some(at(12.25)) };
    second.report_position(reported).await?;
    assert_eq!(customer.next().await?["latitude"], 12.25);

    // The first instance does not remember what nobody there heard: the database does.
    let elsewhere = Some(Pair { customer_id: "8".into(), therapist_id: "9".into() });
    second.report_position(ReportPositionRequest { pair: elsewhere.clone(), position: Some(at(5.0)) }).await?;
    let mut first = sandbox.locations()?;
    let stored = async {
        loop {
            match first.get_last_position(GetLastPositionRequest { pair: elsewhere.clone() }).await {
                Ok(found) => return found.into_inner().position.expect("a position"),
                Err(_) => tokio::task::yield_now().await,
            }
        }
    };
    assert_eq!(tokio::time::timeout(PATIENCE, stored).await?.latitude.to_string(), "5");
    lifecycle.stop();
    Ok(())
}

/// A customer who does not read delays nobody, and then has the newest position without all those before.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_gets_the_newest() -> anyhow::Result<()> {
    /// More than the buffers between two sockets of one machine hold.
    const POSITIONS: u32 = 150_000;
    let sandbox = Sandbox::start(Backend::Sqlite).await?;
    sandbox.provision(PEOPLE).await?;
    let mut slow = sandbox.connect("/ws/location/1/2/", "1").await?;
    let mut therapist = sandbox.connect("/ws/location/1/2/", "2").await?;
    let newest = f64::from(POSITIONS) / 10_000.0;
    let mut told = 0.0;
    for n in 1..=POSITIONS {
        let latitude = f64::from(n) / 10_000.0;
        therapist.send(format!(r#"{{"latitude":{latitude},"longitude":11.0}}"#)).await?;
        // Echoes are conflated, too; but the newest always comes.
        if n % 64 == 0 {
            while told < latitude {
                told = therapist.next().await?["latitude"].as_f64().unwrap_or_default();
            }
        }
    }
    let (mut last, mut count) = (0.0, 0);
    while last < newest {
        let told = slow.next().await?["latitude"].as_f64().unwrap_or_default();
        assert!(told > last, "in order");
        last = told;
        count += 1;
    }
    assert!(count < POSITIONS, "a backlog of all");
    Ok(())
}
