//! The protocols beside each other: frames of one on the sockets of another, and one truth however it is read.

use switchboard_proto::chat::v1::{
    ConversationKind, ConversationNumber, GetConversationRequest, ListMessagesRequest, MessageStatus,
    get_conversation_request,
};
use switchboard_proto::identity::v1::CreateSessionRequest;
use switchboard_tests::{Backend, Client, Sandbox, client};

const PEOPLE: &str = r#"
{"user": {"id": "1", "roles": ["customer", "patient", "student", "client"], "assigned_mentor_id": "2"}}
{"user": {"id": "2", "roles": ["therapist", "professional", "teacher", "expert", "staff"]}}
{"device": {"device_id": "phone"}}
{"conversation": {"kind": "CONVERSATION_KIND_THERAPY", "number": 11, "participants": [{"user_id": "1", "role": "customer"}, {"user_id": "2", "role": "therapist"}]}}
{"conversation": {"kind": "CONVERSATION_KIND_CLINIC", "number": 12, "id": "c1100000-0000-4000-8000-000000000000", "participants": [{"user_id": "1", "role": "patient"}, {"user_id": "2", "role": "professional"}]}}
{"conversation": {"kind": "CONVERSATION_KIND_MOBILE", "number": 13, "participants": [{"user_id": "phone", "role": "device"}]}}
{"conversation": {"kind": "CONVERSATION_KIND_MENTORING", "number": 14, "participants": [{"user_id": "1", "role": "student"}, {"user_id": "2", "role": "teacher"}]}}
{"conversation": {"kind": "CONVERSATION_KIND_CONSULTATION", "number": 15, "id": "c0500000-0000-4000-8000-000000000000", "participants": [{"user_id": "1", "role": "client"}, {"user_id": "2", "role": "expert"}]}}
"#;

const PROTOCOLS: [&str; 5] = ["therapy", "clinic", "mobile", "mentoring", "consultation"];

