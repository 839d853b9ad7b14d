//! The tables, played over real sockets, HTTP and gRPC.

use std::collections::HashMap;

use anyhow::Context as _;

use super::{
    Actor, Grpc, Line, Pattern, Played, Room, Seats, Value, World,
    room::{fate, is_answer_to_nonsense},
    table::{self, Enter},
};

/// Each column, each row: first whoever is refused, and the room of that URL hears nothing of it.
pub(super) async fn enter(table: &Enter) -> anyhow::Result<Played> {
    let world = World::start().await?;
    let mut rooms = HashMap::new();
    for seats in table::say()? {
        if table.urls.iter().any(|(_, room, _)| *room == seats.name) {
            rooms.insert(seats.name.clone(), Room::open(&world, &seats).await?);
        }
    }
    let mut played = Played::default();
    for is_in in [false, true] {
        for ((name, room, path), column) in table.urls.iter().zip(1..) {
            let room = rooms.get_mut(room).with_context(|| format!("a room {room}"))?;
            for line in table.visitors.iter().filter(|line| (line.cell(column) == "in") == is_in) {
                let (who, expected) = (line.cell(0), table.answer(line.cell(column)));
                let got = fate(world.enter(&Actor::read(who), path).await?).await?;
                let heard = if is_in || got == "in" { Vec::new() } else { room.mark(&world).await? };
                let is_right = got == expected && heard.is_empty();
                let difference = || {
                    let (n, heard) = (line.number, heard.join(", "));
                    format!("enter.txt:{n} {who} at {name} {path}: {got} instead of {expected}; {heard}")
                };
                played.case((!is_right).then(difference));
            }
        }
    }
    Ok(played)
}

pub(super) async fn say(table: &[Seats]) -> anyhow::Result<Played> {
    let mut world = World::start().await?;
    let mut played = Played::default();
    for seats in table {
        let mut room = Room::open(&world, seats).await?;
        for line in &seats.lines {
            let wrong = said(&mut world, &mut room, line).await.with_context(|| format!("say.txt:{}", line.number))?;
            let (number, who, sent) = (line.number, line.cell(0), line.cell(1));
            let difference = || format!("say.txt:{number} {who} | {sent}: {}", wrong.join("; "));
            played.case((!wrong.is_empty()).then(difference));
        }
    }
    Ok(played)
}

/// What of a line came out otherwise.
async fn said(world: &mut World, room: &mut Room, line: &Line) -> anyhow::Result<Vec<String>> {
    let [who, sent, told, others] = [0, 1, 2, 3].map(|cell| world.filled(line.cell(cell)));
    let sender = room.index(&who).with_context(|| format!("{who} does not sit there"))?;
    let others = if others == "same" { told.clone() } else { others };
    let mut wrong = Vec::new();
    room.send(sender, sent).await?;
    if told == "-" {
        wrong.extend(room.settle(sender).await?.into_iter().map(|frame| format!("{who} was told {frame}")));
    } else {
        let frame = room.next(sender).await?;
        remember(world, frame.as_ref());
        wrong.extend(differs(&who, &Pattern::read(&told)?, frame.as_ref()));
    }
    if others != "-" {
        let pattern = Pattern::read(&others)?;
        let people: Vec<(usize, String)> = room.people().map(|(index, name)| (index, name.to_owned())).collect();
        for (index, name) in people.into_iter().filter(|(index, _)| *index != sender) {
            wrong.extend(differs(&name, &pattern, room.next(index).await?.as_ref()));
        }
    }
    wrong.extend(room.mark(world).await?);
    Ok(wrong)
}

/// The id of the message that a frame is about, by the name `last`.
fn remember(world: &mut World, frame: Option<&Value>) {
    let Some(frame) = frame else { return };
    if let Some(id) = [&frame["message"]["id"], &frame["message"]["message_id"], &frame["data"]["id"]]
        .into_iter()
        .find(|id| !id.is_null())
    {
        world.name("last", id.as_str().map_or_else(|| id.to_string(), str::to_owned));
    }
}

fn differs(who: &str, expected: &Pattern, got: Option<&Value>) -> Option<String> {
    match got {
        Some(got) if expected.matches(got) => None,
        Some(got) => Some(format!("{who} was told {got}")),
        None => Some(format!("{who} was told nothing")),
    }
}

/// The first thing that somebody is told who asks for what came after a message.
pub(super) async fn after(table: &[Line]) -> anyhow::Result<Played> {
    const GREETINGS: [&str; 3] = ["connection_established", "mobile_user_joined", "user_joined"];
    let world = World::start().await?;
    let mut played = Played::default();
    for line in table {
        let expected = world.filled(line.cell(2));
        let mut client = match world.enter(&Actor::read(line.cell(0)), line.cell(1)).await? {
            super::Entered::In(client) => client,
            super::Entered::Refused(status) => anyhow::bail!("say.txt:{}: HTTP {status}", line.number),
        };
        let mut is_greeted = !["mobile", "conversation", "consultation"].iter().any(|part| line.cell(1).contains(part));
        let first = loop {
            match client.next_or_close().await? {
                Ok(frame) if GREETINGS.iter().any(|greeting| frame["type"] == *greeting) => is_greeted = true,
                first => break first,
            }
        };
        let got = match &first {
            Ok(frame) => frame.to_string(),
            Err((code, reason)) => format!("{code} {reason}"),
        };
        let mut is_right = match (&first, Pattern::read(&expected)) {
            (Ok(frame), Ok(pattern)) => is_greeted && pattern.matches(frame),
            _ => got == expected,
        };
        // After an error nothing of the past follows.
        if is_right && expected.contains("rror") {
            client.send("?").await?;
            is_right = client.next_or_close().await?.is_ok_and(|frame| is_answer_to_nonsense(&frame));
        }
        let (number, who, path) = (line.number, line.cell(0), line.cell(1));
        played.case((!is_right).then(|| format!("say.txt:{number} {who} {path}: {got}")));
    }
    Ok(played)
}

