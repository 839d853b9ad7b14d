//! Compares what everybody saw with what is stored.

use std::collections::{BTreeSet, HashMap, HashSet};

use switchboard_chassis::grpc::Peer;
use switchboard_proto::{
    chat::v1::{ListMessagesRequest, Message, chat_service_client::ChatServiceClient},
    notification::v1::{
        ListNotificationsRequest, Notification, notification_service_client::NotificationServiceClient,
    },
    presence::v1::{GetPresenceRequest, ListOnlineRequest, presence_service_client::PresenceServiceClient},
};

use crate::{
    calls::patiently,
    inbox::{self, request_id},
    scene::{Scene, lock},
    traffic::{self, client_message_id, words},
    world::{Conversation, Of, World},
};

const PAGE_MESSAGES: i32 = 1000;
const PAGE_NOTIFICATIONS: i32 = 200;
const PAGE_ONLINE: i32 = 1000;

/// What an audit found.
#[derive(Default)]
pub(crate) struct Findings {
    /// What no time can mend.
    pub(crate) wrong: Vec<String>,
    /// What has not come yet: it is wrong if it never comes.
    pub(crate) missing: Vec<String>,
    /// Messages that were acknowledged or shown and are not stored, or are stored and were not shown to somebody.
    pub(crate) lost: BTreeSet<String>,
    /// Messages that were stored or shown twice.
    pub(crate) doubled: usize,
    /// Messages that were shown behind a later one.
    pub(crate) disordered: usize,
}

/// Everything.
pub(crate) async fn audit(world: &World) -> anyhow::Result<Findings> {
    let mut findings = Findings::default();
    for conversation in &world.conversations {
        let stored = messages(&world.services[0], &conversation.id).await?;
        let other = messages(&world.services[1], &conversation.id).await?;
        findings.conversation(conversation, &stored, &other, &world.scene);
    }
    for Of { user, record } in &world.inboxes {
        // As it was before: the system itself may notify at any time.
        let record = lock(record).clone();
        let stored = notifications(&world.services[0], user).await?;
        let other = notifications(&world.services[1], user).await?;
        findings.inbox(user, &record, &stored, &other);
    }
    findings.presence(world).await?;
    Ok(findings)
}

impl Findings {
    fn conversation(
        &mut self,
        Conversation { id, sides, service }: &Conversation,
        stored: &[Message],
        other: &[Message],
        scene: &Scene,
    ) {
        let keys = |messages: &[Message]| messages.iter().map(|one| (one.seq, one.id.clone())).collect::<Vec<_>>();
        if keys(stored) != keys(other) {
            self.missing.push(format!("the services list different messages of {id}"));
        }
        if let Some((message, seq)) = stored.iter().zip(1..).find(|(message, seq)| message.seq != *seq) {
            self.wrong.push(format!("after seq {} of {id}, seq {} is stored", seq - 1, message.seq));
        }
        let ids: HashSet<&str> = stored.iter().map(|message| message.id.as_str()).collect();
        if ids.len() < stored.len() {
            self.doubled += stored.len() - ids.len();
            self.wrong.push(format!("two stored messages of {id} have the same id"));
        }
        for side in sides {
            self.shown(side, stored, scene);
        }
        let mut said = 0;
        for speaker in sides.iter().chain([service]) {
            self.acknowledged(speaker, stored);
            said += lock(&speaker.record).sent.len();
        }
        if stored.len() > said + 1 {
            self.wrong.push(format!("{} messages of {id} are stored, and {said} were said", stored.len()));
        }
    }

