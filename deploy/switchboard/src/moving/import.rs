//! Reads JSON lines and stores through gRPC what is not there yet; or compares them with what is there.
//!
//! It keeps no notes of how far it came: what is there is found by its id, a batch at a time, and passed over. So one that
//! was ended is run again, as often as one likes, and memory does not grow with the file.

use std::{
    collections::HashMap,
    fmt,
    io::{BufRead, Read as _},
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use switchboard_chassis::grpc::Peer;
use switchboard_proto::{
    chat::v1::{
        BatchGetMessagesRequest, Conversation, ExportConversationsRequest, ImportConversationsRequest,
        ImportMessagesRequest, Message, chat_service_client::ChatServiceClient,
    },
    identity::v1::{
        BatchGetUsersRequest, ListDevicesRequest, UpsertUserRequest, User,
        identity_service_client::IdentityServiceClient,
    },
};
use tokio::task::JoinSet;
use tonic::{Code, Response, Status};

use super::{Record, Tally, device_line};

/// Longer lines are none of ours: a message is at most 64 KiB of text and 16 KiB of metadata.
const LINE_BYTES_MAX: u64 = 1 << 20;
const BATCH_BYTES: usize = 1 << 20;
const USERS_MAX: usize = 500;
const CONVERSATIONS_MAX: usize = 200;
const MESSAGES_MAX: usize = 1_000;
/// Users that are stored at a time.
const UPSERTS_MAX: usize = 16;
/// Mistakes and differences that are told one by one.
const TOLD_MAX: usize = 20;
/// While a service does not answer, it is tried again so often, and so far apart.
const TRIES_MAX: u32 = 60;
const TRY_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// A call that is patient: `again!(client, method, request)`.
macro_rules! again {
    ($client:expr, $method:ident, $request:expr) => {
        patient(|| {
            let (mut client, request) = ($client.clone(), $request.clone());
            async move { client.$method(request).await }
        })
        .await
    };
}

/// What an import did.
#[derive(Clone, Debug, Default)]
pub struct Imported {
    /// What is in the file.
    pub tally: Tally,
    /// Of each kind: new, changed, and there as it is.
    pub done: HashMap<&'static str, [u64; 3]>,
}

impl fmt::Display for Imported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for kind in ["user", "device", "conversation", "message"] {
            if let Some([created, updated, unchanged]) = self.done.get(kind) {
                writeln!(
                    f,
                    "{}: {created} new, {updated} changed, {unchanged} there already",
                    format_args!("{kind}s")
                )?;
            }
        }
        write!(f, "in the file:\n{}", self.tally)
    }
}

/// What a comparison found.
#[derive(Clone, Debug, Default)]
pub struct Verified {
    /// What is in the file.
    pub file: Tally,
    /// What the services hold of it, as far as the file says anything about it. A receipt that moved on since, a
    /// conversation that was closed or got messages since, is as it was.
    pub held: Tally,
    /// What is not the same, with the numbers of the lines; the first of them.
    pub differences: Vec<String>,
    /// How many there are.
    pub differing: u64,
    /// Conversations that are not looked for, because their lines have no id.
    pub without_id: u64,
}

impl fmt::Display for Verified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "in the file:\n{}\nheld:\n{}", self.file, self.held)?;
        if self.without_id > 0 {
            write!(f, "\n{} conversations to be opened have no id and are not looked for", self.without_id)?;
        }
        for difference in &self.differences {
            write!(f, "\n{difference}")?;
        }
        let further = self.differing - u64::try_from(self.differences.len()).unwrap_or(self.differing);
        if further > 0 {
            write!(f, "\nand {further} more")?;
        }
        f.write_str(if self.differing == 0 { "\nthe same" } else { "\nnot the same" })
    }
}

