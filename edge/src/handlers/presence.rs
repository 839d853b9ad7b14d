//! A socket that is told who is online, and whose user is online by it.

use std::{collections::HashSet, sync::Arc, time::Duration};

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
        Decoded, Ends,
        consultation::{self, presence},
    },
    goodbye,
    link::{Carried, Told},
    roster::{Batches, News, Roster},
    session::{Asking, Care, End, Handler, Heard, Io, OptionFuture, Out, Pending},
};

/// Contacts that are fetched at a time, and in all.
const CONTACTS_PAGE: i32 = 1_000;
const CONTACTS_MAX: usize = 10_000;
/// How soon somebody with whom a conversation was opened is seen; more or less.
const CONTACTS_REFRESH: Duration = Duration::from_secs(60);

impl Carried for wire::Presence {}

/// Of whom somebody is told.
pub(crate) struct Contacts {
    chat: ChatServiceClient<Peer>,
    clock: Clock,
    known: HashSet<Arc<str>>,
    refresh: Option<BoxFuture<'static, Result<HashSet<Arc<str>>, Status>>>,
}

impl Contacts {
    /// Those who share a conversation with a user.
    pub(crate) async fn of(user_id: &str, chat: ChatServiceClient<Peer>, clock: Clock) -> Result<Self, Status> {
        let known = fetch(&chat, user_id).await?;
        Ok(Self { chat, clock, known, refresh: None })
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
}

/// See the module.
pub(crate) struct PresenceHandler {
    join: Join,
    roster: Roster,
    /// Until they are told.
    there: Vec<News>,
    batches: Batches,
    /// `None` is told of everybody.
    contacts: Option<Box<Contacts>>,
}

/// What a presence socket has to do besides hearing.
pub(crate) enum Own {
    /// Some came or went; `None` when the socket is too slow.
    News(Option<Arc<[News]>>),
    /// Whom the user shares conversations with now.
    Contacts(Result<HashSet<Arc<str>>, Status>),
}

impl PresenceHandler {
    /// For a user who is tracked already: only then is the roster whole.
    pub(crate) fn new(join: Join, roster: Roster, contacts: Option<Contacts>) -> Self {
        let (there, batches) = roster.watch();
        let mut contacts = contacts.map(Box::new);
        if let Some(contacts) = &mut contacts {
            contacts.look_later(&join.user_id);
        }
        Self { join, roster, there, batches, contacts }
    }

    async fn tell<S: Io>(&mut self, news: &[News], out: &mut Out<'_, S>) -> Result<(), End> {
        for News { user_id, frame } in news {
            let is_told = **user_id != *self.join.user_id
                && self.contacts.as_ref().is_none_or(|contacts| contacts.known.contains(user_id));
            if is_told {
                out.feed(frame.clone()).await?;
            }
        }
        Ok(())
    }

    async fn learn<S: Io>(&mut self, now: HashSet<Arc<str>>, out: &mut Out<'_, S>) -> Result<(), End> {
        let Some(contacts) = &mut self.contacts else { return Ok(()) };
        let before = std::mem::replace(&mut contacts.known, now);
        contacts.look_later(&self.join.user_id);
        let known = &contacts.known;
        for gone in self.roster.among(before.difference(known).map(|id| &**id)) {
            out.feed(presence::offline(&gone.user_id)).await?;
        }
        let come = self.roster.among(known.difference(&before).map(|id| &**id));
        self.tell(&come, out).await
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

    async fn begin<S: Io>(&mut self, _: &mut Asking<wire::Presence>, out: &mut Out<'_, S>) -> Result<(), End> {
        let there = std::mem::take(&mut self.there);
        self.tell(&there, out).await
    }

    fn decode(&mut self, text: &str) -> Decoded<Action> {
        Decoded::Reply(presence::decode(text))
    }

    fn binary(&self) -> Utf8Bytes {
        consultation::BINARY.into()
    }

    fn rate_limited(&self, retry_after_s: u64) -> Utf8Bytes {
        consultation::rate_limited(retry_after_s)
    }

    fn overloaded(&self, _: &Action) -> Utf8Bytes {
        Utf8Bytes::default()
    }

    fn care(_: &Action) -> Care {
        Care::Dropped
    }

    async fn hear<S: Io>(
        &mut self,
        told: &Told<wire::Presence>,
        answered: Option<Pending<wire::Presence>>,
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
        let refresh = self.contacts.as_mut().and_then(|contacts| contacts.refresh.as_mut());
        tokio::select! {
            news = self.batches.recv() => Own::News(news),
            contacts = OptionFuture(refresh) => Own::Contacts(contacts),
        }
    }

    async fn owned<S: Io>(&mut self, own: Own, out: &mut Out<'_, S>) -> Result<(), End> {
        match own {
            Own::News(Some(news)) => self.tell(&news, out).await,
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
