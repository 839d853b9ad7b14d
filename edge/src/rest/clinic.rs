//! clinic's REST: chats and their messages.

use bytes::Buf;
use futures_util::Stream;
use http::{Method, StatusCode};
use serde_json::{Map, Value, json};
use switchboard_proto::{
    chat::v1::{
        Conversation, ConversationKind, ConversationSummary, GetConversationRequest, ListConversationsRequest,
        ListMessagesRequest, Message, MessageStatus, OpenConversationRequest, Participant, Receipt, RefusalReason,
        SendMessageRequest, UpdateReceiptsRequest, get_conversation_request,
    },
    identity::v1::{BatchGetUsersRequest, GetUserRequest, ProfileKey, User, get_user_request::Key},
};
use tonic::{Code, Status};
use warp::reply::Response;

use super::{BadBody, Call, refusal, respond, too_many};
use crate::{
    dialect::{RATE_LIMITED, Viewer, clinic, iso},
    goodbye,
    handshake::has_both_profiles,
    routes::ClinicEndpoint,
};

const PAGE_SIZE: i32 = 64;
const PAGE_SIZE_MAX: i32 = 200;
/// The only code that the clinic's front end knows.
const ERROR_CODE: u32 = 100;

type Answer = Result<(StatusCode, Value), Failure>;

/// A status and what the client is told.
struct Failure(StatusCode, String);

/// Answers a call.
pub(crate) async fn answer<B: Buf, E>(
    call: Call<'_>,
    endpoint: ClinicEndpoint,
    body: impl Stream<Item = Result<B, E>>,
) -> Response {
    let user = match user(&call).await {
        Ok(user) => user,
        Err(failure) => return respond(Err(failure)),
    };
    match call.count(&user) {
        Ok(()) => respond(dispatch(&call, user, endpoint, body).await),
        Err(limited) => {
            let failure = Failure(StatusCode::TOO_MANY_REQUESTS, RATE_LIMITED.to_owned());
            too_many(limited, respond(Err(failure)))
        }
    }
}

async fn user(call: &Call<'_>) -> Result<User, Failure> {
    call.user().await.map_err(|goodbye| match goodbye {
        goodbye::UNAUTHENTICATED => {
            Failure(StatusCode::UNAUTHORIZED, "Authentication credentials were not provided or are invalid".to_owned())
        }
        other => Failure(other.status, other.reason.to_owned()),
    })
}

async fn dispatch<B: Buf, E>(
    call: &Call<'_>,
    user: User,
    endpoint: ClinicEndpoint,
    body: impl Stream<Item = Result<B, E>>,
) -> Answer {
    match (endpoint, &call.method) {
        (ClinicEndpoint::Chats, &Method::POST) => open(call, &user, call.object(body).await?).await,
        (ClinicEndpoint::Chats, &Method::GET) => list(call, &user).await,
        (ClinicEndpoint::Chat(id), &Method::GET) => {
            let summary = chat(call, &user, &id).await?;
            Ok((StatusCode::OK, shown(call, vec![summary]).await?.swap_remove(0)))
        }
        (ClinicEndpoint::Messages(id), &Method::GET) => messages(call, &user, &id).await,
        (ClinicEndpoint::SendMessage(id), &Method::POST) => send(call, &user, &id, call.object(body).await?).await,
        (ClinicEndpoint::MarkRead(id), &Method::POST) => mark_read(call, &user, &id).await,
        (_, method) => Err(Failure(StatusCode::METHOD_NOT_ALLOWED, format!("Method \"{method}\" not allowed."))),
    }
}

/// Gets or creates the chat of a patient and a professional, of whom the caller must be one.
async fn open(call: &Call<'_>, caller: &User, body: Map<String, Value>) -> Answer {
    let is = |role: &str| caller.roles.iter().any(|theirs| theirs == role) || caller.profiles.contains_key(role);
    let (patient, professional) = match (id(&body, "patient")?, id(&body, "professional")?) {
        (Some(patient), Some(professional)) => {
            (person(call, "patient", &patient).await?, person(call, "professional", &professional).await?)
        }
        (None, Some(professional)) if is("patient") => {
            (caller.clone(), person(call, "professional", &professional).await?)
        }
        (Some(patient), None) if is("professional") => (person(call, "patient", &patient).await?, caller.clone()),
        _ if is("patient") => return Err(bad("professional field is required for patients")),
        _ if is("professional") => return Err(bad("patient field is required for professionals")),
        _ => return Err(Failure(StatusCode::FORBIDDEN, "Only patients and professionals have chats".to_owned())),
    };
    if caller.id != patient.id && caller.id != professional.id {
        return Err(Failure(
            StatusCode::FORBIDDEN,
            "You must be the patient or the professional of the chat".to_owned(),
        ));
    }
    let seat = |user: &User, role: &str| Participant { user_id: user.id.clone(), role: role.to_owned() };
    let request = OpenConversationRequest {
        kind: ConversationKind::Clinic.into(),
        participants: vec![seat(&patient, "patient"), seat(&professional, "professional")],
        ..OpenConversationRequest::default()
    };
    let opened = call.edge.chat.clone().open_conversation(request).await?.into_inner();
    let status = if opened.created { StatusCode::CREATED } else { StatusCode::OK };
    let summary = chat(call, caller, &opened.conversation.unwrap_or_default().id).await?;
    Ok((status, shown(call, vec![summary]).await?.swap_remove(0)))
}

