//! A socket of every kind, all of one user or of one device.

use switchboard_proto::identity::v1::CreateSessionRequest;
use switchboard_tests::{Client, Sandbox};

pub(crate) const PEOPLE: &str = r#"
{"user": {"id": "1", "roles": ["customer", "patient", "client", "student"], "assigned_mentor_id": "2"}}
{"user": {"id": "2", "roles": ["therapist", "professional", "expert", "teacher"]}}
{"device": {"device_id": "d"}}
{"conversation": {"kind": "CONVERSATION_KIND_CLINIC", "id": "aaaaaaaa-0000-4000-8000-000000000000", "participants": [{"user_id": "1", "role": "patient"}, {"user_id": "2", "role": "professional"}]}}
{"conversation": {"kind": "CONVERSATION_KIND_CONSULTATION", "id": "bbbbbbbb-0000-4000-8000-000000000000", "participants": [{"user_id": "1", "role": "client"}, {"user_id": "2", "role": "expert"}]}}
{"conversation": {"kind": "CONVERSATION_KIND_MOBILE", "number": 7, "participants": [{"user_id": "d", "role": "device"}]}}
"#;
pub(crate) const THERAPY: &str = "/ws/chat/1/2/";
pub(crate) const LOCATION: &str = "/ws/location/1/2/";
pub(crate) const CLINIC: &str = "/ws/chat/aaaaaaaa-0000-4000-8000-000000000000/";
pub(crate) const CONSULTATION: &str = "/ws/chat/bbbbbbbb-0000-4000-8000-000000000000/";
pub(crate) const NOTIFICATIONS: &str = "/ws/notifications/";
pub(crate) const PRESENCE: &str = "/ws/presence/";
pub(crate) const MOBILE: &str = "/ws/mobile/chat/7/?device_id=d";
pub(crate) const MENTORING: &str = "/ws/chat/my-conversation/";
pub(crate) const EVERY: [&str; 8] =
    [THERAPY, LOCATION, CLINIC, CONSULTATION, NOTIFICATIONS, PRESENCE, MOBILE, MENTORING];

/// A socket of any kind, of user 1 or the device, after what is said first.
pub(crate) async fn open(sandbox: &Sandbox, path: &str) -> anyhow::Result<Client> {
    let mut socket = connect(sandbox, path).await?;
    let greetings = match path {
        CONSULTATION | MENTORING => 1,
        NOTIFICATIONS | MOBILE => 2,
        _ => 0,
    };
    for _ in 0..greetings {
        socket.next().await?;
    }
    Ok(socket)
}

pub(crate) async fn connect(sandbox: &Sandbox, path: &str) -> anyhow::Result<Client> {
    let url = format!("ws://{}{path}", sandbox.edge);
    match path {
        MOBILE => Client::connect(&url, &[]).await,
        MENTORING => {
            let request = CreateSessionRequest { user_id: "1".into(), ttl_seconds: 0 };
            let key = sandbox.identity()?.create_session(request).await?.into_inner().session_key;
            Client::connect(&url, &[("cookie", format!("sessionid={key}"))]).await
        }
        path => sandbox.connect(path, "1").await,
    }
}
