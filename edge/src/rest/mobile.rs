//! mobile's REST: a device's conversations. The device_id is the only credential.

use std::sync::Arc;

use bytes::Buf;
use futures_util::Stream;
use http::{Method, StatusCode};
use serde_json::{Map, Value, json};
use switchboard_proto::{
    chat::v1::{
        ConversationKind, ConversationNumber, ConversationStatus, ConversationSummary, GetConversationRequest,
        ListConversationsRequest, ListMessagesRequest, OpenConversationRequest, Participant, RefusalReason,
        SendMessageRequest, get_conversation_request,
    },
    identity::v1::{RegisterDeviceRequest, User},
};
use tonic::Status;
use uuid::Uuid;
use warp::reply::Response;

use super::{BadBody, Call, refusal, respond};
use crate::{
    credential,
    dialect::{iso, mobile},
    goodbye::Goodbye,
    routes::MobileEndpoint,
};

const PAGE_SIZE: i32 = 50;
const PAGE_SIZE_MAX: i32 = 200;
/// The most conversations of a device's list.
const CONVERSATIONS_MAX: i32 = 1000;
/// The namespace of the ids of conversations that devices start (RFC 9562, version 5).
const STARTED: Uuid = Uuid::from_u128(0x6f0b_4f0e_6e43_4a8f_9d5c_0f6a_52d1_77a1);
const PREVIEW_CHARS: usize = 100;

type Answer = Result<(StatusCode, Value), Failure>;

/// A status and its body.
struct Failure(StatusCode, Value);

/// Answers a call.
pub(crate) async fn answer<B: Buf, E>(
    call: Call<'_>,
    endpoint: MobileEndpoint,
    body: impl Stream<Item = Result<B, E>>,
) -> Response {
    respond(dispatch(&call, endpoint, body).await)
}

async fn dispatch<B: Buf, E>(
    call: &Call<'_>,
    endpoint: MobileEndpoint,
    body: impl Stream<Item = Result<B, E>>,
) -> Answer {
    let body = call.object(body).await?;
    let given = match body.get("device_id") {
        Some(Value::String(device_id)) => Some(device_id.clone()),
        _ => credential::parameter(call.query, "device_id"),
    };
    let device_id = given.filter(|device_id| !device_id.trim().is_empty());
    let device_id = device_id.ok_or_else(|| wrong("device_id parameter is required for mobile users"))?;
    match (endpoint, &call.method) {
        (MobileEndpoint::CreateSession, &Method::POST) => create_session(call, device_id).await,
        (MobileEndpoint::Start, &Method::POST) => start(call, &device_id, &body).await,
        (MobileEndpoint::List, &Method::GET) => list(call, &device_id).await,
        (MobileEndpoint::Detail(number), &Method::GET) => detail(call, &device_id, &number).await,
        (MobileEndpoint::SendMessage(number), &Method::POST) => send(call, &device_id, &number, &body).await,
        (_, method) => {
            let detail = format!("Method \"{method}\" not allowed.");
            Err(Failure(StatusCode::METHOD_NOT_ALLOWED, json!({ "detail": detail })))
        }
    }
}

async fn create_session(call: &Call<'_>, device_id: String) -> Answer {
    // A device that was made inactive does not make itself active.
    let request = RegisterDeviceRequest { device_id, keep_inactive: true, ..RegisterDeviceRequest::default() };
    let done = call.edge.identity.clone().register_device(request).await?.into_inner();
    let device = done.device.unwrap_or_default();
    let status = if done.created { StatusCode::CREATED } else { StatusCode::OK };
    let created_at = iso(device.created_at);
    Ok((status, json!({ "device_id": device.device_id, "is_active": device.active, "created_at": created_at })))
}