/// What each protocol's clients send, as documented; the first one is answered by its own socket with a message.
const FRAMES: [(&str, &str); 13] = [
    ("therapy", r#"{"message": "hi"}"#),
    ("therapy", r#"{"latitude": 40.7128, "longitude": -74.0060}"#),
    ("clinic", r#"{"content": "hi"}"#),
    ("clinic", r#"{"content": "hi", "role": "patient"}"#),
    (
        "mobile",
        r#"{"type": "chat_message", "content": "hi", "message_type": "text", "is_urgent": false, "metadata": {}}"#,
    ),
    ("mobile", r#"{"type": "message_status", "message_id": 456, "status": "delivered"}"#),
    ("mobile", r#"{"type": "typing_indicator", "is_typing": true}"#),
    ("mobile", r#"{"type": "read_receipt", "message_ids": [456, 457, 458]}"#),
    ("mentoring", r#"{"message": "hi"}"#),
    ("mentoring", r#"{"type": "mark_read", "message_id": "101"}"#),
    ("consultation", r#"{"type": "chat_message", "message": "hi"}"#),
    ("consultation", r#"{"type": "typing", "is_typing": true}"#),
    ("consultation", r#"{"type": "read_receipt", "message_id": "uuid"}"#),
];

/// What a socket says to a frame of another protocol: its error, or the name of what the two have in common.
fn expected(socket: &str, from: &str, frame: &str) -> Option<&'static str> {
    // therapy and mentoring both send `{"message": "..."}`, and nothing tells the one from the other.
    let is_common = frame == r#"{"message": "hi"}"#;
    Some(match socket {
        "therapy" if is_common => return None,
        "therapy" => r#"{"message":"message is required and must be a string","type":"error"}"#,
        "clinic" => r#"{"error":"Message content cannot be empty"}"#,
        "mentoring" if is_common => return None,
        "mentoring" => r#"{"error":"Message content cannot be empty."}"#,
        "mobile" => match (from, frame) {
            ("consultation", frame) if frame.contains("chat_message") => {
                r#"{"message":"Message content cannot be empty","type":"error"}"#
            }
            ("consultation", frame) if frame.contains("read_receipt") => {
                r#"{"message":"message_ids must be a list of at most 1000 message ids","type":"error"}"#
            }
            ("consultation", _) => r#"{"message":"Unknown message type: typing","type":"error"}"#,
            ("mentoring", frame) if frame.contains("mark_read") => {
                r#"{"message":"Unknown message type: mark_read","type":"error"}"#
            }
            _ => r#"{"message":"Unknown message type: None","type":"error"}"#,
        },
        _ => match (from, frame) {
            ("mobile", frame) if frame.contains("chat_message") => {
                r#"{"message":"message is required and must be a string","type":"error"}"#
            }
            ("mobile", frame) if frame.contains("read_receipt") => {
                r#"{"message":"message_id is required and must be a string","type":"error"}"#
            }
            ("mobile", frame) if frame.contains("message_status") => {
                r#"{"message":"Unknown message type: message_status","type":"error"}"#
            }
            ("mobile", _) => r#"{"message":"Unknown message type: typing_indicator","type":"error"}"#,
            ("mentoring", frame) if frame.contains("mark_read") => {
                r#"{"message":"Unknown message type: mark_read","type":"error"}"#
            }
            _ => r#"{"message":"Unknown message type: None","type":"error"}"#,
        },
    })
}

async fn connect(sandbox: &Sandbox, protocol: &str) -> anyhow::Result<Client> {
    let mut socket = match protocol {
        "therapy" => return sandbox.connect("/ws/chat/1/2/", "1").await,
        "clinic" => return sandbox.connect("/ws/chat/c1100000-0000-4000-8000-000000000000/", "1").await,
        "mobile" => {
            let mut socket =
                Client::connect(&format!("ws://{}/ws/mobile/chat/13/?device_id=phone", sandbox.edge), &[]).await?;
            socket.next().await?;
            socket
        }
        "mentoring" => {
            let request = CreateSessionRequest { user_id: "1".into(), ttl_seconds: 60 };
            let key = sandbox.identity()?.create_session(request).await?.into_inner().session_key;
            let url = format!("ws://{}/ws/chat/my-conversation/", sandbox.edge);
            Client::connect(&url, &[("cookie", format!("sessionid={key}"))]).await?
        }
        _ => sandbox.connect("/ws/chat/c0500000-0000-4000-8000-000000000000/", "1").await?,
    };
    // The greeting.
    socket.next().await?;
    Ok(socket)
}

async fn stored(sandbox: &Sandbox, protocol: &str) -> anyhow::Result<i64> {
    let kind = format!("CONVERSATION_KIND_{}", protocol.to_uppercase());
    let kind = ConversationKind::from_str_name(&kind).unwrap_or_default();
    let number = PROTOCOLS.iter().position(|other| *other == protocol).map_or(0, |place| 11 + place as i64);
    let conversation =
        get_conversation_request::Conversation::ConversationNumber(ConversationNumber { kind: kind.into(), number });
    let request = GetConversationRequest { conversation: Some(conversation), user_id: String::new() };
    let mut chat = sandbox.chat()?;
    let id = chat
        .get_conversation(request)
        .await?
        .into_inner()
        .summary
        .and_then(|found| found.conversation)
        .unwrap_or_default()
        .id;
    let request = ListMessagesRequest { conversation_id: id, ..ListMessagesRequest::default() };
    Ok(chat.list_messages(request).await?.into_inner().total_size)
}

#[tokio::test(flavor = "multi_thread")]
async fn each_protocol_s_frames_on_each_other_s_socket() -> anyhow::Result<()> {
    let sandbox = Sandbox::start(Backend::Sqlite).await?;
    sandbox.provision(PEOPLE).await?;
    for socket in PROTOCOLS {
        let mut client = connect(&sandbox, socket).await?;
        for (from, frame) in FRAMES.iter().filter(|(from, _)| *from != socket) {
            let before = stored(&sandbox, socket).await?;
            client.send(*frame).await?;
            let reply = client.next().await?.to_string();
            match expected(socket, from, frame) {
                Some(error) => {
                    assert_eq!(reply, error, "{frame} of {from} on {socket}");
                    assert_eq!(stored(&sandbox, socket).await?, before, "{frame} of {from} on {socket}");
                }
                None => assert!(reply.contains("\"hi\""), "{frame} of {from} on {socket}: {reply}"),
            }
        }
        // It is as good as before: what its own clients say comes back.
        let (_, own) = FRAMES.iter().find(|(from, _)| *from == socket).unwrap_or(&FRAMES[0]);
        client.send(*own).await?;
        assert!(client.next().await?.to_string().contains("\"hi\""));
        client.close().await?;
    }
    Ok(())
}

/// What is read by one way is read in all: sockets, REST of the protocol, and gRPC agree.
async fn one_truth(backend: Backend) -> anyhow::Result<()> {
    let sandbox = Sandbox::start(backend).await?;
    sandbox.provision(PEOPLE).await?;
    let teacher = sandbox.token("2")?;
    let mut student = connect(&sandbox, "mentoring").await?;
    for n in 0..3 {
        student.send(format!(r#"{{"message": "{n}"}}"#)).await?;
        student.next().await?;
    }
    let unread_by_rest = |sandbox: &Sandbox| {
        let (edge, teacher) = (sandbox.edge, teacher.clone());
        async move {
            let (_, page) =
                client::call(edge, "GET", "/api/v1/chat/teacher/conversations/", Some(&teacher), None).await?;
            anyhow::Ok(page["results"][0]["unread_message_count_for_user"].as_i64())
        }
    };
    let by_grpc = |sandbox: &Sandbox| {
        let chat = sandbox.chat();
        async move {
            let mut chat = chat?;
            let number = ConversationNumber { kind: ConversationKind::Mentoring.into(), number: 14 };
            let conversation = Some(get_conversation_request::Conversation::ConversationNumber(number));
            let request = GetConversationRequest { conversation, user_id: "2".into() };
            let summary = chat.get_conversation(request).await?.into_inner().summary.unwrap_or_default();
            let conversation_id = summary.conversation.unwrap_or_default().id;
            let request = ListMessagesRequest { conversation_id, ..ListMessagesRequest::default() };
            let messages = chat.list_messages(request).await?.into_inner().messages;
            let read = messages.iter().filter(|message| message.status() == MessageStatus::Read).count();
            anyhow::Ok((
                summary.unread_count,
                read,
                messages.into_iter().map(|message| message.content).collect::<Vec<_>>(),
            ))
        }
    };
    assert_eq!(unread_by_rest(&sandbox).await?, Some(3));
    assert_eq!(by_grpc(&sandbox).await?.0, 3);
    // The student is told by socket of what the teacher does by REST.
    let (status, _) =
        client::call(sandbox.edge, "POST", "/chat/conversations/14/mark-read/", Some(&teacher), None).await?;
    assert_eq!(status, 200);
    assert_eq!(student.next().await?["type"], "update_message_status");
    assert_eq!(unread_by_rest(&sandbox).await?, Some(0));
    let (unread, read, contents) = by_grpc(&sandbox).await?;
    assert_eq!((unread, read), (0, 3));
    let path = "/api/v1/chat/my-conversation/messages/";
    let (_, page) = client::call(sandbox.edge, "GET", path, Some(&sandbox.token("1")?), None).await?;
    let results = page["results"].as_array().cloned().unwrap_or_default();
    assert!(results.iter().all(|message| message["is_read"] == true));
    assert!(results.iter().map(|message| message["content"].as_str().unwrap_or_default()).eq(contents));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn one_truth_on_sqlite() -> anyhow::Result<()> {
    one_truth(Backend::Sqlite).await
}

#[tokio::test(flavor = "multi_thread")]
async fn one_truth_on_postgres() -> anyhow::Result<()> {
    one_truth(Backend::Postgres).await
}
