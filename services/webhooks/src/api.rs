//! The RPCs about dead letters.

use switchboard_chassis::{Error, Kind, clock::timestamp, paging};
use switchboard_proto::webhook::v1::{
    DeadLetter, ListDeadLettersRequest, ListDeadLettersResponse, RetryDeadLettersRequest, RetryDeadLettersResponse,
    webhook_service_server::{WebhookService, WebhookServiceServer},
};
use tonic::{Request, Response, Status};

use crate::{
    Outbox,
    outbox::{Dead, DeadKey},
};

const PAGE_DEFAULT: u32 = 50;
const PAGE_MAX: u32 = 200;
const IDS_MAX: usize = 1_000;

/// The webhook service.
pub struct Webhooks {
    outboxes: Vec<Outbox>,
}

/// Over the outboxes of a process.
#[must_use]
pub fn service(outboxes: Vec<Outbox>) -> WebhookServiceServer<Webhooks> {
    WebhookServiceServer::new(Webhooks { outboxes })
}

impl Webhooks {
    fn outbox(&self, name: &str) -> Result<&Outbox, Error> {
        if name.is_empty() {
            return Err(Error::invalid("outbox", "chat or identity"));
        }
        self.outboxes.iter().find(|outbox| outbox.0.name == name).ok_or_else(|| {
            Error::new(
                Kind::NotFound,
                "OUTBOX_NOT_HERE",
                "no such outbox here: ask an instance of the service it is of",
            )
        })
    }
}

#[tonic::async_trait]
impl WebhookService for Webhooks {
    async fn list_dead_letters(
        &self,
        request: Request<ListDeadLettersRequest>,
    ) -> Result<Response<ListDeadLettersResponse>, Status> {
        let ListDeadLettersRequest { outbox, page_size, page_token } = request.into_inner();
        let outbox = self.outbox(&outbox)?;
        let size = paging::page_size(page_size, PAGE_DEFAULT, PAGE_MAX)?;
        let after = match page_token.as_str() {
            "" => None,
            token => Some(read_token(token).ok_or_else(|| Error::invalid("page_token", "is not one that we gave"))?),
        };
        let mut dead = outbox.dead(after, i64::from(size) + 1).await?;
        let page = usize::try_from(size).unwrap_or(usize::MAX);
        let more = dead.len() > page;
        dead.truncate(page);
        let next_page_token = dead.last().filter(|_| more).map(write_token).unwrap_or_default();
        let dead_letters = dead.into_iter().map(dead_letter).collect();
        Ok(Response::new(ListDeadLettersResponse { dead_letters, next_page_token }))
    }

    async fn retry_dead_letters(
        &self,
        request: Request<RetryDeadLettersRequest>,
    ) -> Result<Response<RetryDeadLettersResponse>, Status> {
        let RetryDeadLettersRequest { outbox, webhook_ids, all, endpoint } = request.into_inner();
        let outbox = self.outbox(&outbox)?;
        if webhook_ids.len() > IDS_MAX {
            return Err(Error::invalid("webhook_ids", format!("at most {IDS_MAX}")).into());
        }
        if webhook_ids.is_empty() != all {
            return Err(Error::invalid("webhook_ids", "give some, or all").into());
        }
        let retried = outbox.revive((!all).then_some(webhook_ids.as_slice()), &endpoint).await?;
        Ok(Response::new(RetryDeadLettersResponse { retried: i64::try_from(retried).unwrap_or(i64::MAX) }))
    }
}

fn dead_letter(dead: Dead) -> DeadLetter {
    DeadLetter {
        webhook_id: dead.id,
        endpoint: dead.endpoint,
        event_type: dead.event_type,
        attempts: dead.attempts,
        last_error: dead.last_error,
        created_at: Some(timestamp(dead.created_at)),
        dead_at: Some(timestamp(dead.dead_at)),
    }
}

/// Neither ids nor names have blanks.
fn write_token(last: &Dead) -> String {
    format!("{} {} {}", last.dead_at, last.id, last.endpoint)
}

fn read_token(token: &str) -> Option<DeadKey> {
    let mut parts = token.splitn(3, ' ');
    let dead_at = parts.next()?.parse().ok()?;
    Some(DeadKey { dead_at, id: parts.next()?.to_owned(), endpoint: parts.next()?.to_owned() })
}
