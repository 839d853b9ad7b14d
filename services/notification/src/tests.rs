//! Sessions of one or two instances, over streams within the process.

use std::{
    sync::{Arc, atomic::AtomicI64},
    time::Duration,
};

use futures_util::future;
use switchboard_bus::{Bus, Missed};
use switchboard_chassis::{Clock, Lifecycle, testing::Backend};
use switchboard_proto::notification::v1::{
    Accepted, Answer, Inbox as WireInbox, Join, NotifyRequest, Read, RefusalReason, SubscribeRequest,
    SubscribeResponse, notification_service_client::NotificationServiceClient,
    notification_service_server::NotificationServiceServer, subscribe_request::Action, subscribe_response::Event,
};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::Streaming;

use crate::{
    NotificationConfig, Notifications,
    doorbell::{self, Doorbell},
    hub::Hub,
    model::Which,
    retention,
    rooms::Inboxes,
    start,
    store::{
        Store,
        tests::{close, draft, open},
    },
};

const LONG: Duration = Duration::from_secs(60);

struct Instance {
    inboxes: Inboxes,
    client: NotificationServiceClient<NotificationServiceServer<Notifications>>,
}

impl Instance {
    async fn start(store: &Arc<Store>, bus: Bus) -> Self {
        let (doorbell, subscription) = Doorbell::take(bus).await.expect("a bus");
        let inboxes = Inboxes { store: store.clone(), hub: Arc::new(Hub::new(store.clone(), doorbell)) };
        let (config, lifecycle) = (NotificationConfig { retention_days: 0 }, Lifecycle::new());
        doorbell::listen(inboxes.hub.clone(), subscription, &lifecycle);
        let notifications = start(inboxes.clone(), &config, Clock::System, &lifecycle);
        Self { inboxes, client: NotificationServiceClient::new(NotificationServiceServer::new(notifications)) }
    }

    async fn notify(&self, request_id: &str) -> bool {
        self.notify_user("ann", request_id).await
    }

    async fn notify_user(&self, user_id: &str, request_id: &str) -> bool {
        let request = NotifyRequest {
            user_id: user_id.to_owned(),
            title: "title".to_owned(),
            request_id: request_id.to_owned(),
            ..NotifyRequest::default()
        };
        self.client.clone().notify(request).await.expect("stored").into_inner().created
    }

    async fn subscribe(&self) -> Subscriber {
        let (requests, stream) = mpsc::unbounded_channel();
        let frames = self.client.clone().subscribe(UnboundedReceiverStream::new(stream)).await.expect("a stream");
        Subscriber { requests, frames: frames.into_inner() }
    }

    /// A subscriber whose session 1 looks at an empty inbox.
    async fn joined(&self) -> Subscriber {
        let mut subscriber = self.subscribe().await;
        subscriber.join(1);
        assert!(matches!(subscriber.event().await, Event::Joined(_)));
        subscriber
    }
}

struct Subscriber {
    requests: mpsc::UnboundedSender<SubscribeRequest>,
    frames: Streaming<SubscribeResponse>,
}

impl Subscriber {
    fn act(&self, session: u64, request: u64, action: Action) {
        let action = Some(action);
        let asked = SubscribeRequest { session, action, request, ..SubscribeRequest::default() };
        self.requests.send(asked).expect("open");
    }

    fn join(&self, session: u64) {
        self.act(session, 0, Action::Join(Join { user_id: "ann".to_owned() }));
    }

    fn read_all(&self, session: u64, request: u64) {
        self.act(session, request, Action::Read(Read { all: true, notification_ids: Vec::new() }));
    }

    async fn frame(&mut self) -> Option<SubscribeResponse> {
        tokio::time::timeout(LONG, self.frames.message()).await.expect("in time").expect("good")
    }

    async fn event(&mut self) -> Event {
        self.frame().await.and_then(|frame| frame.event).expect("an event")
    }

    async fn notified(&mut self) -> u64 {
        match self.event().await {
            Event::Notified(notified) => notified.notification.expect("it").seq,
            other => panic!("{other:?}"),
        }
    }

    async fn changed(&mut self) -> WireInbox {
        match self.event().await {
            Event::InboxChanged(changed) => changed.inbox.expect("it"),
            other => panic!("{other:?}"),
        }
    }
}

async fn one() -> (Instance, TempDir) {
    let (store, directory) = open(Backend::Sqlite).await;
    (Instance::start(&Arc::new(store), Bus::local()).await, directory)
}

