//! mentoring's REST: conversations and messages, by session cookie or JWT.

use std::sync::Arc;

use bytes::Buf;
use futures_util::Stream;
use http::{
    Method, StatusCode,
    header::{ORIGIN, REFERER},
};
use serde_json::{Map, Value, json};
use switchboard_proto::{
    chat::v1::{
        Conversation, ConversationKind, ConversationNumber, ConversationSummary, GetConversationRequest,
        ListConversationsRequest, ListMessagesRequest, MessageStatus, Receipt, RefusalReason, Send, SendMessageRequest,
        UpdateReceiptsRequest, get_conversation_request,
    },
    identity::v1::User,
};
use tonic::Status;
use warp::reply::Response;

use super::{BadBody, Call, Page, refusal, respond, too_many};
use crate::{
    credential,
    dialect::{frame, iso, mentoring},
    goodbye::{self, Goodbye},
    handshake::{Turned, has_role},
    routes::MentoringEndpoint,
};

const PAGE_SIZE: i32 = 20;
const PAGE_SIZE_MAX: i32 = 1000;
const TEACHERS: [&str; 2] = ["teacher", "trainer"];
const NO_MENTOR: &str = "No mentor assigned. Conversation not available.";
const NOT_A_TEACHER: &str = "Only teachers or trainers can list their conversations.";

type Answer = Result<(StatusCode, Value), Failure>;

/// A status and its body.
struct Failure(StatusCode, Value);

/// Answers a call.
pub(crate) async fn answer<B: Buf, E>(
    call: Call<'_>,
    endpoint: MentoringEndpoint,
    body: impl Stream<Item = Result<B, E>>,
) -> Response {
    let user = match user(&call).await {
        Ok(user) => user,
        Err(failure) => return respond(Err(failure)),
    };
    match call.count(&user) {
        Ok(()) => respond(dispatch(&call, user, endpoint, body).await),
        Err(limited) => {
            let wait = format!("Request was throttled. Expected available in {} seconds.", limited.retry_after_s);
            let failure = Failure(StatusCode::TOO_MANY_REQUESTS, json!({ "detail": wait }));
            too_many(limited, respond(Err(failure)))
        }
    }
}

async fn dispatch<B: Buf, E>(
    call: &Call<'_>,
    user: User,
    endpoint: MentoringEndpoint,
    body: impl Stream<Item = Result<B, E>>,
) -> Answer {
    use MentoringEndpoint::{Conversations, MarkRead, Messages, MyConversation, MyMessages};
    match (endpoint, &call.method) {
        (MyConversation, &Method::GET) => {
            let id = mine(call, &user).await?.id;
            let summary = summary(call, &user, get_conversation_request::Conversation::ConversationId(id)).await?;
            Ok((StatusCode::OK, shown(call, &user, &[summary]).await?.swap_remove(0)))
        }
        (MyMessages, &Method::GET) => messages(call, &user, mine(call, &user).await?).await,
        (MyMessages, &Method::POST) => {
            let conversation = mine(call, &user).await?;
            send(call, &user, &conversation, &call.object(body).await?).await
        }
        (Conversations | Messages(_), _) if !is_teacher(&user) => Err(denied(NOT_A_TEACHER)),
        (Conversations, &Method::GET) => list(call, &user).await,
        (Messages(number), &Method::GET) => {
            messages(call, &user, by_number(call, &user, &number, &TEACHERS).await?).await
        }
        (Messages(number), &Method::POST) => {
            let conversation = by_number(call, &user, &number, &TEACHERS).await?;
            send(call, &user, &conversation, &call.object(body).await?).await
        }
        (MarkRead(number), &Method::POST) => {
            let marked =
                mark_read(call, &user, &by_number(call, &user, &number, &["student", "teacher", "trainer"]).await?)
                    .await?;
            Ok((StatusCode::OK, json!({ "detail": format!("{marked} messages marked as read.") })))
        }
        (_, method) => Err(Failure(
            StatusCode::METHOD_NOT_ALLOWED,
            json!({ "detail": format!("Method \"{method}\" not allowed.") }),
        )),
    }
}

