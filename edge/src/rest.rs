//! The documented REST endpoints, and what they share.

pub(crate) mod clinic;
pub(crate) mod mentoring;
pub(crate) mod mobile;

use std::time::Duration;

use bytes::Buf;
use futures_util::{Stream, StreamExt as _};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use serde_json::{Map, Value, json};
use switchboard_proto::{
    chat::v1::{ConversationSummary, ListConversationsRequest, ListMessagesRequest, Message, RefusalReason},
    identity::v1::User,
};
use tokio::time::Instant;
use tonic::{Code, Status};
use warp::reply::{Reply as _, Response};

use crate::{
    Edge,
    client_address::Client,
    credential,
    dialect::frame,
    goodbye::{self, Goodbye},
    rate::{Limit, Limited},
    serve::With as _,
};

/// The most bytes of a request's body: what a socket may send.
const BODY_BYTES_MAX: usize = crate::upgrade::MESSAGE_BYTES_MAX;

/// A request without its body.
pub(crate) struct Call<'a> {
    pub(crate) edge: &'a Edge,
    pub(crate) method: Method,
    pub(crate) path: &'a str,
    pub(crate) query: &'a str,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) client: Client,
}

/// Why a body cannot be used.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum BadBody {
    /// Over [`BODY_BYTES_MAX`].
    TooBig,
    /// Not a JSON object, or not all of one.
    NotAnObject,
    /// It did not come in time.
    TooSlow,
}

impl Call<'_> {
    /// The user of the call's token.
    pub(crate) async fn user(&self) -> Result<User, Goodbye> {
        let shown = credential::shown_token("", self.headers).ok_or(goodbye::UNAUTHENTICATED)?;
        Ok(self.edge.by_token(&shown.token).await?.user)
    }

    /// A body's JSON object; an empty body is an empty one. It may take as long as a head.
    pub(crate) async fn object<B: Buf, E>(
        &self,
        body: impl Stream<Item = Result<B, E>>,
    ) -> Result<Map<String, Value>, BadBody> {
        let time = Duration::from_secs(self.edge.config.header_timeout_s);
        tokio::time::timeout(time, object(body)).await.unwrap_or(Err(BadBody::TooSlow))
    }

    /// Counts this call among what its user does in a minute.
    pub(crate) fn count(&self, user: &User) -> Result<(), Limited> {
        let now = Instant::now();
        let taken = self.edge.rates.meter(Limit::Consultation, &user.id, now).take(now);
        taken.inspect_err(|_| _ = self.edge.counts.calls_limited.inc())
    }

    /// The page asked for; `None` when its number is not one.
    pub(crate) fn page(&self, size_default: i32, size_max: i32) -> Option<Page> {
        let number = match credential::parameter(self.query, "page") {
            None => 1,
            Some(number) => number.parse().ok().filter(|number| *number > 0)?,
        };
        let asked = credential::parameter(self.query, "page_size").and_then(|size| size.parse::<i32>().ok());
        let size = asked.filter(|size| *size > 0).unwrap_or(size_default).min(size_max);
        Some(Page { number, size })
    }

    /// The URL of this list's page `number`, as the client can ask for it.
    pub(crate) fn page_url(&self, number: i32) -> String {
        let host = self.headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or("localhost");
        let mut query = form_urlencoded::Serializer::new(String::new());
        for (key, value) in
            form_urlencoded::parse(self.query.as_bytes()).filter(|(key, _)| key != "page" && key != "token")
        {
            query.append_pair(&key, &value);
        }
        if number > 1 {
            query.append_pair("page", &number.to_string());
        }
        let query = query.finish();
        let mark = if query.is_empty() { "" } else { "?" };
        let scheme = if self.client.is_secure { "https" } else { "http" };
        format!("{scheme}://{host}{}{mark}{query}", self.path)
    }
}

/// Lists of numbered pages, as Django REST framework writes them.
pub(crate) fn paged(call: &Call<'_>, page: Page, total: i64, results: Vec<Value>) -> Value {
    let more = i64::from(page.size) * i64::from(page.number) < total;
    json!({
        "count": total,
        "next": more.then(|| call.page_url(page.number + 1)),
        "previous": (page.number > 1).then(|| call.page_url(page.number - 1)),
        "results": results,
    })
}

