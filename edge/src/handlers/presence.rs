//! A socket that is told who is online, and whose user is online by it.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use futures_util::{FutureExt as _, future::BoxFuture};
use switchboard_chassis::{Clock, grpc::Peer};
use switchboard_proto::{
    chat::v1::{ListContactsRequest, chat_service_client::ChatServiceClient},
    presence::v1::{Join, RefusalReason, track_request::Action, track_response::Event},
    wire,
};
use tokio_tungstenite::tungstenite::Utf8Bytes;
use tonic::Status;

use super::patiently;
use crate::{
    dialect::{
        self, Decoded, Ends,
        consultation::{self, presence},
    },
    goodbye,
    link::{Carried, Told},
    roster::{Batch, Batches, News, Roster},
    session::{Asking, Care, End, Handler, Heard, Io, OptionFuture, Out, Pending},
};

/// People of the roster who are told at a time.
const PART_USERS: usize = 256;
/// Contacts that are fetched at a time, and in all.
const CONTACTS_PAGE: i32 = 1_000;
const CONTACTS_MAX: usize = 10_000;
/// How soon somebody with whom a conversation was opened is seen; more or less.
const CONTACTS_REFRESH: Duration = Duration::from_secs(60);

impl Carried for wire::Presence {}

/// Those with whom a user shares conversations: of them alone the user is told.
pub(crate) struct Contacts {
    chat: ChatServiceClient<Peer>,
    clock: Clock,
    known: HashSet<Arc<str>>,
    /// Who was told to be online, and how.
    shown: HashMap<Arc<str>, Utf8Bytes>,
    refresh: Option<BoxFuture<'static, Result<HashSet<Arc<str>>, Status>>>,
}

impl Contacts {
    /// Asks chat for them.
    pub(crate) async fn of(user_id: &str, chat: ChatServiceClient<Peer>, clock: Clock) -> Result<Self, Status> {
        let known = fetch(&chat, user_id).await?;
        Ok(Self { chat, clock, known, shown: HashMap::new(), refresh: None })
    }

    /// Looks again after a while.
    fn look_later(&mut self, user_id: &str) {
        let (chat, user_id) = (self.chat.clone(), user_id.to_owned());
        let pause = self.clock.jittered(CONTACTS_REFRESH);
        let looking = async move {
            tokio::time::sleep(pause).await;
            fetch(&chat, &user_id).await
        };
        self.refresh = Some(looking.boxed());
    }

    /// Whether this is news of a contact; it is taken for told.
    fn is_news(&mut self, News { user_id, frame, is_online }: &News) -> bool {
        if *is_online {
            self.known.contains(user_id) && self.shown.insert(user_id.clone(), frame.clone()).as_ref() != Some(frame)
        } else {
            self.shown.remove(user_id).is_some()
        }
    }
}

/// How far a newcomer has been told the roster.
#[derive(Default)]
struct Progress {
    /// The last id of each part, and the version of the roster then.
    parts: Vec<(Arc<str>, u64)>,
    /// The version of the last part: everybody after its ids is in it.
    whole_at: Option<u64>,
}

impl Progress {
    fn after(&self) -> Option<&str> {
        self.parts.last().map(|(last, _)| &**last)
    }

    /// Whether somebody's coming or going is told now: not if a part knew it, and not if a part is still to come.
    fn is_told(&self, user_id: &str, version: u64) -> bool {
        let part = self.parts.iter().find(|(last, _)| user_id <= &**last).map(|(_, version)| *version);
        part.or(self.whole_at).is_some_and(|known| version > known)
    }
}

/// See the module.
pub(crate) struct PresenceHandler {
    join: Join,
    roster: Roster,
    batches: Batches,
    /// While the roster is told, and batches of before are on the way.
    progress: Option<Box<Progress>>,
    /// `None` is told of everybody.
    contacts: Option<Box<Contacts>>,
}

/// What a presence socket has to do besides hearing.
pub(crate) enum Own {
    /// Tell a part of the roster.
    Part,
    /// Some came or went; `None` when the socket is too slow.
    News(Option<Arc<Batch>>),
    /// Whom the user shares conversations with now.
    Contacts(Result<HashSet<Arc<str>>, Status>),
}

impl PresenceHandler {
    /// For a user who is tracked already: only then is the roster whole.
    pub(crate) fn new(join: Join, roster: Roster, contacts: Option<Contacts>) -> Self {
        let batches = roster.watch();
        let mut contacts = contacts.map(Box::new);
        if let Some(contacts) = &mut contacts {
            contacts.look_later(&join.user_id);
        }
        Self { join, roster, batches, progress: Some(Box::default()), contacts }
    }

    fn is_telling_roster(&self) -> bool {
        self.progress.as_ref().is_some_and(|progress| progress.whole_at.is_none())
    }

    async fn tell<S: Io>(&mut self, news: &News, out: &mut Out<'_, S>) -> Result<(), End> {
        let is_own = *news.user_id == *self.join.user_id;
        if !is_own && self.contacts.as_mut().is_none_or(|contacts| contacts.is_news(news)) {
            out.feed(news.frame.clone()).await?;
        }
        Ok(())
    }

