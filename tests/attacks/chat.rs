//! Those who behave well: they talk at a steady rate while the attacks go on, and see whether anything is lost.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use serde_json::{Value, json};
use switchboard_proto::chat::v1::{
    GetConversationRequest, chat_service_client::ChatServiceClient, get_conversation_request,
};
use switchboard_tests::{Client, PATIENCE};
use tokio::{task::JoinSet, time::interval_at};

use crate::stage::{Stage, clinic, conversation};

/// The pairs who talk are the first ones.
const TALKING_PAIRS: usize = 4;
/// The pair of those who come and go.
const VISITED_PAIR: usize = TALKING_PAIRS;
/// Between two messages of one side.
const SAY_EVERY: Duration = Duration::from_millis(200);
/// Between two visits.
const VISIT_EVERY: Duration = Duration::from_millis(250);
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// How long things took since somebody asked last.
#[derive(Default)]
pub(crate) struct Latencies {
    /// From the moment a message was due until the other party had it.
    pub(crate) messages: Vec<Duration>,
    /// A handshake, a message that comes back, and the closing handshake.
    pub(crate) visits: Vec<Duration>,
    /// Visitors who were told to come later.
    pub(crate) put_off: usize,
    /// A call over gRPC.
    pub(crate) calls: Vec<Duration>,
}

#[derive(Default)]
struct Record {
    latencies: Latencies,
    /// What each side sent, and what it saw of its own and of the other's.
    sides: Vec<Side>,
    /// What must not happen.
    wrong: Vec<String>,
}

#[derive(Clone, Copy, Default)]
struct Side {
    sent: u64,
    /// Of its own, and of the other's.
    seen: [u64; 2],
}

pub(crate) struct Chat {
    record: Arc<Mutex<Record>>,
    began: Instant,
    _tasks: JoinSet<()>,
}

impl Chat {
    /// Everybody connects, and begins to talk.
    pub(crate) async fn begin(stage: &Stage) -> anyhow::Result<Self> {
        let record = Arc::new(Mutex::new(Record::default()));
        lock(&record).sides = vec![Side::default(); 2 * TALKING_PAIRS];
        let mut tasks = JoinSet::new();
        let began = Instant::now();
        // Nobody speaks before everybody is there.
        let mut sockets = Vec::new();
        for number in 0..2 * TALKING_PAIRS {
            let (pair, side) = (number / 2, ["p", "d"][number % 2]);
            sockets.push((number, stage.connect(&clinic(pair), &format!("{side}{pair}")).await?));
        }
        for (number, socket) in sockets {
            let (record, talker) = (record.clone(), Talker { number, socket, began });
            tasks.spawn(async move {
                if let Err(error) = talker.talk(&record).await {
                    lock(&record).wrong.push(format!("side {number}: {error:#}"));
                }
            });
        }
        let url = format!("ws://{}{}", stage.edge, stage.path(&clinic(VISITED_PAIR), &format!("p{VISITED_PAIR}"))?);
        let service = ChatServiceClient::new(stage.peer.clone());
        let visited = record.clone();
        tasks.spawn(async move {
            if let Err(error) = visit(&url, service, &visited).await {
                lock(&visited).wrong.push(format!("a visitor: {error:#}"));
            }
        });
        Ok(Self { record, began, _tasks: tasks })
    }

    /// Waits until all that has been said so far was seen by both sides. How long things took, and how many messages
    /// were lost.
    pub(crate) async fn settle(&self) -> anyhow::Result<Latencies> {
        let begun = Instant::now();
        let sent: Vec<u64> = lock(&self.record).sides.iter().map(|side| side.sent).collect();
        loop {
            {
                let mut record = lock(&self.record);
                ensure!(record.wrong.is_empty(), "those who behave well were wronged: {}", record.wrong.join("; "));
                let missing: u64 = (0..sent.len())
                    .map(|number| {
                        let [own, others] = record.sides[number].seen;
                        sent[number].saturating_sub(own) + sent[number ^ 1].saturating_sub(others)
                    })
                    .sum();
                if missing == 0 {
                    return Ok(std::mem::take(&mut record.latencies));
                }
                ensure!(begun.elapsed() < PATIENCE, "{missing} messages of those who behave well are lost");
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    pub(crate) fn said(&self) -> u64 {
        lock(&self.record).sides.iter().map(|side| side.sent).sum()
    }

    pub(crate) fn lasted(&self) -> Duration {
        self.began.elapsed()
    }
}

/// One side of a conversation.
struct Talker {
    number: usize,
    socket: Client,
    began: Instant,
}

impl Talker {
    async fn talk(mut self, record: &Mutex<Record>) -> anyhow::Result<()> {
        let offset = SAY_EVERY / 16 * u32::try_from(self.number)?;
        let mut due = interval_at((Instant::now() + offset).into(), SAY_EVERY);
        loop {
            tokio::select! {
                due = due.tick() => {
                    let number = lock(record).sides[self.number].sent;
                    let due_us = due.into_std().duration_since(self.began).as_micros();
                    self.socket.send(json!({ "content": format!("{} {number} {due_us}", self.number) }).to_string()).await?;
                    lock(record).sides[self.number].sent += 1;
                }
                frame = self.socket.next() => self.hear(&frame?, &mut lock(record))?,
            }
        }
    }

    fn hear(&self, frame: &Value, record: &mut Record) -> anyhow::Result<()> {
        let content = frame["message"]["content"].as_str().with_context(|| format!("{frame} instead of a message"))?;
        let parts: Vec<u64> = content.split(' ').map(str::parse).collect::<Result<_, _>>()?;
        let [from, number, due_us] = parts[..] else { bail!("{content} is nobody's") };
        let of = usize::from(from != u64::try_from(self.number)?);
        let seen = &mut record.sides[self.number].seen[of];
        ensure!(*seen == number, "message {number} of {from} where {seen} should be: lost, doubled or out of order");
        *seen += 1;
        if of == 1 {
            let due = self.began + Duration::from_micros(due_us);
            record.latencies.messages.push(due.elapsed());
        }
        Ok(())
    }
}

/// Comes, says something, goes; then asks over gRPC; again and again.
async fn visit(
    url: &str,
    mut service: ChatServiceClient<switchboard_chassis::grpc::Peer>,
    record: &Mutex<Record>,
) -> anyhow::Result<()> {
    let mut due = interval_at(Instant::now().into(), VISIT_EVERY);
    loop {
        due.tick().await;
        let begun = Instant::now();
        let mut socket = Client::connect(url, &[]).await?;
        let words = format!("at {begun:?}");
        socket.send(json!({ "content": words }).to_string()).await?;
        match socket.next_or_close().await? {
            Ok(back) => ensure!(back["message"]["content"] == words.as_str(), "{back} came back"),
            // A full edge says so, as documented.
            Err((1013, _)) => {
                lock(record).latencies.put_off += 1;
                continue;
            }
            Err(close) => bail!("{close:?} instead of a message"),
        }
        socket.close().await?;
        lock(record).latencies.visits.push(begun.elapsed());
        let begun = Instant::now();
        let by_id = get_conversation_request::Conversation::ConversationId(conversation(VISITED_PAIR));
        let request = GetConversationRequest { conversation: Some(by_id), user_id: String::new() };
        service.get_conversation(request).await?;
        lock(record).latencies.calls.push(begun.elapsed());
    }
}

fn lock(record: &Mutex<Record>) -> MutexGuard<'_, Record> {
    record.lock().unwrap_or_else(PoisonError::into_inner)
}
