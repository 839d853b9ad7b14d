//! Frames: whole, in pieces, with what is reserved, of every length.

use super::{
    Case,
    Expect::{Echo, Pong, Refused},
    say,
};
use crate::wire::{BINARY, CLOSE, CONTINUATION, FIN, Length, PING, PONG, TEXT, frame, frame_with, text};

const MESSAGE_BYTES_MAX: usize = 64 << 10;
const MASK: [u8; 4] = [1, 2, 3, 4];
const UNREAD: &str = "tungstenite reads the length that is announced before it looks at the kind of the frame";

/// A message of exactly so many bytes, and its content.
fn sized(bytes: usize) -> (Vec<u8>, String) {
    let content = "*".repeat(bytes - say("").len());
    (say(&content), content)
}

/// In so many bytes a write.
fn chopped(bytes: &[u8], size: usize) -> Vec<Vec<u8>> {
    bytes.chunks(size).map(<[u8]>::to_vec).collect()
}

/// A message in frames of at most so many bytes.
fn in_pieces(payload: &[u8], size: usize) -> Vec<Vec<u8>> {
    let last = payload.chunks(size).count() - 1;
    let first_of = |n| (if n == 0 { TEXT } else { CONTINUATION }) | (if n == last { FIN } else { 0 });
    payload.chunks(size).enumerate().map(|(n, piece)| frame(first_of(n), piece)).collect()
}

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for bytes in [16, 125, 126, 127, 128, 1023, 1024, 1025, 4096, 65_534, 65_535, MESSAGE_BYTES_MAX] {
        let (payload, content) = sized(bytes);
        let whole = frame(FIN | TEXT, &payload);
        cases.push(Case::new(format!("text of {bytes} bytes"), vec![whole.clone()], vec![Echo(content.clone())]));
        for size in [997, 1024] {
            let name = format!("text of {bytes} bytes in writes of {size}");
            cases.push(Case::new(name, chopped(&whole, size), vec![Echo(content.clone())]));
        }
    }
    for (name, mask) in [("zeros", [0; 4]), ("ones", [0xff; 4]), ("a mask", MASK)] {
        let masked = frame_with(FIN | TEXT, Length::Minimal, Some(mask), &say("masked"));
        cases.push(Case::new(format!("masked with {name}"), vec![masked], vec![Echo("masked".into())]));
    }
    cases.push(Case::new("text byte by byte", chopped(&text(&"a".repeat(50)), 1), vec![Refused]));
    cases.push(Case::new("an empty text", vec![text("")], vec![Refused]));
    for bytes in [0, 1, 125, 126, 65_535, MESSAGE_BYTES_MAX] {
        let binary = frame(FIN | BINARY, &vec![0xfe; bytes]);
        cases.push(Case::new(format!("binary of {bytes} bytes is answered"), vec![binary], vec![Refused]));
    }
    let binary = frame(FIN | BINARY, &say("in binary"));
    cases.push(Case::new("a message in a binary frame is none", vec![binary], vec![Refused]));
    let many: Vec<u8> = (0..8).flat_map(|n| frame(FIN | TEXT, &say(&n.to_string()))).collect();
    cases.push(Case::new("eight messages in one write", vec![many], (0..8).map(|n| Echo(n.to_string())).collect()));
    for (name, first, payload) in [
        ("text", FIN | TEXT, say("not masked")),
        ("binary", FIN | BINARY, vec![0]),
        ("a ping", FIN | PING, Vec::new()),
        ("a pong", FIN | PONG, Vec::new()),
        ("a close frame", FIN | CLOSE, vec![3, 232]),
        ("a first fragment", TEXT, say("x")),
    ] {
        let bare = frame_with(first, Length::Minimal, None, &payload);
        cases.push(Case::closes(format!("{name} without a mask"), vec![bare], 1002));
    }
    cases
}