    /// What came back to its sender, or was answered, is stored once, as it was said.
    fn acknowledged(&mut self, speaker: &Of<traffic::Record>, stored: &[Message]) {
        let record = lock(&speaker.record);
        let mut of_id: HashMap<&str, Vec<&Message>> = HashMap::new();
        for message in stored {
            of_id.entry(&message.client_message_id).or_default().push(message);
        }
        for (n, sent) in record.sent.iter().enumerate() {
            let (id, words) = (client_message_id(&speaker.user, n), words(&speaker.user, n));
            let found = of_id.get(id.as_str()).map_or(&[][..], Vec::as_slice);
            if found.len() > 1 {
                self.doubled += found.len() - 1;
                self.wrong.push(format!("{id} is stored {} times: {found:?}", found.len()));
            }
            if let Some(message) = found.first().filter(|message| message.content != words) {
                self.wrong.push(format!("{id} is stored with other words: {:?}", message.content));
            }
            match &sent.echo {
                Some((echo, _)) if !found.iter().any(|message| message.id == *echo) => {
                    self.lost.insert(echo.clone());
                    self.missing.push(format!("{id} was acknowledged as {echo}, and is stored as {found:?}"));
                }
                Some(_) => {}
                None => {
                    let (times, is_stored) = (sent.times, !found.is_empty());
                    self.missing.push(format!("{id} was sent {times} times and never came back; stored: {is_stored}"));
                }
            }
        }
    }

    /// A side was shown exactly what is stored, in its order.
    fn shown(&mut self, side: &Of<traffic::Record>, stored: &[Message], scene: &Scene) {
        let record = lock(&side.record);
        let seqs: HashMap<&str, u64> = stored.iter().map(|message| (message.id.as_str(), message.seq)).collect();
        let lost = |seq: u64| format!("seq {seq} to {}", side.user);
        let (mut told, mut seen) = (0, HashSet::new());
        let mut repeats: HashMap<usize, u32> = HashMap::new();
        for shown in &record.shown {
            let at = || {
                let (clock, socket) = (scene.clock(shown.at), shown.socket);
                format!("{} was shown {} at {clock} on its socket {socket}", side.user, shown.id)
            };
            let Some(&seq) = seqs.get(shown.id.as_str()) else {
                self.lost.insert(shown.id.clone());
                // It may have been stored since the list was read: then the next audit finds it.
                self.missing.push(format!("{}, which is not stored", at()));
                continue;
            };
            if !seen.insert(shown.id.as_str()) {
                // A repeat of a send is answered with the first message, to its sender alone.
                let times = shown.own.and_then(|n| record.sent.get(n)).map_or(0, |sent| sent.times);
                let repeats = shown.own.map_or(1, |n| {
                    let repeats = repeats.entry(n).or_default();
                    *repeats += 1;
                    *repeats
                });
                if repeats >= times {
                    self.doubled += 1;
                    self.wrong
                        .push(format!("{} (seq {seq}), which it was shown before; it sent it {times} times", at()));
                }
            } else if seq <= told {
                self.disordered += 1;
                self.lost.remove(&lost(seq));
                self.wrong.push(format!("{} (seq {seq}), behind seq {told}", at()));
            } else {
                if seq > told + 1 {
                    self.lost.extend((told + 1..seq).map(lost));
                    self.wrong.push(format!("{} (seq {seq}), next after seq {told}", at()));
                }
                told = seq;
            }
        }
        let head = stored.last().map_or(0, |message| message.seq);
        if told < head {
            self.lost.extend((told + 1..=head).map(lost));
            self.missing.push(format!("{} was shown what is stored up to seq {told} of {head}", side.user));
        }
    }

