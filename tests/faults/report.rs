//! What is printed.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    io::Write as _,
    time::{Duration, Instant},
};

use crate::{
    audit::Findings,
    faults::Fault,
    scene::lock,
    world::{Conversation, Of, World},
};

/// What one fault cost.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    times: usize,
    /// The longest time from the moment a user said something until it came back.
    pause: Duration,
    /// The longest time from the moment somebody said something until everybody in the conversation saw it.
    delivery: Duration,
    lost: usize,
    doubled: usize,
    disordered: usize,
    messages: usize,
    notifications: usize,
    /// Messages that were sent more than once.
    resent: usize,
    sockets_ended: usize,
    cost: Cost,
    errors: BTreeSet<String>,
}

/// What took how long, at most.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cost {
    /// From SIGTERM to the end of a process.
    pub(crate) left_in: Duration,
    /// From silence until everybody had everything, and everybody's presence was right.
    pub(crate) settled_in: Duration,
}

impl Tally {
    /// What happened since a moment.
    pub(crate) fn of(world: &World, since: Instant, ended_before: usize, findings: &Findings, cost: Cost) -> Self {
        let Findings { doubled, disordered, .. } = *findings;
        let lost = findings.lost.len();
        let sockets_ended = sockets_ended(world) - ended_before;
        let mut tally = Self { times: 1, lost, doubled, disordered, sockets_ended, cost, ..Self::default() };
        for side in world.conversations.iter().flat_map(|conversation| &conversation.sides) {
            let mut record = lock(&side.record);
            tally.errors.append(&mut record.errors);
            for sent in record.sent.iter().filter(|sent| sent.at >= since) {
                let until = sent.echo.as_ref().map_or_else(Instant::now, |(_, at)| *at);
                tally.pause = tally.pause.max(until.saturating_duration_since(sent.at));
                tally.messages += 1;
                tally.resent += usize::from(sent.times > 1);
            }
        }
        tally.delivery =
            world.conversations.iter().map(|conversation| delivery(conversation, since)).max().unwrap_or_default();
        for Of { record, .. } in &world.inboxes {
            tally.notifications += lock(record).asked.iter().filter(|asked| asked.at >= since).count();
        }
        tally
    }

    fn add(&mut self, other: Self) {
        self.times += other.times;
        self.pause = self.pause.max(other.pause);
        self.delivery = self.delivery.max(other.delivery);
        self.lost += other.lost;
        self.doubled += other.doubled;
        self.disordered += other.disordered;
        self.messages += other.messages;
        self.notifications += other.notifications;
        self.resent += other.resent;
        self.sockets_ended += other.sockets_ended;
        self.cost.settled_in = self.cost.settled_in.max(other.cost.settled_in);
        self.cost.left_in = self.cost.left_in.max(other.cost.left_in);
        self.errors.extend(other.errors);
    }
}

/// The longest time until one of a conversation saw what was said since a moment.
fn delivery(conversation: &Conversation, since: Instant) -> Duration {
    let mut said = HashMap::new();
    for speaker in conversation.speakers() {
        for sent in lock(&speaker.record).sent.iter().filter(|sent| sent.at >= since) {
            if let Some((id, _)) = &sent.echo {
                said.insert(id.clone(), sent.at);
            }
        }
    }
    let mut longest = Duration::ZERO;
    for side in &conversation.sides {
        let mut unseen = said.clone();
        for shown in &lock(&side.record).shown {
            if let Some(at) = unseen.remove(&shown.id) {
                longest = longest.max(shown.at.saturating_duration_since(at));
            }
        }
    }
    longest
}

/// How many sockets ended so far, of all kinds.
pub(crate) fn sockets_ended(world: &World) -> usize {
    let sides = world.conversations.iter().flat_map(|conversation| &conversation.sides);
    let chats: usize = sides.map(|side| lock(&side.record).ended).sum();
    let inboxes: usize = world.inboxes.iter().map(|inbox| lock(&inbox.record).ended).sum();
    let views: usize = world.views.iter().map(|view| lock(&view.record).ended).sum();
    chats + inboxes + views
}

/// All faults so far.
#[derive(Default)]
pub(crate) struct Report(BTreeMap<&'static str, Tally>);

impl Report {
    /// A line for a fault.
    pub(crate) fn fault(&mut self, seed: u64, fault: Fault, tally: Tally) {
        let Tally { lost, doubled, disordered, messages, notifications, resent, sockets_ended, .. } = &tally;
        let left_in = match tally.cost.left_in {
            Duration::ZERO => String::new(),
            left_in => format!(", left in {:.1} s", left_in.as_secs_f64()),
        };
        self.line(&format!(
            "seed {seed}  {:38}  longest pause {:6.3} s, delivery {:6.3} s  lost {lost}  doubled {doubled}  disordered \
             {disordered}  ({messages} messages, {resent} of them sent again, {notifications} notifications, \
             {sockets_ended} sockets ended{left_in}, settled in {:.1} s)",
            fault.to_string(),
            tally.pause.as_secs_f64(),
            tally.delivery.as_secs_f64(),
            tally.cost.settled_in.as_secs_f64(),
        ));
        for error in &tally.errors {
            self.line(&format!("        a client was told: {error}"));
        }
        self.0.entry(fault.kind()).or_default().add(tally);
    }

    /// The sum of each kind of fault.
    pub(crate) fn table(&self) {
        self.line(
            "\n| fault | times | longest pause | longest delivery | lost | doubled | disordered | messages | \
             sockets ended |\n|---|---|---|---|---|---|---|---|---|",
        );
        for (kind, tally) in &self.0 {
            let Tally { times, lost, doubled, disordered, messages, sockets_ended, .. } = tally;
            self.line(&format!(
                "| {kind} | {times} | {:.2} s | {:.2} s | {lost} | {doubled} | {disordered} | {messages} | \
                 {sockets_ended} |",
                tally.pause.as_secs_f64(),
                tally.delivery.as_secs_f64()
            ));
        }
    }

    pub(crate) fn line(&self, text: &str) {
        // Nobody may be reading; the exit code tells, too.
        let _ = writeln!(std::io::stdout(), "{text}");
    }
}
