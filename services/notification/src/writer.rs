//! The one task that stores notifications: it takes all that wait, stores them in few transactions, then tells.

use std::sync::Arc;

use switchboard_chassis::{
    Clock, Error, Kind, Lifecycle,
    batch::GroupCommit,
    db::persist,
    metrics::{Counter, Counters},
};
use switchboard_proto::notification::v1::NotifyResponse;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::{
    convert,
    hub::Hub,
    model::{Draft, Refusal},
    order::Appended,
    rooms::Inboxes,
    store::{Batch, Store, TRANSACTION_DRAFTS_MAX},
};

/// Drafts that wait to be stored, however many calls brought them. Beyond it a caller is refused at once.
const WAITING_DRAFTS_MAX: usize = 16_384;
const STORED: Counters<0> =
    Counters::new("switchboard_notification_stored_total", "Notifications that were stored", &[]);

/// The way to the writer. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Writer {
    waiting: GroupCommit<Call>,
    room: Arc<Semaphore>,
}

/// What one call wants to be stored, all or nothing.
struct Call {
    drafts: Vec<Draft>,
    answer: oneshot::Sender<Result<Vec<NotifyResponse>, Error>>,
    room: OwnedSemaphorePermit,
}

impl Writer {
    /// Stores all of the drafts or none, and tells everybody. They are stored even if the caller does not wait.
    ///
    /// # Errors
    /// Nothing was told to anyone.
    pub(crate) async fn write(&self, drafts: Vec<Draft>) -> Result<Vec<NotifyResponse>, Error> {
        let wanted = u32::try_from(drafts.len()).unwrap_or(u32::MAX);
        let room = self.room.clone().try_acquire_many_owned(wanted).map_err(|_| Refusal::overloaded())?;
        let (answer, answered) = oneshot::channel();
        self.waiting.push(Call { drafts, answer, room }).map_err(|_| Refusal::overloaded())?;
        let ending = |_| Error::new(Kind::Unavailable, "UNAVAILABLE", "this instance is ending; try again");
        answered.await.map_err(ending)?
    }
}

/// Starts the writer of one instance.
pub(crate) fn start(inboxes: Inboxes, clock: Clock, lifecycle: &Lifecycle) -> Writer {
    let stored = lifecycle.metrics().counter(&STORED, []);
    let waiting = GroupCommit::start("notification writer", lifecycle, move |calls| {
        let (inboxes, clock) = (inboxes.clone(), clock.clone());
        let stored = stored.clone();
        async move {
            for calls in transactions(calls) {
                store(&inboxes, &clock, calls, &stored).await;
            }
        }
    });
    Writer { waiting, room: Arc::new(Semaphore::new(WAITING_DRAFTS_MAX)) }
}

/// Parts calls so that none is torn and no part is too large for a transaction.
fn transactions(calls: Vec<Call>) -> Vec<Vec<Call>> {
    let mut parts: Vec<Vec<Call>> = Vec::new();
    let mut drafts = 0;
    for call in calls {
        drafts += call.drafts.len();
        match parts.last_mut() {
            Some(part) if drafts <= TRANSACTION_DRAFTS_MAX => part.push(call),
            _ => {
                drafts = call.drafts.len();
                parts.push(vec![call]);
            }
        }
    }
    parts
}

async fn store(inboxes: &Inboxes, clock: &Clock, calls: Vec<Call>, stored: &Counter) {
    let (mut drafts, mut callers) = (Vec::new(), Vec::with_capacity(calls.len()));
    for Call { drafts: theirs, answer, room } in calls {
        callers.push((theirs.len(), answer, room));
        drafts.extend(theirs);
    }
    match append(&inboxes.store, &drafts, clock).await {
        Ok(Batch { appended, repeated }) => {
            let mut results = appended.into_iter().map(|appended| {
                if matches!(appended, Appended::Stored(..)) {
                    stored.inc();
                }
                tell(&inboxes.hub, appended)
            });
            for (theirs, answer, _room) in callers {
                // The caller may have gone; everybody is told all the same.
                let _ = answer.send(Ok(results.by_ref().take(theirs).collect()));
            }
            for (user_id, inbox) in repeated {
                inboxes.hub.found(&user_id, inbox);
            }
        }
        // Nothing of it was stored, and everybody is told so.
        Err(error) => {
            for (_, answer, _room) in callers {
                let _ = answer.send(Err(error.clone()));
            }
        }
    }
}

/// Stores a transaction, trying again when the database does not answer: an answer that was lost on its way may have
/// been a yes, and then the second try finds what the first one stored.
async fn append(store: &Store, drafts: &[Draft], clock: &Clock) -> Result<Batch, Error> {
    persist(|is_again| store.append(drafts, clock.now(), is_again)).await
}

fn tell(hub: &Hub, appended: Appended) -> NotifyResponse {
    match appended {
        Appended::Stored(notification, inbox) => {
            let notification = convert::notification(notification);
            hub.notified(notification.clone(), inbox);
            NotifyResponse { notification: Some(notification), created: true }
        }
        Appended::Repeat { first, is_ours } => {
            NotifyResponse { notification: Some(convert::notification(first)), created: is_ours }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::tests::draft;

    async fn call(drafts: usize) -> Call {
        let room = Arc::new(Semaphore::new(1)).acquire_owned().await.expect("open");
        Call { drafts: vec![draft("ann", ""); drafts], answer: oneshot::channel().0, room }
    }

    #[tokio::test]
    async fn calls_are_parted_and_never_torn() {
        let mut calls = Vec::new();
        for drafts in [500, 500, 24, 1, 500, 500, 500] {
            calls.push(call(drafts).await);
        }
        let parts = transactions(calls);
        let sizes: Vec<Vec<usize>> =
            parts.iter().map(|part| part.iter().map(|call| call.drafts.len()).collect()).collect();
        assert_eq!(sizes, [vec![500, 500, 24], vec![1, 500, 500], vec![500]]);
    }

    #[tokio::test]
    async fn what_is_too_much_is_refused_at_once() {
        let lifecycle = Lifecycle::new();
        let waiting = GroupCommit::start("never", &lifecycle, |_| std::future::pending());
        let writer = Writer { waiting, room: Arc::new(Semaphore::new(1)) };
        let refused = writer.write(vec![draft("ann", ""); 2]).await.expect_err("too much");
        assert_eq!((refused.kind, refused.reason), (Kind::Overloaded, "OVERLOADED"));
    }
}
