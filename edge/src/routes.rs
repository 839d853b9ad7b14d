//! Every URL of the edge, on one page. Each answers under `/api/v1`, too, and with or without the trailing slash.

use uuid::Uuid;

/// What a URL names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// A WebSocket.
    Socket(Target),
    /// An endpoint of the clinic's REST.
    Clinic(ClinicEndpoint),
    /// `/healthz`: the process runs.
    Live,
    /// `/readyz`: it can serve.
    Ready,
    /// `/`: the playground, where it is switched on.
    Playground,
    /// `/playground.json`: whom the playground knows.
    PlaygroundPeople,
}

/// Which conversation a socket wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// therapy: `/ws/chat/{customer_id}/{therapist_id}/`.
    Therapy { customer_id: String, therapist_id: String },
    /// clinic: `/ws/chat/{chat_id}/`, with a UUID in any spelling.
    Conversation(Uuid),
    /// therapy: an id is missing.
    Incomplete,
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
        ["ws", "chat", customer_id, therapist_id] if !customer_id.is_empty() && !therapist_id.is_empty() => {
            Route::Socket(Target::Therapy {
                customer_id: (*customer_id).to_owned(),
                therapist_id: (*therapist_id).to_owned(),
            })
        }
        ["ws", "chat", id] => Route::Socket(Uuid::try_parse(id).map_or(Target::Incomplete, Target::Conversation)),
        ["ws", "chat", _, _] => Route::Socket(Target::Incomplete),

        ["chat", "chats"] => Route::Clinic(ClinicEndpoint::Chats),
        ["chat", "chats", id] => Route::Clinic(ClinicEndpoint::Chat((*id).to_owned())),
        ["chat", "chats", id, "messages"] => Route::Clinic(ClinicEndpoint::Messages((*id).to_owned())),
        ["chat", "chats", id, "send_message"] => Route::Clinic(ClinicEndpoint::SendMessage((*id).to_owned())),
        ["chat", "chats", id, "mark_read"] => Route::Clinic(ClinicEndpoint::MarkRead((*id).to_owned())),

        ["healthz"] => Route::Live,
        ["readyz"] => Route::Ready,
        [""] => Route::Playground,
        ["playground.json"] => Route::PlaygroundPeople,
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
        let cases = [
            ("/ws/chat/123/456/", therapy("123", "456")),
            ("/ws/chat/123/456", therapy("123", "456")),
            ("/api/v1/ws/chat/123/456/", therapy("123", "456")),
            ("/ws/chat/a%20b/c%2Fd/", therapy("a b", "c/d")),
            ("/ws/chat/550e8400-e29b-41d4-a716-446655440000/", conversation.clone()),
            ("/ws/chat/550E8400E29B41D4A716446655440000", conversation.clone()),
            ("/api/v1/ws/chat/550e8400-e29b-41d4-a716-446655440000/", conversation),
            ("/ws/chat/123/", incomplete.clone()),
            ("/ws/chat/123//", incomplete.clone()),
            ("/ws/chat//456/", incomplete.clone()),
            ("/ws/chat/not-a-uuid/", incomplete),
            ("/chat/chats/", Some(Route::Clinic(ClinicEndpoint::Chats))),
            ("/api/v1/chat/chats", Some(Route::Clinic(ClinicEndpoint::Chats))),
            ("/chat/chats/x/", Some(Route::Clinic(ClinicEndpoint::Chat("x".into())))),
            ("/chat/chats/x/messages/", Some(Route::Clinic(ClinicEndpoint::Messages("x".into())))),
            ("/chat/chats/x/send_message/", Some(Route::Clinic(ClinicEndpoint::SendMessage("x".into())))),
            ("/chat/chats/x/mark_read/", Some(Route::Clinic(ClinicEndpoint::MarkRead("x".into())))),
            ("/healthz", Some(Route::Live)),
            ("/readyz/", Some(Route::Ready)),
            ("/", Some(Route::Playground)),
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
