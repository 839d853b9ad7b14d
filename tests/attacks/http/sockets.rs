//! Requests that ask for a socket, more or less.

use super::Case;
use crate::{
    stage::{Stage, clinic},
    wire::{FIN, KEY, PING, frame},
};

const PAIR: usize = 15;
const RIGHT: [(&str, &str); 4] =
    [("connection", "Upgrade"), ("upgrade", "websocket"), ("sec-websocket-version", "13"), ("sec-websocket-key", KEY)];

pub(super) fn cases(stage: &Stage) -> anyhow::Result<Vec<Case>> {
    let path = stage.path(&clinic(PAIR), &format!("p{PAIR}"))?;
    let ask = |first: &str, changes: &[(&str, &str)], more: &str| {
        let mut head = format!("{first}\r\nhost: x\r\n");
        for (name, value) in RIGHT {
            let value = changes.iter().find(|(changed, _)| *changed == name).map_or(value, |(_, value)| value);
            if !value.is_empty() {
                head.push_str(&format!("{name}: {value}\r\n"));
            }
        }
        head + more + "\r\n"
    };
    let line = format!("GET {path} HTTP/1.1");
    let with = |changes: &[(&str, &str)]| ask(&line, changes, "");
    let more = |more: &str| ask(&line, &[], more);
    let mut cases = vec![
        Case::new("as it should be", with(&[]), &[101]),
        Case::new("a frame in the same write", [with(&[]).into_bytes(), frame(FIN | PING, b"")].concat(), &[101]),
        Case::new(
            "a request in the same write",
            [with(&[]), "GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n".into()].concat(),
            &[101],
        ),
        Case::new("WebSocket in capitals", with(&[("upgrade", "WEBSOCKET")]), &[101]),
        Case::new("upgrade in small letters", with(&[("connection", "upgrade")]), &[101]),
        Case::new("upgrade among others", with(&[("connection", "keep-alive,\tUpgrade")]), &[101]),
        Case::new("a list of upgrades", with(&[("upgrade", "h2c, websocket")]), &[101]),
        Case::new("close and upgrade", with(&[("connection", "close, upgrade")]), &[101]),
        Case::new("connection on two lines", more("connection: keep-alive\r\n"), &[101]),
        Case::new("a whole URL", ask(&format!("GET http://x{path} HTTP/1.1"), &[], ""), &[101]),
        Case::new(
            "extensions",
            more("sec-websocket-extensions: permessage-deflate; client_max_window_bits\r\n"),
            &[101],
        ),
        Case::new("subprotocols nobody knows", more("sec-websocket-protocol: chat, superchat\r\n"), &[101]),
        Case::new(
            "a thousand subprotocols",
            more(&format!("sec-websocket-protocol: {}\r\n", ["x"; 1000].join(","))),
            &[101],
        ),
        Case::new("an origin nobody knows, with a token", more("origin: https://evil.example\r\n"), &[101]),
        Case::new("an origin that is none", more("origin: null\r\n"), &[101]),
        Case::new("HTTP/1.0", ask(&format!("GET {path} HTTP/1.0"), &[], ""), &[426]),
        Case::new("POST", ask(&format!("POST {path} HTTP/1.1"), &[], ""), &[426]),
        Case::new("HEAD", ask(&format!("HEAD {path} HTTP/1.1"), &[], ""), &[426]),
        Case::new("a path that is no socket's", ask("GET /healthz HTTP/1.1", &[], ""), &[200]),
        Case::new("a path that is nothing's", ask("GET /ws/no/such/thing/here/ HTTP/1.1", &[], ""), &[404]),
        Case::new("no connection header", with(&[("connection", "")]), &[426]),
        Case::new("another connection header", with(&[("connection", "keep-alive")]), &[426]),
        Case::new("a connection header that holds it", with(&[("connection", "upgraded")]), &[426]),
        Case::new("no upgrade header", with(&[("upgrade", "")]), &[426]),
        Case::new("another upgrade header", with(&[("upgrade", "h2c")]), &[426]),
        Case::new("an upgrade header that holds it", with(&[("upgrade", "websockets")]), &[426]),
        Case::new("no key", with(&[("sec-websocket-key", "")]), &[426]),
        Case::new("a short key", with(&[("sec-websocket-key", "c2hvcnQ=")]), &[426]),
        Case::new("a long key", with(&[("sec-websocket-key", &"A".repeat(5_000))]), &[426]),
        Case::new("a key that is no base64", with(&[("sec-websocket-key", "!!!!!!!!!!!!!!!!!!!!!!==")]), &[426]),
        Case::new("no version", with(&[("sec-websocket-version", "")]), &[426]),
    ];
    for version in ["0", "7", "8", "12", "14", "99", "013", "13, 8", "x"] {
        cases.push(Case::new("another version", with(&[("sec-websocket-version", version)]), &[426]));
    }
    for (name, body) in [
        ("a body", "content-length: 5\r\n\r\nhello"),
        ("a body in chunks", "transfer-encoding: chunked\r\n\r\n0\r\n"),
        ("a body that is a request", "content-length: 38\r\n\r\nGET /healthz HTTP/1.1\r\nhost: smuggled\r\n"),
    ] {
        let request = ask(&line, &[], body);
        cases.push(Case::new(name, request, &[426]));
    }
    cases.push(Case::new("two keys", more(&format!("sec-websocket-key: {KEY}\r\n")), &[426]));
    cases.push(Case::new("two versions", more("sec-websocket-version: 8\r\n"), &[426]));
    Ok(cases)
}
