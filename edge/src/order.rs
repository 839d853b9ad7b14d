//! Which message a socket is shown next. Pure.

/// Where a socket is in its conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Order {
    /// The last message shown.
    told: u64,
    /// The newest message known to be stored. While it is above `told`, the past is being fetched.
    head: u64,
}

/// What to do with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Offer {
    /// Show it.
    Next,
    /// It was shown before.
    Behind,
    /// Fetch what lies between; this one comes with it.
    Gap,
}

impl Order {
    /// Shows what comes after `last_seq`.
    pub(crate) fn live(last_seq: u64) -> Self {
        Self { told: last_seq, head: last_seq }
    }

    /// Shows what is fetched first.
    pub(crate) fn replaying(last_seq: u64) -> Self {
        Self { told: 0, head: last_seq }
    }

    pub(crate) fn told(self) -> u64 {
        self.told
    }

    pub(crate) fn head(self) -> u64 {
        self.head
    }

    pub(crate) fn is_behind(self) -> bool {
        self.told < self.head
    }

    /// A message arrives.
    pub(crate) fn offer(&mut self, seq: u64) -> Offer {
        if seq <= self.told {
            Offer::Behind
        } else if seq == self.told + 1 && !self.is_behind() {
            *self = Self::live(seq);
            Offer::Next
        } else {
            self.raise(seq);
            Offer::Gap
        }
    }

    /// Messages up to this one are known to be stored.
    pub(crate) fn raise(&mut self, seq: u64) {
        self.head = self.head.max(seq);
    }

    /// A page that was asked for when the head was `head_then` ends with `last`.
    pub(crate) fn fetched(&mut self, last: Option<u64>, head_then: u64) {
        // An empty page says that there is nothing up to the head of then: it may have been erased.
        self.told = self.told.max(last.unwrap_or(head_then));
        self.raise(self.told);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn in_order_goes_out_at_once() {
        let mut order = Order::live(4);
        assert_eq!(order.offer(5), Offer::Next);
        assert_eq!(order.offer(5), Offer::Behind);
        assert_eq!(order.offer(7), Offer::Gap);
        assert_eq!(order.offer(6), Offer::Gap, "what was missing comes with the page");
        order.fetched(Some(7), 7);
        assert_eq!(order.offer(8), Offer::Next);
    }

    #[test]
    fn an_empty_page_ends_the_wait_for_what_was_erased() {
        let mut order = Order::live(1);
        assert_eq!(order.offer(3), Offer::Gap);
        order.fetched(None, 3);
        assert!(!order.is_behind());
    }

    proptest! {
        /// Events in any order, lost and doubled, with pages in between: each message is shown once, in order.
        #[test]
        fn each_once_and_in_order(
            start in 0u64..5,
            events in prop::collection::vec((1u64..30, any::<bool>()), 0..60),
            page in 1usize..4,
        ) {
            let mut order = Order::live(start);
            let mut stored = start;
            let mut shown = Vec::new();
            for (seq, fetches) in events {
                stored = stored.max(seq);
                if order.offer(seq) == Offer::Next {
                    shown.push(seq);
                }
                if fetches && order.is_behind() {
                    let messages: Vec<u64> = (order.told() + 1..=stored).take(page).collect();
                    order.fetched(messages.last().copied(), order.head());
                    shown.extend(messages);
                }
            }
            while order.is_behind() {
                let messages: Vec<u64> = (order.told() + 1..=stored).take(page).collect();
                order.fetched(messages.last().copied(), order.head());
                shown.extend(messages);
            }
            prop_assert_eq!(shown, (start + 1..=stored).collect::<Vec<_>>());
        }
    }
}