async fn list(call: &Call<'_>, user: &User) -> Answer {
    let (page, skip) = page(call)?;
    let request = ListConversationsRequest {
        user_id: user.id.clone(),
        kind: ConversationKind::Clinic.into(),
        page_size: page.size,
        skip,
        ..ListConversationsRequest::default()
    };
    let (summaries, total) = super::conversations(call.edge, request).await?;
    paged(call, page, total, shown(call, summaries).await?)
}

async fn messages(call: &Call<'_>, user: &User, id: &str) -> Answer {
    let (page, skip) = page(call)?;
    let chat = chat(call, user, id).await?;
    let request = ListMessagesRequest {
        conversation_id: chat.conversation.unwrap_or_default().id,
        user_id: user.id.clone(),
        page_size: page.size,
        skip,
        ..ListMessagesRequest::default()
    };
    let (messages, total) = super::messages(call.edge, request).await?;
    paged(call, page, total, messages.iter().map(message).collect())
}

async fn send(call: &Call<'_>, user: &User, id: &str, body: Map<String, Value>) -> Answer {
    let chat = chat(call, user, id).await?;
    let viewer = Viewer { user_id: user.id.clone(), has_both_profiles: has_both_profiles(user), ..Viewer::default() };
    let send = clinic::send(&body, &viewer).map_err(bad)?;
    let role = send.role.clone();
    let request = SendMessageRequest {
        conversation_id: chat.conversation.unwrap_or_default().id,
        user_id: user.id.clone(),
        send: Some(send),
    };
    match call.edge.chat.clone().send_message(request).await {
        Ok(sent) => Ok((StatusCode::CREATED, message(&sent.into_inner().message.unwrap_or_default()))),
        Err(status) => match refusal(&status) {
            Some(reason @ (RefusalReason::WrongRole | RefusalReason::EmptyContent)) => {
                Err(bad(clinic::refusal(reason, status.message(), &role)))
            }
            _ => Err(status.into()),
        },
    }
}

async fn mark_read(call: &Call<'_>, user: &User, id: &str) -> Answer {
    let chat = chat(call, user, id).await?;
    let request = UpdateReceiptsRequest {
        conversation_id: chat.conversation.unwrap_or_default().id,
        user_id: user.id.clone(),
        receipt: Some(Receipt { status: MessageStatus::Read.into(), all: true, ..Receipt::default() }),
        ..UpdateReceiptsRequest::default()
    };
    call.edge.chat.clone().update_receipts(request).await?;
    Ok((StatusCode::OK, json!({"status": "Messages marked as read"})))
}

/// A chat in which the user sits.
async fn chat(call: &Call<'_>, user: &User, id: &str) -> Result<ConversationSummary, Failure> {
    let request = GetConversationRequest {
        conversation: Some(get_conversation_request::Conversation::ConversationId(id.to_owned())),
        user_id: user.id.clone(),
    };
    let not_found = || Failure(StatusCode::NOT_FOUND, clinic::NOT_FOUND.to_owned());
    let found = call.edge.chat.clone().get_conversation(request).await?.into_inner();
    let summary = found.summary.ok_or_else(not_found)?;
    let conversation = summary.conversation.as_ref().ok_or_else(not_found)?;
    if conversation.kind() != ConversationKind::Clinic {
        return Err(not_found());
    }
    if !conversation.participants.iter().any(|seat| seat.user_id == user.id) {
        return Err(Failure(StatusCode::FORBIDDEN, "You do not have access to this chat".to_owned()));
    }
    Ok(summary)
}

