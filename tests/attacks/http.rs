//! Requests that are not what they should be: what the edge answers, and that it goes on answering others.

mod heads;
mod sockets;

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use futures_util::{StreamExt as _, stream};
use switchboard_tests::client::call;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use crate::{
    cases::Tally,
    stage::{HEADER_TIMEOUT_S, Stage},
};

/// Cases that are played at the same time.
const AT_ONCE: usize = 64;
/// For an end that comes by the header timeout at the latest.
const END_MAX: Duration = Duration::from_secs(HEADER_TIMEOUT_S + 20);

/// What is written, and the status of every answer until the connection ends; none means that it just ends.
pub(crate) struct Case {
    name: &'static str,
    request: Vec<u8>,
    statuses: &'static [u16],
    /// Where this is not what a standard recommends: why.
    differs: Option<&'static str>,
}

impl Case {
    fn new(name: &'static str, request: impl Into<Vec<u8>>, statuses: &'static [u16]) -> Self {
        Self { name, request: request.into(), statuses, differs: None }
    }

    fn differs(mut self, why: &'static str) -> Self {
        self.differs = Some(why);
        self
    }
}

pub(crate) async fn requests(stage: &Stage) -> anyhow::Result<Tally> {
    let mut tally = Tally::default();
    let mut all = Vec::new();
    for (kind, cases) in [
        ("framing of requests", heads::framing(stage)?),
        ("heads of requests", heads::heads()),
        ("requests for sockets", sockets::cases(stage)?),
    ] {
        tally.count(kind, cases.len());
        tally.differences.extend(cases.iter().filter_map(|case| Some(format!("{}: {}", case.name, case.differs?))));
        all.extend(cases);
    }
    let failures: Vec<String> = stream::iter(all)
        .map(async |case| Some(format!("{}: {:#}", case.name, play(stage, &case).await.err()?)))
        .buffer_unordered(AT_ONCE)
        .filter_map(std::future::ready)
        .collect()
        .await;
    ensure!(failures.is_empty(), "{} cases failed:\n{}", failures.len(), failures.join("\n"));
    Ok(tally)
}

async fn play(stage: &Stage, case: &Case) -> anyhow::Result<()> {
    let answer = exchange(stage, &case.request).await?;
    let statuses = statuses(&answer);
    let shown = String::from_utf8_lossy(&answer[..answer.len().min(300)]).into_owned();
    ensure!(statuses == case.statuses, "{statuses:?} instead of {:?}: {shown}", case.statuses);
    let (status, _) = call(stage.edge, "GET", "/healthz", None, None).await.context("a good request after it")?;
    ensure!(status == 200, "a good request after it is answered {status}");
    Ok(())
}

/// All that comes back until the connection ends, or becomes a socket.
pub(crate) async fn exchange(stage: &Stage, request: &[u8]) -> anyhow::Result<Vec<u8>> {
    let (mut reading, mut writing) = TcpStream::connect(stage.edge).await?.into_split();
    let begun = Instant::now();
    let mut answer = Vec::new();
    let hearing = async {
        while !answer.starts_with(b"HTTP/1.1 101 ") {
            match reading.read_buf(&mut answer).await {
                Ok(0) | Err(_) => break,
                Ok(_) => {}
            }
        }
    };
    // What refuses a request need not read it to its end.
    let both = async { tokio::join!(hearing, async { _ = writing.write_all(request).await }) };
    timeout(END_MAX, both).await.with_context(|| format!("still open after {:?}", begun.elapsed()))?;
    Ok(answer)
}

fn statuses(answer: &[u8]) -> Vec<u16> {
    let text = String::from_utf8_lossy(answer);
    text.split("HTTP/1.").skip(1).filter_map(|line| line.split(' ').nth(1)?.parse().ok()).collect()
}
