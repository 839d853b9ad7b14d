//! From a visitor's credential to a seat, or the documented goodbye.

use http::{
    HeaderMap, HeaderValue,
    header::{AUTHORIZATION, SEC_WEBSOCKET_PROTOCOL},
};
use switchboard_chassis::clock;
use switchboard_proto::{
    chat::v1::{
        ConversationKind, Join, Joined, OpenConversationRequest, Participant, RefusalReason, converse_request::Action,
        converse_response::Event, join,
    },
    identity::v1::{
        AuthenticateRequest, BatchGetUsersRequest, Principal, User, authenticate_request::Credential,
        principal::Subject,
    },
};
use tokio::time::{Duration, Instant, timeout};
use tokio_tungstenite::tungstenite::Utf8Bytes;
use tonic::{Code, Status};

use crate::{
    Edge,
    dialect::{self, Dialect, Viewer},
    goodbye::{self, Goodbye},
    link::Delivery,
    routes::Target,
    session::Admission,
};

/// How long a visitor waits for a link that is down.
const LINK_WAIT: Duration = Duration::from_secs(3);
/// How long a visitor waits for the answer to its join.
const JOIN_WAIT: Duration = Duration::from_secs(10);

/// Why a visitor was not let in.
#[derive(Debug)]
pub(crate) struct Turned {
    pub(crate) goodbye: Goodbye,
    /// What is said before it.
    pub(crate) last_words: Option<Utf8Bytes>,
}

impl From<Goodbye> for Turned {
    fn from(goodbye: Goodbye) -> Self {
        Self { goodbye, last_words: None }
    }
}

/// A JWT that was shown, and the subprotocol to select if it came as one.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ShownToken {
    pub(crate) token: String,
    pub(crate) subprotocol: Option<HeaderValue>,
}

/// The token of a request: `?token=`, else `Authorization: Bearer`, else the subprotocols `bearer, <token>`. A bad one
/// does not fall back to the next.
pub(crate) fn shown_token(query: &str, headers: &HeaderMap) -> Option<ShownToken> {
    let plain = |token: String| Some(ShownToken { token, subprotocol: None });
    if let Some(token) = parameter(query, "token") {
        return plain(token);
    }
    if let Some(bearer) = headers.get(AUTHORIZATION) {
        let (scheme, token) = bearer.to_str().ok()?.split_once(' ')?;
        return if scheme.eq_ignore_ascii_case("bearer") { plain(token.trim().to_owned()) } else { None };
    }
    let mut offered = headers
        .get_all(SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim);
    offered.find(|protocol| *protocol == "bearer")?;
    let token = offered.next()?.to_owned();
    Some(ShownToken { token, subprotocol: Some(HeaderValue::from_static("bearer")) })
}