    /// What was answered is stored once. A socket is told what is stored, from its first count on.
    fn inbox(&mut self, user: &str, record: &inbox::Record, stored: &[Notification], other: &[Notification]) {
        let ids: Vec<&str> = stored.iter().map(|notification| notification.id.as_str()).collect();
        if ids != other.iter().map(|notification| notification.id.as_str()).collect::<Vec<_>>() {
            self.missing.push(format!("the services list different notifications of {user}"));
        }
        let mut requests = HashMap::new();
        for notification in stored {
            let before = requests.insert(notification.request_id.as_str(), notification.id.as_str());
            if before.is_some() && !notification.request_id.is_empty() {
                self.wrong.push(format!("{} is stored twice", notification.request_id));
            }
        }
        for (n, asked) in record.asked.iter().enumerate() {
            let id = request_id(user, n);
            let found = requests.get(id.as_str());
            match &asked.answer {
                Some((answer, _)) if found != Some(&answer.as_str()) => {
                    self.wrong.push(format!("{id} was answered with {answer}, and is stored as {found:?}"));
                }
                Some(_) => {}
                None => self.missing.push(format!("{id} is not answered")),
            }
        }
        let last = record.sockets.len().saturating_sub(1);
        for (n, socket) in record.sockets.iter().enumerate() {
            let is_open = record.is_open && n == last;
            let Some(first) = socket.first_count else {
                if is_open || !socket.told.is_empty() {
                    self.missing.push(format!("{user} was not told its first unread count"));
                }
                continue;
            };
            let due = ids.get(usize::try_from(first).unwrap_or(0)..).unwrap_or_default();
            if !socket.told.iter().map(String::as_str).eq(due.iter().copied().take(socket.told.len())) {
                let told = &socket.told;
                self.wrong.push(format!("{user} was told {told:?} on its socket {n}, instead of {due:?}"));
            }
            if is_open && (socket.told.len() != due.len() || usize::try_from(socket.last_count) != Ok(ids.len())) {
                let (told, due, count) = (socket.told.len(), due.len(), socket.last_count);
                let all = ids.len();
                self.missing
                    .push(format!("{user} was told {told} of {due} notifications, and that it has {count} of {all}"));
            }
        }
    }

    /// Whoever has a presence socket is online, and nobody else, to every socket and at both services.
    async fn presence(&mut self, world: &World) -> anyhow::Result<()> {
        let online = world.people.online();
        let differs = |who: String, seen: &BTreeSet<String>| {
            let (missing, phantoms): (Vec<_>, Vec<_>) =
                (online.difference(seen).collect(), seen.difference(&online).collect());
            (seen != &online).then(|| format!("{who} misses {missing:?} and takes {phantoms:?} for online"))
        };
        for Of { user, record } in &world.views {
            let view = lock(record);
            let mut seen = view.online.clone();
            seen.insert(user.clone());
            self.missing.extend(differs(user.clone(), &seen).filter(|_| view.is_open));
        }
        let everybody: Vec<String> = world.views.iter().map(|view| view.user.clone()).collect();
        for (service, name) in world.services.iter().zip(["service-a", "service-b"]) {
            let client = || PresenceServiceClient::new(service.clone());
            let request = ListOnlineRequest { page_size: PAGE_ONLINE, page_token: String::new() };
            let listed = patiently(async || client().list_online(request.clone()).await).await?;
            let seen = listed.users.into_iter().map(|user| user.user_id).collect();
            self.missing.extend(differs(format!("ListOnline at {name}"), &seen));
            let request = GetPresenceRequest { user_ids: everybody.clone() };
            let got = patiently(async || client().get_presence(request.clone()).await).await?;
            let seen = got.presences.into_iter().filter(|user| user.is_online).map(|user| user.user_id).collect();
            self.missing.extend(differs(format!("GetPresence at {name}"), &seen));
        }
        Ok(())
    }
}

async fn messages(service: &Peer, conversation: &str) -> anyhow::Result<Vec<Message>> {
    let mut all = Vec::new();
    let mut from_seq = 0;
    loop {
        let request = ListMessagesRequest {
            conversation_id: conversation.to_owned(),
            from_seq,
            page_size: PAGE_MESSAGES,
            ..ListMessagesRequest::default()
        };
        let page =
            patiently(async || ChatServiceClient::new(service.clone()).list_messages(request.clone()).await).await?;
        all.extend(page.messages);
        from_seq = page.next_from_seq;
        if from_seq == 0 {
            return Ok(all);
        }
    }
}

async fn notifications(service: &Peer, user: &str) -> anyhow::Result<Vec<Notification>> {
    let mut all = Vec::new();
    let mut from_seq = 0;
    loop {
        let request = ListNotificationsRequest {
            user_id: user.to_owned(),
            from_seq,
            page_size: PAGE_NOTIFICATIONS,
            ..ListNotificationsRequest::default()
        };
        let client = || NotificationServiceClient::new(service.clone());
        let page = patiently(async || client().list_notifications(request.clone()).await).await?;
        all.extend(page.notifications);
        from_seq = page.next_from_seq;
        if from_seq == 0 {
            return Ok(all);
        }
    }
}