/// The caller, by token or by cookie. A cookie comes along by itself, so what changes something must come from a page
/// that may use it.
async fn user(call: &Call<'_>) -> Result<User, Failure> {
    if let Some(shown) = credential::shown_token("", call.headers) {
        return Ok(call.edge.by_token(&shown.token).await?.user);
    }
    let visitor = call.edge.by_cookie(call.headers).await?;
    let visitor = visitor.ok_or_else(|| {
        Failure(StatusCode::UNAUTHORIZED, json!({ "detail": "Authentication credentials were not provided." }))
    })?;
    let from = call.headers.get(ORIGIN).or(call.headers.get(REFERER)).and_then(|from| from.to_str().ok());
    // A referer is an origin and a path.
    let origin = from.map(|from| from.splitn(4, '/').take(3).collect::<Vec<_>>().join("/"));
    let is_allowed =
        |origin: &String| credential::is_allowed_origin(origin, call.headers, &call.edge.config.allowed_origins);
    if call.method != Method::GET && !origin.as_ref().is_some_and(is_allowed) {
        return Err(denied("CSRF Failed: Origin or Referer is missing or not allowed."));
    }
    Ok(visitor.user)
}

async fn mine(call: &Call<'_>, user: &User) -> Result<Conversation, Failure> {
    call.edge.my_conversation(user).await.map_err(|goodbye| match goodbye {
        goodbye::NOT_FOUND => Failure(StatusCode::NOT_FOUND, json!({ "detail": NO_MENTOR })),
        goodbye::FORBIDDEN => denied("Only students have a conversation of their own."),
        other => other.into(),
    })
}

/// A conversation in which the user sits in one of these roles.
async fn by_number(call: &Call<'_>, user: &User, number: &str, roles: &[&str]) -> Result<Conversation, Failure> {
    let number = number.parse().map_err(|_| no_conversation())?;
    let number = ConversationNumber { kind: ConversationKind::Mentoring.into(), number };
    let found = summary(call, user, get_conversation_request::Conversation::ConversationNumber(number)).await?;
    let conversation = found.conversation.unwrap_or_default();
    let mut seats = conversation.participants.iter();
    if seats.any(|seat| seat.user_id == user.id && roles.contains(&seat.role.as_str())) {
        Ok(conversation)
    } else {
        Err(denied("You do not have permission to perform this action."))
    }
}

async fn summary(
    call: &Call<'_>,
    user: &User,
    conversation: get_conversation_request::Conversation,
) -> Result<ConversationSummary, Failure> {
    let request = GetConversationRequest { conversation: Some(conversation), user_id: user.id.clone() };
    let found = call.edge.chat.clone().get_conversation(request).await.map_err(|status| match refusal(&status) {
        Some(RefusalReason::ConversationNotFound) => no_conversation(),
        _ => status.into(),
    })?;
    found.into_inner().summary.ok_or_else(no_conversation)
}

async fn list(call: &Call<'_>, user: &User) -> Answer {
    let (page, skip) = page(call)?;
    let request = ListConversationsRequest {
        user_id: user.id.clone(),
        kind: ConversationKind::Mentoring.into(),
        page_size: page.size,
        skip,
        roles: TEACHERS.map(str::to_owned).to_vec(),
        ..ListConversationsRequest::default()
    };
    let (summaries, total) = super::conversations(call.edge, request).await?;
    paged(call, page, total, shown(call, user, &summaries).await?)
}

/// Who fetches has read.
async fn messages(call: &Call<'_>, user: &User, conversation: Conversation) -> Answer {
    let (page, skip) = page(call)?;
    mark_read(call, user, &conversation).await?;
    let request = ListMessagesRequest {
        conversation_id: conversation.id,
        user_id: user.id.clone(),
        page_size: page.size,
        skip,
        ..ListMessagesRequest::default()
    };
    let (messages, total) = super::messages(call.edge, request).await?;
    let senders: Vec<&str> = messages.iter().map(|message| message.sender_id.as_str()).collect();
    let people = call.edge.people.several(&senders).await?;
    let shown = messages.iter().zip(&people);
    let shown = shown.map(|(message, person)| json!(mentoring::shown(message, person, message.sender_id == user.id)));
    paged(call, page, total, shown.collect())
}

async fn send(call: &Call<'_>, user: &User, conversation: &Conversation, body: &Map<String, Value>) -> Answer {
    let bad = |message: &str| Failure(StatusCode::BAD_REQUEST, json!({ "content": [message] }));
    let content = match body.get("content") {
        None => return Err(bad("This field is required.")),
        Some(Value::Null) => return Err(bad("This field may not be null.")),
        Some(Value::String(content)) if content.trim().is_empty() => return Err(bad("This field may not be blank.")),
        Some(Value::String(content)) => content.clone(),
        Some(_) => return Err(bad("Not a valid string.")),
    };
    let client_message_id = frame::client_message_id(body).map_err(bad)?;
    let request = SendMessageRequest {
        conversation_id: conversation.id.clone(),
        user_id: user.id.clone(),
        send: Some(Send { content, client_message_id, ..Send::default() }),
    };
    let message = call.edge.chat.clone().send_message(request).await?.into_inner().message.unwrap_or_default();
    Ok((StatusCode::CREATED, json!(mentoring::shown(&message, user, true))))
}

