//! Nothing is added without a line.

use std::collections::BTreeSet;

use serde_json::Value;
use switchboard::scopes::SCOPES;
use switchboard_edge::documents::{self, Reaction};

use super::{Grpc, table};

const ROUTES: &str = include_str!("../../../edge/src/routes.rs");
const REST: [(&str, &str); 3] = [
    ("Clinic", include_str!("../../../edge/src/rest/clinic.rs")),
    ("Mobile", include_str!("../../../edge/src/rest/mobile.rs")),
    ("Mentoring", include_str!("../../../edge/src/rest/mentoring.rs")),
];

/// An arm of the router's match: the segments, of which those that are not given are `None`, and what it leads to.
struct Arm {
    segments: Vec<Option<String>>,
    takes_empty: bool,
    route: String,
}

impl Arm {
    fn matches(&self, path: &str) -> bool {
        let path = path.split('?').next().unwrap_or_default();
        let path = path.strip_prefix('/').unwrap_or(path);
        let segments: Vec<&str> = path.strip_suffix('/').unwrap_or(path).split('/').collect();
        self.segments.len() == segments.len()
            && self.segments.iter().zip(segments).all(|(ours, theirs)| match ours {
                Some(ours) => ours == theirs,
                None => self.takes_empty || !theirs.is_empty(),
            })
    }
}

/// Reads the arms from the router's source.
fn arms() -> Vec<Arm> {
    let (_, arms) = ROUTES.split_once("let route = match segments {").expect("the router's match");
    let (arms, _) = arms.split_once("_ => return None").expect("its end");
    let mut read = Vec::new();
    // Each piece ends with what the next one's pattern leads to.
    let mut patterns = Vec::new();
    for line in arms.lines().map(str::trim) {
        let Some((pattern, route)) = line.split_once("=>").or(line.starts_with('[').then_some((line, ""))) else {
            continue;
        };
        let takes_empty = !pattern.contains("is_empty");
        patterns.extend(pattern.split(" | ").filter_map(|pattern| {
            let inside = pattern.trim().strip_prefix('[')?.split(']').next()?;
            let segments = inside
                .split(", ")
                .map(|segment| segment.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).map(str::to_owned));
            Some(segments.collect::<Vec<_>>())
        }));
        for segments in patterns.drain(..) {
            read.push(Arm { segments, takes_empty, route: route.to_owned() });
        }
    }
    read
}

/// The first arm, as the router takes it.
fn routed(arms: &[Arm], path: &str) -> Option<usize> {
    arms.iter().position(|arm| arm.matches(path))
}

/// Who calls what in `rest.txt`: who, the method, the path, the status.
type Call = (Vec<String>, String, String, String);

fn calls() -> anyhow::Result<Vec<Call>> {
    let mut calls = Vec::new();
    for line in table::rest()?.into_iter().flat_map(|seats| seats.lines) {
        let mut words = line.cell(1).split(' ');
        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let status = line.cell(2).split(' ').next().unwrap_or_default();
        let who = line.cell(0).split(", ").map(str::to_owned).collect();
        calls.push((who, method.to_owned(), path.to_owned(), status.to_owned()));
    }
    Ok(calls)
}

#[test]
fn every_route_is_tried() -> anyhow::Result<()> {
    let arms = arms();
    assert!(arms.len() > 25, "the router is read: {}", arms.len());
    let table = table::enter()?;
    let sockets = table.urls.iter().map(|(_, _, path)| path.as_str());
    let calls = calls()?;
    let plain = calls.iter().map(|(_, _, path, _)| path.as_str());
    let tried: BTreeSet<usize> = sockets.chain(plain).filter_map(|path| routed(&arms, path)).collect();
    let missing: Vec<_> =
        arms.iter().zip(0..).filter(|(_, at)| !tried.contains(at)).map(|(arm, _)| &arm.segments).collect();
    assert!(missing.is_empty(), "enter.txt or rest.txt has no line for {missing:?}");
    Ok(())
}

#[test]
fn every_socket_lets_somebody_in_and_refuses_somebody() -> anyhow::Result<()> {
    let table = table::enter()?;
    for who in ["nobody", "staff", "inactive", "phone-off", "newcomer", "customer by forged jwt"] {
        assert!(table.visitors.iter().any(|line| line.cell(0) == who), "enter.txt has no row for {who}");
    }
    for seats in table::say()?.into_iter().filter(|seats| !seats.is_closed) {
        let mut columns = table.urls.iter().zip(1..).filter(|((_, room, _), _)| *room == seats.name).peekable();
        let is_entered = columns.peek().is_none()
            || columns.any(|(_, column)| {
                let cells = || table.visitors.iter().map(|line| line.cell(column));
                cells().any(|cell| cell == "in") && cells().any(|cell| cell != "in")
            });
        assert!(is_entered, "nobody enters {}", seats.name);
    }
    Ok(())
}

