//! Text that is UTF-8 and text that is not, whole and in pieces that part a character.

use super::{
    Case,
    Expect::{Close, Echo, Refused},
};
use crate::wire::{CONTINUATION, FIN, TEXT, frame};

/// What must come back as it went.
const GOOD: [(&str, &str); 22] = [
    ("ASCII", "Hello-World"),
    ("two bytes each", "µ@ßöäüàá"),
    ("the RFC's Greek", "κόσμε"),
    ("Hello in three scripts", "Hello-µ@ßöäüàá-UTF-8!! 你好 مرحبا"),
    ("the last of one byte", "\u{7f}"),
    ("the first of two bytes", "\u{80}"),
    ("the last of two bytes", "\u{7ff}"),
    ("the first of three bytes", "\u{800}"),
    ("before the surrogates", "\u{d7ff}"),
    ("after the surrogates", "\u{e000}"),
    ("the replacement character", "\u{fffd}"),
    ("a noncharacter", "\u{fffe}"),
    ("the last of three bytes", "\u{ffff}"),
    ("the first of four bytes", "\u{10000}"),
    ("a noncharacter of plane 1", "\u{1fffe}"),
    ("a noncharacter of plane 15", "\u{fffff}"),
    ("the last of all", "\u{10ffff}"),
    ("a byte order mark", "\u{feff}x"),
    ("a family", "👩‍👩‍👧‍👦"),
    ("a combining mark", "e\u{301}"),
    ("right to left", "\u{202e}abc\u{202c}"),
    ("private use", "\u{e000}\u{f8ff}\u{100000}"),
];

/// What is no UTF-8.
const BAD: [(&str, &[u8]); 41] = [
    ("a continuation byte", b"\x80"),
    ("the last continuation byte", b"\xbf"),
    ("two continuation bytes", b"\x80\xbf"),
    ("a continuation byte after a letter", b"a\x80"),
    ("a continuation too many", b"\xc3\xa9\xa9"),
    ("two bytes without the second", b"\xc3"),
    ("two bytes, then a letter", b"\xc3a"),
    ("three bytes without the third", b"\xe2\x82"),
    ("three bytes, then a letter", b"\xe2\x82a"),
    ("three bytes without the rest", b"\xe2"),
    ("four bytes without the fourth", b"\xf0\x9f\x98"),
    ("four bytes, then a letter", b"\xf0\x9f\x98a"),
    ("four bytes without the rest", b"\xf0"),
    ("all first bytes without more", b"\xc3 \xe2 \xf0 "),
    ("an impossible byte fe", b"\xfe"),
    ("an impossible byte ff", b"\xff"),
    ("impossible bytes", b"\xfe\xfe\xff\xff"),
    ("an overlong slash of two bytes", b"\xc0\xaf"),
    ("an overlong slash of three bytes", b"\xe0\x80\xaf"),
    ("an overlong slash of four bytes", b"\xf0\x80\x80\xaf"),
    ("an overlong slash of five bytes", b"\xf8\x80\x80\x80\xaf"),
    ("an overlong slash of six bytes", b"\xfc\x80\x80\x80\x80\xaf"),
    ("the longest overlong of two bytes", b"\xc1\xbf"),
    ("the longest overlong of three bytes", b"\xe0\x9f\xbf"),
    ("the longest overlong of four bytes", b"\xf0\x8f\xbf\xbf"),
    ("an overlong NUL", b"\xc0\x80"),
    ("an overlong NUL of three bytes", b"\xe0\x80\x80"),
    ("the first high surrogate", b"\xed\xa0\x80"),
    ("the last high surrogate", b"\xed\xaf\xbf"),
    ("the first low surrogate", b"\xed\xb0\x80"),
    ("the last low surrogate", b"\xed\xbf\xbf"),
    ("a pair of surrogates", b"\xed\xa0\x80\xed\xb0\x80"),
    ("the last pair of surrogates", b"\xed\xaf\xbf\xed\xbf\xbf"),
    ("the first above all", b"\xf4\x90\x80\x80"),
    ("far above all", b"\xf7\xbf\xbf\xbf"),
    ("the first of five bytes", b"\xf8\x88\x80\x80\x80"),
    ("the last of five bytes", b"\xfb\xbf\xbf\xbf\xbf"),
    ("the first of six bytes", b"\xfc\x84\x80\x80\x80\x80"),
    ("the last of six bytes", b"\xfd\xbf\xbf\xbf\xbf\xbf"),
    ("Latin-1", b"caf\xe9"),
    ("UTF-16", b"\xff\xfeh\x00i\x00"),
];

