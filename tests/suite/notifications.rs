//! Notifications by their contract: over gRPC and sockets, on both databases, with one instance and two.

use serde_json::{Value, json};
use switchboard::config::Role;
use switchboard_proto::{
    json::to_struct,
    notification::v1::{
        BatchNotifyRequest, EraseUserRequest, GetInboxRequest, Inbox, ListNotificationsRequest, MarkReadRequest,
        Notification, NotifyRequest, Read, notification_service_client::NotificationServiceClient,
    },
};
use switchboard_tests::{Backend, Client, Sandbox};
use tonic::{Code, Status};

const PATH: &str = "/ws/notifications/";
const PEOPLE: &str = r#"
{"user": {"id": "1", "roles": ["client"]}}
{"user": {"id": "2", "roles": ["expert"]}}
"#;

fn notice(user_id: &str, title: &str) -> NotifyRequest {
    NotifyRequest { user_id: user_id.into(), title: title.into(), ..NotifyRequest::default() }
}

fn titles(notifications: &[Notification]) -> Vec<&str> {
    notifications.iter().map(|notification| notification.title.as_str()).collect()
}

fn reason(status: &Status) -> (Code, String) {
    (status.code(), switchboard_chassis::error::reason(status))
}

/// A socket on an inbox with so many unread.
async fn subscribe(sandbox: &Sandbox, user: &str, unread: i64) -> anyhow::Result<Client> {
    let mut socket = sandbox.connect(PATH, user).await?;
    assert_eq!(socket.next().await?["type"], "connection_established");
    assert_eq!(socket.next().await?, json!({ "type": "unread_count", "count": unread }));
    Ok(socket)
}

