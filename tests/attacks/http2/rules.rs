//! What HTTP/2 forbids (RFC 9113; HPACK: RFC 7541).

use super::{
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, HEALTH,
    Outcome::{self, Answered, Ended, GoAway, Lives, Reset},
    PADDED, PING, PREFACE, PRIORITY, PUSH_PROMISE, RST_STREAM, SETTINGS, WINDOW_UPDATE, field, fields, frame, head,
    message, string,
};

const PROTOCOL: u32 = 1;
const FLOW_CONTROL: u32 = 3;
const STREAM_CLOSED: u32 = 5;
const FRAME_SIZE: u32 = 6;
const COMPRESSION: u32 = 9;
const CALM: u32 = 11;

pub(super) const DIFFERENCES: [&str; 2] = [
    "HTTP/2: for a frame of the wrong size and for bad HPACK, h2 gives the general code, PROTOCOL_ERROR",
    "HTTP/2, no path: h2 takes it for the root, where there is no service",
];

pub(super) struct Case {
    pub(super) name: &'static str,
    /// Without the preface and the settings before it.
    pub(super) is_bare: bool,
    pub(super) send: Vec<u8>,
    /// Any of these is right.
    pub(super) expect: &'static [Outcome],
}

pub(super) fn cases() -> Vec<Case> {
    const BREACH: &[Outcome] = &[GoAway(PROTOCOL)];
    const STREAM_BREACH: &[Outcome] = &[Reset(PROTOCOL), GoAway(PROTOCOL)];
    const SIZE: &[Outcome] = &[GoAway(FRAME_SIZE), GoAway(PROTOCOL)];
    const HPACK: &[Outcome] = &[GoAway(COMPRESSION), GoAway(PROTOCOL), Reset(PROTOCOL)];
    const NO_PREFACE: &[Outcome] = &[GoAway(PROTOCOL), GoAway(FRAME_SIZE), Ended];
    let case = |name, send, expect| Case { name, is_bare: false, send, expect };
    let bare = |name, send: &[u8], expect| Case { name, is_bare: true, send: send.to_vec(), expect };
    let settings = |settings: &[u8]| frame(SETTINGS, 0, 0, settings);
    let with = |more: &[(&str, &str)]| frame(HEADERS, END_HEADERS | END_STREAM, 1, &fields(HEALTH, more));
    let only = |given: &[(&str, &str)]| {
        let fields: Vec<u8> = given.iter().flat_map(|(name, value)| field(name, value)).collect();
        frame(HEADERS, END_HEADERS | END_STREAM, 1, &fields)
    };
    let block = |block: &[u8]| frame(HEADERS, END_HEADERS | END_STREAM, 1, block);
    let open = || head(1, 0, HEALTH);
    // One entry of 4,000 bytes in the table, and as many references to it as a frame holds.
    let entry = [&[0x40][..], &string(b"x"), &string(&[b'y'; 4_000])].concat();
    let bomb = [fields(HEALTH, &[]), entry, vec![0xbe; 12_000]].concat();
    vec![
        bare(
            "noise",
            &(0..500u32).map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect::<Vec<_>>(),
            NO_PREFACE,
        ),
        bare("HTTP/1.1", b"GET / HTTP/1.1\r\nhost: x\r\n\r\n", NO_PREFACE),
        bare("TLS", &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".repeat(20), NO_PREFACE),
        bare("a preface cut short, then noise", &[&PREFACE[..20], &[0; 100]].concat(), NO_PREFACE),
        bare("no settings", &[PREFACE, &head(1, END_STREAM, HEALTH)].concat(), &[GoAway(PROTOCOL), Answered, Lives]),
        bare("the preface twice", &[PREFACE, PREFACE].concat(), NO_PREFACE),
        case("a call on stream 0", head(0, END_STREAM, HEALTH), BREACH),
        case("a call on an even stream", head(2, END_STREAM, HEALTH), BREACH),
        case(
            "streams that count down",
            [head(5, END_STREAM, HEALTH), head(3, END_STREAM, HEALTH)].concat(),
            &[GoAway(PROTOCOL), GoAway(STREAM_CLOSED), Reset(STREAM_CLOSED), Answered],
        ),
        case("data on stream 0", frame(DATA, 0, 0, b"x"), BREACH),
        case("data on an idle stream", frame(DATA, 0, 1, b"x"), BREACH),
        case(
            "data after the end",
            [open(), message(1, b""), frame(DATA, 0, 1, b"x")].concat(),
            &[Reset(STREAM_CLOSED), GoAway(STREAM_CLOSED), GoAway(PROTOCOL), Answered],
        ),
        case(
            "a head after the end",
            [head(1, END_STREAM, HEALTH), head(1, END_STREAM, HEALTH)].concat(),
            &[Reset(STREAM_CLOSED), GoAway(STREAM_CLOSED), GoAway(PROTOCOL), Answered],
        ),
        case("data with more padding than data", [open(), frame(DATA, PADDED, 1, &[200, 1, 2])].concat(), BREACH),
        case("a head with more padding than head", frame(HEADERS, END_HEADERS | PADDED, 1, &[200, 1, 2]), BREACH),
        case("a frame over 16 KiB", [open(), frame(DATA, 0, 1, &[0; 16_385])].concat(), SIZE),
        case("a frame of 16 MiB", [open(), vec![0xff, 0xff, 0xff, DATA, 0, 0, 0, 0, 1]].concat(), SIZE),
        case("a head over 16 KiB", frame(HEADERS, END_HEADERS, 1, &[0; 16_385]), SIZE),
        case("settings of five bytes", settings(&[0; 5]), SIZE),
        case("settings on a stream", frame(SETTINGS, 0, 1, b""), BREACH),
        case("settings that acknowledge and say more", frame(SETTINGS, ACK, 0, &[0; 6]), SIZE),
        case("settings that acknowledge nothing", frame(SETTINGS, ACK, 0, b"").repeat(3), &[GoAway(PROTOCOL), Lives]),
        case("a window over 2^31", settings(&[0, 4, 0x80, 0, 0, 0]), &[GoAway(FLOW_CONTROL), GoAway(PROTOCOL)]),
        case("frames of one byte", settings(&[0, 5, 0, 0, 0, 1]), BREACH),
        case("frames of 2^32 bytes", settings(&[0, 5, 255, 255, 255, 255]), BREACH),
        case("a push neither on nor off", settings(&[0, 2, 0, 0, 0, 2]), BREACH),
        case("a setting nobody knows", settings(&[0xfa, 0xfa, 1, 2, 3, 4]), &[Lives]),
        case("a table of 2^32 bytes", settings(&[0, 1, 255, 255, 255, 255]), &[Lives]),
        case("a ping of seven bytes", frame(PING, 0, 0, &[0; 7]), SIZE),
        case("a ping on a stream", frame(PING, 0, 1, &[0; 8]), BREACH),
        case("a window that grows by nothing", frame(WINDOW_UPDATE, 0, 0, &[0; 4]), BREACH),
        case("a window of three bytes", frame(WINDOW_UPDATE, 0, 0, &[0; 3]), SIZE),
        case(
            "a window that overflows",
            frame(WINDOW_UPDATE, 0, 0, &[0x7f, 255, 255, 255]).repeat(2),
            &[GoAway(FLOW_CONTROL)],
        ),
        case("an idle stream's window", frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1]), BREACH),
        case(
            "a stream's window that overflows",
            [open(), frame(WINDOW_UPDATE, 0, 1, &[0x7f, 255, 255, 255]).repeat(2)].concat(),
            &[Reset(FLOW_CONTROL), GoAway(FLOW_CONTROL)],
        ),
        case(
            "a stream's window that grows by nothing",
            [open(), frame(WINDOW_UPDATE, 0, 1, &[0; 4])].concat(),
            STREAM_BREACH,
        ),
        case("a reset of stream 0", frame(RST_STREAM, 0, 0, &[0; 4]), BREACH),
        case("a reset of an idle stream", frame(RST_STREAM, 0, 1, &[0; 4]), BREACH),
        case("a reset of three bytes", [open(), frame(RST_STREAM, 0, 1, &[0; 3])].concat(), SIZE),
        case("a priority on stream 0", frame(PRIORITY, 0, 0, &[0; 5]), BREACH),
        case(
            "a priority of four bytes",
            frame(PRIORITY, 0, 1, &[0; 4]),
            &[GoAway(FRAME_SIZE), Reset(FRAME_SIZE), GoAway(PROTOCOL)],
        ),
        case(
            "a stream that depends on itself",
            frame(PRIORITY, 0, 1, &[0, 0, 0, 1, 0]),
            &[GoAway(PROTOCOL), Reset(PROTOCOL), Lives],
        ),
        case("a promise by a client", frame(PUSH_PROMISE, END_HEADERS, 1, &[0, 0, 0, 2]), BREACH),
        case("a continuation of nothing", frame(CONTINUATION, END_HEADERS, 1, b""), BREACH),
        case("a head interrupted by a ping", [frame(HEADERS, 0, 1, b""), frame(PING, 0, 0, &[0; 8])].concat(), BREACH),
        case(
            "a head interrupted by another stream",
            [frame(HEADERS, 0, 1, b""), frame(CONTINUATION, END_HEADERS, 3, b"")].concat(),
            BREACH,
        ),
        case(
            "a head interrupted by another head",
            [frame(HEADERS, 0, 1, b""), head(3, END_STREAM, HEALTH)].concat(),
            BREACH,
        ),
        case("a goodbye on a stream", frame(GOAWAY, 0, 1, &[0; 8]), BREACH),
        case("a goodbye of four bytes", frame(GOAWAY, 0, 0, &[0; 4]), SIZE),
        case("a frame nobody knows", frame(0xfa, 255, 7, &[0; 100]), &[Lives]),
        case("a reserved bit", frame(0xfa, 0, 1 << 31 | 1, b""), &[Lives]),
        case("HPACK: an index of nothing", block(&[0x80]), HPACK),
        case("HPACK: an index beyond the table", block(&[0xff, 0xff, 0x7f]), HPACK),
        case("HPACK: a number without an end", block(&[0xff; 100]), HPACK),
        case("HPACK: a string longer than the block", block(&[0, 127, 255, 255, 255, 7]), HPACK),
        case("HPACK: a table over the limit", block(&[0x3f, 0xe1, 0xff, 0xff, 0x7f]), HPACK),
        case("HPACK: Huffman's padding too long", block(&[0, 0x81, 0xff, 0x81, 0xff]), HPACK),
        case(
            "HPACK: twelve thousand references to 4,000 bytes",
            block(&bomb),
            &[Answered, GoAway(PROTOCOL), GoAway(CALM), Reset(PROTOCOL)],
        ),
        case("a name in capitals", with(&[("X-Y", "z")]), &[Reset(PROTOCOL), GoAway(COMPRESSION), GoAway(PROTOCOL)]),
        case("a name with a colon", with(&[(":x", "z")]), &[Reset(PROTOCOL), GoAway(COMPRESSION), GoAway(PROTOCOL)]),
        case("a name with a space", with(&[("x y", "z")]), &[Reset(PROTOCOL), GoAway(COMPRESSION), GoAway(PROTOCOL)]),
        case("an empty name", with(&[("", "z")]), &[Reset(PROTOCOL), GoAway(COMPRESSION), GoAway(PROTOCOL)]),
        case(
            "a line feed in a value",
            with(&[("x", "y\r\nz: z")]),
            &[Reset(PROTOCOL), GoAway(COMPRESSION), GoAway(PROTOCOL)],
        ),
        case("a NUL in a value", with(&[("x", "y\0z")]), &[Reset(PROTOCOL), GoAway(COMPRESSION), GoAway(PROTOCOL)]),
        case("a connection header", with(&[("connection", "keep-alive")]), STREAM_BREACH),
        case("an encoding of the transfer", with(&[("transfer-encoding", "chunked")]), STREAM_BREACH),
        case("te: gzip", with(&[("te", "gzip")]), &[Reset(PROTOCOL), GoAway(PROTOCOL), Answered]),
        case("a pseudo-header after others", with(&[(":method", "GET")]), STREAM_BREACH),
        case("no method", only(&[(":scheme", "http"), (":path", HEALTH)]), STREAM_BREACH),
        case("no path", only(&[(":method", "POST"), (":scheme", "http")]), &[Answered]),
        case("an empty path", only(&[(":method", "POST"), (":scheme", "http"), (":path", "")]), STREAM_BREACH),
        case(
            "two paths",
            only(&[(":method", "POST"), (":scheme", "http"), (":path", HEALTH), (":path", "/")]),
            STREAM_BREACH,
        ),
        case(
            "a status in a request",
            only(&[(":method", "POST"), (":scheme", "http"), (":path", HEALTH), (":status", "200")]),
            STREAM_BREACH,
        ),
        case(
            "a length that is not the body's",
            [frame(HEADERS, END_HEADERS, 1, &fields(HEALTH, &[("content-length", "99")])), message(1, b"")].concat(),
            STREAM_BREACH,
        ),
        case("a call as it should be", [open(), message(1, b"")].concat(), &[Answered, Lives]),
    ]
}
