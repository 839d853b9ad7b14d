//! What chat counts.

use switchboard_chassis::metrics::{Counter, CounterSeries, Counters, Gauges, Metrics};

use crate::{
    model::{Draft, KINDS, Kind, Role, kind_name},
    order::Appended,
};

const STORED: Counters<1> =
    Counters::new("switchboard_chat_messages_stored_total", "Messages that were stored", &["kind"]);
const REPEATED: Counters<0> = Counters::new(
    "switchboard_chat_messages_repeated_total",
    "Sends of a message that was stored already, which were answered with it",
    &[],
);
pub(crate) const ROOMS: Gauges<0> =
    Gauges::new("switchboard_chat_rooms", "Conversations that somebody has open on this instance", &[]);

/// See the module.
pub(crate) struct ChatCounts {
    stored: Vec<(Kind, Counter)>,
    others: CounterSeries<1>,
    repeated: Counter,
}

impl ChatCounts {
    pub(crate) fn new(metrics: &Metrics) -> Self {
        let others = metrics.counters(&STORED);
        let stored = KINDS.map(|kind| (kind, others.of([&kind_name(kind)])));
        Self { stored: stored.into(), others, repeated: metrics.counter(&REPEATED, []) }
    }

    /// What became of a draft. Refusals are counted where they are told.
    pub(crate) fn appended(&self, draft: &Draft, appended: &Appended) {
        let kind = draft.kind;
        if let Appended::Stored(message) = appended {
            // A device's id is a credential.
            let user_id = (draft.sender_role != Role::Device).then_some(draft.sender_id.as_str());
            let (conversation, message_id, seq) = (draft.conversation_id, message.id, message.seq);
            tracing::debug!(target: "messages", user_id, %conversation, %message_id, seq, "a message was stored");
        }
        match appended {
            Appended::Stored(_) => match self.stored.iter().find(|(its, _)| *its == kind) {
                Some((_, stored)) => _ = stored.inc(),
                None => _ = self.others.of([&kind_name(kind)]).inc(),
            },
            Appended::Repeat(_) => _ = self.repeated.inc(),
            Appended::Refused(_) => {}
        }
    }
}
