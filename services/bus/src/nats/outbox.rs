//! What waits to be sent, and the numbers that it carries.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use tokio::sync::{Notify, oneshot};
use uuid::Uuid;

use super::frame::{Frame, HEAD_BYTES, Kind};
use crate::Subject;

/// Payloads that wait for the connection, before the oldest are dropped.
const OUTBOX_BYTES_MAX: usize = 16 << 20;
/// About what a waiting payload takes besides itself.
const WAITING_BYTES: usize = HEAD_BYTES + 75;

/// Of all members of one connection.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    state: Mutex<State>,
    filled: Notify,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Outgoing>,
    /// Of the payloads that wait.
    bytes: usize,
    /// Payloads that were dropped because too much waited.
    dropped: u64,
    last: HashMap<(Uuid, Subject), Last>,
}

/// The last that a member published on a subject.
#[derive(Debug, Default)]
struct Last {
    number: u64,
    /// It is on its way since the last beat, and says the number itself.
    is_fresh: bool,
}

#[derive(Debug)]
pub(crate) enum Outgoing {
    Frame(Subject, Frame),
    /// Everything before it was sent.
    Mark(oneshot::Sender<()>),
}

impl Outbox {
    /// Gives a payload its number and its place in the queue. One that was not made takes its number only.
    pub(crate) fn publish(&self, member: Uuid, subject: Subject, payload: Option<Bytes>) {
        let mut state = self.state();
        let last = state.last.entry((member, subject)).or_default();
        last.number += 1;
        let number = last.number;
        let Some(payload) = payload else { return };
        last.is_fresh = true;
        state.push(subject, Frame { kind: Kind::Payload, member, number, payload });
        drop(state);
        self.filled.notify_one();
    }

    /// Says the last numbers on the subjects on which nothing was published since the last beat.
    pub(crate) fn beat(&self) {
        let mut state = self.state();
        let mut silent = Vec::new();
        for ((member, subject), last) in &mut state.last {
            if !std::mem::take(&mut last.is_fresh) {
                silent.push((*subject, Frame::bare(Kind::Beat, *member, last.number)));
            }
        }
        for (subject, frame) in silent {
            state.push(subject, frame);
        }
        drop(state);
        self.filled.notify_one();
    }

    /// Says the last numbers for good.
    pub(crate) fn goodbye(&self) {
        let mut state = self.state();
        for ((member, subject), last) in std::mem::take(&mut state.last) {
            state.push(subject, Frame::bare(Kind::Goodbye, member, last.number));
        }
        drop(state);
        self.filled.notify_one();
    }

    /// A subscription asks to hear itself.
    pub(crate) fn hello(&self, subscription: Uuid, subject: Subject) {
        self.state().push(subject, Frame::bare(Kind::Hello, subscription, 0));
        self.filled.notify_one();
    }

    /// A subscription asks to hear itself, and when.
    pub(crate) fn echo(&self, subscription: Uuid, subject: Subject, now: u64) {
        self.state().push(subject, Frame::bare(Kind::Echo, subscription, now));
        self.filled.notify_one();
    }

    /// The bytes that wait, and how many payloads were dropped because of them so far.
    pub(crate) fn depth(&self) -> (usize, u64) {
        let state = self.state();
        (state.bytes, state.dropped)
    }

    /// Completes when everything that waits now was sent or dropped.
    pub(crate) fn mark(&self) -> oneshot::Receiver<()> {
        let (sender, receiver) = oneshot::channel();
        self.state().waiting.push_back(Outgoing::Mark(sender));
        self.filled.notify_one();
        receiver
    }