async fn mark_read(call: &Call<'_>, user: &User, conversation: &Conversation) -> Result<i64, Failure> {
    let request = UpdateReceiptsRequest {
        conversation_id: conversation.id.clone(),
        user_id: user.id.clone(),
        receipt: Some(Receipt { status: MessageStatus::Read.into(), all: true, ..Receipt::default() }),
        ..UpdateReceiptsRequest::default()
    };
    Ok(call.edge.chat.clone().update_receipts(request).await?.into_inner().changed)
}

/// Conversations as clients read them, with one call for all of their people.
async fn shown(call: &Call<'_>, user: &User, summaries: &[ConversationSummary]) -> Result<Vec<Value>, Failure> {
    let seats = summaries.iter().flat_map(|summary| &summary.conversation).flat_map(|found| &found.participants);
    let ids: Vec<&str> = seats.map(|seat| seat.user_id.as_str()).collect();
    let people = call.edge.people.several(&ids).await?;
    let person = |id: &str| people.iter().find(|person| person.id == id).cloned().unwrap_or_else(Arc::default);
    let conversations = summaries.iter().map(|summary| {
        let conversation = summary.conversation.clone().unwrap_or_default();
        let profile = |roles: &[&str]| {
            let seat = conversation.participants.iter().find(|seat| roles.contains(&seat.role.as_str()));
            seat.map(|seat| json!(mentoring::profile(&person(&seat.user_id), &seat.role)))
        };
        let last_message = summary.last_message.as_ref();
        json!({
            "id": conversation.number,
            "student_profile": profile(&["student"]),
            "teacher_profile": profile(&TEACHERS),
            "created_at": iso(conversation.created_at),
            "updated_at": iso(conversation.updated_at),
            "last_message": last_message.map(|last| json!(mentoring::shown(last, &person(&last.sender_id), last.sender_id == user.id))),
            "unread_message_count_for_user": summary.unread_count,
        })
    });
    Ok(conversations.collect())
}

fn is_teacher(user: &User) -> bool {
    TEACHERS.iter().any(|role| has_role(user, role))
}

fn page(call: &Call<'_>) -> Result<(Page, i32), Failure> {
    let page = call.page(PAGE_SIZE, PAGE_SIZE_MAX).ok_or_else(no_page)?;
    Ok((page, page.skip().ok_or_else(no_page)?))
}

fn paged(call: &Call<'_>, page: Page, total: i64, results: Vec<Value>) -> Answer {
    if results.is_empty() && page.number > 1 {
        return Err(no_page());
    }
    Ok((StatusCode::OK, super::paged(call, page, total, results)))
}

fn no_page() -> Failure {
    Failure(StatusCode::NOT_FOUND, json!({ "detail": "Invalid page." }))
}

fn no_conversation() -> Failure {
    Failure(StatusCode::NOT_FOUND, json!({ "detail": "No Conversation matches the given query." }))
}

fn denied(detail: &str) -> Failure {
    Failure(StatusCode::FORBIDDEN, json!({ "detail": detail }))
}

impl From<Failure> for (StatusCode, Value) {
    fn from(Failure(status, value): Failure) -> Self {
        (status, value)
    }
}

impl From<BadBody> for Failure {
    fn from(bad: BadBody) -> Self {
        match bad {
            BadBody::TooBig => Self(StatusCode::PAYLOAD_TOO_LARGE, json!({ "detail": "Request body over 64 KiB." })),
            BadBody::NotAnObject => Self(StatusCode::BAD_REQUEST, json!({ "detail": "JSON parse error" })),
            BadBody::TooSlow => {
                Self(StatusCode::REQUEST_TIMEOUT, json!({ "detail": "The request body did not come in time." }))
            }
        }
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        let (status, message) = super::blame(&status);
        Self(status, json!({ "detail": message }))
    }
}

impl From<Goodbye> for Failure {
    fn from(goodbye: Goodbye) -> Self {
        let detail = match goodbye {
            goodbye::UNAUTHENTICATED => "Invalid token or session.",
            other => other.reason,
        };
        Self(goodbye.status, json!({ "detail": detail }))
    }
}

impl From<Turned> for Failure {
    fn from(turned: Turned) -> Self {
        if turned.is_foreign { denied("CSRF Failed: Origin is not allowed.") } else { turned.goodbye.into() }
    }
}