/// An endpoint's answer or its protocol's words for a failure, with the headers that the status asks for.
pub(crate) fn respond<E: Into<(StatusCode, Value)>>(answer: Result<(StatusCode, Value), E>) -> Response {
    let (status, value) = answer.unwrap_or_else(Into::into);
    let mut response = warp::reply::json(&value).into_response().with(status);
    let headers = response.headers_mut();
    match status {
        StatusCode::UNAUTHORIZED => {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        StatusCode::SERVICE_UNAVAILABLE => {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        _ => {}
    }
    response
}

/// Says when to come back.
pub(crate) fn too_many(limited: Limited, mut response: Response) -> Response {
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(limited.retry_after_s));
    response
}

/// The status and the words for a service that refused or failed, where the endpoint has none of its own.
pub(crate) fn blame(status: &Status) -> (StatusCode, &str) {
    match status.code() {
        Code::NotFound => (StatusCode::NOT_FOUND, "Not found."),
        Code::InvalidArgument => (StatusCode::BAD_REQUEST, status.message()),
        Code::PermissionDenied => (StatusCode::FORBIDDEN, status.message()),
        Code::FailedPrecondition | Code::AlreadyExists => (StatusCode::CONFLICT, status.message()),
        Code::Unavailable | Code::ResourceExhausted | Code::DeadlineExceeded | Code::Unknown | Code::Cancelled => {
            (StatusCode::SERVICE_UNAVAILABLE, "Temporarily unavailable, try again")
        }
        code => {
            tracing::error!(?code, message = status.message(), "a REST call failed");
            (StatusCode::INTERNAL_SERVER_ERROR, "Internal error")
        }
    }
}

/// Why the chat service refused, for programs.
pub(crate) fn refusal(status: &Status) -> Option<RefusalReason> {
    RefusalReason::from_str_name(&format!("REFUSAL_REASON_{}", switchboard_chassis::error::reason(status)))
}

/// A numbered page of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Page {
    /// From 1.
    pub(crate) number: i32,
    pub(crate) size: i32,
}

impl Page {
    /// How many items lie before it; `None` beyond what can be counted.
    pub(crate) fn skip(self) -> Option<i32> {
        self.size.checked_mul(self.number - 1)
    }
}

/// A body's JSON object; an empty body is an empty one.
pub(crate) async fn object<B: Buf, E>(body: impl Stream<Item = Result<B, E>>) -> Result<Map<String, Value>, BadBody> {
    let mut body = std::pin::pin!(body);
    let mut bytes = Vec::new();
    while let Some(chunk) = body.next().await {
        // Whoever breaks off may have meant to say more.
        let mut chunk = chunk.map_err(|_| BadBody::NotAnObject)?;
        while chunk.has_remaining() {
            let part = chunk.chunk();
            if bytes.len() + part.len() > BODY_BYTES_MAX {
                return Err(BadBody::TooBig);
            }
            bytes.extend_from_slice(part);
            let taken = part.len();
            chunk.advance(taken);
        }
    }
    if bytes.is_empty() {
        return Ok(Map::new());
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| BadBody::NotAnObject)?;
    frame::object(text).map_err(|_| BadBody::NotAnObject)
}

/// A whole numbered page of a conversation's messages: the service ends a page early when its messages are long.
pub(crate) async fn messages(edge: &Edge, mut request: ListMessagesRequest) -> Result<(Vec<Message>, i64), Status> {
    let wanted = usize::try_from(request.page_size).unwrap_or(0);
    let mut messages = Vec::new();
    loop {
        let part = edge.chat.clone().list_messages(request.clone()).await?.into_inner();
        messages.extend(part.messages);
        if part.next_from_seq == 0 || messages.len() >= wanted {
            return Ok((messages, part.total_size));
        }
        request.from_seq = part.next_from_seq;
        request.skip = 0;
        request.page_size = i32::try_from(wanted - messages.len()).unwrap_or(0);
    }
}

/// The same of a user's conversations.
pub(crate) async fn conversations(
    edge: &Edge,
    mut request: ListConversationsRequest,
) -> Result<(Vec<ConversationSummary>, i64), Status> {
    let wanted = usize::try_from(request.page_size).unwrap_or(0);
    let mut summaries = Vec::new();
    loop {
        let part = edge.chat.clone().list_conversations(request.clone()).await?.into_inner();
        summaries.extend(part.summaries);
        if part.next_page_token.is_empty() || summaries.len() >= wanted {
            return Ok((summaries, part.total_size));
        }
        request.page_token = part.next_page_token;
        request.skip = 0;
        request.page_size = i32::try_from(wanted - summaries.len()).unwrap_or(0);
    }
}
