//! The tables, read.

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;

const ENTER: &str = include_str!("enter.txt");
const SAY: &str = include_str!("say.txt");
const REST: &str = include_str!("rest.txt");
const RPC: &str = include_str!("rpc.txt");
const SCOPES: &str = include_str!("scopes.txt");

/// A line of a table, with its number for whoever looks for it.
pub(super) struct Line {
    pub(super) number: usize,
    pub(super) cells: Vec<String>,
}

impl Line {
    /// A cell; empty when the line ends before.
    pub(super) fn cell(&self, index: usize) -> &str {
        self.cells.get(index).map_or("", String::as_str)
    }
}

/// A part of a table: who sits where while its lines are played.
pub(super) struct Seats {
    pub(super) name: String,
    pub(super) path: String,
    pub(super) people: Vec<String>,
    /// Nothing can be said in it.
    pub(super) is_closed: bool,
    pub(super) lines: Vec<Line>,
}

/// `enter.txt`.
pub(super) struct Enter {
    pub(super) answers: Vec<(String, String)>,
    /// The name of the column, the room that listens, the URL.
    pub(super) urls: Vec<(String, String, String)>,
    pub(super) visitors: Vec<Line>,
}

impl Enter {
    /// What an answer's short name stands for.
    pub(super) fn answer<'a>(&'a self, name: &'a str) -> &'a str {
        self.answers.iter().find(|(short, _)| short == name).map_or(name, |(_, answer)| answer)
    }
}

/// The lines with cells, below the headings `[...]`; what stands above the first heading is for people.
fn sections(text: &str) -> Vec<(String, Vec<Line>)> {
    let mut sections: Vec<(String, Vec<Line>)> = Vec::new();
    for (line, number) in text.lines().zip(1..) {
        if let Some(heading) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            sections.push((heading.to_owned(), Vec::new()));
        } else if let (Some((_, lines)), false) = (sections.last_mut(), line.trim().is_empty()) {
            lines.push(read(line, number));
        }
    }
    sections
}

fn read(line: &str, number: usize) -> Line {
    Line { number, cells: line.split(" |").map(|cell| cell.trim().to_owned()).collect() }
}

pub(super) fn enter() -> anyhow::Result<Enter> {
    let mut sections = sections(ENTER).into_iter().map(|(_, lines)| lines);
    let mut next = || sections.next().context("a section");
    let pair = |line: Line| (line.cell(0).to_owned(), line.cell(1).to_owned());
    let answers = next()?.into_iter().map(pair).collect();
    let urls: Vec<_> = next()?
        .into_iter()
        .map(|line| (line.cell(0).to_owned(), line.cell(1).to_owned(), line.cell(2).to_owned()))
        .collect();
    let mut visitors = next()?;
    let heads = visitors.remove(0);
    ensure!(urls.iter().map(|(name, ..)| name).eq(&heads.cells[1..]), "the columns are the URLs, in their order");
    for line in &visitors {
        ensure!(line.cells.len() == urls.len() + 1, "enter.txt:{}: a cell for each URL", line.number);
    }
    Ok(Enter { answers, urls, visitors })
}

pub(super) fn say() -> anyhow::Result<Vec<Seats>> {
    seated(SAY, 4..=4)
}

pub(super) fn rest() -> anyhow::Result<Vec<Seats>> {
    seated(REST, 3..=4)
}

pub(super) fn rpc() -> anyhow::Result<Vec<Seats>> {
    seated(RPC, 3..=4)
}

/// The part of `say.txt` that is of URLs.
pub(super) fn after() -> anyhow::Result<Vec<Line>> {
    let found = sections(SAY).into_iter().find(|(heading, _)| heading == "after");
    Ok(found.context("[after]")?.1)
}

pub(super) fn scopes() -> (Line, Vec<Line>) {
    let mut lines = SCOPES.lines().zip(1..).filter(|(line, _)| line.contains(" |")).map(|(line, n)| read(line, n));
    let heads = lines.next().unwrap_or_else(|| read("", 0));
    (heads, lines.collect())
}

/// Headings are `[room NAME: PATH with WHO, WHO]`.
fn seated(text: &str, cells: std::ops::RangeInclusive<usize>) -> anyhow::Result<Vec<Seats>> {
    let mut all = Vec::new();
    for (heading, lines) in sections(text) {
        if heading == "after" {
            continue;
        }
        let (kind, rest) = heading.split_once(' ').context("a kind of section")?;
        let (name, rest) = rest.split_once(": ").context("a room's name")?;
        let (path, people) = rest.split_once(" with ").context("who sits there")?;
        if let Some(line) = lines.iter().find(|line| !cells.contains(&line.cells.len())) {
            bail!("line {}: {} cells", line.number, line.cells.len());
        }
        all.push(Seats {
            name: name.to_owned(),
            path: path.to_owned(),
            people: people.split(", ").map(str::to_owned).collect(),
            is_closed: kind == "closed",
            lines,
        });
    }
    Ok(all)
}

/// What a frame or a body shall be.
pub(super) struct Pattern(pub(super) Value);

impl Pattern {
    pub(super) fn read(text: &str) -> anyhow::Result<Self> {
        Ok(Self(serde_json::from_str(text).with_context(|| format!("not JSON: {text}"))?))
    }

    /// Of an error everything is compared, of anything else what is named.
    pub(super) fn matches(&self, got: &Value) -> bool {
        let is_error = self.0.get("error").is_some()
            || self.0.get("type").is_some_and(|kind| *kind == "error" || *kind == "refresh_refused");
        matches(&self.0, got, is_error)
    }

    /// Everything is compared.
    pub(super) fn is(&self, got: &Value) -> bool {
        matches(&self.0, got, true)
    }
}

fn matches(expected: &Value, got: &Value, is_exact: bool) -> bool {
    match (expected, got) {
        (Value::String(any), got) if any == "*" => !got.is_null(),
        (Value::Object(expected), Value::Object(got)) => {
            (!is_exact || expected.len() == got.len())
                && expected.iter().all(|(key, value)| got.get(key).is_some_and(|got| matches(value, got, is_exact)))
        }
        (Value::Array(expected), Value::Array(got)) => {
            expected.len() == got.len()
                && expected.iter().zip(got).all(|(expected, got)| matches(expected, got, is_exact))
        }
        (expected, got) => expected == got,
    }
}
