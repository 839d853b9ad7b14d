//! Finds out by the numbers that something was lost. Pure: the time is an argument.

use std::{collections::HashMap, time::Duration};

use tokio::time::Instant;
use uuid::Uuid;

/// How often a member says its number on a subject on which it does not publish.
pub(crate) const BEAT_EVERY: Duration = Duration::from_secs(2);
/// A member says something at least every two beats. So everybody who is there was heard by then.
const SETTLED_AFTER: Duration = Duration::from_secs(5);
/// Who says nothing for so long, though one beat may be lost, is gone or cannot be heard.
const SILENT_AFTER: Duration = Duration::from_secs(7);

/// Whom one subscription has heard, and how far.
#[derive(Debug)]
pub(crate) struct Gaps {
    members: HashMap<Uuid, Known>,
    began_at: Instant,
    looked_at: Instant,
    /// Somebody was heard for the first time, and not from the first number on.
    is_doubtful: bool,
}

#[derive(Debug)]
struct Known {
    number: u64,
    heard_at: Instant,
}

/// What a member said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    /// A payload of this number.
    Payload(u64),
    /// The last payload had this number.
    Beat(u64),
    /// The same, and there will be no other.
    Goodbye(u64),
}

/// Where something stands that was said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Nothing is missing before it.
    Next,
    /// Something is missing before it.
    AfterGap,
    /// It comes too late: later ones were heard.
    Behind,
}

impl Gaps {
    /// Of a subscription that begins.
    pub(crate) fn new(now: Instant) -> Self {
        Self { members: HashMap::new(), began_at: now, looked_at: now, is_doubtful: false }
    }

    /// Something was said.
    pub(crate) fn hear(&mut self, member: Uuid, said: Said, now: Instant) -> Place {
        let (before, number) = match said {
            Said::Payload(number) => (number.saturating_sub(1), number),
            Said::Beat(number) | Said::Goodbye(number) => (number, number),
        };
        let is_young = self.is_young(now);
        let place = match self.members.get(&member) {
            Some(known) if before == known.number => Place::Next,
            Some(known) if before < known.number => Place::Behind,
            Some(_) => Place::AfterGap,
            None if before == 0 => Place::Next,
            // It was said before the subscription began, or was lost since.
            None if is_young => {
                self.is_doubtful = true;
                Place::Next
            }
            None => Place::AfterGap,
        };
        if let Said::Goodbye(_) = said {
            self.members.remove(&member);
        } else {
            let known = self.members.entry(member).or_insert(Known { number, heard_at: now });
            known.number = known.number.max(number);
            known.heard_at = now;
        }
        place
    }

    /// To be called every second or so; true when something may have been lost.
    pub(crate) fn look(&mut self, now: Instant) -> bool {
        if now.saturating_duration_since(self.looked_at) > SILENT_AFTER {
            // This process did not run, so it cannot say who was silent.
            self.restart(now);
            return true;
        }
        self.looked_at = now;
        let known = self.members.len();
        self.members.retain(|_, known| now.saturating_duration_since(known.heard_at) < SILENT_AFTER);
        let is_doubt_due = self.is_doubtful && !self.is_young(now);
        self.is_doubtful &= !is_doubt_due;
        is_doubt_due || self.members.len() < known
    }

    /// Something may have been lost, of everybody: what is heard from now on is compared with itself.
    pub(crate) fn restart(&mut self, now: Instant) {
        *self = Self::new(now);
    }

