//! What is printed.

use std::{io::Write as _, time::Duration};

use crate::{cases::Tally, chat::Latencies, stage::Usage};

/// One attack.
pub(crate) struct Row {
    pub(crate) attack: String,
    pub(crate) cases: usize,
    pub(crate) took: Duration,
    pub(crate) before: Usage,
    pub(crate) peak: Usage,
    pub(crate) after: Usage,
    pub(crate) latencies: Latencies,
}

pub(crate) fn line(text: &str) {
    // Nobody may be reading; the exit code tells, too.
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// What the process used during each attack, and what those who behave well felt of it.
pub(crate) fn table(rows: Vec<Row>) {
    line(
        "\n| attack | cases | s | memory before, peak, after (MiB) | sockets before, peak, after | messages | lost | \
         p50 / p99 / max ms | visits, put off | p50 / max ms | calls | p50 / max ms |\n\
         |---|---|---|---|---|---|---|---|---|---|---|---|",
    );
    for Row { attack, cases, took, before, peak, after, latencies } in rows {
        let Latencies { messages, visits, put_off, calls } = latencies;
        let (said, visited, called) = (messages.len(), visits.len(), calls.len());
        line(&format!(
            "| {attack} | {cases} | {:.1} | {}, {}, {} | {}, {}, {} | {said} | 0 | {} | {visited}, {put_off} | {} | {called} | {} |",
            took.as_secs_f64(),
            before.resident_mib,
            peak.resident_mib,
            after.resident_mib,
            before.sockets,
            peak.sockets,
            after.sockets,
            percentiles(messages, &[50, 99, 100]),
            percentiles(visits, &[50, 100]),
            percentiles(calls, &[50, 100]),
        ));
    }
}

fn percentiles(mut took: Vec<Duration>, which: &[usize]) -> String {
    took.sort();
    let of = |percent: &usize| took.get((took.len() * percent / 100).min(took.len().saturating_sub(1)));
    let texts: Vec<String> = which
        .iter()
        .map(|percent| of(percent).map_or_else(|| "-".to_owned(), |took| format!("{:.1}", took.as_secs_f64() * 1e3)))
        .collect();
    texts.join(" / ")
}

/// How many cases of each kind there were, and where what is answered is not what a standard says.
pub(crate) fn summary(tally: &Tally) {
    line("");
    tally.notes.iter().for_each(|note| line(note));
    line("\nother than a standard says, and why:");
    tally.differences.iter().for_each(|difference| line(&format!("  {difference}")));
    line("\ncases:");
    tally.kinds.iter().for_each(|(kind, count)| line(&format!("  {count:5} {kind}")));
    line(&format!("  {:5} in all", tally.cases()));
}
