//! What every bus promises. Written once, run on each kind.

use bytes::Bytes;
use switchboard_bus::{Bus, Heard, Part};

const SUBJECT: &str = "contract.one";
const OTHER: &str = "contract.other";
/// More than any bus keeps for a subscriber that does not listen.
const FLOOD: u32 = 200_000;

macro_rules! bus_contract {
    ($kind:ident, $make:expr) => {
        mod $kind {
            use super::*;

            #[tokio::test]
            async fn payloads_keep_their_order_and_come_once() {
                in_order($make).await;
            }
            #[tokio::test]
            async fn a_subject_is_heard_alone() {
                alone($make).await;
            }
            #[tokio::test]
            async fn every_subscriber_hears() {
                everyone($make).await;
            }
            #[tokio::test]
            async fn who_did_not_listen_is_told_that_it_missed_something() {
                missed($make).await;
            }
            #[tokio::test]
            async fn ringing_without_a_listener_is_no_error() {
                let bus: Bus = $make;
                bus.publish(SUBJECT, || payload(1));
            }
            #[tokio::test]
            async fn a_member_does_not_hear_itself() {
                not_itself($make).await;
            }
            #[tokio::test]
            async fn who_comes_later_hears_what_comes_later() {
                later($make).await;
            }
            #[tokio::test]
            async fn who_left_is_not_missed() {
                left($make).await;
            }
            #[tokio::test]
            async fn a_part_is_heard_while_it_is_wanted() {
                parted($make).await;
            }
            #[tokio::test]
            async fn a_wait_that_is_given_up_loses_nothing() {
                given_up($make).await;
            }
        }
    };
}

bus_contract!(local, Bus::local());
bus_contract!(nats, switchboard_bus::testing::nats().await.expect("a NATS server"));

fn payload(n: u32) -> Bytes {
    Bytes::from(n.to_be_bytes().to_vec())
}

async fn in_order(bus: Bus) {
    let mut subscription = bus.another().subscribe(SUBJECT).await.expect("subscribed");
    for n in 0..500 {
        bus.publish(SUBJECT, || payload(n));
    }
    for n in 0..500 {
        assert_eq!(subscription.next().await, Some(Heard::Payload(payload(n))));
    }
}

async fn alone(bus: Bus) {
    let mut subscription = bus.another().subscribe(SUBJECT).await.expect("subscribed");
    bus.publish(OTHER, || payload(1));
    bus.publish(SUBJECT, || payload(2));
    assert_eq!(subscription.next().await, Some(Heard::Payload(payload(2))));
}

async fn not_itself(bus: Bus) {
    let other = bus.another();
    let mut subscription = bus.subscribe(SUBJECT).await.expect("subscribed");
    bus.publish(SUBJECT, || payload(1));
    other.publish(SUBJECT, || payload(2));
    assert_eq!(subscription.next().await, Some(Heard::Payload(payload(2))));
}

async fn later(bus: Bus) {
    let mut first = bus.another().subscribe(SUBJECT).await.expect("subscribed");
    for n in 0..3 {
        bus.publish(SUBJECT, || payload(n));
        assert_eq!(first.next().await, Some(Heard::Payload(payload(n))));
    }
    let mut second = bus.another().subscribe(SUBJECT).await.expect("subscribed");
    for n in 3..6 {
        bus.publish(SUBJECT, || payload(n));
        assert_eq!(second.next().await, Some(Heard::Payload(payload(n))));
    }
}

async fn parted(bus: Bus) {
    let mut subscription = bus.another().subscribe(SUBJECT).await.expect("subscribed");
    let parts = subscription.parts().clone();
    let (mut one, mut two) = (parts.want(1), parts.want(2));
    one.heard().await;
    two.heard().await;
    assert!(one.is_heard() && two.is_heard() && parts.want(1).is_heard());
    let say = |n: u32, part: Option<Part>| match part {
        Some(part) => bus.publish((SUBJECT, part), || payload(n)),
        None => bus.publish(SUBJECT, || payload(n)),
    };
    for (n, part) in [(1, Some(1)), (2, Some(3)), (3, None), (4, Some(2)), (5, Some(1))] {
        say(n, part);
    }
    let mut heard = Vec::new();
    while heard.len() < 4 {
        heard.extend(subscription.next().await);
    }
    // Order is kept in each part.
    let at = |n: u32| heard.iter().position(|heard| *heard == Heard::Payload(payload(n)));
    assert!(at(2).is_none() && at(3).is_some() && at(4).is_some() && at(1) < at(5), "{heard:?}");
    // Somebody else wants the first still.
    let mut again = parts.want(1);
    drop((one, two));
    again.heard().await;
    let mut third = parts.want(3);
    third.heard().await;
    for (n, part) in [(6, Some(2)), (7, Some(1))] {
        say(n, part);
    }
    loop {
        match subscription.next().await {
            // On NATS, the server may hear later than the subscriber that it wants a part no more.
            Some(Heard::Payload(heard)) if heard == payload(6) => {}
            // What was told before it was wanted may have been missed.
            Some(Heard::Missed(missed)) => assert!(missed.of_part(3) && !missed.of_part(1)),
            heard => {
                assert_eq!(heard, Some(Heard::Payload(payload(7))));
                break;
            }
        }
    }
}

async fn left(bus: Bus) {
    let mut subscription = bus.another().subscribe(SUBJECT).await.expect("subscribed");
    drop(bus.another().subscribe(SUBJECT).await.expect("subscribed"));
    let other = bus.another();
    other.publish(SUBJECT, || payload(1));
    other.finish().await;
    drop(other);
    bus.publish(SUBJECT, || payload(2));
    assert_eq!(subscription.next().await, Some(Heard::Payload(payload(1))));
    assert_eq!(subscription.next().await, Some(Heard::Payload(payload(2))));
}

async fn given_up(bus: Bus) {
    let mut subscription = bus.another().subscribe(SUBJECT).await.expect("subscribed");
    for n in 0..100 {
        let mut waits = 0_u32;
        bus.publish(SUBJECT, || payload(n));
        let heard = loop {
            tokio::select! {
                biased;
                heard = subscription.next() => break heard,
                () = tokio::task::yield_now() => waits += 1,
            }
        };
        assert_eq!(heard, Some(Heard::Payload(payload(n))), "after {waits} waits");
    }
}

async fn everyone(bus: Bus) {
    let mut first = bus.another().subscribe(SUBJECT).await.expect("subscribed");
    let mut second = bus.another().subscribe(SUBJECT).await.expect("subscribed");
    bus.publish(SUBJECT, || payload(7));
    assert_eq!(first.next().await, Some(Heard::Payload(payload(7))));
    assert_eq!(second.next().await, Some(Heard::Payload(payload(7))));
}

async fn missed(bus: Bus) {
    let mut subscription = bus.another().subscribe(SUBJECT).await.expect("subscribed");
    for n in 0..FLOOD {
        bus.publish(SUBJECT, || payload(n));
    }
    let mut last = None;
    let mut told = false;
    while last != Some(FLOOD - 1) {
        match subscription.next().await.expect("open") {
            Heard::Missed(_) => told = true,
            Heard::Payload(bytes) => {
                let n = u32::from_be_bytes(bytes[..].try_into().expect("four bytes"));
                assert!(last.is_none_or(|last| n == last + 1 || told && n > last), "{last:?} then {n}, told: {told}");
                last = Some(n);
            }
        }
    }
    // A bus on a network may need a moment to be sure that it was not before the subscription.
    while !told {
        told = matches!(subscription.next().await.expect("open"), Heard::Missed(_));
    }
}