/// Whether all lines can be read, before the first one is stored.
///
/// # Errors
/// All lines that cannot, or the first twenty, by their numbers.
pub fn check(mut input: impl BufRead) -> anyhow::Result<()> {
    let mut wrong = Vec::new();
    let mut lines = Lines::new(&mut input);
    loop {
        match lines.next() {
            Ok(None) => break,
            Ok(Some(_)) => {}
            Err(error) if lines.is_broken => return Err(error),
            Err(error) => wrong.push(format!("{error:#}")),
        }
        if wrong.len() == TOLD_MAX {
            wrong.push("perhaps more".to_owned());
            break;
        }
    }
    ensure!(wrong.is_empty(), "nothing was imported:\n  {}", wrong.join("\n  "));
    Ok(())
}

/// Stores what is not there yet.
///
/// # Errors
/// The first line that cannot be read, or that a service refused, by its number. What came before it is stored.
pub async fn import(mut input: impl BufRead, identity: Peer, chat: Peer) -> anyhow::Result<Imported> {
    let mut stock = Stock {
        identity: IdentityServiceClient::new(identity),
        chat: ChatServiceClient::new(chat),
        imported: Imported::default(),
        batches: Batches::default(),
    };
    let mut lines = Lines::new(&mut input);
    while let Some((number, record)) = lines.next()? {
        stock.imported.tally.add(record.kind(), &record.line()?);
        if number.is_multiple_of(100_000) {
            tracing::info!(lines = number, "importing");
        }
        if stock.batches.push(number, record) {
            stock.store().await?;
        }
    }
    stock.store().await?;
    Ok(stock.imported)
}

/// Compares the lines with what is there.
///
/// # Errors
/// A line that cannot be read, or a service that refuses.
pub async fn verify(mut input: impl BufRead, identity: Peer, chat: Peer) -> anyhow::Result<Verified> {
    let mut comparison = Comparison {
        identity: IdentityServiceClient::new(identity),
        chat: ChatServiceClient::new(chat),
        verified: Verified::default(),
        batches: Batches::default(),
    };
    let mut lines = Lines::new(&mut input);
    while let Some((number, record)) = lines.next()? {
        if comparison.batches.push(number, record) {
            comparison.compare().await?;
        }
    }
    comparison.compare().await?;
    Ok(comparison.verified)
}

/// Lines of an input, one at a time.
struct Lines<'a, R> {
    input: &'a mut R,
    buffer: Vec<u8>,
    number: u64,
    /// Nothing more can be read.
    is_broken: bool,
}

impl<'a, R: BufRead> Lines<'a, R> {
    fn new(input: &'a mut R) -> Self {
        Self { input, buffer: Vec::new(), number: 0, is_broken: false }
    }

    /// The next record and the number of its line; blank lines are passed over.
    fn next(&mut self) -> anyhow::Result<Option<(u64, Record)>> {
        loop {
            self.buffer.clear();
            self.number += 1;
            let number = self.number;
            let read = (&mut *self.input).take(LINE_BYTES_MAX).read_until(b'\n', &mut self.buffer);
            let read = read.inspect_err(|_| self.is_broken = true).with_context(|| format!("line {number}"))?;
            if read == 0 {
                return Ok(None);
            }
            if u64::try_from(read).unwrap_or(u64::MAX) == LINE_BYTES_MAX && !self.buffer.ends_with(b"\n") {
                self.is_broken = true;
                bail!("line {number}: longer than 1 MiB: no line of ours is; is it JSON lines?");
            }
            let text = std::str::from_utf8(&self.buffer)
                .with_context(|| format!("line {number}: not UTF-8: write the file as UTF-8"))?;
            if text.trim().is_empty() {
                continue;
            }
            return Ok(Some((number, Record::read(text).with_context(|| format!("line {number}"))?)));
        }
    }
}

/// What waits to be handled together; people before conversations before messages.
#[derive(Default)]
struct Batches {
    users: Vec<(u64, User)>,
    devices: Vec<(u64, Record)>,
    openings: Vec<(u64, Record)>,
    conversations: Vec<(u64, Conversation)>,
    messages: Vec<(u64, Message)>,
    bytes: usize,
}

