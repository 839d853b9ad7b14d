//! The closing handshake.

use super::{
    Case,
    Expect::{Close, CloseEmpty, Echo, Pong},
    say,
};
use crate::wire::{CLOSE, CONTINUATION, FIN, PING, TEXT, close, frame, text};

pub(super) fn cases() -> Vec<Case> {
    const BAD_GATEWAY: &str = "IANA lists it as bad gateway, later than the RFC, and tungstenite does not know it";
    let mut cases = Vec::new();
    let empty = || frame(FIN | CLOSE, b"");
    cases.push(Case::new("an empty close frame", vec![empty()], vec![CloseEmpty]));
    cases.push(Case::closes("a close frame of one byte", vec![frame(FIN | CLOSE, &[3])], 1002));
    for code in (1000..=1003).chain(1007..=1013).chain([3000, 3001, 3999, 4000, 4001, 4998, 4999]) {
        cases.push(Case::new(format!("code {code}"), vec![close(code, b"")], vec![Close(code)]));
        let with_reason = vec![close(code, "why: ä".as_bytes())];
        cases.push(Case::new(format!("code {code} with a reason"), with_reason, vec![Close(code)]));
    }
    for code in [0, 1, 999, 1004, 1005, 1006, 1014, 1015, 1016, 1100, 2000, 2999, 5000, 10_000, 65_535] {
        for (name, reason) in [("", &b""[..]), (" with a reason", b"why")] {
            let case = Case::closes(format!("code {code}{name}"), vec![close(code, reason)], 1002);
            cases.push(if code == 1014 { case.differs(BAD_GATEWAY) } else { case });
        }
    }
    for (bytes, code) in [(1, 1000), (122, 1000), (123, 1000), (124, 1002), (125, 1002), (1000, 1002)] {
        let reason = vec![close(1000, &vec![b'r'; bytes])];
        cases.push(Case::new(format!("a reason of {bytes} bytes"), reason, vec![Close(code)]));
    }
    for (name, reason) in [
        ("a continuation byte", &b"\x80"[..]),
        ("a surrogate", b"\xed\xa0\x80"),
        ("an overlong slash", b"\xc0\xaf"),
        ("a character without its end", b"why \xe2\x82"),
        ("above all", b"\xf4\x90\x80\x80"),
    ] {
        cases.push(Case::closes(format!("a reason that is not UTF-8: {name}"), vec![close(1000, reason)], 1007));
    }
    for (name, after) in [
        ("text", text("{}")),
        ("a ping", frame(FIN | PING, b"x")),
        ("a second close frame", close(1001, b"")),
        ("an empty close frame", empty()),
        ("half a frame", vec![FIN | TEXT, 0xff]),
        ("what is no frame", vec![0xff; 300]),
        ("much", text(&"x".repeat(60_000))),
    ] {
        let (first, then) = (close(1000, b"bye"), vec![Close(1000)]);
        cases.push(Case::new(format!("{name} after it"), vec![first.clone(), after.clone()], then.clone()));
        cases.push(Case::new(format!("{name} after it in one write"), vec![[first, after].concat()], then));
    }
    let inside = vec![frame(TEXT, b"{"), close(1000, b"")];
    cases.push(Case::new("inside a message", inside, vec![Close(1000)]));
    let inside = vec![frame(TEXT, b"{"), close(1000, b""), frame(FIN | CONTINUATION, b"}")];
    cases.push(Case::new("inside a message that goes on", inside, vec![Close(1000)]));
    let after_ping = vec![frame(FIN | PING, b"x"), close(1000, b"")];
    cases.push(Case::new("after a ping", after_ping, vec![Pong(b"x".to_vec()), Close(1000)]));
    let after_message = vec![frame(FIN | TEXT, &say("last words")), close(1000, b"")];
    cases.push(Case::new("right after a message", after_message, vec![Close(1000)]));
    let chopped = close(1000, b"bye").chunks(1).map(<[u8]>::to_vec).collect();
    cases.push(Case::new("byte by byte", chopped, vec![Close(1000)]));
    let stored = vec![frame(FIN | TEXT, &say("heard?"))];
    cases.push(Case::new("what was said before is heard", stored, vec![Echo("heard?".into())]));
    cases
}
