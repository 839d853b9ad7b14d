//! The services of the deployment's owner, which write and notify over gRPC, at either instance, and repeat what was not
//! answered.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use switchboard_chassis::{error::reason, grpc::Peer};
use switchboard_proto::{
    chat::v1::{Send, SendMessageRequest, chat_service_client::ChatServiceClient},
    notification::v1::{NotifyRequest, notification_service_client::NotificationServiceClient},
};
use tonic::{Code, Response, Status};

use crate::{
    LIVENESS, inbox,
    scene::{Dice, Scene, lock},
    traffic::{self, Sent, client_message_id, words},
};

/// Between two calls of one kind.
const CALL_MIN: Duration = Duration::from_millis(800);
const CALL_MAX: Duration = Duration::from_millis(1200);
const CALL_AGAIN: Duration = Duration::from_millis(100);
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// A service that calls both instances.
pub(crate) struct Caller {
    pub(crate) instances: [Peer; 2],
    pub(crate) scene: Arc<Scene>,
    pub(crate) dice: Dice,
}

impl Caller {
    /// Notifies a user, again and again.
    pub(crate) async fn notify(mut self, user: String, record: Arc<Mutex<inbox::Record>>) {
        for n in 0.. {
            self.pause().await;
            lock(&record).asked.push(inbox::Asked { at: Instant::now(), answer: None });
            let request = NotifyRequest {
                user_id: user.clone(),
                title: format!("for {user}: {n}"),
                request_id: inbox::request_id(&user, n),
                ..NotifyRequest::default()
            };
            let notify = |peer| {
                let request = request.clone();
                async move { NotificationServiceClient::new(peer).notify(request).await }
            };
            let answer = self.until_answered(&request.request_id, notify).await;
            let id = answer.notification.unwrap_or_default().id;
            lock(&record).asked[n].answer = Some((id, Instant::now()));
        }
    }

    /// Writes into a conversation as one of its people, again and again. The record's messages bear the name `speaker`.
    pub(crate) async fn write(
        mut self,
        conversation_id: String,
        user_id: String,
        speaker: String,
        record: Arc<Mutex<traffic::Record>>,
    ) {
        for n in 0.. {
            self.pause().await;
            lock(&record).sent.push(Sent { at: Instant::now(), times: 1, echo: None });
            let client_message_id = client_message_id(&speaker, n);
            let send = Send { content: words(&speaker, n), client_message_id, ..Send::default() };
            let (conversation_id, user_id) = (conversation_id.clone(), user_id.clone());
            let request = SendMessageRequest { conversation_id, user_id, send: Some(send) };
            let write = |peer| {
                let request = request.clone();
                async move { ChatServiceClient::new(peer).send_message(request).await }
            };
            let answer = self.until_answered(&format!("{speaker}-{n}"), write).await;
            let id = answer.message.unwrap_or_default().id;
            lock(&record).sent[n].echo = Some((id, Instant::now()));
        }
    }

    /// Until it is time for the next call.
    async fn pause(&mut self) {
        tokio::time::sleep(self.dice.between(CALL_MIN, CALL_MAX)).await;
        while self.scene.talking().is_none() {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    async fn until_answered<T, F>(&mut self, what: &str, call: impl Fn(Peer) -> F) -> T
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let mut turn = self.dice.below(self.instances.len());
        loop {
            match call(self.instances[turn].clone()).await {
                Ok(answer) => return answer.into_inner(),
                Err(status) => {
                    self.scene.note(&format!("{what}: {:?} {}", status.code(), status.message()));
                    if !is_transient(&status) {
                        self.scene.complain(format!("{what} was refused for good: {status}"));
                    }
                    turn = (turn + 1) % self.instances.len();
                    tokio::time::sleep(CALL_AGAIN).await;
                }
            }
        }
    }
}

/// Calls until there is an answer: a connection may have broken.
pub(crate) async fn patiently<T>(call: impl AsyncFn() -> Result<Response<T>, Status>) -> anyhow::Result<T> {
    let begun = Instant::now();
    loop {
        match call().await {
            Ok(answer) => return Ok(answer.into_inner()),
            Err(status) if is_transient(&status) && begun.elapsed() < LIVENESS => {
                tokio::time::sleep(CALL_AGAIN).await;
            }
            Err(status) => return Err(anyhow::anyhow!("a call of the audit failed: {status}")),
        }
    }
}

/// Whether a call may be made again. A connection that breaks shows as Unknown or Internal, but not with a reason.
fn is_transient(status: &Status) -> bool {
    match status.code() {
        Code::Unavailable | Code::ResourceExhausted | Code::DeadlineExceeded | Code::Cancelled | Code::Unknown => true,
        Code::Internal => reason(status).is_empty(),
        _ => false,
    }
}