impl Batches {
    /// True when there is enough for now.
    fn push(&mut self, number: u64, record: Record) -> bool {
        self.bytes += record.weight();
        match record {
            Record::User(user) => self.users.push((number, user)),
            record @ Record::Device(_) => self.devices.push((number, record)),
            record @ Record::Opening(_) => self.openings.push((number, record)),
            Record::Conversation(conversation) => self.conversations.push((number, conversation)),
            Record::Message(message) => self.messages.push((number, message)),
        }
        self.bytes >= BATCH_BYTES
            || self.users.len() >= USERS_MAX
            || self.devices.len() >= USERS_MAX
            || self.openings.len() >= CONVERSATIONS_MAX
            || self.conversations.len() >= CONVERSATIONS_MAX
            || self.messages.len() >= MESSAGES_MAX
    }
}

/// The number of a user's line, and whether the user is new.
type Upserted = (u64, Result<bool, Status>);

struct Stock {
    identity: IdentityServiceClient<Peer>,
    chat: ChatServiceClient<Peer>,
    imported: Imported,
    batches: Batches,
}

impl Stock {
    async fn store(&mut self) -> anyhow::Result<()> {
        let Batches { users, devices, openings, conversations, messages, .. } = std::mem::take(&mut self.batches);
        self.users(users).await?;
        for (number, record) in devices {
            let Record::Device(device) = record else { continue };
            let done = again!(self.identity, register_device, device);
            let created = done.map_err(|status| refused(&[number], &status))?.created;
            self.count("device", [u64::from(created), 0, u64::from(!created)]);
        }
        for (number, record) in openings {
            let Record::Opening(opening) = record else { continue };
            let done = again!(self.chat, open_conversation, opening);
            let created = done.map_err(|status| refused(&[number], &status))?.created;
            self.count("conversation", [u64::from(created), 0, u64::from(!created)]);
        }
        if !conversations.is_empty() {
            let (numbers, conversations): (Vec<u64>, Vec<Conversation>) = conversations.into_iter().unzip();
            let request = ImportConversationsRequest { conversations };
            let done = again!(self.chat, import_conversations, request);
            let done = done.map_err(|status| refused(&numbers, &status))?;
            self.count("conversation", [done.created, done.updated, done.unchanged].map(i64::unsigned_abs));
        }
        if !messages.is_empty() {
            let (numbers, messages): (Vec<u64>, Vec<Message>) = messages.into_iter().unzip();
            let request = ImportMessagesRequest { messages };
            let done = again!(self.chat, import_messages, request);
            let done = done.map_err(|status| refused(&numbers, &status))?;
            self.count("message", [done.created, done.updated, done.unchanged].map(i64::unsigned_abs));
        }
        Ok(())
    }

    async fn users(&mut self, users: Vec<(u64, User)>) -> anyhow::Result<()> {
        if users.is_empty() {
            return Ok(());
        }
        let request = BatchGetUsersRequest { user_ids: users.iter().map(|(_, user)| user.id.clone()).collect() };
        let known = again!(self.identity, batch_get_users, request);
        let known = known.map_err(|status| refused(&[], &status))?.users;
        let known: HashMap<String, User> = known.into_iter().map(|user| (user.id.clone(), user)).collect();
        let mut storing: JoinSet<Upserted> = JoinSet::new();
        for (number, user) in users {
            if known.get(&user.id) == Some(&user) {
                self.count("user", [0, 0, 1]);
                continue;
            }
            if storing.len() >= UPSERTS_MAX
                && let Some(done) = storing.join_next().await
            {
                self.stored(done?)?;
            }
            let identity = self.identity.clone();
            storing.spawn(async move {
                let request = UpsertUserRequest { user: Some(user) };
                let done = again!(identity, upsert_user, request);
                (number, done.map(|done| done.created))
            });
        }
        while let Some(done) = storing.join_next().await {
            self.stored(done?)?;
        }
        Ok(())
    }

    fn stored(&mut self, (number, done): Upserted) -> anyhow::Result<()> {
        let created = done.map_err(|status| refused(&[number], &status))?;
        self.count("user", [u64::from(created), u64::from(!created), 0]);
        Ok(())
    }

    fn count(&mut self, kind: &'static str, [created, updated, unchanged]: [u64; 3]) {
        let counts = self.imported.done.entry(kind).or_default();
        counts[0] += created;
        counts[1] += updated;
        counts[2] += unchanged;
    }
}