    /// The next to be sent.
    pub(crate) async fn next(&self) -> Outgoing {
        loop {
            if let Some(outgoing) = self.state().pop() {
                return outgoing;
            }
            self.filled.notified().await;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn push(&mut self, subject: Subject, frame: Frame) {
        let outgoing = Outgoing::Frame(subject, frame);
        self.bytes += outgoing.bytes();
        self.waiting.push_back(outgoing);
        while self.bytes > OUTBOX_BYTES_MAX {
            // What is no payload takes little, and there is little of it.
            let Some(oldest) = self.waiting.iter().position(|outgoing| outgoing.bytes() > 0) else { break };
            let dropped = self.waiting.remove(oldest).map_or(0, |outgoing| outgoing.bytes());
            self.bytes -= dropped;
            self.dropped += 1;
        }
    }

    fn pop(&mut self) -> Option<Outgoing> {
        let outgoing = self.waiting.pop_front()?;
        self.bytes -= outgoing.bytes();
        Some(outgoing)
    }
}

impl Outgoing {
    /// What counts against the bound.
    fn bytes(&self) -> usize {
        match self {
            Self::Frame(_, Frame { kind: Kind::Payload, payload, .. }) => payload.len() + WAITING_BYTES,
            Self::Frame(..) | Self::Mark(_) => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANNA: Uuid = Uuid::from_u128(1);
    const BEN: Uuid = Uuid::from_u128(2);

    impl Outbox {
        fn take(&self) -> Vec<(&'static str, Kind, Uuid, u64)> {
            let mut state = self.state();
            let frames = std::iter::from_fn(|| state.pop()).filter_map(|outgoing| match outgoing {
                Outgoing::Frame(subject, frame) => Some((subject.name, frame.kind, frame.member, frame.number)),
                Outgoing::Mark(_) => None,
            });
            frames.collect()
        }
    }

    fn some() -> Option<Bytes> {
        Some(Bytes::from_static(b"payload"))
    }

    #[test]
    fn numbers_count_by_member_and_subject() {
        let outbox = Outbox::default();
        for (member, subject) in [(ANNA, "one"), (ANNA, "one"), (ANNA, "two"), (BEN, "one")] {
            outbox.publish(member, subject.into(), some());
        }
        let payload = |subject, member, number| (subject, Kind::Payload, member, number);
        let expected =
            [payload("one", ANNA, 1), payload("one", ANNA, 2), payload("two", ANNA, 1), payload("one", BEN, 1)];
        assert_eq!(outbox.take(), expected);
    }

    #[test]
    fn a_beat_says_what_nothing_else_said() {
        let outbox = Outbox::default();
        outbox.beat();
        assert_eq!(outbox.take(), [], "nothing was published");
        outbox.publish(ANNA, "one".into(), some());
        outbox.publish(ANNA, "one".into(), None);
        outbox.beat();
        assert_eq!(outbox.take(), [("one", Kind::Payload, ANNA, 1)]);
        for _ in 0..3 {
            outbox.beat();
            assert_eq!(outbox.take(), [("one", Kind::Beat, ANNA, 2)]);
        }
    }

    #[test]
    fn what_was_never_made_is_said_by_the_beat() {
        let outbox = Outbox::default();
        outbox.publish(ANNA, "one".into(), None);
        assert_eq!(outbox.take(), []);
        outbox.beat();
        assert_eq!(outbox.take(), [("one", Kind::Beat, ANNA, 1)]);
    }

    #[test]
    fn the_oldest_payloads_make_room_and_keep_their_numbers() {
        let outbox = Outbox::default();
        let large = Bytes::from(vec![0; OUTBOX_BYTES_MAX / 4]);
        outbox.hello(BEN, "one".into());
        for _ in 0..10 {
            outbox.publish(ANNA, "one".into(), Some(large.clone()));
        }
        let mut expected = vec![("one", Kind::Hello, BEN, 0)];
        expected.extend((8..=10).map(|number| ("one", Kind::Payload, ANNA, number)));
        assert_eq!(outbox.take(), expected);
        assert_eq!(outbox.state().bytes, 0);
    }

    #[test]
    fn one_that_is_larger_than_the_queue_is_dropped_alone() {
        let outbox = Outbox::default();
        outbox.publish(ANNA, "one".into(), Some(Bytes::from(vec![0; OUTBOX_BYTES_MAX])));
        outbox.publish(ANNA, "one".into(), some());
        assert_eq!(outbox.take(), [("one", Kind::Payload, ANNA, 2)]);
    }

    #[test]
    fn after_the_goodbye_there_are_no_beats() {
        let outbox = Outbox::default();
        outbox.publish(ANNA, "one".into(), some());
        outbox.goodbye();
        outbox.beat();
        assert_eq!(outbox.take(), [("one", Kind::Payload, ANNA, 1), ("one", Kind::Goodbye, ANNA, 1)]);
    }
}