/// The device's open conversation, or a new one.
async fn start(call: &Call<'_>, device_id: &str, body: &Map<String, Value>) -> Answer {
    check_device(call, device_id).await?;
    let subject = match body.get("subject") {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(subject)) => subject.clone(),
        Some(_) => return Err(Failure(StatusCode::BAD_REQUEST, json!({ "subject": ["Not a valid string."] }))),
    };
    let (mut latest, total) = conversations(call, device_id, 1).await?;
    if let Some(summary) = latest.pop().filter(|summary| !is_closed(summary)) {
        return Ok((StatusCode::OK, listed(&summary)));
    }
    // The id says which of the device's conversations it is, so that two starts at once are one conversation.
    let id = Uuid::new_v5(&STARTED, format!("{total}:{device_id}").as_bytes());
    let request = OpenConversationRequest {
        kind: ConversationKind::Mobile.into(),
        participants: vec![Participant { user_id: device_id.to_owned(), role: "device".to_owned() }],
        subject,
        id: id.to_string(),
        ..OpenConversationRequest::default()
    };
    let opened = call.edge.chat.clone().open_conversation(request).await?.into_inner();
    let status = if opened.created { StatusCode::CREATED } else { StatusCode::OK };
    let conversation = opened.conversation;
    Ok((status, listed(&ConversationSummary { conversation, ..ConversationSummary::default() })))
}

async fn list(call: &Call<'_>, device_id: &str) -> Answer {
    check_device(call, device_id).await?;
    let (found, _) = conversations(call, device_id, CONVERSATIONS_MAX).await?;
    Ok((StatusCode::OK, Value::Array(found.iter().map(listed).collect())))
}

async fn detail(call: &Call<'_>, device_id: &str, number: &str) -> Answer {
    let summary = conversation(call, device_id, number).await?;
    let parameter = |name: &str, default: i32| match credential::parameter(call.query, name) {
        None => Ok(default),
        Some(text) => match text.parse::<i32>() {
            Ok(number) if number >= 0 => Ok(number),
            _ => Err(Failure(StatusCode::BAD_REQUEST, json!({ name: ["A valid integer is required."] }))),
        },
    };
    let request = ListMessagesRequest {
        conversation_id: summary.conversation.clone().unwrap_or_default().id,
        user_id: device_id.to_owned(),
        page_size: parameter("limit", PAGE_SIZE)?.clamp(1, PAGE_SIZE_MAX),
        skip: parameter("offset", 0)?,
        newest_first: true,
        ..ListMessagesRequest::default()
    };
    let (messages, _) = super::messages(call.edge, request).await?;
    let staff = messages.iter().filter(|message| message.sender_role != "device");
    let staff: Vec<&str> = staff.map(|message| message.sender_id.as_str()).collect();
    let people = call.edge.people.several(&staff).await?;
    let nobody = Arc::new(User::default());
    let person = |id: &str| people.iter().find(|person| person.id == id).unwrap_or(&nobody);
    let shown = messages.iter().map(|message| json!(mobile::shown(message, person(&message.sender_id), true)));
    let mut value = listed(&summary);
    value["messages"] = Value::Array(shown.collect());
    Ok((StatusCode::OK, value))
}

async fn send(call: &Call<'_>, device_id: &str, number: &str, body: &Map<String, Value>) -> Answer {
    let summary = conversation(call, device_id, number).await?;
    let request = SendMessageRequest {
        conversation_id: summary.conversation.unwrap_or_default().id,
        user_id: device_id.to_owned(),
        send: Some(mobile::send(body).map_err(|error| wrong(&error))?),
    };
    let sent = call.edge.chat.clone().send_message(request).await;
    let sent = sent.map_err(|status| match refusal(&status) {
        Some(RefusalReason::ConversationClosed) => wrong(mobile::CLOSED),
        Some(RefusalReason::EmptyContent) => wrong(mobile::EMPTY),
        _ => status.into(),
    })?;
    let message = sent.into_inner().message.unwrap_or_default();
    Ok((StatusCode::CREATED, json!(mobile::shown(&message, &User::default(), true))))
}