    fn is_young(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.began_at) < SETTLED_AFTER
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Place::*, Said::*, *};

    const ANNA: Uuid = Uuid::from_u128(1);
    const BEN: Uuid = Uuid::from_u128(2);
    const SECOND: Duration = Duration::from_secs(1);

    fn settled() -> (Gaps, Instant) {
        let began = Instant::now();
        let mut gaps = Gaps::new(began);
        assert!((0..=5).all(|second| !gaps.look(began + second * SECOND)));
        (gaps, began + SETTLED_AFTER)
    }

    #[test]
    fn numbers_in_a_row_are_no_gap() {
        let (mut gaps, now) = settled();
        let said = [Payload(1), Payload(2), Beat(2), Payload(3), Beat(3), Beat(3), Goodbye(3)];
        assert!(said.into_iter().all(|said| gaps.hear(ANNA, said, now) == Next));
        assert!(!gaps.look(now));
    }

    #[test]
    fn a_number_left_out_is_told_once() {
        let (mut gaps, now) = settled();
        let places = [Payload(1), Payload(3), Payload(4)].map(|said| gaps.hear(ANNA, said, now));
        assert_eq!(places, [Next, AfterGap, Next]);
    }

    #[test]
    fn the_loss_of_the_last_payload_shows_at_the_beat_and_once() {
        let (mut gaps, now) = settled();
        let places = [Payload(1), Beat(2), Beat(2), Payload(3)].map(|said| gaps.hear(ANNA, said, now));
        assert_eq!(places, [Next, AfterGap, Next, Next]);
    }

    #[test]
    fn the_loss_of_the_first_payload_shows() {
        let (mut gaps, now) = settled();
        assert_eq!(gaps.hear(ANNA, Payload(2), now), AfterGap);
        assert_eq!(gaps.hear(BEN, Beat(1), now), AfterGap);
    }

    #[test]
    fn a_loss_before_the_goodbye_shows_and_a_goodbye_is_no_silence() {
        let (mut gaps, now) = settled();
        gaps.hear(ANNA, Payload(1), now);
        gaps.hear(BEN, Payload(1), now);
        assert_eq!(gaps.hear(ANNA, Goodbye(2), now), AfterGap);
        assert_eq!(gaps.hear(BEN, Goodbye(1), now), Next);
        assert!((0..20).all(|second| !gaps.look(now + second * SECOND)));
    }

    #[test]
    fn members_are_counted_apart() {
        let (mut gaps, now) = settled();
        let said = [(ANNA, Payload(1)), (BEN, Payload(1)), (BEN, Payload(2)), (ANNA, Payload(2))];
        assert!(said.into_iter().all(|(member, said)| gaps.hear(member, said, now) == Next));
    }

    #[test]
    fn what_overtook_is_not_overtaken_again() {
        let (mut gaps, now) = settled();
        let places = [Payload(1), Payload(3), Payload(2), Payload(3), Payload(4)].map(|s| gaps.hear(ANNA, s, now));
        assert_eq!(places, [Next, AfterGap, Behind, Behind, Next]);
    }

    #[test]
    fn who_begins_late_is_told_once_and_a_moment_later() {
        let began = Instant::now();
        let mut gaps = Gaps::new(began);
        assert_eq!(gaps.hear(ANNA, Payload(50), began), Next);
        assert_eq!(gaps.hear(ANNA, Payload(51), began), Next);
        assert_eq!(gaps.hear(BEN, Beat(7), began + SECOND), Next);
        assert_eq!(gaps.hear(BEN, Payload(9), began + SECOND), AfterGap, "what is known is compared at once");
        assert!((1..5).all(|second| !gaps.look(began + second * SECOND)));
        assert!(gaps.look(began + SETTLED_AFTER));
        assert!(!gaps.look(began + SETTLED_AFTER + SECOND));
    }

    #[test]
    fn a_member_that_is_new_has_nothing_before() {
        let began = Instant::now();
        let mut gaps = Gaps::new(began);
        assert_eq!(gaps.hear(ANNA, Payload(1), began), Next);
        assert!((1..7).all(|second| !gaps.look(began + second * SECOND)));
    }

    #[test]
    fn who_falls_silent_is_told_once_and_is_not_kept() {
        let (mut gaps, now) = settled();
        gaps.hear(ANNA, Payload(1), now);
        gaps.hear(BEN, Payload(1), now);
        gaps.hear(BEN, Beat(1), now + 2 * SECOND);
        let told: Vec<u32> = (1..30).filter(|second| gaps.look(now + *second * SECOND)).collect();
        assert_eq!(told, [7, 9]);
        assert!(gaps.members.is_empty());
        assert_eq!(gaps.hear(ANNA, Beat(1), now + 30 * SECOND), AfterGap, "it could not be heard meanwhile");
    }

    #[test]
    fn a_process_that_stood_still_does_not_blame_the_others() {
        let (mut gaps, now) = settled();
        gaps.hear(ANNA, Payload(1), now);
        let awake = now + Duration::from_secs(60);
        assert!(gaps.look(awake));
        assert_eq!(gaps.hear(ANNA, Payload(40), awake), Next);
        assert!((1..5).all(|second| !gaps.look(awake + second * SECOND)));
        assert!(gaps.look(awake + SETTLED_AFTER));
    }

    proptest! {
        /// Whatever is lost of what one member says: it is told at the next thing heard, and never else.
        #[test]
        fn exactly_what_is_lost_is_told(said in proptest::collection::vec((any::<bool>(), any::<bool>()), 1..60)) {
            let (mut gaps, now) = settled();
            let (mut number, mut is_missing) = (0, false);
            for (is_payload, is_lost) in said {
                number += u64::from(is_payload);
                if is_lost {
                    is_missing |= is_payload;
                    continue;
                }
                let place = gaps.hear(ANNA, if is_payload { Payload(number) } else { Beat(number) }, now);
                prop_assert_eq!(place, if is_missing { AfterGap } else { Next });
                is_missing = false;
            }
        }
    }
}