/// The user that a client names by its id or by its profile's.
async fn person(call: &Call<'_>, role: &str, id: &str) -> Result<User, Failure> {
    let by_profile = Key::Profile(ProfileKey { role: role.to_owned(), profile_id: id.to_owned() });
    for key in [by_profile, Key::UserId(id.to_owned())] {
        match call.edge.identity.clone().get_user(GetUserRequest { key: Some(key) }).await {
            Ok(found) => {
                let user = found.into_inner().user.unwrap_or_default();
                if user.roles.iter().any(|theirs| theirs == role) || user.profiles.contains_key(role) {
                    return Ok(user);
                }
            }
            Err(status) if status.code() == Code::NotFound => {}
            Err(status) => return Err(status.into()),
        }
    }
    Err(bad(format!("Invalid {role} \"{id}\" - object does not exist.")))
}

/// An id of the body, as a string or a number.
fn id(body: &Map<String, Value>, field: &str) -> Result<Option<String>, Failure> {
    match body.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(id)) if id.is_empty() => Ok(None),
        Some(Value::String(id)) => Ok(Some(id.clone())),
        Some(Value::Number(id)) => Ok(Some(id.to_string())),
        Some(_) => Err(bad(format!("{field} must be an id"))),
    }
}

/// Chats as the client reads them, with one call for all of their people.
async fn shown(call: &Call<'_>, summaries: Vec<ConversationSummary>) -> Result<Vec<Value>, Failure> {
    let people = |summary: &ConversationSummary| summary.conversation.clone().unwrap_or_default().participants;
    let mut user_ids: Vec<String> = summaries.iter().flat_map(people).map(|seat| seat.user_id).collect();
    user_ids.sort();
    user_ids.dedup();
    let found = call.edge.identity.clone().batch_get_users(BatchGetUsersRequest { user_ids }).await?.into_inner();
    let detail = |conversation: &Conversation, role: &str| {
        let user_id = conversation.participants.iter().find(|seat| seat.role == role).map(|seat| seat.user_id.clone());
        let user_id = user_id.unwrap_or_default();
        let user = found.users.iter().find(|user| user.id == user_id).cloned().unwrap_or_default();
        let profile_id = user.profiles.get(role).cloned().unwrap_or_else(|| user_id.clone());
        json!({
            "id": profile_id,
            "user_id": user_id,
            "username": user.username,
            "full_name": user.full_name,
            "email": user.email,
        })
    };
    let chats = summaries.into_iter().map(|summary| {
        let conversation = summary.conversation.unwrap_or_default();
        let (patient, professional) = (detail(&conversation, "patient"), detail(&conversation, "professional"));
        json!({
            "id": conversation.id,
            "patient": patient["id"],
            "professional": professional["id"],
            "patient_detail": patient,
            "professional_detail": professional,
            "last_message": summary.last_message.as_ref().map(message),
            "unread_count": summary.unread_count,
            "created_at": iso(conversation.created_at),
            "updated_at": iso(conversation.updated_at),
        })
    });
    Ok(chats.collect())
}

fn message(message: &Message) -> Value {
    json!({
        "id": message.id,
        "content": message.content,
        "sender_type": clinic::sender_type(message),
        "is_read": message.status() == MessageStatus::Read,
        "created_at": iso(message.created_at),
    })
}

fn page(call: &Call<'_>) -> Result<(super::Page, i32), Failure> {
    let page = call.page(PAGE_SIZE, PAGE_SIZE_MAX).ok_or_else(no_page)?;
    Ok((page, page.skip().ok_or_else(no_page)?))
}

fn paged(call: &Call<'_>, page: super::Page, total: i64, results: Vec<Value>) -> Answer {
    if results.is_empty() && page.number > 1 {
        return Err(no_page());
    }
    Ok((StatusCode::OK, super::paged(call, page, total, results)))
}

fn bad(message: impl Into<String>) -> Failure {
    Failure(StatusCode::BAD_REQUEST, message.into())
}

fn no_page() -> Failure {
    Failure(StatusCode::NOT_FOUND, "Invalid page.".to_owned())
}

impl From<Failure> for (StatusCode, Value) {
    fn from(Failure(status, message): Failure) -> Self {
        (status, json!({"status_code": status.as_u16(), "errorCode": ERROR_CODE, "errorMsg": message}))
    }
}

impl From<BadBody> for Failure {
    fn from(wrong: BadBody) -> Self {
        match wrong {
            BadBody::TooBig => Self(StatusCode::PAYLOAD_TOO_LARGE, "Request body over 64 KiB".to_owned()),
            BadBody::NotAnObject => bad("Invalid JSON"),
            BadBody::TooSlow => Self(StatusCode::REQUEST_TIMEOUT, "The request body did not come in time".to_owned()),
        }
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        match super::blame(&status) {
            (StatusCode::NOT_FOUND, _) => Self(StatusCode::NOT_FOUND, clinic::NOT_FOUND.to_owned()),
            (status, message) => Self(status, message.to_owned()),
        }
    }
}
