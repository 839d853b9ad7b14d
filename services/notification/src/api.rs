//! The RPCs of notifications.

use switchboard_chassis::{Clock, Error, Kind, Lifecycle, audit::Asked};
use switchboard_proto::notification::v1::{
    BatchNotifyRequest, BatchNotifyResponse, EraseUserRequest, EraseUserResponse, GetInboxRequest, GetInboxResponse,
    ListNotificationsRequest, ListNotificationsResponse, MarkReadRequest, MarkReadResponse, NotifyRequest,
    NotifyResponse, SubscribeRequest, notification_service_server::NotificationService,
};
use switchboard_sessions::check_user_id;
use tonic::{Request, Response, Status, Streaming};

use crate::{
    convert,
    model::{self, Refusal, Wire},
    rooms::Inboxes,
    rules,
    writer::Writer,
};

/// The notification service.
pub struct Notifications {
    pub(crate) inboxes: Inboxes,
    pub(crate) writer: Writer,
    pub(crate) clock: Clock,
    pub(crate) lifecycle: Lifecycle,
}

#[tonic::async_trait]
impl NotificationService for Notifications {
    type SubscribeStream = switchboard_sessions::Stream<Wire>;

    async fn subscribe(
        &self,
        request: Request<Streaming<SubscribeRequest>>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        let stream = switchboard_sessions::open(self.inboxes.clone(), request.into_inner(), self.lifecycle.clone());
        Ok(Response::new(stream))
    }

    async fn notify(&self, request: Request<NotifyRequest>) -> Result<Response<NotifyResponse>, Status> {
        let draft = rules::draft(request.into_inner(), self.clock.new_id())?;
        let mut results = self.writer.write(vec![draft]).await?;
        Ok(Response::new(results.pop().unwrap_or_default()))
    }

    async fn batch_notify(
        &self,
        request: Request<BatchNotifyRequest>,
    ) -> Result<Response<BatchNotifyResponse>, Status> {
        let drafts = rules::drafts(request.into_inner().notifications, || self.clock.new_id())?;
        let results = if drafts.is_empty() { Vec::new() } else { self.writer.write(drafts).await? };
        Ok(Response::new(BatchNotifyResponse { results }))
    }

    async fn list_notifications(
        &self,
        request: Request<ListNotificationsRequest>,
    ) -> Result<Response<ListNotificationsResponse>, Status> {
        let request = request.into_inner();
        check_user_id("user_id", &request.user_id)?;
        let page = rules::page(&request)?;
        // The inbox before the page: all that it counts is in the pages. The other way round, what came between would
        // be in neither.
        let inbox = self.inboxes.store.inbox(&request.user_id).await?;
        let listed = self.inboxes.store.list(&request.user_id, page).await?;
        let last = listed.notifications.last().map_or(0, |notification| notification.seq);
        Ok(Response::new(ListNotificationsResponse {
            notifications: listed.notifications.into_iter().map(convert::notification).collect(),
            next_from_seq: if listed.more { last } else { 0 },
            inbox: Some(inbox.into()),
        }))
    }

    async fn get_inbox(&self, request: Request<GetInboxRequest>) -> Result<Response<GetInboxResponse>, Status> {
        let user_id = request.into_inner().user_id;
        check_user_id("user_id", &user_id)?;
        let inbox = self.inboxes.store.inbox(&user_id).await?;
        Ok(Response::new(GetInboxResponse { inbox: Some(inbox.into()) }))
    }

    async fn mark_read(&self, request: Request<MarkReadRequest>) -> Result<Response<MarkReadResponse>, Status> {
        let MarkReadRequest { user_id, read } = request.into_inner();
        check_user_id("user_id", &user_id)?;
        let which = rules::which(&read.ok_or_else(|| Refusal::invalid("read", "is required"))?)?;
        let inboxes = self.inboxes.clone();
        let marked = finish(async move { inboxes.mark_read(&user_id, &which, None).await }).await?;
        let marked = marked.ok_or_else(model::no_notification)?;
        let changed = i64::try_from(marked.changed).unwrap_or(i64::MAX);
        Ok(Response::new(MarkReadResponse { changed, inbox: Some(marked.inbox.into()) }))
    }

    async fn erase_user(&self, request: Request<EraseUserRequest>) -> Result<Response<EraseUserResponse>, Status> {
        let user_id = request.get_ref().user_id.clone();
        check_user_id("user_id", &user_id)?;
        let asked = Asked::of(&request, &user_id, self.clock.now());
        let inboxes = self.inboxes.clone();
        let erased = finish(async move {
            let (erased, inbox) = inboxes.store.erase(&user_id, &asked).await?;
            match erased {
                0 => inboxes.hub.found(&user_id, inbox),
                _ => inboxes.hub.changed(&user_id, inbox, None),
            }
            asked.done("notification.EraseUser", erased);
            Ok(erased)
        });
        let notifications_erased = i64::try_from(erased.await?).unwrap_or(i64::MAX);
        Ok(Response::new(EraseUserResponse { notifications_erased }))
    }
}

/// Does something to its end, even if the caller goes away meanwhile: what was changed is told.
async fn finish<T: Send + 'static>(task: impl Future<Output = Result<T, Error>> + Send + 'static) -> Result<T, Error> {
    tokio::spawn(task).await.unwrap_or_else(|_| Err(Error::new(Kind::Internal, "INTERNAL", "internal error")))
}