async fn two() -> (Instance, Instance, TempDir) {
    let (store, directory) = open(Backend::Sqlite).await;
    let (store, bus) = (Arc::new(store), Bus::local());
    (Instance::start(&store, bus.another()).await, Instance::start(&store, bus).await, directory)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_stored_while_a_session_joins_is_not_lost() {
    const USERS: usize = 500;
    let (one, other, _directory) = two().await;
    let each = (0..USERS).map(|number| {
        let (joined, notifier) = (&one, if number % 2 == 0 { &one } else { &other });
        async move {
            let user_id = format!("user {number}");
            let mut subscriber = joined.subscribe().await;
            subscriber.act(1, 0, Action::Join(Join { user_id: user_id.clone() }));
            let told = async {
                let Event::Joined(joined) = subscriber.event().await else { panic!("not in") };
                if joined.inbox.expect("it").last_seq == 0 {
                    assert_eq!(subscriber.notified().await, 1);
                }
            };
            future::join(told, notifier.notify_user(&user_id, "")).await;
        }
    });
    future::join_all(each).await;
}

#[tokio::test]
async fn all_sessions_are_told_what_one_has_read() {
    let (one, other, _directory) = two().await;
    let (mut here, mut there) = (one.joined().await, other.joined().await);
    assert!(one.notify("").await);
    assert_eq!((here.notified().await, there.notified().await), (1, 1));

    let inbox = WireInbox { unread_count: 0, last_seq: 1, revision: 2 };
    here.read_all(1, 5);
    let frame = here.frame().await.expect("a frame");
    assert_eq!(frame.answer, Some(Answer { session: 1, request: 5 }));
    assert!(matches!(frame.event, Some(Event::InboxChanged(changed)) if changed.inbox == Some(inbox)));
    assert_eq!(there.changed().await, inbox);

    here.read_all(1, 6);
    let frame = here.frame().await.expect("a frame");
    assert_eq!(frame.answer, Some(Answer { session: 1, request: 6 }));
    assert_eq!(frame.event, Some(Event::Accepted(Accepted {})));
    assert!(one.notify("").await);
    assert_eq!(there.notified().await, 2, "nothing was told of what was read before");
}

#[tokio::test]
async fn a_repeat_tells_what_was_stored_and_not_told_and_nothing_else() {
    let (one, other, _directory) = two().await;
    let (mut here, mut there) = (one.joined().await, other.joined().await);
    // An instance that ends between storing and telling.
    one.inboxes.store.append(&[draft("ann", "r")], 7, false).await.expect("stored");
    for _ in 0..2 {
        assert!(!one.notify("r").await);
    }
    assert!(one.notify("").await);
    for subscriber in [&mut here, &mut there] {
        assert_eq!(subscriber.changed().await, WireInbox { unread_count: 1, last_seq: 1, revision: 1 });
        assert_eq!(subscriber.notified().await, 2);
    }
}

#[tokio::test]
async fn what_was_read_and_not_told_is_told_by_the_next_who_reads() {
    let (one, other, _directory) = two().await;
    let (mut here, mut there) = (one.joined().await, other.joined().await);
    assert!(one.notify("").await);
    assert_eq!((here.notified().await, there.notified().await), (1, 1));
    one.inboxes.store.mark_read("ann", &Which::All).await.expect("an answer").expect("hers");
    here.read_all(1, 5);
    let inbox = WireInbox { unread_count: 0, last_seq: 1, revision: 2 };
    assert_eq!((here.changed().await, there.changed().await), (inbox, inbox));
    assert_eq!(here.event().await, Event::Accepted(Accepted {}));
}

#[tokio::test]
async fn who_missed_rings_looks_again() {
    let (one, _directory) = one().await;
    let mut subscriber = one.joined().await;
    one.inboxes.store.append(&[draft("ann", ""), draft("ben", "")], 7, false).await.expect("stored");
    for _ in 0..2 {
        one.inboxes.hub.look_again(&Missed::everything()).await;
    }
    assert!(one.notify("").await);
    assert_eq!(subscriber.changed().await, WireInbox { unread_count: 1, last_seq: 1, revision: 1 });
    assert_eq!(subscriber.notified().await, 2, "what is known is not told again");
}

#[tokio::test]
async fn who_has_left_is_forgotten() {
    let (one, _directory) = one().await;
    let mut subscriber = one.joined().await;
    subscriber.join(2);
    assert!(matches!(subscriber.event().await, Event::Joined(_)));
    assert_eq!(one.inboxes.hub.users(), 1);
    let Subscriber { requests, mut frames } = subscriber;
    drop(requests);
    assert!(frames.message().await.expect("good").is_none());
    assert_eq!(one.inboxes.hub.users(), 0);
}

#[tokio::test]
async fn without_a_database_nobody_is_let_in() {
    let (one, _directory) = one().await;
    close(&one.inboxes.store).await;
    let mut subscriber = one.subscribe().await;
    subscriber.join(1);
    let Event::Refused(refused) = subscriber.event().await else { panic!("not refused") };
    assert_eq!(refused.reason(), RefusalReason::Unavailable);
    assert_eq!(one.inboxes.hub.users(), 0);
}

#[tokio::test]
async fn a_sweep_tells_whose_unread_count_it_changed() {
    let (one, _directory) = one().await;
    let mut subscriber = one.joined().await;
    const DAY: i64 = 24 * 3600 * 1_000_000;
    let today = 100 * DAY;
    for at in [today - 91 * DAY, today - 89 * DAY] {
        one.inboxes.store.append(&[draft("ann", "")], at, false).await.expect("stored");
    }
    let clock = Clock::Manual(Arc::new(AtomicI64::new(today)));
    for removed in [1, 0] {
        let swept = retention::sweep(&one.inboxes, 90, &clock, &Lifecycle::new()).await.expect("an answer");
        assert_eq!(swept, removed);
    }
    assert_eq!(subscriber.changed().await, WireInbox { unread_count: 1, last_seq: 2, revision: 3 });
}