/// A parameter of a query string.
pub(crate) fn parameter(query: &str, name: &str) -> Option<String> {
    form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

impl Edge {
    /// Lets a visitor in.
    pub(crate) async fn admit(&self, target: &Target, query: &str, token: Option<&str>) -> Result<Admission, Turned> {
        if self.lifecycle.is_draining() {
            return Err(goodbye::RESTARTING.into());
        }
        let (user, expires_at) = self.authenticate(token).await?;
        let after = parameter(query, "after").filter(|after| !after.is_empty());
        let mut admission = match target {
            Target::Incomplete => return Err(goodbye::MALFORMED.into()),
            Target::Therapy { customer_id, therapist_id } => {
                self.admit_to_therapy(&user, customer_id, therapist_id).await?
            }
            Target::Conversation(id) => {
                self.join(by_id(&id.to_string(), &user.id, ""), &user, dialect::of_uuid).await?
            }
        };
        admission.after = after;
        admission.expires_at = expires_at;
        Ok(admission)
    }

    /// The user that a token stands for, and when it ends.
    pub(crate) async fn authenticate(&self, token: Option<&str>) -> Result<(User, Option<Instant>), Goodbye> {
        let token = token.ok_or(goodbye::UNAUTHENTICATED)?.to_owned();
        let request = AuthenticateRequest { credential: Some(Credential::Token(token)) };
        match self.identity.clone().authenticate(request).await {
            Ok(response) => match response.into_inner().principal {
                Some(Principal { subject: Some(Subject::User(user)), expires_at }) => {
                    let expires_at = expires_at
                        .map(|at| Instant::now() + clock::until(self.clock.now(), clock::join(at.seconds, at.nanos)));
                    Ok((user, expires_at))
                }
                _ => Err(goodbye::UNAUTHENTICATED),
            },
            Err(status) if status.code() == Code::Unauthenticated && !is_ours(&status) => Err(goodbye::UNAUTHENTICATED),
            Err(status) => Err(failed(&status)),
        }
    }

    async fn admit_to_therapy(&self, user: &User, customer_id: &str, therapist_id: &str) -> Result<Admission, Turned> {
        let is = |role: &str| user.roles.iter().any(|theirs| theirs == role);
        let role = if user.id == customer_id && is("customer") {
            "customer"
        } else if user.id == therapist_id && is("therapist") {
            "therapist"
        } else if is("staff") {
            "staff"
        } else {
            return Err(goodbye::FORBIDDEN.into());
        };
        let request = BatchGetUsersRequest { user_ids: vec![customer_id.to_owned(), therapist_id.to_owned()] };
        let found =
            self.identity.clone().batch_get_users(request).await.map_err(|status| failed(&status))?.into_inner();
        let exists = |id: &str, role: &str| {
            found.users.iter().any(|user| user.id == id && user.roles.iter().any(|theirs| theirs == role))
        };
        if !exists(customer_id, "customer") || !exists(therapist_id, "therapist") {
            return Err(goodbye::FORBIDDEN.into());
        }
        let seat = |user_id: &str, role: &str| Participant { user_id: user_id.to_owned(), role: role.to_owned() };
        let request = OpenConversationRequest {
            kind: ConversationKind::Therapy.into(),
            participants: vec![seat(customer_id, "customer"), seat(therapist_id, "therapist")],
            ..OpenConversationRequest::default()
        };
        let opened = self.chat.clone().open_conversation(request).await.map_err(|status| failed(&status))?;
        let id = opened.into_inner().conversation.unwrap_or_default().id;
        self.join(by_id(&id, &user.id, role), user, |_| Some(dialect::THERAPY)).await
    }

    async fn join(
        &self,
        join: Join,
        user: &User,
        dialect: impl Fn(ConversationKind) -> Option<&'static dyn Dialect>,
    ) -> Result<Admission, Turned> {
        const REQUEST: u64 = u64::MAX;
        let not_found = || Turned { goodbye: goodbye::NOT_FOUND, last_words: dialect::CLINIC.last_words() };
        timeout(LINK_WAIT, self.link.up()).await.map_err(|_| goodbye::OVERLOADED)?;
        let (handle, mut inbox) = self.link.session();
        handle.ask(REQUEST, Action::Join(join.clone())).map_err(|_| goodbye::OVERLOADED)?;
        let Ok(first) = timeout(JOIN_WAIT, inbox.recv()).await else { return Err(goodbye::OVERLOADED.into()) };
        let Some(Delivery::Event(told)) = first else { return Err(goodbye::OVERLOADED.into()) };
        match &told.event {
            Event::Joined(Joined { conversation: Some(conversation), .. }) => {
                let dialect = dialect(conversation.kind()).ok_or_else(not_found)?;
                Ok(Admission {
                    dialect,
                    viewer: Viewer { user_id: user.id.clone(), has_both_profiles: has_both_profiles(user) },
                    join,
                    conversation_id: conversation.id.clone(),
                    handle,
                    inbox,
                    chat: self.chat.clone(),
                    last_seq: conversation.last_seq,
                    after: None,
                    expires_at: None,
                    clock: self.clock.clone(),
                })
            }
            Event::Refused(refused) => Err(match refused.reason() {
                RefusalReason::ConversationNotFound => not_found(),
                RefusalReason::NotAParticipant | RefusalReason::WrongRole => goodbye::FORBIDDEN.into(),
                RefusalReason::Overloaded | RefusalReason::Unavailable => goodbye::OVERLOADED.into(),
                _ => goodbye::INTERNAL.into(),
            }),
            _ => Err(goodbye::INTERNAL.into()),
        }
    }
}

/// Whether a user is both a patient and a professional.
pub(crate) fn has_both_profiles(user: &User) -> bool {
    ["patient", "professional"]
        .iter()
        .all(|role| user.roles.iter().any(|theirs| theirs == role) || user.profiles.contains_key(*role))
}

fn by_id(id: &str, user_id: &str, role: &str) -> Join {
    Join {
        conversation: Some(join::Conversation::ConversationId(id.to_owned())),
        user_id: user_id.to_owned(),
        role: role.to_owned(),
    }
}

/// Whether it is this edge that was not authenticated, and not its visitor.
fn is_ours(status: &Status) -> bool {
    switchboard_chassis::error::reason(status) == "SERVICE_TOKEN_REQUIRED"
}

/// A service did not do what it should.
fn failed(status: &Status) -> Goodbye {
    tracing::error!(code = ?status.code(), message = status.message(), "a handshake failed");
    match status.code() {
        Code::Unavailable | Code::ResourceExhausted | Code::DeadlineExceeded | Code::Unknown | Code::Cancelled => {
            goodbye::OVERLOADED
        }
        _ => goodbye::INTERNAL,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(query: &str, headers: &[(&'static str, &'static str)]) -> Option<String> {
        let headers = headers
            .iter()
            .map(|(name, value)| (name.parse().expect("a name"), HeaderValue::from_static(value)))
            .collect();
        shown_token(query, &headers).map(|shown| shown.token)
    }

    #[test]
    fn where_a_token_may_be() {
        let bearer = ("authorization", "Bearer B");
        let subprotocol = ("sec-websocket-protocol", "chat, bearer, C");
        assert_eq!(token("a=1&token=A", &[bearer, subprotocol]).as_deref(), Some("A"));
        assert_eq!(token("", &[bearer, subprotocol]).as_deref(), Some("B"));
        assert_eq!(token("", &[subprotocol]).as_deref(), Some("C"));
        assert_eq!(token("token=", &[bearer]).as_deref(), Some(""), "a bad one does not fall back");
        assert_eq!(token("", &[("authorization", "Basic B"), subprotocol]), None);
        assert_eq!(token("", &[("sec-websocket-protocol", "bearer")]), None);
        assert_eq!(token("", &[]), None);
    }
}
