//! What a subscription has heard and nobody has taken yet.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use tokio::sync::Notify;

use crate::{Heard, Missed, Part};

/// Payloads that wait for a slow subscriber, before the oldest are dropped.
const INBOX_BYTES_MAX: usize = 16 << 20;
/// About what a waiting payload takes besides itself.
const WAITING_BYTES: usize = 100;

#[derive(Debug, Default)]
pub(crate) struct Inbox {
    state: Mutex<State>,
    filled: Notify,
}

#[derive(Debug, Default)]
struct State {
    payloads: VecDeque<Bytes>,
    bytes: usize,
    missed: Missed,
    is_closed: bool,
}

impl Inbox {
    pub(crate) fn push(&self, payload: Bytes) {
        let mut state = self.state();
        state.bytes += payload.len() + WAITING_BYTES;
        state.payloads.push_back(payload);
        while state.bytes > INBOX_BYTES_MAX && state.pop().is_some() {
            // Where it was told is not known any more.
            state.missed = Missed::everything();
        }
        drop(state);
        self.filled.notify_one();
    }

    /// Something may not have come, of what was told to all or in a part.
    pub(crate) fn missed(&self, part: Option<Part>) {
        self.state().missed.add(part);
        self.filled.notify_one();
    }

    pub(crate) fn missed_everything(&self) {
        self.state().missed = Missed::everything();
        self.filled.notify_one();
    }

    /// There will be nothing else.
    pub(crate) fn close(&self) {
        self.state().is_closed = true;
        self.filled.notify_one();
    }

    /// Only one waits for it. A miss comes before the payloads: a look at the database serves for all of it.
    pub(crate) async fn next(&self) -> Option<Heard> {
        loop {
            {
                let mut state = self.state();
                if !state.missed.is_nothing() {
                    return Some(Heard::Missed(std::mem::take(&mut state.missed)));
                }
                if let Some(payload) = state.pop() {
                    return Some(Heard::Payload(payload));
                }
                if state.is_closed {
                    return None;
                }
            }
            self.filled.notified().await;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn pop(&mut self) -> Option<Bytes> {
        let payload = self.payloads.pop_front()?;
        self.bytes -= payload.len() + WAITING_BYTES;
        Some(payload)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(byte: u8) -> Bytes {
        Bytes::from(vec![byte; INBOX_BYTES_MAX / 4])
    }

    #[tokio::test]
    async fn who_is_slow_misses_the_oldest_and_hears_the_rest_in_order() {
        let inbox = Inbox::default();
        for byte in 0..6 {
            inbox.push(payload(byte));
        }
        inbox.missed(Some(1));
        inbox.close();
        assert_eq!(inbox.next().await, Some(Heard::Missed(Missed::everything())));
        for byte in 3..6 {
            assert_eq!(inbox.next().await, Some(Heard::Payload(payload(byte))));
        }
        assert_eq!(inbox.next().await, None);
    }

    #[tokio::test]
    async fn who_waits_is_woken() {
        let inbox = Inbox::default();
        for _ in 0..3 {
            let (heard, ()) = tokio::join!(inbox.next(), async { inbox.missed(Some(7)) });
            assert!(matches!(heard, Some(Heard::Missed(missed)) if missed.of_part(7) && !missed.of_part(8)));
        }
    }
}
