//! What the bus does when a NATS server is not as it should be.

use std::{future::Future, time::Duration};

use bytes::Bytes;
use switchboard_bus::{
    Bus, BusConfig, ConnectError, HEAD_BYTES, Heard, Subscription,
    testing::{NatsServer, nats_config, new_bus_at},
};
use switchboard_chassis::Clock;

const SUBJECT: &str = "nats.one";
const HELLO: Bytes = Bytes::from_static(b"hello");
const AGAIN: Bytes = Bytes::from_static(b"again");
/// No test waits longer for one thing. What the bus notices, it notices sooner.
const WAIT_MAX: Duration = Duration::from_secs(30);

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(WAIT_MAX, future).await.unwrap_or_else(|_| panic!("no {what}"))
}

async fn connect(config: &BusConfig) -> Result<Bus, ConnectError> {
    Bus::connect(config, &Clock::System).await
}

async fn connected(config: &BusConfig) -> Bus {
    connect(config).await.expect("connected")
}

async fn listening(bus: &Bus) -> Subscription {
    bus.subscribe(SUBJECT).await.expect("subscribed")
}

async fn next(subscription: &mut Subscription) -> Heard {
    soon("news", subscription.next()).await.expect("open")
}

/// Passes over payloads.
async fn missed(subscription: &mut Subscription) {
    while !matches!(next(subscription).await, Heard::Missed(_)) {}
}

/// Passes over misses.
async fn heard(subscription: &mut Subscription) -> Bytes {
    loop {
        if let Heard::Payload(payload) = next(subscription).await {
            return payload;
        }
    }
}

#[tokio::test]
async fn a_server_that_dies_and_comes_back_is_found_again() {
    let mut server = NatsServer::start(&[]).await.expect("started");
    let config = new_bus_at(server.url());
    // Two on one connection, and one on another, as two processes have them.
    let (here, there) = (connected(&config).await, connected(&config).await);
    let mut near = listening(&here.another()).await;
    let mut far = listening(&there).await;
    for subscription in [&mut near, &mut far] {
        here.publish(SUBJECT, || HELLO);
        assert_eq!(heard(subscription).await, HELLO);
    }

    server.kill().expect("killed");
    for subscription in [&mut near, &mut far] {
        // At once, and again for as long as it lasts.
        missed(subscription).await;
        missed(subscription).await;
    }
    for _ in 0..100_000 {
        here.publish(SUBJECT, || panic!("nobody can hear it"));
    }

    server.start_again().await.expect("started");
    for subscription in [&mut near, &mut far] {
        missed(subscription).await;
    }
    let publishing = async {
        let mut every = tokio::time::interval(Duration::from_millis(50));
        loop {
            every.tick().await;
            here.publish(SUBJECT, || AGAIN);
        }
    };
    tokio::select! {
        () = async { for subscription in [&mut near, &mut far] { while heard(subscription).await != AGAIN {} } } => {}
        () = publishing => {}
    }
}

#[tokio::test]
async fn a_server_that_freezes_is_noticed() {
    let server = NatsServer::start(&[]).await.expect("started");
    let bus = connected(&new_bus_at(server.url())).await;
    let mut subscription = listening(&bus.another()).await;
    server.freeze().expect("frozen");
    for _ in 0..10_000 {
        bus.publish(SUBJECT, || Bytes::from(vec![0; 10_000]));
    }
    missed(&mut subscription).await;
    server.thaw().expect("thawed");
    let publishing = async {
        let mut every = tokio::time::interval(Duration::from_millis(50));
        loop {
            every.tick().await;
            bus.publish(SUBJECT, || AGAIN);
        }
    };
    tokio::select! {
        () = async { while heard(&mut subscription).await != AGAIN {} } => {}
        () = publishing => {}
    }
}

#[tokio::test]
async fn a_part_that_is_wanted_while_nobody_answers_is_missed_when_it_is_heard() {
    let server = NatsServer::start(&[]).await.expect("started");
    let bus = connected(&new_bus_at(server.url())).await;
    let mut subscription = listening(&bus.another()).await;
    let parts = subscription.parts().clone();
    server.freeze().expect("frozen");
    let mut wanted = parts.want(7);
    wanted.heard().await;
    assert!(!wanted.is_heard(), "the server cannot have said so");
    server.thaw().expect("thawed");
    loop {
        match next(&mut subscription).await {
            Heard::Missed(missed) if missed.of_part(7) => break,
            heard => assert!(matches!(heard, Heard::Missed(_)), "{heard:?}"),
        }
    }
    wanted.heard().await;
    assert!(wanted.is_heard());
    bus.publish((SUBJECT, 7), || HELLO);
    assert_eq!(heard(&mut subscription).await, HELLO);
}

