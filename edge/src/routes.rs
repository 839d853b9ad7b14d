//! Every URL of the edge, on one page. Each answers under `/api/v1`, too, and with or without the trailing slash.

use uuid::Uuid;

use crate::playground::File;

/// What a URL names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// A WebSocket.
    Socket(Target),
    /// An endpoint of clinic's REST.
    Clinic(ClinicEndpoint),
    /// An endpoint of mobile's REST.
    Mobile(MobileEndpoint),
    /// An endpoint of mentoring's REST.
    Mentoring(MentoringEndpoint),
    /// `/healthz`: the process runs.
    Live,
    /// `/readyz`: it can serve.
    Ready,
    /// `/` and what belongs to it: the playground, where it is switched on.
    Playground(File),
}

/// What a socket wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// therapy: `/ws/chat/{customer_id}/{therapist_id}/`.
    Therapy { customer_id: String, therapist_id: String },
    /// clinic and consultation: `/ws/chat/{id}/`, with a UUID in any spelling; the conversation's kind decides.
    Conversation(Uuid),
    /// therapy: `/ws/location/{customer_id}/{therapist_id}/`.
    Location { customer_id: String, therapist_id: String },
    /// consultation: `/ws/notifications/`.
    Notifications,
    /// consultation: `/ws/presence/`.
    Presence,
    /// A number alone: support staff mean a mobile conversation by it; for anyone else the therapist_id is missing.
    Number(i64),
    /// therapy: an id is missing.
    Incomplete,
    /// mobile: `/ws/mobile/chat/{conversation_id}/`.
    Mobile(String),
    /// mentoring, a student's: `/ws/chat/my-conversation/`.
    MyConversation,
    /// mentoring, a teacher's: `/ws/chat/conversations/{id}/`.
    Mentoring(String),
}

impl Target {
    /// The conversation or the pair that it names, for logs: nothing that may be anything else.
    pub(crate) fn conversation(&self) -> Option<String> {
        let number = |text: &str| text.parse::<i64>().ok().map(|number| number.to_string());
        match self {
            Self::Conversation(id) => Some(id.to_string()),
            Self::Number(id) => Some(id.to_string()),
            Self::Mobile(id) | Self::Mentoring(id) => number(id),
            Self::Therapy { customer_id, therapist_id } | Self::Location { customer_id, therapist_id } => {
                Some(format!("{customer_id}/{therapist_id}"))
            }
            Self::Notifications | Self::Presence | Self::Incomplete | Self::MyConversation => None,
        }
    }
}

/// clinic's REST.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ClinicEndpoint {
    /// `/chat/chats/`
    Chats,
    /// `/chat/chats/{id}/`
    Chat(String),
    /// `/chat/chats/{id}/messages/`
    Messages(String),
    /// `/chat/chats/{id}/send_message/`
    SendMessage(String),
    /// `/chat/chats/{id}/mark_read/`
    MarkRead(String),
}

/// mobile's REST.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum MobileEndpoint {
    /// `/mobile/sessions/create/`
    CreateSession,
    /// `/mobile/chat/start/`
    Start,
    /// `/mobile/chat/list/`
    List,
    /// `/mobile/chat/{id}/detail/`
    Detail(String),
    /// `/mobile/chat/{id}/send-message/`
    SendMessage(String),
}

/// mentoring's REST.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum MentoringEndpoint {
    /// `/chat/my-conversation/`
    MyConversation,
    /// `/chat/my-conversation/messages/`
    MyMessages,
    /// `/chat/teacher/conversations/`
    Conversations,
    /// `/chat/teacher/conversations/{id}/messages/`
    Messages(String),
    /// `/chat/conversations/{id}/mark-read/`
    MarkRead(String),
}