const BEFORE: &[u8] = br#"{"content":""#;
const AFTER: &[u8] = br#""}"#;

fn around(words: &[u8]) -> Vec<u8> {
    [BEFORE, words, AFTER].concat()
}

/// In two frames, parted there.
fn parted(payload: &[u8], at: usize) -> Vec<Vec<u8>> {
    vec![frame(TEXT, &payload[..at]), frame(FIN | CONTINUATION, &payload[at..])]
}

fn byte_by_byte(payload: &[u8]) -> Vec<Vec<u8>> {
    let mut frames: Vec<_> = payload.chunks(1).map(|byte| frame(CONTINUATION, byte)).collect();
    frames[0][0] |= TEXT;
    frames.push(frame(FIN | CONTINUATION, b""));
    frames
}

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, words) in GOOD {
        let payload = around(words.as_bytes());
        let echo = || vec![Echo(words.to_owned())];
        cases.push(Case::new(format!("{name}, whole"), vec![frame(FIN | TEXT, &payload)], echo()));
        cases.push(Case::new(format!("{name} in frames of a byte"), byte_by_byte(&payload), echo()));
        for at in 1..words.len() {
            let send = parted(&payload, BEFORE.len() + at);
            cases.push(Case::new(format!("{name}, parted after {at} bytes"), send, echo()));
        }
    }
    for (name, words) in BAD {
        let payload = around(words);
        let at = BEFORE.len() + words.len() / 2;
        let in_bytes = vec![byte_by_byte(&payload).concat()];
        for (how, send) in [
            ("whole", vec![frame(FIN | TEXT, &payload)]),
            ("alone", vec![frame(FIN | TEXT, words)]),
            ("parted", parted(&payload, at)),
            ("in frames of a byte", in_bytes),
        ] {
            cases.push(Case::closes(format!("{name}, {how}"), send, 1007));
        }
    }
    // It need not wait for the end of a message to see that it is none.
    let begun = vec![frame(TEXT, b"\xce\xba\xf4\x90\x80\x80")];
    cases.push(Case::closes("a bad first fragment, and nothing more", begun, 1007));
    let later = vec![frame(TEXT, b"\xce\xba"), frame(CONTINUATION, b"\xed\xa0\x80")];
    cases.push(Case::closes("a bad later fragment, and nothing more", later, 1007));
    let open = vec![frame(TEXT, b"\xce\xba\xe1\xbd"), frame(FIN | CONTINUATION, b"")];
    cases.push(Case::closes("a character that the message does not end", open, 1007));
    // In a frame that has not come whole, it waits.
    let mut half = frame(FIN | TEXT, &around(b"\xff"));
    let rest = half.split_off(half.len() - 1);
    cases.push(Case::new("a bad frame that comes later to its end", vec![half, rest], vec![Close(1007)]));
    // JSON's own escapes are another matter: the text is good, the message is not.
    for (name, words) in [
        ("a lone high surrogate", r"\ud800"),
        ("a lone low surrogate", r"\udc00"),
        ("a pair the wrong way round", r"\udc00\ud800"),
        ("an escape cut short", r"\ud8"),
        ("an escaped NUL", r"\u0000"),
        ("a NUL", "\u{0}"),
    ] {
        let send = vec![frame(FIN | TEXT, &around(words.as_bytes()))];
        cases.push(Case::new(format!("JSON: {name}"), send, vec![Refused]));
    }
    cases
}
