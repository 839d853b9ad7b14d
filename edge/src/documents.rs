//! The protocol documents and their decoders, for the programs that hold the one against the other: tests, fuzzers and
//! the table of what is played.

use serde_json::Value;
use switchboard_proto::{chat::v1::converse_response::Event, identity::v1::User};

use crate::dialect::{self, Decoded, Dialect, Viewer};

/// Each protocol with its document.
pub const ALL: [(&str, &str); 5] = [
    ("therapy", include_str!("dialect/therapy.md")),
    ("clinic", include_str!("dialect/clinic.md")),
    ("mobile", include_str!("dialect/mobile.md")),
    ("mentoring", include_str!("dialect/mentoring.md")),
    ("consultation", include_str!("dialect/consultation.md")),
];

/// The JSON examples of a document, in their order. Comments behind a value are passed over.
///
/// # Panics
/// When an example is not JSON.
#[must_use]
pub fn examples(document: &str) -> Vec<Value> {
    let fences = document.split("```json\n").skip(1).filter_map(|rest| rest.split("```").next());
    fences
        .map(|fence| {
            let lines = fence.lines().map(|line| line.split(" //").next().unwrap_or_default());
            let json = lines.collect::<Vec<_>>().join("\n");
            serde_json::from_str(&json).unwrap_or_else(|error| panic!("{error} in {fence}"))
        })
        .collect()
}

/// What a socket does about a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reaction {
    /// It asks the chat service.
    Asks,
    /// It answers by itself: an error.
    Answers(String),
    /// It does nothing, as documented.
    Silence,
}

fn dialect(protocol: &str) -> Option<&'static dyn Dialect> {
    Some(match protocol {
        "therapy" => dialect::THERAPY,
        "clinic" => dialect::CLINIC,
        "mobile" => dialect::MOBILE,
        "mentoring" => dialect::MENTORING,
        "consultation" => dialect::CONSULTATION,
        _ => return None,
    })
}

/// How the sockets of a protocol tell an event to somebody else than its author; `None` for an unknown protocol, and for
/// what it does not tell.
#[must_use]
pub fn show(protocol: &str, event: &Event) -> Option<String> {
    let dialect = dialect(protocol)?;
    let view = dialect.view(event, &Viewer::default())?;
    Some(dialect.encode(event, view, &User::default()).to_string())
}

/// What the socket of a protocol does about a text frame; `None` for an unknown protocol.
#[must_use]
pub fn react(protocol: &str, frame: &str) -> Option<Reaction> {
    let dialect = dialect(protocol)?;
    Some(match dialect.decode(frame, &Viewer::default()) {
        Decoded::Act(_) => Reaction::Asks,
        Decoded::Reply(reply) => Reaction::Answers(reply.to_string()),
        Decoded::Ignore => Reaction::Silence,
    })
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;

    /// The fuzzers' corpus, played without a fuzzer.
    #[test]
    fn the_corpus_is_reacted_to() {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
        let mut played = 0;
        for (protocol, _) in ALL {
            for entry in fs::read_dir(corpus.join(protocol)).expect("a corpus for each protocol") {
                let bytes = fs::read(entry.expect("an entry").path()).expect("readable");
                if let Ok(frame) = std::str::from_utf8(&bytes) {
                    let reaction = react(protocol, frame).expect("a protocol");
                    if let Reaction::Answers(answer) = reaction {
                        assert!(serde_json::from_str::<Value>(&answer).is_ok_and(|answer| answer.is_object()));
                    }
                    played += 1;
                }
            }
        }
        assert!(played >= 25, "only {played} frames");
    }
}
