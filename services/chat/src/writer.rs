//! The one task that stores messages: it takes all that wait, stores them in one transaction, then tells.
//!
//! Under light load a message waits for nobody; under heavy load many share one commit.

use std::{convert::Infallible, sync::Arc};

use switchboard_chassis::{Clock, Lifecycle};
use switchboard_proto::chat::v1::{ConverseResponse, Message as WireMessage, converse_response::Event};
use tokio::sync::{mpsc, oneshot};

use crate::{
    convert,
    hub::Hub,
    link::Asker,
    model::{Draft, Refusal},
    order::{Appended, Numbers},
    store::Store,
};

/// Messages that wait to be stored. Beyond it a sender is refused at once.
const WAITING_DRAFTS_MAX: usize = 8192;
/// Messages in one transaction.
const BATCH_DRAFTS_MAX: usize = 512;

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
    waiting: mpsc::Sender<(Draft, Sender)>,
}

impl Writer {
    /// Stores a draft and tells everybody. Never waits: gives the sender back when too much waits already.
    pub(crate) fn write(&self, draft: Draft, sender: Sender) -> Result<(), Sender> {
        self.waiting.try_send((draft, sender)).map_err(|error| error.into_inner().1)
    }
}

/// Starts the writer of one instance.
pub(crate) fn start(store: Arc<Store>, hub: Arc<Hub>, clock: Clock, lifecycle: &Lifecycle) -> Writer {
    let (waiting, mut drafts) = mpsc::channel(WAITING_DRAFTS_MAX);
    let stopping = lifecycle.clone();
    lifecycle.spawn_essential("chat writer", async move {
        let mut numbers = Numbers::default();
        let mut batch: Vec<(Draft, Sender)> = Vec::with_capacity(BATCH_DRAFTS_MAX);
        loop {
            tokio::select! {
                // What waits is stored before the end.
                biased;
                taken = drafts.recv_many(&mut batch, BATCH_DRAFTS_MAX) => if taken == 0 {
                    break;
                },
                () = stopping.stopped() => break,
            }
            let (drafts, senders): (Vec<Draft>, Vec<Sender>) = batch.drain(..).unzip();
            match store.append(&drafts, clock.now(), &mut numbers).await {
                Ok(appended) => {
                    for (appended, sender) in appended.into_iter().zip(senders) {
                        tell(&hub, appended, sender);
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
        Ok::<_, Infallible>(())
    });
    Writer { waiting }
}

fn tell(hub: &Arc<Hub>, appended: Appended, sender: Sender) {
    match (appended, sender) {
        (Appended::Stored(message), sender) => {
            let conversation_id = message.conversation_id;
            let message = convert::message(message);
            match sender {
                Sender::Session(asker) => hub.stored(conversation_id, message, Some(&asker)),
                Sender::Call(call) => {
                    hub.stored(conversation_id, message.clone(), None);
                    // The caller may have gone.
                    let _ = call.send(Ok((message, true)));
                }
            }
        }
        (Appended::Repeat(message), Sender::Session(asker)) => {
            asker.link.push(ConverseResponse {
                sessions: vec![asker.session],
                event: Some(Event::Message(convert::message(message))),
                answer: asker.answer(),
            });
        }
        (Appended::Repeat(message), Sender::Call(call)) => {
            let _ = call.send(Ok((convert::message(message), false)));
        }
        (Appended::Refused(refusal), sender) => refuse(sender, refusal),
    }
}

pub(crate) fn refuse(sender: Sender, refusal: Refusal) {
    match sender {
        Sender::Session(asker) => asker.tell(Event::Refused(convert::refused(refusal))),
        Sender::Call(call) => {
            let _ = call.send(Err(refusal));
        }
    }
}
