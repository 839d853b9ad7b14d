//! The README's table of what is played, made from the documents and the transcripts.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    path::Path,
};

use serde_json::Value;
use switchboard_chassis::config::environment;
use switchboard_edge::documents;

const BEGIN: &str = "<!-- played: made by tests/suite/coverage.rs -->\n";
const END: &str = "<!-- /played -->";

/// The ends of the names of a protocol's transcripts, one for each of its sockets.
const SOCKETS: [&str; 4] = ["", "_location", "_notifications", "_presence"];

/// The close codes that each protocol documents, or that its settled silences name.
const CLOSE_CODES: [(&str, &[&str]); 5] = [
    ("therapy", &["4000", "4001", "4003"]),
    ("clinic", &["4001", "4003", "4004"]),
    ("mobile", &["4001", "4002", "4003", "4004"]),
    ("mentoring", &["4001", "4003", "4004"]),
    ("consultation", &["4001", "4003", "4004"]),
];

/// The REST endpoints that each protocol documents, or that its settled silences name.
const ENDPOINTS: [(&str, &[&str]); 3] = [
    (
        "clinic",
        &[
            "POST /chat/chats/",
            "GET /chat/chats/",
            "GET /chat/chats/{id}/",
            "GET /chat/chats/{id}/messages/",
            "POST /chat/chats/{id}/send_message/",
            "POST /chat/chats/{id}/mark_read/",
        ],
    ),
    (
        "mobile",
        &[
            "POST /mobile/sessions/create/",
            "POST /mobile/chat/start/",
            "GET /mobile/chat/list/",
            "GET /mobile/chat/{id}/detail/",
            "POST /mobile/chat/{id}/send-message/",
        ],
    ),
    (
        "mentoring",
        &[
            "GET /chat/my-conversation/",
            "GET /chat/my-conversation/messages/",
            "POST /chat/my-conversation/messages/",
            "GET /chat/teacher/conversations/",
            "GET /chat/teacher/conversations/{id}/messages/",
            "POST /chat/teacher/conversations/{id}/messages/",
            "POST /chat/conversations/{id}/mark-read/",
        ],
    ),
];

#[test]
fn the_table_in_the_readme_is_what_the_tests_play() -> anyhow::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme_path = root.join("../README.md");
    let readme = fs::read_to_string(&readme_path)?;
    let (before, rest) = readme.split_once(BEGIN).expect("the table's beginning");
    let (_, after) = rest.split_once(END).expect("the table's end");
    let whole = format!("{before}{BEGIN}{}{END}{after}", table(root)?);
    if environment().iter().any(|(name, _)| name == "SWITCHBOARD_REGENERATE") {
        fs::write(&readme_path, &whole)?;
    }
    assert!(
        fs::read_to_string(&readme_path)? == whole,
        "the README's table is not what the tests play: run SWITCHBOARD_REGENERATE=1 ./tests/run coverage"
    );
    Ok(())
}

/// One row for each frame, close code and endpoint; a row that nothing plays fails.
fn table(root: &Path) -> anyhow::Result<String> {
    let mut text = "\n| protocol | what | played at |\n|---|---|---|\n".to_owned();
    let mut missing = Vec::new();
    for (protocol, document) in documents::ALL {
        let mut played: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for socket in SOCKETS {
            let file = format!("tests/transcripts/{protocol}{socket}.txt");
            // Most protocols have one socket.
            let Ok(transcript) = fs::read_to_string(root.join("..").join(&file)) else { continue };
            for (what, line) in play(&transcript) {
                played.entry(what).or_default().push(format!("{file}:{line}"));
            }
        }
        let mut wanted: BTreeSet<String> = BTreeSet::new();
        for example in documents::examples(document) {
            let shape = shape(&example);
            let found: Vec<&String> = played.keys().filter(|what| what.ends_with(&format!(" {shape}"))).collect();
            if found.is_empty() {
                missing.push(format!("{protocol}: {example}"));
            }
            wanted.extend(found.into_iter().cloned());
        }
        let codes = CLOSE_CODES.iter().filter(|(of, _)| *of == protocol).flat_map(|(_, codes)| *codes);
        wanted.extend(codes.map(|code| format!("close code {code}")));
        let endpoints = ENDPOINTS.iter().filter(|(of, _)| *of == protocol).flat_map(|(_, endpoints)| *endpoints);
        wanted.extend(endpoints.map(|endpoint| format!("`{endpoint}`")));
        // What is played beyond the documents' examples is shown, too.
        wanted.extend(played.keys().cloned());
        for what in wanted {
            match played.get(&what) {
                Some(lines) => {
                    let times = if lines.len() > 1 { format!(" and {} more", lines.len() - 1) } else { String::new() };
                    writeln!(text, "| {protocol} | {what} | {}{times} |", lines[0])?;
                }
                None => missing.push(format!("{protocol}: {what}")),
            }
        }
    }
    assert!(missing.is_empty(), "nothing plays: {missing:#?}");
    text.push('\n');
    Ok(text)
}

/// What a transcript plays, with the lines.
fn play(transcript: &str) -> Vec<(String, usize)> {
    let mut played = Vec::new();
    for (line, number) in transcript.lines().zip(1..) {
        let words: Vec<&str> = line.trim().splitn(3, ' ').collect();
        let what = match words[..] {
            [_, direction @ (">" | "<"), frame] => {
                let Ok(frame) = serde_json::from_str::<Value>(&with_values(frame)) else { continue };
                if !frame.is_object() {
                    continue;
                }
                format!("{} {}", if direction == ">" { "sent" } else { "received" }, shape(&frame))
            }
            [_, "x", closing] => format!("close code {}", closing.split(' ').next().unwrap_or_default()),
            [method @ ("GET" | "POST"), path, ..] => format!("`{method} {}`", endpoint(path)),
            _ => continue,
        };
        played.push((what, number));
    }
    played
}

/// Puts 0 where a name stands for a number, outside quotes.
fn with_values(frame: &str) -> String {
    let mut text = String::new();
    let (mut is_quoted, mut is_name) = (false, false);
    for c in frame.chars() {
        is_quoted ^= c == '"';
        is_name = !is_quoted && (c == '$' || is_name && c.is_ascii_alphanumeric());
        match c {
            '$' if is_name => text.push('0'),
            _ if is_name => {}
            c => text.push(c),
        }
    }
    text
}

/// A frame by its type, or else by its fields.
fn shape(frame: &Value) -> String {
    match frame.get("type").and_then(Value::as_str) {
        Some(kind) => format!("`{kind}`"),
        None if frame.as_object().is_some_and(serde_json::Map::is_empty) => "`{}`".to_owned(),
        None => frame.as_object().into_iter().flatten().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", "),
    }
}

/// A path as the documents write it.
fn endpoint(path: &str) -> String {
    let path = path.split('?').next().unwrap_or_default();
    let path = path.strip_prefix("/api/v1").unwrap_or(path).trim_end_matches('/');
    let is_id = |segment: &str| segment.starts_with('$') || segment.starts_with(|c: char| c.is_ascii_digit());
    let segments: Vec<&str> = path.split('/').map(|segment| if is_id(segment) { "{id}" } else { segment }).collect();
    format!("{}/", segments.join("/"))
}