pub(super) fn fragments() -> Vec<Case> {
    let (payload, words) = (say("in several pieces"), || Echo("in several pieces".into()));
    let empty = || frame(CONTINUATION, b"");
    let mut cases = Vec::new();
    for size in [1, 2, 3, 5, 7, 11, 20, 100] {
        let pieces = in_pieces(&payload, size);
        let name = format!("frames of {size} bytes");
        cases.push(Case::new(name.clone(), pieces.clone(), vec![words()]));
        cases.push(Case::new(format!("{name} in one write"), vec![pieces.concat()], vec![words()]));
        let chopped = chopped(&pieces.concat(), 1);
        cases.push(Case::new(format!("{name}, byte by byte"), chopped, vec![words()]));
        let ping = |n: usize| n.to_string().into_bytes();
        let pinged = pieces.iter().enumerate().map(|(n, piece)| [piece.clone(), frame(FIN | PING, &ping(n))].concat());
        let mut expect: Vec<_> = (0..pieces.len()).map(|n| Pong(ping(n))).collect();
        // The last ping follows the message, whose way is longer.
        expect.push(words());
        cases.push(Case::new(format!("{name} with pings between them"), pinged.collect(), expect));
        let ponged = pieces.iter().map(|piece| [frame(FIN | PONG, b"unsolicited"), piece.clone()].concat());
        cases.push(Case::new(format!("{name} with pongs between them"), ponged.collect(), vec![words()]));
        let padded = pieces[..pieces.len() - 1].iter().flat_map(|piece| [piece.clone(), empty(), empty()]);
        let padded = padded.chain(pieces.last().cloned()).collect();
        cases.push(Case::new(format!("{name} with empty ones between them"), padded, vec![words()]));
    }
    let around = vec![frame(TEXT, b""), frame(CONTINUATION, &payload), frame(FIN | CONTINUATION, b"")];
    cases.push(Case::new("empty first and last frames", around, vec![words()]));
    let nothing = || vec![frame(TEXT, b""), empty(), frame(FIN | CONTINUATION, b"")];
    cases.push(Case::new("nothing in three frames", nothing(), vec![Refused]));
    let twice = [in_pieces(&payload, 9), in_pieces(&payload, 4)].concat();
    cases.push(Case::new("one fragmented message after the other", twice, vec![words(), words()]));
    let binary = vec![frame(BINARY, b"a"), frame(FIN | CONTINUATION, b"b")];
    cases.push(Case::new("binary in two frames is answered", binary, vec![Refused]));
    let empties = std::iter::repeat_with(empty).take(5_000).flatten().collect();
    let flood = vec![frame(TEXT, &payload), empties, frame(FIN | CONTINUATION, b"")];
    cases.push(Case::new("five thousand empty frames in a message", flood, vec![words()]));

    for (name, send) in [
        ("a continuation of nothing", vec![frame(FIN | CONTINUATION, b"x")]),
        ("a continuation of nothing that goes on", vec![frame(CONTINUATION, b"x")]),
        ("an empty continuation of nothing", vec![frame(FIN | CONTINUATION, b"")]),
        ("a continuation after a whole message", vec![frame(FIN | TEXT, &payload), frame(FIN | CONTINUATION, b"x")]),
        ("a continuation after a ping", vec![frame(FIN | PING, b""), frame(CONTINUATION, b"x")]),
        ("a continuation after a fragmented message", {
            [in_pieces(&payload, 9), vec![frame(FIN | CONTINUATION, b"x")]].concat()
        }),
        ("a text inside a message", vec![frame(TEXT, b"{"), frame(FIN | TEXT, b"}")]),
        ("a binary inside a message", vec![frame(TEXT, b"{"), frame(FIN | BINARY, b"}")]),
        ("a second beginning", vec![frame(TEXT, b"{"), frame(TEXT, b"}")]),
        ("a text inside a binary message", vec![frame(BINARY, b"{"), frame(FIN | TEXT, b"}")]),
        ("a text inside a message, byte by byte", chopped(&[frame(TEXT, b"{"), text("}")].concat(), 1)),
    ] {
        // A pong may come before the end of the one that pings.
        let mut case = Case::closes(name, send, 1002);
        if name == "a continuation after a ping" {
            case.expect.insert(0, Pong(Vec::new()));
        }
        cases.push(case);
    }
    cases
}