#[tokio::test]
async fn a_part_that_is_wanted_while_the_connection_is_lost_is_heard_when_it_is_back() {
    let mut server = NatsServer::start(&[]).await.expect("started");
    let bus = connected(&new_bus_at(server.url())).await;
    let mut subscription = listening(&bus.another()).await;
    server.kill().expect("killed");
    missed(&mut subscription).await;
    let mut wanted = subscription.parts().want(7);
    wanted.heard().await;
    server.start_again().await.expect("started again");
    let publishing = async {
        let mut every = tokio::time::interval(Duration::from_millis(50));
        loop {
            every.tick().await;
            bus.publish((SUBJECT, 7), || AGAIN);
        }
    };
    tokio::select! {
        () = async { while heard(&mut subscription).await != AGAIN {} } => {}
        () = publishing => {}
    }
    assert!(wanted.is_heard());
}

#[tokio::test]
async fn the_loss_of_the_last_payload_is_noticed() {
    let config = nats_config().expect("a NATS server");
    let bus = connected(&config).await;
    let mut subscription = listening(&connected(&config).await).await;
    // No number went before, so there is no doubt about the time before the subscription either.
    bus.publish(SUBJECT, || HELLO);
    assert_eq!(next(&mut subscription).await, Heard::Payload(HELLO));
    bus.publish(SUBJECT, || Bytes::from(vec![0; 2 << 20]));
    assert!(matches!(next(&mut subscription).await, Heard::Missed(_)));
    bus.publish(SUBJECT, || AGAIN);
    assert_eq!(next(&mut subscription).await, Heard::Payload(AGAIN));
}

#[tokio::test]
async fn the_largest_payload_fits() {
    let config = nats_config().expect("a NATS server");
    let bus = connected(&config).await;
    let mut subscription = listening(&bus.another()).await;
    let largest = Bytes::from(vec![7; (1 << 20) - HEAD_BYTES]);
    bus.publish(SUBJECT, || largest.clone());
    assert_eq!(next(&mut subscription).await, Heard::Payload(largest));
}

#[tokio::test]
async fn a_member_that_dies_is_missed() {
    let config = nats_config().expect("a NATS server");
    let mut subscription = listening(&connected(&config).await).await;
    let other = connected(&config).await;
    other.publish(SUBJECT, || HELLO);
    assert_eq!(next(&mut subscription).await, Heard::Payload(HELLO));
    drop(other);
    assert!(matches!(next(&mut subscription).await, Heard::Missed(_)));
}

#[tokio::test]
async fn two_deployments_on_one_server_do_not_hear_each_other() {
    let (one, two) = (nats_config().expect("a NATS server"), nats_config().expect("a NATS server"));
    let (one, two) = (connected(&one).await, connected(&two).await);
    let mut subscription = listening(&one.another()).await;
    two.publish(SUBJECT, || HELLO);
    // Not dropped before it is sent.
    two.finish().await;
    one.publish(SUBJECT, || AGAIN);
    assert_eq!(next(&mut subscription).await, Heard::Payload(AGAIN));
}

#[tokio::test]
async fn where_no_server_is_there_is_an_error() {
    let mut server = NatsServer::start(&[]).await.expect("started");
    let config = new_bus_at(server.url());
    server.kill().expect("killed");
    let error = connect(&config).await.expect_err("nobody there");
    assert!(matches!(error, ConnectError::Failed(..)), "{error:?}");
    assert!(error.to_string().contains(&server.url()), "{error}");

    server.start_again().await.expect("started");
    server.freeze().expect("frozen");
    let error = connect(&config).await.expect_err("it does not answer");
    assert!(matches!(error, ConnectError::Silent(_)), "{error:?}");
}

#[tokio::test]
async fn one_of_several_servers_is_enough() {
    let mut dead = NatsServer::start(&[]).await.expect("started");
    dead.kill().expect("killed");
    let server = NatsServer::start(&[]).await.expect("started");
    let bus = connected(&new_bus_at(format!("{},{}", dead.url(), server.url()))).await;
    let mut subscription = listening(&bus.another()).await;
    bus.publish(SUBJECT, || HELLO);
    assert_eq!(next(&mut subscription).await, Heard::Payload(HELLO));
}

#[tokio::test]
async fn a_configuration_that_is_wrong_connects_to_nothing() {
    assert!(matches!(connect(&new_bus_at("http://one".to_owned())).await, Err(ConnectError::Config(_))));
    let file = "/does/not/exist".into();
    let config = BusConfig { credentials_file: file, ..new_bus_at("nats://127.0.0.1:1".to_owned()) };
    let error = connect(&config).await.expect_err("no file");
    assert!(error.to_string().contains("/does/not/exist"), "{error}");
}

#[tokio::test]
async fn local_is_local() {
    assert!(matches!(connect(&BusConfig::default()).await, Ok(Bus::Local(_))));
}
