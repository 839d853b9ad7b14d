//! What every bus promises. Written once, run on each kind.

use bytes::Bytes;
use switchboard_bus::{Bus, Heard};

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
        }
    };
}

bus_contract!(local, Bus::local());

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
            Heard::Missed => told = true,
            Heard::Payload(bytes) => {
                let n = u32::from_be_bytes(bytes[..].try_into().expect("four bytes"));
                assert!(last.is_none_or(|last| n == last + 1 || told && n > last), "{last:?} then {n}, told: {told}");
                last = Some(n);
            }
        }
    }
    assert!(told);
}
