//! The questions, each to every process that was named.

use std::time::Duration;

use anyhow::bail;
use prost_types::Duration as WireDuration;
use switchboard_proto::{
    admin::v1::{GetLogFilterRequest, LogFilter, SetLogFilterRequest, admin_service_client::AdminServiceClient},
    edge::v1::{
        Connection, DisconnectConnectionsRequest, DrainRequest, GetConnectionRequest, ListConnectionsRequest, Protocol,
        ResumeRequest, TailConversationRequest, edge_service_client::EdgeServiceClient,
    },
    presence::v1::{GetPresenceRequest, ListOnlineRequest, presence_service_client::PresenceServiceClient},
};
use tonic::{Code, Status};

use super::{
    NothingFound, Process, Which, all_answered,
    show::{self, Show},
};

/// The most that is asked for at a time.
const PAGE: i32 = 1_000;
const PRESENCES: usize = 500;
/// Between two looks whether a drained edge is empty.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// Asks all processes at the same time, and tells who did not answer; their answers, in the order of the processes, and
/// how many failed.
async fn all<T, F>(processes: &[Process], show: &Show, ask: impl Fn(Process) -> F) -> (Vec<(String, T)>, usize)
where
    T: Send + 'static,
    F: Future<Output = Result<T, Status>> + Send + 'static,
{
    let asked: Vec<_> =
        processes.iter().map(|process| (process.address.clone(), tokio::spawn(ask(process.clone())))).collect();
    let (mut answers, mut failed) = (Vec::new(), 0);
    for (address, answer) in asked {
        match answer.await.unwrap_or_else(|error| Err(Status::internal(error.to_string()))) {
            Ok(answer) => answers.push((address, answer)),
            Err(status) => {
                failed += 1;
                show.failure(&address, &status);
            }
        }
    }
    (answers, failed)
}

pub(super) async fn list(processes: &[Process], which: Which, show: &Show) -> anyhow::Result<()> {
    let (answers, failed) = all(processes, show, |process| {
        let which = which.clone();
        async move {
            let (mut connections, mut page_token) = (Vec::new(), String::new());
            loop {
                let request = ListConnectionsRequest {
                    user_id: which.user.clone().unwrap_or_default(),
                    device_id: which.device.clone().unwrap_or_default(),
                    conversation_id: which.conversation.clone().unwrap_or_default(),
                    address: which.from.clone().unwrap_or_default(),
                    protocol: which.protocol.map_or(Protocol::Unspecified, Protocol::from).into(),
                    page_size: PAGE,
                    page_token,
                };
                let page = EdgeServiceClient::new(process.peer.clone()).list_connections(request).await?.into_inner();
                connections.extend(page.connections);
                page_token = page.next_page_token;
                if page_token.is_empty() {
                    return Ok(connections);
                }
            }
        }
    })
    .await;
    show.connections(&answers)?;
    all_answered(processes, failed)
}

pub(super) async fn describe(processes: &[Process], id: &str, show: &Show) -> anyhow::Result<()> {
    let (answers, failed) = all(processes, show, |process| {
        let request = GetConnectionRequest { id: id.to_owned() };
        async move {
            match EdgeServiceClient::new(process.peer).get_connection(request).await {
                Ok(answer) => Ok(answer.into_inner().connection),
                Err(status) if status.code() == Code::NotFound => Ok(None),
                Err(status) => Err(status),
            }
        }
    })
    .await;
    let found: Option<(String, Connection)> =
        answers.into_iter().find_map(|(address, connection)| Some((address, connection?)));
    match found {
        Some((address, connection)) => show.connection(&address, &connection),
        None if failed > 0 => all_answered(processes, failed),
        None => bail!(NothingFound(format!("{id}: no such connection"))),
    }
}

pub(super) async fn disconnect(
    processes: &[Process],
    (ids, which): (Vec<String>, Which),
    (close_code, close_reason): (i32, String),
    show: &Show,
) -> anyhow::Result<()> {
    let request = DisconnectConnectionsRequest {
        ids,
        user_id: which.user.unwrap_or_default(),
        device_id: which.device.unwrap_or_default(),
        conversation_id: which.conversation.unwrap_or_default(),
        address: which.from.unwrap_or_default(),
        protocol: which.protocol.map_or(Protocol::Unspecified, Protocol::from).into(),
        close_code,
        close_reason,
    };
    let (answers, failed) = all(processes, show, |process| {
        let request = request.clone();
        async move {
            Ok(EdgeServiceClient::new(process.peer).disconnect_connections(request).await?.into_inner().disconnected)
        }
    })
    .await;
    for (address, disconnected) in &answers {
        show.say(
            address,
            serde_json::json!({ "disconnected": disconnected }),
            &format!("{disconnected} sockets are told to close"),
        )?;
    }
    all_answered(processes, failed)?;
    if answers.iter().all(|(_, disconnected)| *disconnected == 0) {
        bail!(NothingFound("no such connection".to_owned()));
    }
    Ok(())
}

