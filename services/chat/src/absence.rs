//! Tells those who were not there that they have messages: one notification for a burst of messages.
//!
//! Who has no session in a conversation when a message is stored is noted in the same transaction; who comes within a
//! moment was there after all. The rest are notified, by the notification service, with the same request id however
//! often it is tried.

use std::{sync::Arc, time::Duration};

use prost_types::{Struct, Value, value::Kind as ValueKind};
use serde::{Deserialize, Serialize};
use switchboard_chassis::{Clock, Lifecycle, Micros, batch::GroupCommit, clock::micros, db::persist, grpc::Peer};
use switchboard_proto::notification::v1::{
    BatchNotifyRequest, NotifyRequest, notification_service_client::NotificationServiceClient,
};
use switchboard_webhooks::WebhooksConfig;
use uuid::Uuid;

use crate::{
    hub::Hub,
    model::{KINDS, Kind, kind_name},
    retention::Retention,
    store::{Absence, Store},
};

/// Absences that are told of at once.
const BATCH_MAX: u32 = 500;
/// How often is looked for bursts that have ended.
const FORGET_INTERVAL: Duration = Duration::from_secs(60);

/// `[chat]`: when somebody who is not there is notified of a message, and how long messages are kept.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ChatConfig {
    /// The kinds of conversation in which that happens.
    pub notify_kinds: Vec<NotifyKind>,
    /// Who comes within this time was there after all, in milliseconds.
    pub notify_delay_ms: u64,
    /// After so long without a message another one is news again, in seconds.
    pub notify_burst_s: u64,
    /// Messages that are older are removed, in days; 0 keeps them.
    pub retention_days: u32,
    /// `[chat.retention]`
    pub retention: Retention,
}

impl Default for ChatConfig {
    fn default() -> Self {
        Self {
            notify_kinds: vec![NotifyKind::Consultation],
            notify_delay_ms: 2_000,
            notify_burst_s: 300,
            retention_days: 0,
            retention: Retention::default(),
        }
    }
}

impl ChatConfig {
    /// What is wrong with it.
    #[must_use]
    pub fn mistakes(&self) -> Vec<String> {
        let is_wrong = self.notify_delay_ms == 0 || self.notify_burst_s == 0;
        let mistake = "chat.notify_delay_ms, chat.notify_burst_s: must not be 0; to notify of nothing, leave \
                       chat.notify_kinds empty";
        if is_wrong { vec![mistake.to_owned()] } else { Vec::new() }
    }

    pub(crate) fn burst(&self) -> Micros {
        micros(Duration::from_secs(self.notify_burst_s))
    }

    /// Whether those who are not there are notified.
    pub(crate) fn notifies(&self, kind: Kind) -> bool {
        self.notify_kinds.iter().any(|theirs| Kind::from(*theirs) == kind)
    }
}

/// See [`ChatConfig::notify_kinds`]. A mobile conversation's device has no inbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NotifyKind {
    /// therapy.md
    Therapy,
    /// clinic.md
    Clinic,
    /// mentoring.md
    Mentoring,
    /// consultation.md
    Consultation,
}

impl From<NotifyKind> for Kind {
    fn from(kind: NotifyKind) -> Self {
        match kind {
            NotifyKind::Therapy => Self::Therapy,
            NotifyKind::Clinic => Self::Clinic,
            NotifyKind::Mentoring => Self::Mentoring,
            NotifyKind::Consultation => Self::Consultation,
        }
    }
}

/// Of whom it is noted that they were not there.
#[derive(Clone, Debug)]
pub(crate) struct Noted {
    pub(crate) config: ChatConfig,
    pub(crate) webhooks: WebhooksConfig,
}

impl Noted {
    /// Whether that is noted in conversations of a kind.
    pub(crate) fn notes(&self, kind: Kind) -> bool {
        self.config.notifies(kind) || self.webhooks.tells_offline(kind)
    }

    fn notes_nothing(&self) -> bool {
        !KINDS.into_iter().any(|kind| self.notes(kind))
    }
}

/// Somebody was in a conversation at a time, and missed nothing up to then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Arrival {
    pub(crate) conversation_id: Uuid,
    pub(crate) user_id: String,
    pub(crate) at: Micros,
}

/// Those who come into a conversation, noted many at once.
pub(crate) struct Arrivals {
    store: Arc<Store>,
    commit: GroupCommit<Arrival>,
}

