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
        self, Decoded, Ends,
        consultation::{self, notifications},
    },
    goodbye,
    link::{Carried, Told},
    order::{Offer, Order},
    session::{Asking, Care, End, Handler, Heard, Io, OptionFuture, Out, Pending},
};

/// Notifications that are fetched at a time.
const PAGE_NOTIFICATIONS: i32 = 100;

impl Carried for wire::Notification {}

/// What came meanwhile, with the head at the time of asking.
pub(crate) type Page = (u64, Result<ListNotificationsResponse, Status>);

/// See the module.
pub(crate) struct NotificationsHandler {
    join: Join,
    service: NotificationServiceClient<Peer>,
    order: Order,
    /// The newest state of the inbox.
    inbox: Inbox,
    /// The count that the client was told last.
    told_count: i64,
    /// Something was told or has changed since, and the count is to follow.
    is_count_due: bool,
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
            inbox,
            told_count: inbox.unread_count,
            is_count_due: false,
            page: None,
        }
    }

    /// Takes a state of the inbox; whether it is newer than the one that is known.
    fn learn(&mut self, inbox: Inbox) -> bool {
        self.order.raise(inbox.last_seq);
        let is_newer = inbox.revision > self.inbox.revision;
        if is_newer {
            self.inbox = inbox;
        }
        is_newer
    }

    async fn notified<S: Io>(
        &mut self,
        told: &Told<wire::Notification>,
        Notified { notification, inbox }: &Notified,
        out: &mut Out<'_, S>,
    ) -> Result<(), End> {
        let Some(notification) = notification else { return Ok(()) };
        let offer = self.order.offer(notification.seq);
        self.learn(inbox.unwrap_or_default());
        if offer == Offer::Next {
            out.feed(told.encode(0, || notifications::notification(notification))).await?;
            self.is_count_due = true;
        }
        self.settle(out).await
    }

    /// Fetches what is missing; or else tells the count, if it is due or another than was told.
    async fn settle<S: Io>(&mut self, out: &mut Out<'_, S>) -> Result<(), End> {
        if self.order.is_behind() {
            self.catch_up();
            return Ok(());
        }
        let count = self.inbox.unread_count;
        if !std::mem::take(&mut self.is_count_due) && count == self.told_count {
            return Ok(());
        }
        self.told_count = count;
        out.feed(notifications::unread_count(count)).await
    }

    /// Fetches what is missing, unless that is happening already.
    fn catch_up(&mut self) {
        if self.page.is_some() {
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
        out.feed(notifications::unread_count(self.told_count)).await
    }

    fn decode(&mut self, text: &str) -> Decoded<Action> {
        notifications::decode(text)
    }

    fn binary(&self) -> Utf8Bytes {
        dialect::BINARY.into()
    }

    fn rate_limited(&self, retry_after_s: u64) -> Utf8Bytes {
        dialect::limited_error(retry_after_s)
    }

    fn overloaded(&self, _: &Action) -> Utf8Bytes {
        dialect::typed_error("temporarily unavailable, send it again")
    }

    fn care(_: &Action) -> Care {
        Care::Kept
    }

    async fn hear<S: Io>(
        &mut self,
        told: &Told<wire::Notification>,
        answered: Option<&Pending<wire::Notification>>,
        out: &mut Out<'_, S>,
    ) -> Result<Heard, End> {
        match (&told.event, answered) {
            (Event::Notified(notified), _) => self.notified(told, notified, out).await?,
            // Somebody read something: that is told even if as many came meanwhile.
            (Event::InboxChanged(changed), _) => {
                self.is_count_due |= self.learn(changed.inbox.unwrap_or_default());
                self.settle(out).await?;
            }
            (Event::Joined(joined), _) => {
                self.learn(joined.inbox.unwrap_or_default());
                self.settle(out).await?;
            }
            (Event::Refused(refused), Some(Pending { action: Action::Join(_), .. })) => {
                return Ok(Self::not_again(refused));
            }
            (Event::Refused(refused), Some(_)) => out.feed(dialect::typed_error(&refused.message)).await?,
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
        self.learn(page.inbox.unwrap_or_default());
        for notification in &page.notifications {
            out.feed(notifications::notification(notification)).await?;
            self.is_count_due = true;
        }
        self.settle(out).await
    }
}

#[cfg(test)]
mod tests {
    use switchboard_chassis::{Secret, grpc::remote_peer, metrics::Counter};
    use switchboard_proto::notification::v1::{InboxChanged, Joined, Notification};
    use tokio_tungstenite::tungstenite::Message;

    use super::*;
    use crate::{
        connections::{self, Counted},
        session::tests::pair,
    };

    fn inbox(unread_count: i64, last_seq: u64, revision: u64) -> Inbox {
        Inbox { unread_count, last_seq, revision }
    }

    fn notified(seq: u64, inbox: Inbox) -> Event {
        let notification = Some(Notification { seq, title: seq.to_string(), ..Notification::default() });
        Event::Notified(Notified { notification, inbox: Some(inbox) })
    }

    fn page(seqs: &[u64], inbox: Inbox) -> ListNotificationsResponse {
        let notification = |seq: &u64| Notification { seq: *seq, title: seq.to_string(), ..Notification::default() };
        let notifications = seqs.iter().map(notification).collect();
        ListNotificationsResponse { notifications, next_from_seq: 0, inbox: Some(inbox) }
    }

    enum Step {
        Hear(Event),
        Fetched(u64, ListNotificationsResponse),
    }

    /// What a client is told, who saw an inbox with five unread, after these steps: titles and counts.
    async fn told(steps: Vec<Step>) -> Vec<String> {
        let peer = remote_peer("http://127.0.0.1:1", &Secret::default()).expect("a URL");
        let service = NotificationServiceClient::new(peer);
        let mut handler = NotificationsHandler::new(Join::default(), inbox(5, 5, 5), service);
        let (ours, mut client) = pair().await;
        let mut ours = Counted::new(ours, std::sync::Arc::new(connections::tests::any()), Counter::default());
        for step in steps {
            let mut out = Out::new(&mut ours);
            match step {
                Step::Hear(event) => {
                    handler.hear(&Told::new(event, None), None, &mut out).await.expect("well");
                }
                Step::Fetched(head, page) => {
                    assert!(handler.page.take().is_some(), "it was asked for");
                    handler.owned((head, Ok(page)), &mut out).await.expect("well");
                }
            }
            out.flush().await.expect("open");
        }
        drop(ours);
        let mut told = Vec::new();
        while let Some(Ok(Message::Text(text))) = futures_util::StreamExt::next(&mut client).await {
            let frame: serde_json::Value = serde_json::from_str(&text).expect("JSON");
            told.push(frame["data"]["title"].as_str().map_or_else(|| frame["count"].to_string(), str::to_owned));
        }
        told
    }

    #[tokio::test]
    async fn a_count_that_a_page_did_not_know_yet_is_told() {
        let steps = vec![
            Step::Hear(Event::Joined(Joined { inbox: Some(inbox(6, 6, 6)) })),
            // The inbox was read before no. 7 was stored, the page after it.
            Step::Fetched(6, page(&[6, 7], inbox(6, 6, 6))),
            Step::Hear(notified(7, inbox(7, 7, 7))),
        ];
        assert_eq!(told(steps).await, ["6", "7", "6", "7"], "no. 6, no. 7, how many it knew, and how many there are");
    }

    #[tokio::test]
    async fn what_was_erased_before_it_was_fetched_is_counted_out() {
        let steps = vec![
            Step::Hear(Event::Joined(Joined { inbox: Some(inbox(0, 8, 9)) })),
            Step::Fetched(8, page(&[], inbox(0, 8, 9))),
        ];
        assert_eq!(told(steps).await, ["0"]);
        let steps = vec![
            Step::Hear(notified(7, inbox(7, 7, 7))),
            Step::Hear(Event::InboxChanged(InboxChanged { inbox: Some(inbox(0, 7, 8)) })),
            Step::Fetched(7, page(&[], inbox(0, 7, 8))),
        ];
        assert_eq!(told(steps).await, ["0"]);
    }

    #[tokio::test]
    async fn instances_may_tell_in_any_order() {
        let steps = vec![
            Step::Hear(notified(7, inbox(7, 7, 7))),
            Step::Hear(notified(6, inbox(6, 6, 6))),
            Step::Fetched(7, page(&[6, 7], inbox(7, 7, 7))),
            Step::Hear(notified(7, inbox(7, 7, 7))),
            Step::Hear(Event::InboxChanged(InboxChanged { inbox: Some(inbox(6, 6, 6)) })),
        ];
        assert_eq!(told(steps).await, ["6", "7", "7"]);
    }

    #[tokio::test]
    async fn a_rejoin_that_changed_nothing_tells_nothing() {
        assert!(told(vec![Step::Hear(Event::Joined(Joined { inbox: Some(inbox(5, 5, 5)) }))]).await.is_empty());
    }
}