pub(super) async fn rest(table: &[Seats]) -> anyhow::Result<Played> {
    let world = World::start().await?;
    let mut played = Played::default();
    for seats in table {
        let mut room = Room::open(&world, seats).await?;
        for line in &seats.lines {
            for who in line.cell(0).split(", ") {
                let actor = Actor::read(who);
                let (status, body) = world.call(&actor, line.cell(1)).await?;
                let expected = world.filled(line.cell(2));
                let (code, pattern) = expected.split_once(' ').context("a status and a body")?;
                let pattern = Pattern::read(pattern)?;
                let is_body = if status >= 400 { pattern.is(&body) } else { pattern.matches(&body) };
                let mut wrong = Vec::new();
                if code != status.to_string() || !is_body {
                    wrong.push(format!("{status} {body}"));
                }
                wrong.extend(heard(&world, &mut room, &world.filled(line.cell(3)), &actor.name).await?);
                let (number, call) = (line.number, line.cell(1));
                let difference = || format!("rest.txt:{number} {who} | {call}: {}", wrong.join("; "));
                played.case((!wrong.is_empty()).then(difference));
            }
        }
    }
    Ok(played)
}

pub(super) async fn rpc(table: &[Seats]) -> anyhow::Result<Played> {
    let world = World::start().await?;
    let grpc = Grpc::new(&world.sandbox)?;
    let mut played = Played::default();
    for seats in table {
        let mut room = Room::open(&world, seats).await?;
        for line in &seats.lines {
            let (number, method, request) = (line.number, line.cell(0), world.filled(line.cell(1)));
            let answered = grpc.call(method, &request).await.with_context(|| format!("rpc.txt:{number}"))?;
            let expected = world.filled(line.cell(2));
            let (code, pattern) = match expected.strip_prefix("OK ") {
                Some(pattern) => ("OK", Some(Pattern::read(pattern)?)),
                None => (expected.as_str(), None),
            };
            let responses = match (answered.responses.as_slice(), pattern.as_ref()) {
                ([one], Some(Pattern(Value::Object(_)))) => one.clone(),
                (all, _) => Value::from(all.to_vec()),
            };
            let mut wrong = Vec::new();
            if answered.code != code || pattern.is_some_and(|pattern| !pattern.matches(&responses)) {
                wrong.push(format!("{} {responses}", answered.code));
            }
            wrong.extend(heard(&world, &mut room, &world.filled(line.cell(3)), "").await?);
            let difference = || format!("rpc.txt:{number} {method} {request}: {}", wrong.join("; "));
            played.case((!wrong.is_empty()).then(difference));
        }
    }
    Ok(played)
}

/// What a room was told otherwise, of a call by `caller`: `all {...}`, `others {...}`, or nothing.
async fn heard(world: &World, room: &mut Room, expected: &str, caller: &str) -> anyhow::Result<Vec<String>> {
    let mut wrong = Vec::new();
    if let Some((whom, pattern)) = expected.split_once(' ') {
        let pattern = Pattern::read(pattern)?;
        let people: Vec<(usize, String)> = room.people().map(|(index, name)| (index, name.to_owned())).collect();
        for (index, name) in people.into_iter().filter(|(_, name)| whom == "all" || name != caller) {
            wrong.extend(differs(&name, &pattern, room.next(index).await?.as_ref()));
        }
    }
    wrong.extend(room.mark(world).await?);
    Ok(wrong)
}

pub(super) async fn scopes((heads, lines): &(Line, Vec<Line>)) -> anyhow::Result<Played> {
    let world = World::start().await?;
    let grpc = Grpc::new(&world.sandbox)?;
    let mut played = Played::default();
    for line in lines {
        let (method, empty) = (line.cell(0), line.cell(heads.cells.len() - 1));
        for (caller, column) in heads.cells.iter().zip(0..).take(heads.cells.len() - 1).skip(1) {
            let expected = match line.cell(column) {
                "yes" => empty,
                "no" => "UNAUTHENTICATED SERVICE_TOKEN_REQUIRED",
                "scope" => "PERMISSION_DENIED SCOPE_REQUIRED",
                other => other,
            };
            let got = grpc.call_empty(caller, method).await.with_context(|| method.to_owned())?;
            let difference = || format!("scopes.txt:{} {caller} {method}: {got} instead of {expected}", line.number);
            played.case((got != expected).then(difference));
        }
    }
    Ok(played)
}