impl Arrivals {
    pub(crate) fn start(store: Arc<Store>, lifecycle: &Lifecycle) -> Self {
        let stored = store.clone();
        let commit = GroupCommit::start("chat arrivals", lifecycle, move |arrivals: Vec<Arrival>| {
            let store = stored.clone();
            async move {
                if persist(|_| store.came(&arrivals)).await.is_err() {
                    // The database said why in the log. At worst somebody is notified of what they have seen, or is not
                    // of what they miss next, until the burst from before is over.
                    tracing::warn!(arrivals = arrivals.len(), "arrivals were not noted");
                }
                store.coming.settle(arrivals);
            }
        });
        Self { store, commit }
    }

    pub(crate) fn note(&self, arrival: Arrival) {
        // When too many come at once, some are not noted: the same as above.
        self.store.coming.expect(arrival, |arrival| self.commit.push(arrival).is_ok());
    }
}

/// What is left to start when the notification service can be reached.
pub struct Absences {
    pub(crate) noted: Noted,
    pub(crate) store: Arc<Store>,
    pub(crate) hub: Arc<Hub>,
    pub(crate) clock: Clock,
}

impl Absences {
    /// Notifies until the process stops.
    pub fn notify(self, notifications: Peer, lifecycle: &Lifecycle) {
        if self.noted.notes_nothing() {
            return;
        }
        let notifications = NotificationServiceClient::new(notifications);
        let stopping = lifecycle.clone();
        lifecycle.spawn(async move {
            let delay = Duration::from_millis(self.noted.config.notify_delay_ms);
            let mut forget_at = tokio::time::Instant::now() + FORGET_INTERVAL;
            let mut is_failing = false;
            loop {
                tokio::select! {
                    () = tokio::time::sleep(delay) => {}
                    () = stopping.drained() => return,
                }
                match self.tell(&notifications, delay).await {
                    Ok(()) => is_failing = false,
                    Err(status) if !std::mem::replace(&mut is_failing, true) => tracing::warn!(
                        code = ?status.code(),
                        message = status.message(),
                        "those who are away cannot be notified; tried again until it works"
                    ),
                    Err(_) => {}
                }
                if tokio::time::Instant::now() >= forget_at {
                    // The database said why in the log, if it failed.
                    let _ = self.store.forget_told(self.clock.now() - self.noted.config.burst()).await;
                    forget_at = tokio::time::Instant::now() + FORGET_INTERVAL;
                }
            }
        });
    }

    async fn tell(
        &self,
        notifications: &NotificationServiceClient<Peer>,
        delay: Duration,
    ) -> Result<(), tonic::Status> {
        loop {
            let now = self.clock.now();
            let untold = self.store.untold(now - micros(delay), BATCH_MAX).await?;
            let is_full = untold.len() == usize::try_from(BATCH_MAX).unwrap_or(usize::MAX);
            let (there, away): (Vec<Absence>, Vec<Absence>) =
                untold.into_iter().partition(|absence| self.hub.is_there(absence.conversation_id, &absence.user_id));
            let arrival = |Absence { conversation_id, user_id, .. }| Arrival { conversation_id, user_id, at: now };
            self.store.came(&there.into_iter().map(arrival).collect::<Vec<_>>()).await?;
            let is_by_webhook = |absence: &Absence| self.noted.webhooks.tells_offline(absence.kind());
            let (inbox, hooks_only): (Vec<Absence>, Vec<Absence>) =
                away.into_iter().partition(|absence| self.noted.config.notifies(absence.kind()));
            if !hooks_only.is_empty() {
                self.store.told(hooks_only, is_by_webhook).await?;
            }
            if !inbox.is_empty() {
                let request = BatchNotifyRequest { notifications: inbox.iter().map(notification).collect() };
                notifications.clone().batch_notify(request).await?;
                self.store.told(inbox, is_by_webhook).await?;
            }
            if !is_full {
                return Ok(());
            }
        }
    }
}

/// Says that there is a message, and nothing of what it says.
fn notification(absence: &Absence) -> NotifyRequest {
    let kind = kind_name(absence.kind());
    let text = |value: String| Value { kind: Some(ValueKind::StringValue(value)) };
    let data = [
        ("conversation_id", absence.conversation_id.to_string()),
        ("conversation_kind", kind),
        ("message_id", absence.message_id.to_string()),
        ("sender_id", absence.sender_id.clone()),
    ];
    NotifyRequest {
        user_id: absence.user_id.clone(),
        title: "New message".to_owned(),
        message: "You have a new message".to_owned(),
        notification_type: "chat_message".to_owned(),
        data: Some(Struct { fields: data.into_iter().map(|(name, value)| (name.to_owned(), text(value))).collect() }),
        request_id: format!("chat-message:{}", absence.message_id),
    }
}
