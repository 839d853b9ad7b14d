//! Any bytes as a frame of consultation: `cargo +nightly fuzz run consultation` in `edge`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use switchboard_edge::documents::{Reaction, react};

fuzz_target!(|frame: &str| {
    if let Some(Reaction::Answers(answer)) = react("consultation", frame) {
        assert!(answer.starts_with('{'));
    }
});