    async fn tell_part<S: Io>(&mut self, out: &mut Out<'_, S>) -> Result<(), End> {
        let Some(progress) = &mut self.progress else { return Ok(()) };
        let part = match &self.contacts {
            None => self.roster.part(progress.after(), PART_USERS),
            Some(contacts) => self.roster.among(contacts.known.iter().map(|id| &**id)),
        };
        if part.is_last {
            progress.whole_at = Some(part.version);
        } else if let Some(last) = part.online.last() {
            progress.parts.push((last.user_id.clone(), part.version));
        }
        for news in &part.online {
            self.tell(news, out).await?;
        }
        Ok(())
    }

    async fn tell_batch<S: Io>(&mut self, batch: &Batch, out: &mut Out<'_, S>) -> Result<(), End> {
        for news in &batch.news {
            let is_told = |progress: &Progress| progress.is_told(&news.user_id, batch.version);
            if self.progress.as_deref().is_none_or(is_told) {
                self.tell(news, out).await?;
            }
        }
        // From the version of the last part on, every batch is told whole.
        if self.progress.as_ref().and_then(|progress| progress.whole_at).is_some_and(|whole| batch.version >= whole) {
            self.progress = None;
        }
        Ok(())
    }

    async fn learn<S: Io>(&mut self, now: HashSet<Arc<str>>, out: &mut Out<'_, S>) -> Result<(), End> {
        let Some(contacts) = &mut self.contacts else { return Ok(()) };
        contacts.look_later(&self.join.user_id);
        let before = std::mem::replace(&mut contacts.known, now);
        let lost: Vec<Arc<str>> =
            contacts.shown.keys().filter(|user_id| !contacts.known.contains(*user_id)).cloned().collect();
        let found: Vec<Arc<str>> = contacts.known.difference(&before).cloned().collect();
        for user_id in lost {
            let frame = presence::offline(&user_id);
            self.tell(&News { user_id, frame, is_online: false }, out).await?;
        }
        for news in self.roster.among(found.iter().map(|id| &**id)).online {
            self.tell(&news, out).await?;
        }
        Ok(())
    }
}

impl Handler for PresenceHandler {
    type Wire = wire::Presence;
    type Own = Own;

    fn ends(&self) -> Ends {
        consultation::ENDS
    }

    fn join_again(&self) -> Join {
        self.join.clone()
    }

    async fn begin<S: Io>(&mut self, _: &mut Asking<wire::Presence>, _: &mut Out<'_, S>) -> Result<(), End> {
        // The roster is told part by part: see `own`.
        Ok(())
    }

    fn decode(&mut self, text: &str) -> Decoded<Action> {
        Decoded::Reply(presence::decode(text))
    }

    fn binary(&self) -> Utf8Bytes {
        dialect::BINARY.into()
    }

    fn rate_limited(&self, retry_after_s: u64) -> Utf8Bytes {
        dialect::limited_error(retry_after_s)
    }

    /// Its clients have no actions.
    fn overloaded(&self, _: &Action) -> Utf8Bytes {
        dialect::typed_error("temporarily unavailable")
    }

    fn care(_: &Action) -> Care {
        Care::Dropped
    }

    async fn hear<S: Io>(
        &mut self,
        told: &Told<wire::Presence>,
        answered: Option<&Pending<wire::Presence>>,
        _: &mut Out<'_, S>,
    ) -> Result<Heard, End> {
        match &told.event {
            // Unless it joined twice while the link came and went.
            Event::Refused(refused) if answered.is_some() && refused.reason() != RefusalReason::AlreadyJoined => {
                Ok(Heard::JoinLater)
            }
            _ => Ok(Heard::Fine),
        }
    }

    async fn own(&mut self) -> Own {
        let is_telling_roster = self.is_telling_roster();
        let refresh = self.contacts.as_mut().and_then(|contacts| contacts.refresh.as_mut());
        tokio::select! {
            () = std::future::ready(()), if is_telling_roster => Own::Part,
            batch = self.batches.recv() => Own::News(batch),
            contacts = OptionFuture(refresh) => Own::Contacts(contacts),
        }
    }

    async fn owned<S: Io>(&mut self, own: Own, out: &mut Out<'_, S>) -> Result<(), End> {
        match own {
            Own::Part => self.tell_part(out).await,
            Own::News(Some(batch)) => self.tell_batch(&batch, out).await,
            Own::News(None) => Err(End::Goodbye(goodbye::TOO_SLOW)),
            Own::Contacts(Ok(now)) => self.learn(now, out).await,
            Own::Contacts(Err(status)) => {
                tracing::warn!(code = ?status.code(), message = status.message(), "contacts cannot be read");
                if let Some(contacts) = &mut self.contacts {
                    contacts.look_later(&self.join.user_id);
                }
                Ok(())
            }
        }
    }
}

async fn fetch(chat: &ChatServiceClient<Peer>, user_id: &str) -> Result<HashSet<Arc<str>>, Status> {
    let mut found = HashSet::new();
    let mut page_token = String::new();
    loop {
        let request = ListContactsRequest { user_id: user_id.to_owned(), page_size: CONTACTS_PAGE, page_token };
        let list = || {
            let (mut chat, request) = (chat.clone(), request.clone());
            async move { chat.list_contacts(request).await }
        };
        let page = patiently(list).await?;
        found.extend(page.user_ids.into_iter().map(Arc::from));
        page_token = page.next_page_token;
        if page_token.is_empty() || found.len() >= CONTACTS_MAX {
            return Ok(found);
        }
    }
}
