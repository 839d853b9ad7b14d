//! The hot path, piece by piece, by the clock: `cargo bench -p switchboard-tests`. By instructions, which do not depend on
//! what else the machine does: `./tests/run micro`.

#[path = "../micro/cases.rs"]
mod cases;

use cases::{BATCH, Commits, FRAMES, RoundTrips};
use divan::{Bencher, counter::ItemsCount};

fn main() {
    divan::main();
}

#[divan::bench(args = FRAMES)]
fn decode((protocol, frame): (&str, &str)) {
    cases::decode(protocol, frame);
}

#[divan::bench(args = FRAMES.map(|(protocol, _)| protocol))]
fn encode(protocol: &str) {
    cases::encode(protocol);
}

#[divan::bench]
fn link_request() {
    cases::link_request();
}

#[divan::bench]
fn link_response() {
    cases::link_response();
}

#[divan::bench]
fn group_commit(bencher: Bencher<'_, '_>) {
    let commits = Commits::new().expect("a system");
    bencher.counter(ItemsCount::new(BATCH)).bench_local(|| commits.store().expect("stored"));
}

#[divan::bench]
fn round_trip(bencher: Bencher<'_, '_>) {
    let mut trips = RoundTrips::new().expect("a system");
    bencher.bench_local(|| trips.talk().expect("heard"));
}