/// Calls again while the service does not answer; every call here may be repeated.
async fn patient<T, F: Future<Output = Result<Response<T>, Status>>>(call: impl Fn() -> F) -> Result<T, Status> {
    let mut tries = 1;
    loop {
        match call().await {
            Ok(response) => return Ok(response.into_inner()),
            Err(status)
                if tries < TRIES_MAX
                    && matches!(
                        status.code(),
                        Code::Unavailable | Code::ResourceExhausted | Code::DeadlineExceeded
                    ) =>
            {
                if tries == 1 {
                    tracing::warn!(code = ?status.code(), message = status.message(), "trying again for a minute");
                }
                tries += 1;
                tokio::time::sleep(TRY_AGAIN_AFTER).await;
            }
            Err(status) => return Err(status),
        }
    }
}

/// Says at which line it was: a service names the place in the batch, as in `messages[3].id`.
fn refused(numbers: &[u64], status: &Status) -> anyhow::Error {
    let message = status.message();
    let place = message.split_once('[').and_then(|(_, rest)| rest.split_once(']'));
    let place = place.and_then(|(place, rest)| Some((place.parse::<usize>().ok()?, rest.trim_start_matches('.'))));
    let (lines, message) = match (place, numbers) {
        (Some((place, rest)), _) if numbers.get(place).is_some() => (format!("line {}: ", numbers[place]), rest),
        (_, [number]) => (format!("line {number}: "), message),
        (_, [first, .., last]) => (format!("one of the lines {first} to {last}: "), message),
        (_, []) => (String::new(), message),
    };
    anyhow::anyhow!("{lines}{message} ({:?}); what came before is stored, and an import may be repeated", status.code())
}

struct Comparison {
    identity: IdentityServiceClient<Peer>,
    chat: ChatServiceClient<Peer>,
    verified: Verified,
    batches: Batches,
}

