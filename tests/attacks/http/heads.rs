//! Heads and bodies.

use super::Case;
use crate::stage::Stage;

const LINE_ENDS: &str = "the RFC lets a recipient take a bare line feed for the end of a line";

/// Where a message ends: what one reader takes for a body and another for a request.
pub(super) fn framing(stage: &Stage) -> anyhow::Result<Vec<Case>> {
    let bearer = format!("authorization: Bearer {}\r\n", stage.token("1")?);
    let post =
        |headers: &str, body: &str| format!("POST /chat/chats/?x HTTP/1.1\r\nhost: x\r\n{bearer}{headers}\r\n{body}");
    let get = |headers: &str, body: &str| format!("GET /healthz HTTP/1.1\r\nhost: x\r\n{headers}\r\n{body}");
    let smuggled = "GET /smuggled HTTP/1.1\r\nhost: x\r\n\r\n";
    Ok(vec![
        Case::new(
            "both a length and chunks",
            post(
                &format!("content-length: {}\r\ntransfer-encoding: chunked\r\n", smuggled.len() + 5),
                &format!("0\r\n\r\n{smuggled}"),
            ),
            &[400],
        ),
        Case::new(
            "chunks and a length",
            post("transfer-encoding: chunked\r\ncontent-length: 4\r\n", &format!("0\r\n\r\n{smuggled}")),
            &[400],
        ),
        Case::new("two lengths that differ", post("content-length: 0\r\ncontent-length: 39\r\n", smuggled), &[400]),
        Case::new("two lengths that agree", post("content-length: 2\r\ncontent-length: 2\r\n", "{}"), &[400]),
        Case::new("a list of lengths", post("content-length: 2, 2\r\n", "{}"), &[400]),
        Case::new("a negative length", post("content-length: -1\r\n", ""), &[400]),
        Case::new("a length with a sign", post("content-length: +2\r\n", "{}"), &[400]),
        Case::new("a length in hexadecimal", post("content-length: 0x2\r\n", "{}"), &[400]),
        Case::new("an empty length", post("content-length: \r\n", ""), &[400]),
        Case::new("a length of 2^64", post("content-length: 18446744073709551616\r\n", ""), &[400]),
        Case::new("a length of 2^64-1", post("content-length: 18446744073709551615\r\n", ""), &[431]),
        Case::new("a huge length", post("content-length: 9223372036854775807\r\n", "{}"), &[408]),
        Case::new("a length that is a word", post("content-length: all\r\n", ""), &[400]),
        Case::new("chunks that are not", post("transfer-encoding: chunked\r\n", "junk\r\n\r\n"), &[400]),
        Case::new(
            "a chunk too long for a number",
            post("transfer-encoding: chunked\r\n", "fffffffffffffffff\r\n{}"),
            &[400],
        ),
        Case::new("a chunk with a sign", post("transfer-encoding: chunked\r\n", "-2\r\n{}\r\n0\r\n\r\n"), &[400]),
        Case::new("a chunk without its end", post("transfer-encoding: chunked\r\n", "2\r\n{}0\r\n\r\n"), &[400]),
        Case::new(
            "a chunk's length ended by a line feed",
            post("transfer-encoding: chunked\r\n", "2\n{}\r\n0\r\n\r\n"),
            &[400],
        ),
        Case::new(
            "a chunk with a mile of extensions",
            post("transfer-encoding: chunked\r\n", &format!("2;{}\r\n{{}}\r\n0\r\n\r\n", "x".repeat(100_000))),
            &[400],
        ),
        Case::new(
            "a mile of trailers",
            post("transfer-encoding: chunked\r\n", &format!("0\r\n{}\r\n", "x: y\r\n".repeat(20_000))),
            &[400],
        ),
        Case::new(
            "an encoding that is not the last",
            post("transfer-encoding: chunked, identity\r\n", smuggled),
            &[400],
        ),
        Case::new("an encoding nobody knows", post("transfer-encoding: xchunked\r\n", smuggled), &[400]),
        Case::new("an encoding behind a space", post("transfer-encoding : chunked\r\n", smuggled), &[400]),
        Case::new("an encoding behind a tab", post("transfer-encoding:\tchunked\r\n", "0\r\n\r\n"), &[400]),
        Case::new("an encoding behind a vertical tab", post("transfer-encoding:\u{b}chunked\r\n", "0\r\n\r\n"), &[400]),
        Case::new(
            "two encodings",
            post("transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n", "0\r\n\r\n"),
            &[400],
        ),
        Case::new("an encoding on two lines", post("transfer-encoding:\r\n chunked\r\n", "0\r\n\r\n"), &[400]),
        Case::new(
            "an encoding in HTTP/1.0",
            format!(
                "POST /chat/chats/ HTTP/1.0\r\nhost: x\r\n{bearer}transfer-encoding: chunked\r\n\r\n0\r\n\r\n{smuggled}"
            ),
            &[400],
        ),
        Case::new("a GET with a body", get("content-length: 39\r\n", smuggled), &[200]),
        Case::new(
            "a GET with chunks",
            get("transfer-encoding: chunked\r\n", &format!("0\r\n\r\n{smuggled}")),
            &[200, 404],
        ),
        Case::new("two requests in one write", [get("", ""), smuggled.to_owned()].concat(), &[200, 404]),
        Case::new("a hundred requests in one write", get("", "").repeat(100), &[200; 100]),
        Case::new("a body over the limit", post("content-length: 70000\r\n", &"x".repeat(70_000)), &[413]),
        Case::new(
            "chunks over the limit",
            post("transfer-encoding: chunked\r\n", &format!("11170\r\n{}\r\n0\r\n\r\n", "x".repeat(70_000))),
            &[413],
        ),
        Case::new("a body compressed", post("content-encoding: gzip\r\ncontent-length: 4\r\n", "\u{1f}x{}"), &[400]),
        Case::new("a body that nobody sends", post("content-length: 50\r\n", "{}"), &[408]),
        Case::new("chunks that do not end", post("transfer-encoding: chunked\r\n", "2\r\n{}\r\n"), &[408]),
        Case::new(
            "a body that waits for a word",
            post("expect: 100-continue\r\ncontent-length: 2\r\n", "{}"),
            &[100, 400],
        ),
        Case::new(
            "a body that expects what is unknown",
            post("expect: a miracle\r\ncontent-length: 2\r\n", "{}"),
            &[400],
        ),
    ])
}

