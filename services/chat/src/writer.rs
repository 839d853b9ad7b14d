//! Stores messages by group commit, then tells.

use std::sync::Arc;

use switchboard_bus::Part;
use switchboard_chassis::{Clock, Error, Lifecycle, batch::GroupCommit, db::persist};
use switchboard_proto::chat::v1::{Message as WireMessage, converse_response::Event};
use tokio::sync::{Mutex, oneshot};
use uuid::Uuid;

use crate::{
    Asker, convert,
    hub::Hub,
    metrics::ChatCounts,
    model::{Draft, Refusal},
    order::{Appended, Numbers},
    store::Store,
};

/// Who wants to know what became of a draft.
pub(crate) enum Sender {
    /// A session of a stream.
    Session(Asker),
    /// A unary call: the message, and whether it is new.
    Call(oneshot::Sender<Result<(WireMessage, bool), Refusal>>),
}

/// The way to the writer. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Writer {
    drafts: GroupCommit<(Draft, Sender)>,
}

impl Writer {
    /// Stores a draft and tells everybody. Never waits: gives the sender back when too much waits already.
    pub(crate) fn write(&self, draft: Draft, sender: Sender) -> Result<(), Sender> {
        self.drafts.push((draft, sender)).map_err(|(_, sender)| sender)
    }
}

/// Starts the writer of one instance.
pub(crate) fn start(store: Arc<Store>, hub: Arc<Hub>, clock: Clock, lifecycle: &Lifecycle) -> Writer {
    // One batch at a time holds it.
    let numbers = Arc::new(Mutex::new(Numbers::default()));
    let counts = Arc::new(ChatCounts::new(lifecycle.metrics()));
    let drafts = GroupCommit::start("chat writer", lifecycle, move |batch: Vec<(Draft, Sender)>| {
        let (store, hub, clock, numbers) = (store.clone(), hub.clone(), clock.clone(), numbers.clone());
        let counts = counts.clone();
        async move {
            let (drafts, senders): (Vec<Draft>, Vec<Sender>) = batch.into_iter().unzip();
            match append(&store, &drafts, &clock, &numbers).await {
                Ok(appended) => {
                    for ((appended, sender), draft) in appended.into_iter().zip(senders).zip(&drafts) {
                        counts.appended(draft, &appended);
                        tell(&hub, (draft.conversation_id, draft.part), appended, sender);
                    }
                }
                // Nothing of the batch was stored, and everybody is told so.
                Err(error) => {
                    for sender in senders {
                        refuse(sender, Refusal::from(error.clone()));
                    }
                }
            }
        }
    });
    Writer { drafts }
}

/// Stores a batch, trying again when the database does not answer: an answer that was lost on its way may have been a
/// yes, and then the second try finds what the first one stored.
async fn append(
    store: &Store,
    drafts: &[Draft],
    clock: &Clock,
    numbers: &Mutex<Numbers>,
) -> Result<Vec<Appended>, Error> {
    persist(|is_again| async move { store.append(drafts, clock.now(), &mut *numbers.lock().await, is_again).await })
        .await
}

fn tell(hub: &Arc<Hub>, place: (Uuid, Part), appended: Appended, sender: Sender) {
    if let Appended::Repeat(message) = &appended {
        // Whoever stored it may not have come to tell it. Those who were told pass over it.
        hub.stored(place, convert::message(message.clone()), None);
    }
    match (appended, sender) {
        (Appended::Stored(message), sender) => {
            let message = convert::message(message);
            match sender {
                Sender::Session(asker) => hub.stored(place, message, Some(&asker)),
                Sender::Call(call) => {
                    hub.stored(place, message.clone(), None);
                    // The caller may have gone.
                    let _ = call.send(Ok((message, true)));
                }
            }
        }
        (Appended::Repeat(message), Sender::Session(asker)) => {
            asker.tell(Event::Message(convert::message(message)));
        }
        (Appended::Repeat(message), Sender::Call(call)) => {
            let _ = call.send(Ok((convert::message(message), false)));
        }
        (Appended::Refused(refusal), sender) => refuse(sender, refusal),
    }
}

pub(crate) fn refuse(sender: Sender, refusal: Refusal) {
    match sender {
        Sender::Session(asker) => asker.refuse(refusal),
        Sender::Call(call) => {
            let _ = call.send(Err(refusal));
        }
    }
}
