//! What an earlier release left behind opens in this one, and neighbours work together over the wire.
//!
//! `SWITCHBOARD_PREVIOUS` names the last release's binary; without it, this build is both neighbours.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, ensure};
use switchboard_chassis::config::environment;
use switchboard_proto::{
    chat::v1::{Send, SendMessageRequest, chat_service_client::ChatServiceClient},
    notification::v1::{ListNotificationsRequest, notification_service_client::NotificationServiceClient},
};
use switchboard_tests::process::{Machine, Process, binary};

const THERAPY: &str = "/ws/chat/123/456/";

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures")
}

#[tokio::test(flavor = "multi_thread")]
async fn data_of_earlier_releases_opens() -> anyhow::Result<()> {
    let lines = fixtures().join("data.jsonl").display().to_string();
    let mut opened = 0;
    for entry in fs::read_dir(fixtures())? {
        let archive = entry?.path();
        if !archive.to_string_lossy().ends_with(".tar.gz") {
            continue;
        }
        let machine = Machine::new()?;
        let directory = machine.data().parent().context("a directory")?.to_owned();
        let unpacked = Command::new("tar").arg("-xzf").arg(&archive).arg("-C").arg(&directory).status()?;
        ensure!(unpacked.success(), "{}", archive.display());
        let _server = machine.start(&["serve"], machine.edge).await?;
        let (code, out, err) = machine.run(&["import", "--verify", &lines])?;
        ensure!(code == 0 && out.contains("the same"), "{}: {out}{err}", archive.display());
        let request = ListNotificationsRequest { user_id: "123".into(), ..ListNotificationsRequest::default() };
        let inbox = NotificationServiceClient::new(machine.peer()?).list_notifications(request).await?.into_inner();
        assert_eq!(inbox.notifications[0].title, "Booked");
        let (_, out, err) = machine.run(&["doctor", "--json"])?;
        ensure!(out.contains("migrations applied") && !out.contains(" to come"), "{out}{err}");
        speak(&machine).await?;
        opened += 1;
    }
    ensure!(opened > 0, "there are no fixtures");
    Ok(())
}

/// People find what was said, and go on.
async fn speak(machine: &Machine) -> anyhow::Result<()> {
    let mut customer = machine.connect(&format!("{THERAPY}?after=1"), "123").await?;
    let mut therapist = machine.connect(THERAPY, "456").await?;
    for n in 1..5 {
        assert_eq!(customer.next().await?["message"], format!("therapy {n}"));
    }
    therapist.send(r#"{"message": "still here"}"#).await?;
    for socket in [&mut customer, &mut therapist] {
        assert_eq!(socket.next().await?["message"], "still here");
    }
    let send = Some(Send { content: "and a service".into(), ..Send::default() });
    let lines = fs::read_to_string(fixtures().join("data.jsonl"))?;
    let line = lines.lines().find(|line| line.contains("therapy 0")).context("a line")?;
    let line: serde_json::Value = serde_json::from_str(line)?;
    let conversation_id = line["message"]["conversation_id"].as_str().context("an id")?.to_owned();
    let request = SendMessageRequest { conversation_id, user_id: "123".into(), send };
    ChatServiceClient::new(machine.peer()?).send_message(request).await?;
    assert_eq!(therapist.next().await?["message"], "and a service");
    Ok(())
}

/// The last release's edge over our services, and the reverse.
#[tokio::test(flavor = "multi_thread")]
async fn neighbours_work_together() -> anyhow::Result<()> {
    const SERVICES: [&str; 3] = ["serve", "--role", "identity,chat,location,notification,presence"];
    const EDGE: [&str; 3] = ["serve", "--role", "edge"];
    let previous = environment().into_iter().find(|(name, _)| name == "SWITCHBOARD_PREVIOUS");
    let (ours, previous) = (binary()?, previous.map_or_else(binary, |(_, path)| Ok(PathBuf::from(path)))?);
    for (services, edge) in [(&ours, &previous), (&previous, &ours)] {
        let machine = Machine::new()?;
        let start = async |binary: &Path, arguments: &[&str], address| -> anyhow::Result<Process> {
            let mut command = Command::new(binary);
            command.args(arguments).env_clear().envs(machine.settings_for(arguments));
            // An earlier release may not know it, and passes over what it does not know only in files: it has its default.
            if binary == ours {
                command.env("SWITCHBOARD_ADMIN__LISTEN", "127.0.0.1:0");
            }
            let log = fs::File::options().create(true).append(true).open(machine.log())?;
            let mut process = Process::spawn(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log))?;
            process.listens(address).await?;
            Ok(process)
        };
        let mut running = start(services, &SERVICES, machine.grpc).await?;
        let _edge = start(edge, &EDGE, machine.edge).await?;
        let lines = fixtures().join("data.jsonl").display().to_string();
        let (code, out, err) = machine.run(&["import", &lines])?;
        ensure!(code == 0, "{out}{err}");
        let mut inbox = machine.connect("/ws/notifications/", "801").await?;
        while inbox.next().await?["count"] != 0 {}
        speak(&machine).await?;

        // The other one takes over the data, in an upgrade and in the way back of one that changed no table.
        running.terminate()?;
        assert_eq!(running.exit_code().await?, 0);
        let other = if services == &ours { &previous } else { &ours };
        let _running = start(other, &SERVICES, machine.grpc).await?;
        let (code, out, err) = machine.run(&["import", "--verify", &lines])?;
        ensure!(code == 0, "{out}{err}");
    }
    Ok(())
}