pub(super) fn control() -> Vec<Case> {
    let mut cases = Vec::new();
    for payload in [Vec::new(), b"x".to_vec(), vec![0], vec![0, 255, 254, 253, 0], vec![0xfe; 124], vec![b'*'; 125]] {
        let bytes = payload.len();
        let ping = frame(FIN | PING, &payload);
        let pong = || vec![Pong(payload.clone())];
        cases.push(Case::new(format!("a ping of {bytes} bytes, {:?}", payload.first()), vec![ping.clone()], pong()));
        cases.push(Case::new(format!("a ping of {bytes} bytes, byte by byte"), chopped(&ping, 1), pong()));
        let pong_alone = vec![frame(FIN | PONG, &payload)];
        cases.push(Case::new(format!("a pong of {bytes} bytes is ignored"), pong_alone, Vec::new()));
    }
    let pings = || (0..10).map(|n: u8| frame(FIN | PING, &[n]));
    let pongs = || (0..10).map(|n: u8| Pong(vec![n])).collect::<Vec<_>>();
    cases.push(Case::new("ten pings", pings().collect(), pongs()));
    cases.push(Case::new("ten pings in one write", vec![pings().flatten().collect()], pongs()));
    cases.push(Case::new("ten pings byte by byte", chopped(&pings().flatten().collect::<Vec<_>>(), 1), pongs()));
    let mixed = vec![frame(FIN | PONG, b"p"), frame(FIN | PING, b"q"), frame(FIN | PONG, b"r"), text("x")];
    cases.push(Case::new("pongs around a ping", mixed, vec![Pong(b"q".to_vec()), Refused]));
    for (name, kind) in [("ping", PING), ("pong", PONG), ("close frame", CLOSE)] {
        for bytes in [126, 127, 1000, 65_535, 65_536] {
            let big = vec![frame(FIN | kind, &vec![3; bytes])];
            cases.push(Case::closes(format!("a {name} of {bytes} bytes"), big, 1002));
        }
        let huge = vec![frame_with(FIN | kind, Length::Announced(1 << 40), Some(MASK), b"")];
        cases.push(Case::closes(format!("a {name} of 2^40 bytes"), huge, 1009).differs(UNREAD));
        let first = vec![frame(kind, &[3, 232])];
        cases.push(Case::closes(format!("a {name} in pieces"), first, 1002));
        let inside = vec![frame(TEXT, b"{"), frame(kind, &[3, 232]), frame(FIN | CONTINUATION, b"}")];
        cases.push(Case::closes(format!("a {name} in pieces inside a message"), inside, 1002));
        let empty = vec![frame(kind, b""), frame(FIN | CONTINUATION, b"")];
        cases.push(Case::closes(format!("an empty {name} in pieces"), empty, 1002));
    }
    cases
}

pub(super) fn reserved() -> Vec<Case> {
    let mut cases = Vec::new();
    for bits in 1..8u8 {
        for (name, kind, payload) in [
            ("text", FIN | TEXT, say("x")),
            ("an empty text", FIN | TEXT, Vec::new()),
            ("binary", FIN | BINARY, vec![1]),
            ("a first fragment", TEXT, say("x")),
            ("a ping", FIN | PING, b"x".to_vec()),
            ("a pong", FIN | PONG, Vec::new()),
            ("a close frame", FIN | CLOSE, vec![3, 232]),
        ] {
            let reserved = frame(kind | bits << 4, &payload);
            cases.push(Case::closes(format!("{name} with reserved bits {bits:03b}"), vec![reserved], 1002));
        }
        let after = vec![text("{}"), frame(FIN | TEXT | bits << 4, b"x"), frame(FIN | PING, b"")];
        let mut case = Case::closes(format!("reserved bits {bits:03b} after a good frame"), after, 1002);
        case.expect.insert(0, Refused);
        cases.push(case);
        let later = vec![frame(TEXT, b"{"), frame(FIN | CONTINUATION | bits << 4, b"}")];
        cases.push(Case::closes(format!("a continuation with reserved bits {bits:03b}"), later, 1002));
    }
    for opcode in (3..=7).chain(11..=15) {
        for (name, payload) in [("", &b""[..]), (" with a payload", b"x"), (" with 125 bytes", &[0; 125])] {
            let odd = frame(FIN | opcode, payload);
            cases.push(Case::closes(format!("opcode {opcode}{name}"), vec![odd], 1002));
        }
        let after = vec![text("{}"), frame(FIN | opcode, b""), frame(FIN | PING, b"")];
        let mut case = Case::closes(format!("opcode {opcode} after a good frame"), after, 1002);
        case.expect.insert(0, Refused);
        cases.push(case);
        let inside = vec![frame(TEXT, b"{"), frame(opcode, b"")];
        cases.push(Case::closes(format!("opcode {opcode} inside a message"), inside, 1002));
        cases.push(Case::closes(format!("opcode {opcode} byte by byte"), chopped(&frame(FIN | opcode, b"x"), 1), 1002));
    }
    cases
}

