//! A socket on a user's inbox.

use futures_util::{FutureExt as _, future::BoxFuture};
use switchboard_chassis::grpc::Peer;
use switchboard_proto::{
    notification::v1::{
        Inbox, Join, ListNotificationsRequest, ListNotificationsResponse, Notified, RefusalReason, Refused,
        notification_service_client::NotificationServiceClient, subscribe_request::Action, subscribe_response::Event,
    },
    wire,
};
use tokio_tungstenite::tungstenite::Utf8Bytes;
use tonic::Status;

use super::patiently;
use crate::{
    dialect::{
        Decoded, Ends,
        consultation::{self, notifications},
    },
    goodbye,
    link::{Carried, Told},
    order::{Offer, Order},
    session::{Asking, Care, End, Handler, Heard, Io, OptionFuture, Out, Pending},
};

/// Notifications that are fetched at a time.
const PAGE_NOTIFICATIONS: i32 = 100;

/// Which encodings of an event its sockets share.
const NOTIFICATION: usize = 0;
const COUNT: usize = 1;

impl Carried for wire::Notification {}

/// What came meanwhile, with the head at the time of asking.
pub(crate) type Page = (u64, Result<ListNotificationsResponse, Status>);

/// See the module.
pub(crate) struct NotificationsHandler {
    join: Join,
    service: NotificationServiceClient<Peer>,
    order: Order,
    /// The newest state of the inbox that was told of.
    revision: u64,
    /// The count that the client was told last.
    count: i64,
    /// What it missed, while that is being fetched.
    page: Option<BoxFuture<'static, Page>>,
}

impl NotificationsHandler {
    /// For a user whose inbox is like this.
    pub(crate) fn new(join: Join, inbox: Inbox, service: NotificationServiceClient<Peer>) -> Self {
        Self {
            join,
            service,
            order: Order::live(inbox.last_seq),
            revision: inbox.revision,
            count: inbox.unread_count,
            page: None,
        }
    }

    /// Takes a state of the inbox; whether it is news.
    fn learn(&mut self, inbox: Inbox) -> bool {
        self.order.raise(inbox.last_seq);
        let is_news = inbox.revision > self.revision;
        if is_news {
            self.revision = inbox.revision;
            self.count = inbox.unread_count;
        }
        is_news
    }

    async fn notified<S: Io>(
        &mut self,
        told: &Told<wire::Notification>,
        Notified { notification, inbox }: &Notified,
        out: &mut Out<'_, S>,
    ) -> Result<(), End> {
        let Some(notification) = notification else { return Ok(()) };
        let offer = self.order.offer(notification.seq);
        let is_news = self.learn(inbox.unwrap_or_default());
        match offer {
            Offer::Next => {
                out.feed(told.encode(NOTIFICATION, || notifications::notification(notification))).await?;
                // A newer state may have been told before, by another instance.
                let count = self.count;
                let text = if is_news {
                    told.encode(COUNT, || notifications::unread_count(count))
                } else {
                    notifications::unread_count(count)
                };
                out.feed(text).await?;
            }
            Offer::Behind | Offer::Gap => {}
        }
        self.catch_up();
        Ok(())
    }

    /// Another state of the inbox: told if the count is another, or else fetched first what it speaks of.
    async fn changed<S: Io>(&mut self, inbox: Inbox, is_told: bool, out: &mut Out<'_, S>) -> Result<(), End> {
        let before = self.count;
        let is_news = self.learn(inbox);
        if self.order.is_behind() {
            self.catch_up();
            Ok(())
        } else if is_news && (is_told || self.count != before) {
            out.feed(notifications::unread_count(self.count)).await
        } else {
            Ok(())
        }
    }

    /// Fetches what is missing, unless that is happening already.
    fn catch_up(&mut self) {
        if self.page.is_some() || !self.order.is_behind() {
            return;
        }
        let request = ListNotificationsRequest {
            user_id: self.join.user_id.clone(),
            from_seq: self.order.told(),
            page_size: PAGE_NOTIFICATIONS,
            ..ListNotificationsRequest::default()
        };
        let (service, head) = (self.service.clone(), self.order.head());
        let fetching = async move {
            let list = || {
                let (mut service, request) = (service.clone(), request.clone());
                async move { service.list_notifications(request).await }
            };
            (head, patiently(list).await)
        };
        self.page = Some(fetching.boxed());
    }

    fn not_again(refused: &Refused) -> Heard {
        // It joined twice while the link came and went.
        if refused.reason() == RefusalReason::AlreadyJoined { Heard::Fine } else { Heard::JoinLater }
    }
}

impl Handler for NotificationsHandler {
    type Wire = wire::Notification;
    type Own = Page;

    fn ends(&self) -> Ends {
        consultation::ENDS
    }

    fn join_again(&self) -> Join {
        self.join.clone()
    }

    async fn begin<S: Io>(&mut self, _: &mut Asking<wire::Notification>, out: &mut Out<'_, S>) -> Result<(), End> {
        out.feed(notifications::GREETING.into()).await?;
        out.feed(notifications::unread_count(self.count)).await
    }

    fn decode(&mut self, text: &str) -> Decoded<Action> {
        notifications::decode(text)
    }

    fn binary(&self) -> Utf8Bytes {
        consultation::BINARY.into()
    }

    fn rate_limited(&self, retry_after_s: u64) -> Utf8Bytes {
        consultation::rate_limited(retry_after_s)
    }

    fn overloaded(&self, _: &Action) -> Utf8Bytes {
        notifications::refused("temporarily unavailable, send it again")
    }

    fn care(_: &Action) -> Care {
        Care::Kept
    }

    async fn hear<S: Io>(
        &mut self,
        told: &Told<wire::Notification>,
        answered: Option<Pending<wire::Notification>>,
        out: &mut Out<'_, S>,
    ) -> Result<Heard, End> {
        match (&told.event, answered) {
            (Event::Notified(notified), _) => self.notified(told, notified, out).await?,
            (Event::InboxChanged(changed), _) => {
                self.changed(changed.inbox.unwrap_or_default(), true, out).await?;
            }
            (Event::Joined(joined), _) => self.changed(joined.inbox.unwrap_or_default(), false, out).await?,
            (Event::Refused(refused), Some(Pending { action: Action::Join(_), .. })) => {
                return Ok(Self::not_again(refused));
            }
            (Event::Refused(refused), Some(_)) => out.feed(notifications::refused(&refused.message)).await?,
            (Event::Refused(_) | Event::Accepted(_) | Event::GoAway(_), _) => {}
        }
        Ok(Heard::Fine)
    }

    async fn own(&mut self) -> Page {
        let page = OptionFuture(self.page.as_mut()).await;
        self.page = None;
        page
    }

    async fn owned<S: Io>(&mut self, (head, page): Page, out: &mut Out<'_, S>) -> Result<(), End> {
        let page = page.map_err(|status| {
            tracing::error!(code = ?status.code(), message = status.message(), "notifications cannot be read");
            End::Goodbye(goodbye::INTERNAL)
        })?;
        self.order.fetched(page.notifications.last().map(|last| last.seq), head);
        let is_news = self.learn(page.inbox.unwrap_or_default());
        for notification in &page.notifications {
            out.feed(notifications::notification(notification)).await?;
        }
        if self.order.is_behind() {
            self.catch_up();
        } else if is_news || !page.notifications.is_empty() {
            out.feed(notifications::unread_count(self.count)).await?;
        }
        Ok(())
    }
}