/// Finds a URL's path; `None` is 404.
pub(crate) fn find(path: &str) -> Option<Route> {
    let mut segments = Vec::with_capacity(8);
    for segment in path.strip_prefix('/')?.split('/') {
        segments.push(percent_encoding::percent_decode_str(segment).decode_utf8().ok()?);
    }
    // The trailing slash.
    if segments.len() > 1 && segments.last().is_some_and(|last| last.is_empty()) {
        segments.pop();
    }
    let segments: Vec<&str> = segments.iter().map(AsRef::as_ref).collect();
    let segments = segments.strip_prefix(&["api", "v1"]).unwrap_or(&segments);
    let route = match segments {
        ["ws", "mobile", "chat", id] => Route::Socket(Target::Mobile((*id).to_owned())),
        ["ws", "chat", "my-conversation"] => Route::Socket(Target::MyConversation),
        ["ws", "chat", "conversations", id] => Route::Socket(Target::Mentoring((*id).to_owned())),
        ["ws", "chat", customer_id, therapist_id] if !customer_id.is_empty() && !therapist_id.is_empty() => {
            Route::Socket(Target::Therapy {
                customer_id: (*customer_id).to_owned(),
                therapist_id: (*therapist_id).to_owned(),
            })
        }
        ["ws", "chat", id] => Route::Socket(match (id.parse(), Uuid::try_parse(id)) {
            (Ok(number), _) => Target::Number(number),
            (_, Ok(id)) => Target::Conversation(id),
            _ => Target::Incomplete,
        }),
        ["ws", "chat", _, _] => Route::Socket(Target::Incomplete),

        ["ws", "location", customer_id, therapist_id] if !customer_id.is_empty() && !therapist_id.is_empty() => {
            Route::Socket(Target::Location {
                customer_id: (*customer_id).to_owned(),
                therapist_id: (*therapist_id).to_owned(),
            })
        }
        ["ws", "location", _] | ["ws", "location", _, _] => Route::Socket(Target::Incomplete),
        ["ws", "notifications"] => Route::Socket(Target::Notifications),
        ["ws", "presence"] => Route::Socket(Target::Presence),

        ["mobile", "sessions", "create"] => Route::Mobile(MobileEndpoint::CreateSession),
        ["mobile", "chat", "start"] => Route::Mobile(MobileEndpoint::Start),
        ["mobile", "chat", "list"] => Route::Mobile(MobileEndpoint::List),
        ["mobile", "chat", id, "detail"] => Route::Mobile(MobileEndpoint::Detail((*id).to_owned())),
        ["mobile", "chat", id, "send-message"] => Route::Mobile(MobileEndpoint::SendMessage((*id).to_owned())),

        ["chat", "my-conversation"] => Route::Mentoring(MentoringEndpoint::MyConversation),
        ["chat", "my-conversation", "messages"] => Route::Mentoring(MentoringEndpoint::MyMessages),
        ["chat", "teacher", "conversations"] => Route::Mentoring(MentoringEndpoint::Conversations),
        ["chat", "teacher", "conversations", id, "messages"] => {
            Route::Mentoring(MentoringEndpoint::Messages((*id).to_owned()))
        }
        ["chat", "conversations", id, "mark-read"] => Route::Mentoring(MentoringEndpoint::MarkRead((*id).to_owned())),

        ["chat", "chats"] => Route::Clinic(ClinicEndpoint::Chats),
        ["chat", "chats", id] => Route::Clinic(ClinicEndpoint::Chat((*id).to_owned())),
        ["chat", "chats", id, "messages"] => Route::Clinic(ClinicEndpoint::Messages((*id).to_owned())),
        ["chat", "chats", id, "send_message"] => Route::Clinic(ClinicEndpoint::SendMessage((*id).to_owned())),
        ["chat", "chats", id, "mark_read"] => Route::Clinic(ClinicEndpoint::MarkRead((*id).to_owned())),

        ["healthz"] => Route::Live,
        ["readyz"] => Route::Ready,
        [""] => Route::Playground(File::Page),
        ["playground.js"] => Route::Playground(File::Script),
        ["playground.css"] => Route::Playground(File::Style),
        ["playground.json"] => Route::Playground(File::People),
        ["playground.calls"] => Route::Playground(File::Calls),
        ["playground.metrics"] => Route::Playground(File::Metrics),
        _ => return None,
    };
    Some(route)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: Uuid = Uuid::from_u128(0x550e_8400_e29b_41d4_a716_4466_5544_0000);

    fn therapy(customer_id: &str, therapist_id: &str) -> Option<Route> {
        let (customer_id, therapist_id) = (customer_id.to_owned(), therapist_id.to_owned());
        Some(Route::Socket(Target::Therapy { customer_id, therapist_id }))
    }

    #[test]
    fn every_url() {
        let conversation = Some(Route::Socket(Target::Conversation(ID)));
        let incomplete = Some(Route::Socket(Target::Incomplete));
        let (customer_id, therapist_id) = ("123".to_owned(), "456".to_owned());
        let location = Some(Route::Socket(Target::Location { customer_id, therapist_id }));
        let cases = [
            ("/ws/chat/123/456/", therapy("123", "456")),
            ("/ws/chat/123/456", therapy("123", "456")),
            ("/api/v1/ws/chat/123/456/", therapy("123", "456")),
            ("/ws/chat/a%20b/c%2Fd/", therapy("a b", "c/d")),
            ("/ws/chat/550e8400-e29b-41d4-a716-446655440000/", conversation.clone()),
            ("/ws/chat/550E8400E29B41D4A716446655440000", conversation.clone()),
            ("/api/v1/ws/chat/550e8400-e29b-41d4-a716-446655440000/", conversation),
            ("/ws/chat/123/", Some(Route::Socket(Target::Number(123)))),
            ("/ws/mobile/chat/123/", Some(Route::Socket(Target::Mobile("123".into())))),
            ("/api/v1/ws/mobile/chat/x", Some(Route::Socket(Target::Mobile("x".into())))),
            ("/ws/chat/my-conversation/", Some(Route::Socket(Target::MyConversation))),
            ("/ws/chat/conversations/123/", Some(Route::Socket(Target::Mentoring("123".into())))),
            ("/ws/chat/conversations", incomplete.clone()),
            ("/mobile/chat/start/", Some(Route::Mobile(MobileEndpoint::Start))),
            ("/mobile/chat/7/detail/", Some(Route::Mobile(MobileEndpoint::Detail("7".into())))),
            ("/api/v1/chat/my-conversation/messages/", Some(Route::Mentoring(MentoringEndpoint::MyMessages))),
            ("/chat/teacher/conversations/", Some(Route::Mentoring(MentoringEndpoint::Conversations))),
            ("/chat/conversations/7/mark-read", Some(Route::Mentoring(MentoringEndpoint::MarkRead("7".into())))),
            ("/ws/chat/123//", incomplete.clone()),
            ("/ws/chat//456/", incomplete.clone()),
            ("/ws/chat/not-a-uuid/", incomplete.clone()),
            ("/ws/location/123/456/", location.clone()),
            ("/api/v1/ws/location/123/456", location),
            ("/ws/location/123/", incomplete.clone()),
            ("/ws/location/123//", incomplete.clone()),
            ("/ws/location//456/", incomplete),
            ("/ws/notifications/", Some(Route::Socket(Target::Notifications))),
            ("/api/v1/ws/notifications", Some(Route::Socket(Target::Notifications))),
            ("/ws/presence/", Some(Route::Socket(Target::Presence))),
            ("/api/v1/ws/presence/", Some(Route::Socket(Target::Presence))),
            ("/ws/location/", None),
            ("/ws/location/1/2/3/", None),
            ("/ws/presence/1/", None),
            ("/chat/chats/", Some(Route::Clinic(ClinicEndpoint::Chats))),
            ("/api/v1/chat/chats", Some(Route::Clinic(ClinicEndpoint::Chats))),
            ("/chat/chats/x/", Some(Route::Clinic(ClinicEndpoint::Chat("x".into())))),
            ("/chat/chats/x/messages/", Some(Route::Clinic(ClinicEndpoint::Messages("x".into())))),
            ("/chat/chats/x/send_message/", Some(Route::Clinic(ClinicEndpoint::SendMessage("x".into())))),
            ("/chat/chats/x/mark_read/", Some(Route::Clinic(ClinicEndpoint::MarkRead("x".into())))),
            ("/healthz", Some(Route::Live)),
            ("/readyz/", Some(Route::Ready)),
            ("/", Some(Route::Playground(File::Page))),
            ("/playground.js", Some(Route::Playground(File::Script))),
            ("/playground.css", Some(Route::Playground(File::Style))),
            ("/playground.json", Some(Route::Playground(File::People))),
            ("/playground.metrics", Some(Route::Playground(File::Metrics))),
            ("/ws/chat/1/2/3/", None),
            ("/ws/", None),
            ("/ws/chat", None),
            ("/ws/chat/%ff/1/", None),
            ("//healthz", None),
            ("/nothing", None),
            ("", None),
        ];
        for (path, route) in cases {
            assert_eq!(find(path), route, "{path}");
        }
    }
}
