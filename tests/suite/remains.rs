//! What stays behind: nothing of what people said in the log, and nothing of who was erased in the files.

use std::path::Path;

use switchboard_proto::{
    chat::v1::{EraseUserRequest, chat_service_client::ChatServiceClient},
    identity::v1::{CreateSessionRequest, DeleteUserRequest, identity_service_client::IdentityServiceClient},
    location::v1::{EraseUserRequest as ErasePositions, location_service_client::LocationServiceClient},
    notification::v1::{
        EraseUserRequest as EraseInbox, NotifyRequest, notification_service_client::NotificationServiceClient,
    },
    presence::v1::{EraseUserRequest as ErasePresence, presence_service_client::PresenceServiceClient},
};
use switchboard_tests::{Client, client, process::Machine};

const CLINIC: &str = "/ws/chat/c1100000-0000-4000-8000-000000000000/";
/// Words that are nowhere else.
const DEVICE: &str = "device-marker-7f3a9c";
const NAME: &str = "Fullname-Marker-5d1e";
const MAIL: &str = "mail-marker-44b2@example.com";
const SAID: &str = "what was said: marker-9e0b";
const PLACED: &str = "what was placed by REST: marker-c3d7";
const TITLE: &str = "title-marker-81aa";
const NOTE: &str = "note-marker-aa18";
/// The latitude is 8 bytes in the database.
const LATITUDE: f64 = 12.345_678_912_345;

fn people() -> String {
    format!(
        r#"
{{"user": {{"id": "pat-51", "full_name": "{NAME}", "email": "{MAIL}", "roles": ["patient", "customer"]}}}}
{{"user": {{"id": "dora-52", "roles": ["professional", "therapist"]}}}}
{{"device": {{"device_id": "{DEVICE}"}}}}
{{"conversation": {{"kind": "CONVERSATION_KIND_CLINIC", "id": "c1100000-0000-4000-8000-000000000000", "subject": "about {NAME}", "participants": [{{"user_id": "pat-51", "role": "patient"}}, {{"user_id": "dora-52", "role": "professional"}}]}}}}
{{"conversation": {{"kind": "CONVERSATION_KIND_MOBILE", "number": 7, "participants": [{{"user_id": "{DEVICE}", "role": "device"}}]}}}}
"#
    )
}

/// Whether bytes are in a file of a directory, and in which.
fn found(directory: &Path, bytes: &[u8]) -> anyhow::Result<Vec<String>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_file() && std::fs::read(&path)?.windows(bytes.len()).any(|window| window == bytes) {
            files.push(path.display().to_string());
        }
    }
    Ok(files)
}

