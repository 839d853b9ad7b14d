//! The services die under live sockets of location, notifications and presence, and come back.

use serde_json::{Value, json};
use switchboard_proto::{
    notification::v1::{NotifyRequest, notification_service_client::NotificationServiceClient},
    presence::v1::{Join, presence_service_client::PresenceServiceClient, track_request::Action},
    wire::{Presence, Wire as _},
};
use switchboard_tests::{Client, process::Machine};

const PEOPLE: &str = r#"
{"user": {"id": "1", "full_name": "One", "roles": ["customer", "client"]}}
{"user": {"id": "2", "full_name": "Two", "roles": ["therapist", "expert"]}}
"#;
const SERVICES: [&str; 5] =
    ["serve", "--role", "identity,chat,location,notification,presence", "--set", "presence.lease_s=3"];

async fn notify(machine: &Machine, title: &str) -> anyhow::Result<()> {
    let request = NotifyRequest { user_id: "1".into(), title: title.into(), ..NotifyRequest::default() };
    NotificationServiceClient::new(machine.peer()?).notify(request).await?;
    Ok(())
}

/// The next notifications and counts, up to this count.
async fn up_to(socket: &mut Client, count: i64) -> anyhow::Result<Vec<String>> {
    let mut titles = Vec::new();
    loop {
        let frame = socket.next().await?;
        if let Some(title) = frame["data"]["title"].as_str() {
            titles.push(title.to_owned());
        }
        if frame["count"] == count {
            return Ok(titles);
        }
    }
}

/// The next position that is told.
async fn position(socket: &mut Client) -> anyhow::Result<Value> {
    Ok(socket.next().await?["latitude"].clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn sockets_outlive_their_services() -> anyhow::Result<()> {
    let machine = Machine::new()?;
    let mut services = machine.start(&SERVICES, machine.grpc).await?;
    let _edge = machine.start(&["serve", "--role", "edge"], machine.edge).await?;
    machine.provision(PEOPLE)?;

    let mut inbox = machine.connect("/ws/notifications/", "1").await?;
    let mut customer = machine.connect("/ws/location/1/2/", "1").await?;
    let mut therapist = machine.connect("/ws/location/1/2/", "2").await?;
    let mut watcher = machine.connect("/ws/presence/", "1").await?;
    let _watched = machine.connect("/ws/presence/", "2").await?;
    assert_eq!(watcher.next().await?["user_id"], "2");
    assert_eq!(up_to(&mut inbox, 0).await?, Vec::<String>::new());

    for round in 1..=2_i64 {
        // Somebody of another edge, which dies with the services and does not come back.
        let ghost = Join { user_id: format!("ghost-{round}"), user_name: String::new() };
        let joins = tokio_stream::iter([Presence::request(1, 0, Action::Join(ghost))]);
        let stays = tokio_stream::StreamExt::chain(joins, tokio_stream::pending());
        let stream = PresenceServiceClient::new(machine.peer()?).track(stays).await?;
        assert_eq!(watcher.next().await?["user_id"], format!("ghost-{round}"));

        notify(&machine, "before").await?;
        assert_eq!(up_to(&mut inbox, 2 * round - 1).await?, ["before"]);
        therapist.send(json!({ "latitude": round, "longitude": 1 }).to_string()).await?;
        while position(&mut customer).await? != round as f64 {}

        services.kill()?;
        drop(stream);
        // What is reported while there is no service is told when there is; of several, the newest.
        for n in 1..=40 {
            let latitude = round as f64 + f64::from(n) / 100.0;
            therapist.send(json!({ "latitude": latitude, "longitude": 1 }).to_string()).await?;
        }
        services = machine.start(&SERVICES, machine.grpc).await?;
        // Perhaps before the edge has come back: it must not be missed.
        notify(&machine, "after").await?;
        assert_eq!(up_to(&mut inbox, 2 * round).await?, ["after"]);
        while position(&mut customer).await? != round as f64 + 0.4 {}

        // Only the ghost went, and only when its lease was over: the other never blinked.
        let gone = json!({ "type": "user_offline", "user_id": format!("ghost-{round}") });
        assert_eq!(watcher.next().await?, gone);
    }
    Ok(())
}