async fn check_device(call: &Call<'_>, device_id: &str) -> Result<(), Failure> {
    if call.edge.is_device(device_id).await? {
        return Ok(());
    }
    Err(Failure(StatusCode::BAD_REQUEST, json!({ "device_id": ["Invalid or inactive device ID"] })))
}

/// A conversation of the device.
async fn conversation(call: &Call<'_>, device_id: &str, number: &str) -> Result<ConversationSummary, Failure> {
    let denied = || Failure(StatusCode::FORBIDDEN, json!({ "error": "Access denied to this conversation" }));
    let not_found = || Failure(StatusCode::NOT_FOUND, json!({ "detail": "No Conversation matches the given query." }));
    if !call.edge.is_device(device_id).await? {
        return Err(denied());
    }
    let number = number.parse().map_err(|_| not_found())?;
    let number = ConversationNumber { kind: ConversationKind::Mobile.into(), number };
    let request = GetConversationRequest {
        conversation: Some(get_conversation_request::Conversation::ConversationNumber(number)),
        user_id: device_id.to_owned(),
    };
    let found = call.edge.chat.clone().get_conversation(request).await.map_err(|status| match refusal(&status) {
        Some(RefusalReason::ConversationNotFound) => not_found(),
        _ => status.into(),
    })?;
    let summary = found.into_inner().summary.ok_or_else(not_found)?;
    let sits = summary.conversation.iter().flat_map(|conversation| &conversation.participants);
    if sits.clone().any(|seat| seat.role == "device" && seat.user_id == device_id) {
        Ok(summary)
    } else {
        Err(denied())
    }
}

async fn conversations(call: &Call<'_>, device_id: &str, max: i32) -> Result<(Vec<ConversationSummary>, i64), Failure> {
    let request = ListConversationsRequest {
        user_id: device_id.to_owned(),
        kind: ConversationKind::Mobile.into(),
        page_size: max,
        open_first: true,
        roles: vec!["device".to_owned()],
        ..ListConversationsRequest::default()
    };
    Ok(super::conversations(call.edge, request).await?)
}

fn is_closed(summary: &ConversationSummary) -> bool {
    summary.conversation.as_ref().is_some_and(|conversation| conversation.status() == ConversationStatus::Closed)
}

fn listed(summary: &ConversationSummary) -> Value {
    let conversation = summary.conversation.clone().unwrap_or_default();
    let preview = |content: &str| content.chars().take(PREVIEW_CHARS).collect::<String>();
    json!({
        "conversation_id": conversation.number,
        "status": if is_closed(summary) { "closed" } else { "open" },
        "subject": conversation.subject,
        "last_message_preview": summary.last_message.as_ref().map_or(String::new(), |message| preview(&message.content)),
        "unread_count": summary.unread_count,
        "created_at": iso(conversation.created_at),
        "last_message_at": summary.last_message.as_ref().map(|message| iso(message.created_at)),
    })
}

fn wrong(error: &str) -> Failure {
    Failure(StatusCode::BAD_REQUEST, json!({ "error": error }))
}

impl From<Failure> for (StatusCode, Value) {
    fn from(Failure(status, value): Failure) -> Self {
        (status, value)
    }
}

impl From<BadBody> for Failure {
    fn from(bad: BadBody) -> Self {
        match bad {
            BadBody::TooBig => Self(StatusCode::PAYLOAD_TOO_LARGE, json!({ "error": "Request body over 64 KiB" })),
            BadBody::NotAnObject => wrong("Invalid JSON format"),
            BadBody::TooSlow => {
                Self(StatusCode::REQUEST_TIMEOUT, json!({ "error": "The request body did not come in time" }))
            }
        }
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        let (status, message) = super::blame(&status);
        Self(status, json!({ "error": message }))
    }
}

impl From<Goodbye> for Failure {
    fn from(goodbye: Goodbye) -> Self {
        Self(goodbye.status, json!({ "error": goodbye.reason }))
    }
}