impl Comparison {
    async fn compare(&mut self) -> anyhow::Result<()> {
        let Batches { users, devices, openings, conversations, messages, .. } = std::mem::take(&mut self.batches);
        let failed = |status: Status| anyhow::anyhow!("{} ({:?})", status.message(), status.code());
        if !users.is_empty() {
            let request = BatchGetUsersRequest { user_ids: users.iter().map(|(_, user)| user.id.clone()).collect() };
            let held = again!(self.identity, batch_get_users, request);
            let held = held.map_err(failed)?.users.into_iter().map(|user| (user.id.clone(), user));
            let held: HashMap<String, User> = held.collect();
            for (number, user) in users {
                let held = held.get(&user.id).cloned().map(Record::User);
                self.one(number, Record::User(user), held)?;
            }
        }
        if !devices.is_empty() {
            let ids = devices.iter().filter_map(|(_, record)| match record {
                Record::Device(device) => Some(device.device_id.clone()),
                _ => None,
            });
            let page_size = i32::try_from(USERS_MAX).unwrap_or(i32::MAX);
            let request = ListDevicesRequest { device_ids: ids.collect(), page_size, page_token: String::new() };
            let held = again!(self.identity, list_devices, request);
            let held: HashMap<String, _> = held
                .map_err(failed)?
                .devices
                .into_iter()
                .map(|device| (device.device_id.clone(), device_line(device)))
                .collect();
            for (number, record) in devices {
                let Record::Device(device) = &record else { continue };
                let held = held.get(&device.device_id).cloned().map(|mut held| {
                    held.keep_inactive = device.keep_inactive;
                    if device.created_at.is_none() {
                        held.created_at = None;
                    }
                    Record::Device(held)
                });
                self.one(number, record, held)?;
            }
        }
        let mut ids: Vec<String> = conversations.iter().map(|(_, conversation)| conversation.id.clone()).collect();
        let opened = openings.iter().filter_map(|(_, record)| match record {
            Record::Opening(opening) => Some(opening.id.clone()),
            _ => None,
        });
        ids.extend(opened.filter(|id| !id.is_empty()));
        let mut held: HashMap<String, Conversation> = HashMap::new();
        for ids in ids.chunks(CONVERSATIONS_MAX) {
            let request = ExportConversationsRequest {
                page_size: i32::try_from(CONVERSATIONS_MAX).unwrap_or(i32::MAX),
                conversation_ids: ids.to_vec(),
                ..ExportConversationsRequest::default()
            };
            let page = again!(self.chat, export_conversations, request);
            let page = page.map_err(failed)?.conversations;
            held.extend(page.into_iter().map(|conversation| (conversation.id.clone(), conversation)));
        }
        for (number, record) in openings {
            let Record::Opening(opening) = &record else { continue };
            if opening.id.is_empty() {
                self.verified.without_id += 1;
                continue;
            }
            let held = held.get(&opening.id).cloned().map(|held| {
                let mut held = held;
                let mut wanted = opening.participants.clone();
                wanted.sort_by(|a, b| (&a.role, &a.user_id).cmp(&(&b.role, &b.user_id)));
                held.participants.sort_by(|a, b| (&a.role, &a.user_id).cmp(&(&b.role, &b.user_id)));
                let mut said = opening.clone();
                said.kind = held.kind;
                if held.participants != wanted {
                    said.participants = held.participants;
                }
                if opening.number != 0 {
                    said.number = held.number;
                }
                Record::Opening(said)
            });
            self.one(number, record, held)?;
        }
        for (number, conversation) in conversations {
            let held = held.remove(&conversation.id).map(|held| Record::Conversation(said_of(&conversation, held)));
            self.one(number, Record::Conversation(conversation), held)?;
        }
        let mut held: HashMap<String, Message> = HashMap::new();
        let ids: Vec<String> = messages.iter().map(|(_, message)| message.id.clone()).collect();
        let mut rest = ids.as_slice();
        while !rest.is_empty() {
            let request = BatchGetMessagesRequest { message_ids: rest.to_vec() };
            let page = again!(self.chat, batch_get_messages, request);
            let page = page.map_err(failed)?;
            held.extend(page.messages.into_iter().map(|message| (message.id.clone(), message)));
            rest = match usize::try_from(page.looked_at) {
                Ok(looked_at) if looked_at > 0 => rest.get(looked_at..).unwrap_or_default(),
                _ => &[],
            };
        }
        for (number, message) in messages {
            let held = held.get(&message.id).cloned().map(|mut held| {
                held.status = if held.status > message.status { message.status } else { held.status };
                if message.seq == 0 {
                    held.seq = 0;
                }
                if message.number == 0 {
                    held.number = 0;
                }
                Record::Message(held)
            });
            self.one(number, Record::Message(message), held)?;
        }
        Ok(())
    }

    fn one(&mut self, number: u64, line: Record, held: Option<Record>) -> anyhow::Result<()> {
        let kind = line.kind();
        let line = line.line()?;
        self.verified.file.add(kind, &line);
        let difference = match held {
            None => format!("line {number}: the {kind} is not there: import the file again"),
            Some(mut held) => {
                held.normalise()?;
                let held = held.line()?;
                self.verified.held.add(kind, &held);
                if held == line {
                    return Ok(());
                }
                // Not what it says: that is people's.
                format!("line {number}: the {kind} is there, but not the same")
            }
        };
        self.verified.differing += 1;
        if self.verified.differences.len() < TOLD_MAX {
            self.verified.differences.push(difference);
        }
        Ok(())
    }
}

/// What is held of a conversation, as far as its line says anything, and as it was if it only moved forward since.
fn said_of(line: &Conversation, mut held: Conversation) -> Conversation {
    let seconds = |at: &Option<prost_types::Timestamp>| at.as_ref().map_or((0, 0), |at| (at.seconds, at.nanos));
    if line.number == 0 {
        held.number = 0;
    }
    if line.updated_at.is_none() || seconds(&held.updated_at) > seconds(&line.updated_at) {
        held.updated_at = line.updated_at;
    }
    if held.last_seq > line.last_seq {
        held.last_seq = line.last_seq;
    }
    if held.status > line.status {
        held.status = line.status;
    }
    if held.participants.is_empty() {
        held.secondary = line.secondary;
    }
    held
}