/// By the first process that answers: any of them sees everything.
pub(super) async fn tail(
    processes: &[Process],
    (conversation_id, include_text): (String, bool),
    count: Option<u64>,
    show: &Show,
) -> anyhow::Result<()> {
    let mut left = count.unwrap_or(u64::MAX);
    for process in processes {
        let request = TailConversationRequest { conversation_id: conversation_id.clone(), include_text };
        let mut stream = match EdgeServiceClient::new(process.peer.clone()).tail_conversation(request).await {
            Ok(stream) => stream.into_inner(),
            Err(status) if status.code() == Code::NotFound => {
                bail!(NothingFound(format!("{conversation_id}: no such conversation")))
            }
            Err(status) => {
                show.failure(&process.address, &status);
                continue;
            }
        };
        while left > 0 {
            match stream.message().await {
                Ok(Some(event)) => show.event(&process.address, &event)?,
                Ok(None) => bail!("{} ended it", process.address),
                Err(status) => {
                    show.failure(&process.address, &status);
                    bail!("it ended");
                }
            }
            left -= 1;
        }
        return Ok(());
    }
    bail!("nobody lets us look on")
}

pub(super) async fn online(process: &Process, users: Vec<String>, show: &Show) -> anyhow::Result<()> {
    let mut presence = PresenceServiceClient::new(process.peer.clone());
    let failed = |status: Status| {
        show.failure(&process.address, &status);
        anyhow::anyhow!("it was not done")
    };
    if users.is_empty() {
        let (mut online, mut page_token) = (Vec::new(), String::new());
        loop {
            let request = ListOnlineRequest { page_size: PAGE, page_token };
            let page = presence.list_online(request).await.map_err(failed)?.into_inner();
            online.extend(page.users);
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return show.online(&process.address, &online);
            }
        }
    }
    let mut presences = Vec::new();
    for users in users.chunks(PRESENCES) {
        let request = GetPresenceRequest { user_ids: users.to_vec() };
        presences.extend(presence.get_presence(request).await.map_err(failed)?.into_inner().presences);
    }
    show.presences(&process.address, &presences)
}

pub(super) async fn drain(processes: &[Process], over: Option<i64>, wait: bool, show: &Show) -> anyhow::Result<()> {
    let spread = over.map(duration);
    let (answers, failed) = all(processes, show, |process| async move {
        Ok(EdgeServiceClient::new(process.peer).drain(DrainRequest { spread }).await?.into_inner())
    })
    .await;
    for (address, drain) in &answers {
        let spread_s = drain.spread.map_or(0, |spread| spread.seconds);
        let told = format!("{} sockets are sent away over {spread_s} s; nobody else is let in", drain.connections);
        show.say(address, serde_json::json!({ "connections": drain.connections, "spread_s": spread_s }), &told)?;
    }
    if wait {
        let waited = all(processes, show, |process| async move { empty(&process).await }).await;
        for (address, ()) in &waited.0 {
            show.say(address, serde_json::json!({ "connections": 0 }), "empty")?;
        }
        return all_answered(processes, waited.1.max(failed));
    }
    all_answered(processes, failed)
}

/// Completes when an edge has no sockets.
async fn empty(process: &Process) -> Result<(), Status> {
    loop {
        let request = ListConnectionsRequest { page_size: 1, ..ListConnectionsRequest::default() };
        let page = EdgeServiceClient::new(process.peer.clone()).list_connections(request).await?.into_inner();
        if page.total_size == 0 {
            return Ok(());
        }
        if !page.is_draining {
            return Err(Status::aborted("it was told to take sockets again"));
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

pub(super) async fn resume(processes: &[Process], show: &Show) -> anyhow::Result<()> {
    let (answers, failed) = all(processes, show, |process| async move {
        Ok(EdgeServiceClient::new(process.peer).resume(ResumeRequest {}).await?.into_inner().connections)
    })
    .await;
    for (address, connections) in &answers {
        let told = format!("takes sockets; {connections} have stayed");
        show.say(address, serde_json::json!({ "connections": connections }), &told)?;
    }
    all_answered(processes, failed)
}

pub(super) async fn log_get(processes: &[Process], show: &Show) -> anyhow::Result<()> {
    let (answers, failed) = all(processes, show, |process| async move {
        let answer = AdminServiceClient::new(process.peer).get_log_filter(GetLogFilterRequest {}).await?;
        Ok(answer.into_inner().log_filter.unwrap_or_default())
    })
    .await;
    filters(&answers, show)?;
    all_answered(processes, failed)
}

pub(super) async fn log_set(
    processes: &[Process],
    filter: &str,
    lasting: Option<i64>,
    show: &Show,
) -> anyhow::Result<()> {
    let (answers, failed) = all(processes, show, |process| {
        let request = SetLogFilterRequest { filter: filter.to_owned(), duration: lasting.map(duration) };
        async move {
            let answer = AdminServiceClient::new(process.peer).set_log_filter(request).await?;
            Ok(answer.into_inner().log_filter.unwrap_or_default())
        }
    })
    .await;
    filters(&answers, show)?;
    all_answered(processes, failed)
}

fn filters(answers: &[(String, LogFilter)], show: &Show) -> anyhow::Result<()> {
    for (address, filter) in answers {
        let back = match filter.until {
            Some(until) => format!(" until {}, then {}", show::time(until), filter.configured),
            None if filter.filter == filter.configured => String::new(),
            None => format!(", configured is {}", filter.configured),
        };
        show.message(address, "switchboard.admin.v1.LogFilter", filter, &format!("logs {}{back}", filter.filter))?;
    }
    Ok(())
}

fn duration(seconds: i64) -> WireDuration {
    WireDuration { seconds, nanos: 0 }
}