/// Each endpoint by somebody who may, by nobody, and by somebody who is known and may not.
#[test]
fn every_endpoint_is_allowed_and_refused() -> anyhow::Result<()> {
    let (arms, calls) = (arms(), calls()?);
    let mut endpoints = 0;
    for (protocol, source) in REST {
        for line in source.lines().map(str::trim).filter(|line| line.starts_with('(') && line.contains("&Method::")) {
            let (name, rest) = line[1..].split_once(", &Method::").expect("a method");
            let name = name.rsplit("::").next().unwrap_or(name).split('(').next().unwrap_or_default();
            let method = rest.split(')').next().unwrap_or_default();
            let variant = format!("{protocol}Endpoint::{name}");
            let of_it = |path: &str| {
                routed(&arms, path).is_some_and(|at| {
                    let route = &arms[at].route;
                    // Longer arms have their route on the next line.
                    if route.contains("Endpoint") {
                        route.contains(&variant)
                    } else {
                        is_in_source(&arms[at], &variant)
                    }
                })
            };
            let of_it: Vec<_> = calls.iter().filter(|(_, called, path, _)| called == method && of_it(path)).collect();
            let is_allowed = of_it.iter().any(|(.., status)| status.starts_with('2'));
            let is_nobody = of_it.iter().any(|(who, ..)| who.iter().any(|who| who == "nobody"));
            let is_refused = of_it.iter().any(|(who, _, _, status)| {
                status.starts_with('4') && who.iter().any(|who| !who.contains(' ') && who != "nobody")
            });
            assert!(is_allowed && is_nobody && is_refused, "rest.txt has not enough lines for {method} of {variant}");
            endpoints += 1;
        }
    }
    assert_eq!(endpoints, 18, "the endpoints are read");
    Ok(())
}

/// Whether an arm that goes on in the next line leads to a variant.
fn is_in_source(arm: &Arm, variant: &str) -> bool {
    let quoted = arm.segments.iter().flatten().map(|segment| format!("\"{segment}\"")).collect::<Vec<_>>();
    let mut lines = ROUTES.lines();
    lines.find(|line| line.contains("=> {") && quoted.iter().all(|segment| line.contains(segment))).is_some()
        && lines.next().is_some_and(|line| line.contains(variant))
}

#[test]
fn every_method_has_a_row() -> anyhow::Result<()> {
    let (_, lines) = table::scopes();
    let rows: Vec<&str> = lines.iter().map(|line| line.cell(0)).filter(|name| !name.starts_with("grpc.")).collect();
    let listed: BTreeSet<&str> = rows.iter().copied().collect();
    assert_eq!(listed.len(), rows.len(), "a row is there twice");
    let methods = Grpc::methods()?;
    assert_eq!(listed, methods.iter().map(String::as_str).collect(), "scopes.txt has a row for each method");
    // Whoever changes what a method needs changes the table, too.
    for (method, scope) in SCOPES {
        let name = method.rsplit('.').next().unwrap_or_default();
        let line = lines.iter().find(|line| line.cell(0) == name).expect("a row");
        let expected =
            ["read", "write", "admin"].map(|has| if rank(has) >= rank(scope.name()) { "yes" } else { "scope" });
        assert_eq!([3, 4, 5].map(|column| line.cell(column)), expected, "{method}");
    }
    Ok(())
}

fn rank(scope: &str) -> usize {
    ["read", "write", "admin"].iter().position(|name| *name == scope).unwrap_or(usize::MAX)
}

/// A frame by its type, or else by its fields.
fn shape(frame: &Value) -> String {
    match frame["type"].as_str() {
        Some(kind) => kind.to_owned(),
        None => frame.as_object().into_iter().flatten().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", "),
    }
}

/// Everybody who sits in a protocol's room says each of its documented frames.
#[test]
fn every_frame_is_said_by_everybody() -> anyhow::Result<()> {
    let mut missing = Vec::new();
    for seats in table::say()?.into_iter().filter(|seats| !seats.is_closed) {
        let mut frames: BTreeSet<String> = BTreeSet::new();
        for (protocol, document) in documents::ALL.into_iter().filter(|(protocol, _)| *protocol == seats.name) {
            let asks = |frame: &Value| documents::react(protocol, &frame.to_string()) == Some(Reaction::Asks);
            frames.extend(documents::examples(document).iter().filter(|frame| asks(frame)).map(shape));
            // The document suggests it in words.
            frames.extend((protocol == "mentoring").then(|| "mark_read".to_owned()));
        }
        match seats.name.as_str() {
            "location" => frames.extend(["latitude, longitude".to_owned()]),
            "notifications" => frames.extend(["mark_read".to_owned()]),
            _ => {}
        }
        for person in &seats.people {
            let said = seats.lines.iter().filter(|line| line.cell(0) == person);
            // Names stand for numbers, which are JSON without quotes.
            let said: Vec<String> =
                said.map(|line| line.cell(1).replace("{last}", "0").to_owned()).map(|text| as_shape(&text)).collect();
            missing.extend(
                frames
                    .iter()
                    .filter(|frame| !said.contains(frame))
                    .map(|frame| format!("{}: {person} says {frame}", seats.name)),
            );
        }
    }
    assert!(missing.is_empty(), "say.txt has no line for {missing:#?}");
    Ok(())
}

/// The shape of a frame with names in it.
fn as_shape(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text;
    // A name is in braces and has no quotes in it.
    while let Some(at) = rest.find('{') {
        plain.push_str(&rest[..at]);
        let inside = &rest[at + 1..];
        match inside.find(['"', '}', '{']) {
            Some(end) if end > 0 && inside[end..].starts_with('}') => {
                plain.push('0');
                rest = &inside[end + 1..];
            }
            _ => {
                plain.push('{');
                rest = inside;
            }
        }
    }
    plain.push_str(rest);
    serde_json::from_str(&plain).map(|frame| shape(&frame)).unwrap_or_default()
}