/// Somebody does everything that leaves a trace.
async fn live(machine: &Machine) -> anyhow::Result<Vec<String>> {
    let token = machine.token("pat-51")?;
    let mut chat = Client::connect(&format!("ws://{}{CLINIC}?token={token}", machine.edge), &[]).await?;
    chat.send(format!(r#"{{"content": "{SAID}", "role": "patient"}}"#)).await?;
    chat.next().await?;
    chat.send("not json, but with a secret: marker-bad-1").await?;
    chat.next().await?;
    let placed = format!(r#"{{"content": "{PLACED}", "role": "patient"}}"#);
    let path = "/chat/chats/c1100000-0000-4000-8000-000000000000/send_message/";
    assert_eq!(client::call(machine.edge, "POST", path, Some(&token), Some(placed)).await?.0, 201);
    let mut device =
        Client::connect(&format!("ws://{}/ws/mobile/chat/7/?device_id={DEVICE}", machine.edge), &[]).await?;
    device.next().await?;
    device.send(format!(r#"{{"type": "chat_message", "content": "{SAID}"}}"#)).await?;
    device.next().await?;
    let list = format!("/mobile/chat/list/?device_id={DEVICE}");
    assert_eq!(client::call(machine.edge, "GET", &list, None, None).await?.0, 200);
    let mut therapist = machine.connect("/ws/location/pat-51/dora-52/", "dora-52").await?;
    let mut customer = machine.connect("/ws/location/pat-51/dora-52/", "pat-51").await?;
    therapist.send(format!(r#"{{"latitude": {LATITUDE}, "longitude": 1.5}}"#)).await?;
    customer.next().await?;
    let mut notifications = NotificationServiceClient::new(machine.peer()?);
    let notify = NotifyRequest {
        user_id: "pat-51".into(),
        title: TITLE.into(),
        message: NOTE.into(),
        notification_type: "news".into(),
        ..NotifyRequest::default()
    };
    notifications.notify(notify).await?;
    let mut presence = machine.connect("/ws/presence/", "pat-51").await?;
    presence.close().await?;
    presence = machine.connect("/ws/presence/", "dora-52").await?;
    let session = CreateSessionRequest { user_id: "pat-51".into(), ttl_seconds: 0 };
    let session = IdentityServiceClient::new(machine.peer()?).create_session(session).await?.into_inner().session_key;
    let refused = [
        format!("ws://{}{CLINIC}?token={token}x", machine.edge),
        format!("ws://{}/ws/mobile/chat/8/?device_id={DEVICE}", machine.edge),
    ];
    for url in &refused {
        Client::connect(url, &[]).await?.closed().await?;
    }
    let cookie = [("cookie", format!("sessionid={session}"))];
    Client::connect(&format!("ws://{}/ws/chat/my-conversation/", machine.edge), &cookie).await?.closed().await?;
    presence.close().await?;
    Ok(vec![token, session])
}

#[tokio::test(flavor = "multi_thread")]
async fn no_credential_and_nothing_that_was_said_is_in_the_log() -> anyhow::Result<()> {
    let machine = Machine::new()?;
    // As much as an operator would ever ask for.
    let filter = "log.filter=debug,switchboard=trace,switchboard_edge=trace,switchboard_chat=trace,sqlx=trace";
    let settings = ["serve", "--set", filter, "--set", "edge.drain_spread_s=0", "--set", "edge.playground=true"];
    let mut server = machine.start(&settings, machine.edge).await?;
    machine.provision(&people())?;
    let secrets = live(&machine).await?;
    for (token, status) in [("a-token-between-services", 200), ("marker-bad-2", 401)] {
        let bearer = [("authorization", format!("Bearer {token}"))];
        let (told, _) = client::call_with(machine.edge, "GET", "/playground.metrics", &bearer, None).await?;
        assert_eq!(told, status, "{token}");
    }
    server.terminate()?;
    server.exit_code().await?;
    let log = std::fs::read_to_string(machine.log())?;
    assert!(log.contains("DEBUG") || log.contains("\"debug\""), "the log is a detailed one: {log}");
    let secrets = secrets.iter().map(String::as_str);
    let words = [DEVICE, NAME, MAIL, SAID, PLACED, TITLE, NOTE, "marker-bad-1", "marker-bad-2", "12.34567891"];
    for word in secrets.chain(words).chain(["a-token-between-services"]) {
        let lines: Vec<&str> = log.lines().filter(|line| line.contains(word)).collect();
        assert!(lines.is_empty(), "{word} is in the log:\n{}", lines.join("\n"));
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_erased_is_not_in_the_files_any_more() -> anyhow::Result<()> {
    let machine = Machine::new()?;
    let mut server = machine
        .start(&["serve", "--set", "location.store_interval_ms=10", "--set", "edge.drain_spread_s=0"], machine.edge)
        .await?;
    machine.provision(&people())?;
    live(&machine).await?;
    let latitude = LATITUDE.to_be_bytes();
    let words: [&[u8]; 7] = [NAME, MAIL, SAID, PLACED, TITLE, NOTE, DEVICE].map(str::as_bytes);
    // The position is stored a moment later.
    while found(&machine.data(), &latitude)?.is_empty() {
        tokio::task::yield_now().await;
    }
    for word in words {
        assert!(!found(&machine.data(), word)?.is_empty(), "{} was never there", String::from_utf8_lossy(word));
    }
    for user_id in ["pat-51", DEVICE] {
        let user_id = user_id.to_owned();
        ChatServiceClient::new(machine.peer()?).erase_user(EraseUserRequest { user_id: user_id.clone() }).await?;
        LocationServiceClient::new(machine.peer()?).erase_user(ErasePositions { user_id: user_id.clone() }).await?;
        NotificationServiceClient::new(machine.peer()?).erase_user(EraseInbox { user_id: user_id.clone() }).await?;
        PresenceServiceClient::new(machine.peer()?).erase_user(ErasePresence { user_id: user_id.clone() }).await?;
        IdentityServiceClient::new(machine.peer()?).delete_user(DeleteUserRequest { user_id }).await?;
    }
    // While the process runs, and after it.
    for is_running in [true, false] {
        for word in words.into_iter().chain([latitude.as_slice()]) {
            // A device is no user: it is deactivated and stays known, so that nobody takes its place.
            let is_device = word == DEVICE.as_bytes();
            let files = found(&machine.data(), word)?;
            let rest: Vec<_> = files.iter().filter(|file| !(is_device && file.contains("identity"))).collect();
            assert!(rest.is_empty(), "{} is in {rest:?}, running: {is_running}", String::from_utf8_lossy(word));
        }
        if is_running {
            server.terminate()?;
            server.exit_code().await?;
        }
    }
    let log = std::fs::read_to_string(machine.log())?;
    for action in ["chat.EraseUser", "location.EraseUser", "notification.EraseUser", "identity.DeleteUser"] {
        assert!(log.lines().any(|line| line.contains(action) && line.contains("deployment")), "{action}: {log}");
    }
    Ok(())
}