async fn contract(backend: Backend) -> anyhow::Result<()> {
    let sandbox = Sandbox::start(backend).await?;
    let mut service = sandbox.notifications()?;

    let empty = service.get_inbox(GetInboxRequest { user_id: "1".into() }).await?.into_inner().inbox;
    assert_eq!(empty, Some(Inbox::default()));
    for wrong in [
        notice("", "no user"),
        notice("1", ""),
        notice("1", "  "),
        notice("1", "NUL \0"),
        notice("1", &"x".repeat(256)),
        NotifyRequest { message: "x".repeat(4_097), ..notice("1", "long") },
        NotifyRequest { notification_type: "x".repeat(65), ..notice("1", "long") },
        NotifyRequest { request_id: "x".repeat(129), ..notice("1", "long") },
    ] {
        let status = service.notify(wrong.clone()).await.expect_err("wrong");
        assert_eq!(reason(&status), (Code::InvalidArgument, "INVALID_ARGUMENT".into()), "{wrong:?}");
    }

    // As it was given, and once for a request id, whatever else the repeat says.
    let data = json!({ "a": [1, 2.5, null], "b": { "c": "d" } });
    let request = NotifyRequest {
        message: "words".into(),
        notification_type: "booking".into(),
        data: data.as_object().cloned().map(to_struct),
        request_id: "r".into(),
        ..notice("1", "first")
    };
    let stored = service.notify(request.clone()).await?.into_inner();
    assert!(stored.created);
    let first = stored.notification.expect("a notification");
    assert_eq!((first.seq, first.data.clone(), first.is_read), (1, request.data.clone(), false));
    let repeat = NotifyRequest { title: "other".into(), ..request };
    let repeated = service.notify(repeat.clone()).await?.into_inner();
    assert_eq!((repeated.created, repeated.notification.as_ref()), (false, Some(&first)));
    let for_another = NotifyRequest { user_id: "2".into(), ..repeat.clone() };
    assert!(service.notify(for_another).await?.into_inner().created);

    // A batch is whole or not at all, and finds repeats of itself.
    let batch = |notifications| BatchNotifyRequest { notifications };
    let refused = service.batch_notify(batch(vec![notice("1", "good"), notice("1", "")])).await.expect_err("wrong");
    assert_eq!(refused.code(), Code::InvalidArgument);
    let same = NotifyRequest { request_id: "s".into(), ..notice("1", "third") };
    let many = batch(vec![notice("1", "second"), repeat, same.clone(), same, notice("2", "theirs")]);
    let results = service.batch_notify(many).await?.into_inner().results;
    assert_eq!(results.iter().map(|result| result.created).collect::<Vec<_>>(), [true, false, true, false, true]);
    assert_eq!(results[2].notification, results[3].notification);
    let too_many = batch(vec![notice("1", "x"); 501]);
    assert_eq!(service.batch_notify(too_many).await.expect_err("too many").code(), Code::InvalidArgument);

    // Pages by key, both ways.
    let all = ListNotificationsRequest { user_id: "1".into(), page_size: 2, ..ListNotificationsRequest::default() };
    let page = service.list_notifications(all.clone()).await?.into_inner();
    assert_eq!(titles(&page.notifications), ["first", "second"]);
    let next = ListNotificationsRequest { from_seq: page.next_from_seq, ..all.clone() };
    let page = service.list_notifications(next).await?.into_inner();
    assert_eq!((titles(&page.notifications), page.next_from_seq), (vec!["third"], 0));
    assert_eq!(page.inbox.map(|inbox| (inbox.unread_count, inbox.last_seq)), Some((3, 3)));
    let newest = ListNotificationsRequest { newest_first: true, ..all.clone() };
    let page = service.list_notifications(newest).await?.into_inner();
    assert_eq!(titles(&page.notifications), ["third", "second"]);

    // Reading: once, only one's own, and nothing when one of them is not.
    let mark = |ids: &[&str], all| MarkReadRequest {
        user_id: "1".into(),
        read: Some(Read { notification_ids: ids.iter().map(|id| (*id).to_owned()).collect(), all }),
    };
    let theirs = results[4].notification.as_ref().expect("a notification").id.clone();
    for ids in [vec![first.id.as_str(), theirs.as_str()], vec!["nonsense"]] {
        let status = service.mark_read(mark(&ids, false)).await.expect_err("not one's own");
        assert_eq!(reason(&status), (Code::NotFound, "NOTIFICATION_NOT_FOUND".into()));
    }
    for wrong in [mark(&[], false), mark(&[&first.id], true)] {
        assert_eq!(service.mark_read(wrong).await.expect_err("wrong").code(), Code::InvalidArgument);
    }
    let spelled = first.id.to_uppercase().replace('-', "");
    let marked = service.mark_read(mark(&[&spelled, &first.id], false)).await?.into_inner();
    assert_eq!((marked.changed, marked.inbox.map(|inbox| inbox.unread_count)), (1, Some(2)));
    let again = service.mark_read(mark(&[&first.id], false)).await?.into_inner();
    assert_eq!((again.changed, again.inbox), (0, marked.inbox));
    let unread = ListNotificationsRequest { unread_only: true, ..all.clone() };
    assert_eq!(titles(&service.list_notifications(unread).await?.into_inner().notifications), ["second", "third"]);
    let marked = service.mark_read(mark(&[], true)).await?.into_inner();
    assert_eq!((marked.changed, marked.inbox.map(|inbox| inbox.unread_count)), (2, Some(0)));

    let mut socket = subscribe(&sandbox, "2", 2).await?;
    let erased = service.erase_user(EraseUserRequest { user_id: "2".into() }).await?.into_inner();
    assert_eq!(erased.notifications_erased, 2);
    assert_eq!(socket.next().await?, json!({ "type": "unread_count", "count": 0 }));
    service.notify(notice("2", "after")).await?;
    assert_eq!(socket.next().await?["data"]["title"], "after");
    assert_eq!(socket.next().await?["count"], 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn contract_on_sqlite() -> anyhow::Result<()> {
    contract(Backend::Sqlite).await
}

#[tokio::test(flavor = "multi_thread")]
async fn contract_on_postgres() -> anyhow::Result<()> {
    contract(Backend::Postgres).await
}

/// Reads until so many notifications came: their titles, and the last count.
async fn heard(socket: &mut Client, count: usize) -> anyhow::Result<(Vec<String>, i64)> {
    let (mut titles, mut unread) = (Vec::new(), -1);
    while titles.len() < count || unread < i64::try_from(count)? {
        let frame = socket.next().await?;
        match &frame["type"] {
            Value::String(kind) if kind == "notification" => {
                titles.push(frame["data"]["title"].as_str().unwrap_or_default().to_owned());
            }
            _ => unread = frame["count"].as_i64().unwrap_or(-1),
        }
    }
    Ok((titles, unread))
}

/// Two instances notify one user at once: every socket is told of each once, all in one order, and the count is right.
#[tokio::test(flavor = "multi_thread")]
async fn two_instances_are_one_inbox() -> anyhow::Result<()> {
    const EACH: usize = 60;
    let sandbox = Sandbox::start(Backend::Postgres).await?;
    sandbox.provision(PEOPLE).await?;
    let (address, lifecycle) = sandbox.another(&[Role::Notification]).await?;
    let mut sockets = [subscribe(&sandbox, "1", 0).await?, subscribe(&sandbox, "1", 0).await?];
    let mut tasks = Vec::new();
    for (number, address) in [sandbox.grpc, address].into_iter().enumerate() {
        for n in 0..EACH {
            let mut service = NotificationServiceClient::new(sandbox.peer_at(address)?);
            tasks.push(tokio::spawn(async move {
                // Every one twice, over both: the request id makes it one.
                let request = NotifyRequest { request_id: format!("{n}"), ..notice("1", &format!("{n}")) };
                service.notify(request).await?;
                service.notify(notice("1", &format!("{number}:{n}"))).await
            }));
        }
    }
    for task in tasks {
        task.await??;
    }
    let (first, count) = heard(&mut sockets[0], 3 * EACH).await?;
    let (second, _) = heard(&mut sockets[1], 3 * EACH).await?;
    assert_eq!(first, second);
    assert_eq!(count, i64::try_from(3 * EACH)?);
    let mut distinct = first.clone();
    distinct.sort();
    distinct.dedup();
    assert_eq!(distinct.len(), 3 * EACH);

    // What is read over one instance is read on the sockets of the other.
    let mut second = NotificationServiceClient::new(sandbox.peer_at(address)?);
    let read = Some(Read { notification_ids: Vec::new(), all: true });
    second.mark_read(MarkReadRequest { user_id: "1".into(), read }).await?;
    for socket in &mut sockets {
        assert_eq!(socket.next().await?, json!({ "type": "unread_count", "count": 0 }));
    }
    lifecycle.stop();
    Ok(())
}

const CONSULTATION: &str = "/ws/chat/aaaaaaaa-0000-4000-8000-000000000000/";
const CONVERSATIONS: &str = r#"
{"conversation": {"kind": "CONVERSATION_KIND_CONSULTATION", "id": "aaaaaaaa-0000-4000-8000-000000000000", "participants": [{"user_id": "1", "role": "client"}, {"user_id": "2", "role": "expert"}]}}
{"conversation": {"kind": "CONVERSATION_KIND_CLINIC", "id": "bbbbbbbb-0000-4000-8000-000000000000", "participants": [{"user_id": "1", "role": "patient"}, {"user_id": "2", "role": "professional"}]}}
"#;

async fn say(socket: &mut Client, text: &str) -> anyhow::Result<()> {
    socket.send(json!({ "type": "chat_message", "message": text }).to_string()).await?;
    while socket.next().await?["data"]["content"] != text {}
    Ok(())
}

/// Who is in the conversation is not notified, who is away is, once a burst; who comes back begins a new burst.
#[tokio::test(flavor = "multi_thread")]
async fn a_message_to_somebody_away_is_one_notification_a_burst() -> anyhow::Result<()> {
    for backend in [Backend::Sqlite, Backend::Postgres] {
        let sandbox = Sandbox::start_with(backend, |config| config.chat.notify_delay_ms = 50).await?;
        sandbox.provision(&format!("{PEOPLE}{CONVERSATIONS}")).await?;
        let mut john = sandbox.connect(CONSULTATION, "1").await?;
        let mut inbox = subscribe(&sandbox, "2", 0).await?;

        // A clinic's message notifies nobody: its kind is not among those that do.
        let mut clinic = sandbox.connect("/ws/chat/bbbbbbbb-0000-4000-8000-000000000000/", "1").await?;
        clinic.send(r#"{"content": "hello"}"#).await?;
        clinic.next().await?;

        let mut jane = sandbox.connect(CONSULTATION, "2").await?;
        say(&mut john, "you are here").await?;
        while jane.next().await?["type"] != "chat_message" {}
        jane.close().await?;
        // Whether the message before was noticed shows here: it would be the notification's.
        let mut first = None;
        for n in 0..5 {
            john.send(json!({ "type": "chat_message", "message": format!("away {n}") }).to_string()).await?;
            loop {
                let frame = john.next().await?;
                if frame["data"]["content"] == format!("away {n}") {
                    first = first.or_else(|| frame["data"]["id"].as_str().map(str::to_owned));
                    break;
                }
            }
        }
        let told = inbox.next().await?;
        assert_eq!(told["data"]["data"]["message_id"].as_str(), first.as_deref());
        assert_eq!(told["data"]["data"]["sender_id"], "1");
        assert!(!told.to_string().contains("away"), "nothing of what was said");
        assert_eq!(inbox.next().await?["count"], 1);

        // She comes and goes: the next message is another burst. That the others were not told shows by what is next.
        let mut jane = sandbox.connect(CONSULTATION, "2").await?;
        jane.next().await?;
        say(&mut john, "welcome back").await?;
        while jane.next().await?["type"] != "chat_message" {}
        jane.close().await?;
        john.send(json!({ "type": "chat_message", "message": "gone again" }).to_string()).await?;
        let sent = loop {
            let frame = john.next().await?;
            if frame["data"]["content"] == "gone again" {
                break frame["data"]["id"].clone();
            }
        };
        let told = inbox.next().await?;
        assert_eq!(told["data"]["data"]["message_id"], sent);
        assert_eq!(inbox.next().await?["count"], 2);
    }
    Ok(())
}