pub(super) fn heads() -> Vec<Case> {
    let get = |headers: &str| format!("GET /healthz HTTP/1.1\r\nhost: x\r\n{headers}\r\n");
    let line = |line: &str| format!("{line}\r\nhost: x\r\n\r\n");
    let path = |path: &str| line(&format!("GET {path} HTTP/1.1"));
    vec![
        Case::new("a line folded", get("x: a\r\n b\r\n"), &[400]),
        Case::new("a first line folded", "GET /healthz HTTP/1.1\r\n host: x\r\n\r\n", &[400]),
        Case::new("bare line feeds", "GET /healthz HTTP/1.1\nhost: x\n\n", &[200]).differs(LINE_ENDS),
        Case::new("bare carriage returns", "GET /healthz HTTP/1.1\rhost: x\r\r", &[400]),
        Case::new("a carriage return in a value", get("x: a\rb\r\n"), &[400]),
        Case::new("a NUL in a value", get("x: a\0b\r\n"), &[400]),
        Case::new("a NUL in a name", get("x\0y: a\r\n"), &[400]),
        Case::new("a NUL in the path", path("/health\0z"), &[400]),
        Case::new("a bell in a value", get("x: a\u{7}b\r\n"), &[400]),
        Case::new("a space before the colon", get("x : a\r\n"), &[400]),
        Case::new("a space in a name", get("x y: a\r\n"), &[400]),
        Case::new("a name without a colon", get("xyz\r\n"), &[400]),
        Case::new("a name that is empty", get(": a\r\n"), &[400]),
        Case::new("a name that is not ASCII", get("ä: a\r\n"), &[400]),
        Case::new("a value that is not ASCII", get("x: ä\r\n"), &[200]),
        Case::new("an empty value", get("x:\r\n"), &[200]),
        Case::new("no host", "GET /healthz HTTP/1.1\r\n\r\n", &[200])
            .differs("hyper leaves the host to the application, which needs none"),
        Case::new("two hosts", get("host: y\r\n"), &[200])
            .differs("hyper leaves the host to the application, which needs none"),
        Case::new("an empty line first", format!("\r\n{}", get("")), &[200]),
        Case::new("a hundred thousand empty lines first", "\r\n".repeat(100_000), &[431]),
        Case::new("a thousand headers", get(&(0..1_000).map(|n| format!("x{n}: y\r\n")).collect::<String>()), &[431]),
        Case::new("a thousand of the same", get(&"x: y\r\n".repeat(1_000)), &[431]),
        Case::new("ninety headers", get(&"x: y\r\n".repeat(90)), &[200]),
        Case::new("a header of 8 KiB", get(&format!("x: {}\r\n", "y".repeat(8 << 10))), &[200]),
        Case::new("a header of 64 KiB", get(&format!("x: {}\r\n", "y".repeat(64 << 10))), &[431]),
        Case::new("a header of 1 MiB", get(&format!("x: {}\r\n", "y".repeat(1 << 20))), &[431]),
        Case::new("a name of 64 KiB", get(&format!("{}: y\r\n", "x".repeat(64 << 10))), &[431]),
        Case::new("a URL of 8 KiB", path(&format!("/{}", "x".repeat(8 << 10))), &[404]),
        Case::new("a URL of 64 KiB", path(&format!("/{}", "x".repeat(64 << 10))), &[431]),
        Case::new("a URL of 1 MiB", path(&format!("/{}", "x".repeat(1 << 20))), &[431]),
        Case::new("a method of 1 MiB", line(&format!("{} / HTTP/1.1", "X".repeat(1 << 20))), &[431]),
        Case::new("a query of 8 KiB", path(&format!("/healthz?{}", "x=y&".repeat(2 << 10))), &[200]),
        Case::new("a whole URL", path("http://elsewhere/healthz"), &[200]),
        Case::new("a whole URL of another kind", path("file:///etc/passwd"), &[400]),
        Case::new("an authority", line("CONNECT elsewhere:443 HTTP/1.1"), &[404]),
        Case::new("an asterisk", line("OPTIONS * HTTP/1.1"), &[200]),
        Case::new("no path", line("GET HTTP/1.1"), &[400]),
        Case::new("a path without a slash", path("healthz"), &[404])
            .differs("hyper takes it for an authority, which has no path; the RFC recommends 400"),
        Case::new("a space in the path", path("/health z"), &[400]),
        Case::new("two spaces", line("GET  /healthz HTTP/1.1"), &[400]),
        Case::new("dots", path("/../../etc/passwd"), &[404]),
        Case::new("encoded dots", path("/%2e%2e/%2e%2e/etc/passwd"), &[404]),
        Case::new("encoded slashes", path("/..%2f..%2fetc%2fpasswd"), &[404]),
        Case::new("dots on a socket's way", path("/ws/../healthz"), &[404]),
        Case::new("dots encoded twice", path("/%252e%252e/etc/passwd"), &[404]),
        Case::new("an encoded NUL", path("/healthz%00"), &[404]),
        Case::new("an encoding cut short", path("/healthz%"), &[404]),
        Case::new("an encoding that is not UTF-8", path("/ws/chat/%ff%fe/1/"), &[404]),
        Case::new("slashes", path(&"/".repeat(4_000)), &[404]),
        Case::new("a fragment", path("/healthz#x"), &[200])
            .differs("the http crate drops a fragment; the RFC has none there"),
        Case::new("HTTP/0.9", "GET /healthz\r\n\r\n", &[400]),
        Case::new("HTTP/1.0", "GET /healthz HTTP/1.0\r\n\r\n", &[200]),
        Case::new("HTTP/1.0 that stays", "GET /healthz HTTP/1.0\r\nconnection: keep-alive\r\n\r\n", &[200]),
        Case::new("HTTP/1.2", line("GET /healthz HTTP/1.2"), &[400]),
        Case::new("HTTP/9.9", line("GET /healthz HTTP/9.9"), &[400]),
        Case::new("another protocol", line("GET /healthz SIP/2.0"), &[400]),
        Case::new("HTTP/2 by its preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0", &[]),
        Case::new(
            "HTTP/2 by an upgrade",
            get("connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n"),
            &[200],
        ),
        Case::new("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".repeat(20), &[400]),
        Case::new("a mail", "EHLO example.com\r\nMAIL FROM:<a@b.c>\r\n\r\n", &[400]),
        Case::new("zeros", vec![0; 100_000], &[400]),
        Case::new(
            "noise",
            (0..100_000u32).map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[0] | 0x80).collect::<Vec<_>>(),
            &[400],
        ),
        Case::new("a method nobody knows", line("BREW /healthz HTTP/1.1"), &[200])
            .differs("/healthz answers every method"),
        Case::new("TRACE", line("TRACE /ws/presence/ HTTP/1.1"), &[426]),
        Case::new("an override of the method", get("x-http-method-override: DELETE\r\n"), &[200]),
        Case::new("hop-by-hop by name", get("connection: close, authorization, host\r\n"), &[200]),
        Case::new("nothing at all", "", &[]),
        Case::new("a head without its end", "GET /healthz HTTP/1.1\r\nhost: x\r\n", &[]),
    ]
}