pub(super) fn lengths() -> Vec<Case> {
    const LENIENT: &str =
        "the RFC says how a length is written, not what a reader does of another way; tungstenite reads it";
    let mut cases = Vec::new();
    for length in [Length::Short, Length::Long] {
        let longer = frame_with(FIN | TEXT, length, Some(MASK), &say("longer"));
        let name = format!("a length in more bytes than it needs: {length:?}");
        cases.push(Case::new(name, vec![longer], vec![Echo("longer".into())]).differs(LENIENT));
        let ping = frame_with(FIN | PING, length, Some(MASK), b"ping");
        let name = format!("a ping's length in more bytes than it needs: {length:?}");
        cases.push(Case::new(name, vec![ping], vec![Pong(b"ping".to_vec())]).differs(LENIENT));
    }
    let announced = |first, length| vec![frame_with(first, Length::Announced(length), Some(MASK), b"")];
    for rest in [0, 100] {
        let length = 1 << 63 | rest;
        cases.push(Case::closes(format!("a length of {length:#x}"), announced(FIN | TEXT, length), 1002));
    }
    cases.push(Case::closes("a length of all ones", announced(FIN | TEXT, u64::MAX), 1002));
    cases.push(Case::closes("a ping's length of all ones", announced(FIN | PING, u64::MAX), 1002));
    for power in [62, 48, 40, 33, 32, 31, 24, 17] {
        for (name, first) in [("text", FIN | TEXT), ("binary", FIN | BINARY), ("a first fragment", TEXT)] {
            cases.push(Case::closes(format!("{name} of 2^{power} bytes"), announced(first, 1 << power), 1009));
        }
    }
    let over = MESSAGE_BYTES_MAX + 1;
    let whole = frame(FIN | TEXT, &vec![b'x'; over]);
    cases.push(Case::closes("one byte over the limit", vec![whole.clone()], 1009));
    cases.push(Case::closes("one byte over the limit in writes of 997", chopped(&whole, 997), 1009));
    for size in [100, 1024, 32 << 10, MESSAGE_BYTES_MAX] {
        let pieces = vec![in_pieces(&vec![b'x'; over], size).concat()];
        cases.push(Case::closes(format!("one byte over the limit in frames of {size}"), pieces, 1009));
        let (payload, content) = sized(MESSAGE_BYTES_MAX);
        let pieces = vec![in_pieces(&payload, size).concat()];
        cases.push(Case::new(format!("the limit in frames of {size}"), pieces, vec![Echo(content)]));
    }
    let bytes = in_pieces(&vec![b'x'; over], 1).concat();
    cases.push(Case::closes("one byte over the limit in frames of one byte", vec![bytes], 1009));
    let without_end = [frame(TEXT, &[b'x'; 40_000]), frame(CONTINUATION, &[b'x'; 40_000])].to_vec();
    cases.push(Case::closes("over the limit in frames without an end", without_end, 1009));
    cases
}
