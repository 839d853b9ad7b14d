//! In which part of a service's work something belongs.
//!
//! Whoever chooses among several instances of a service brings the sessions of one part to one instance; and instances
//! ring for each other by part. Neither depends on the other: a session is served wherever it is. But when all choose
//! alike, an instance needs to hear little of what the others do.

use std::hash::Hasher as _;

use fnv::FnvHasher;
use uuid::Uuid;

use crate::{
    chat::v1::{ConversationKind, Join, join::Conversation},
    location::v1::Pair,
};

/// How many parts there are. Sixteen instances have 32 each, give or take six.
pub const PARTS: u16 = 512;

/// A part, below [`PARTS`].
pub type Part = u16;

/// The part of what has these words for its name, in this order. Of all versions and on all machines the same: the FNV-1a
/// hash of the words, each with its length before it.
#[must_use]
pub fn named(words: &[&[u8]]) -> Part {
    let mut hasher = FnvHasher::default();
    for word in words {
        hasher.write(&u64::try_from(word.len()).unwrap_or(u64::MAX).to_le_bytes());
        hasher.write(word);
    }
    let hash = hasher.finish();
    // The high bits are the better mixed ones.
    u16::try_from((hash ^ (hash >> 32)) % u64::from(PARTS)).unwrap_or_default()
}

/// The part of a conversation. Some kinds are dialled by number, by everybody, and the others by id.
#[must_use]
pub fn of_conversation(kind: ConversationKind, id: Uuid, number: i64) -> Part {
    match kind {
        ConversationKind::Mobile | ConversationKind::Mentoring => of_number(kind, number),
        _ => named(&[id.as_bytes()]),
    }
}

/// The part of the conversation that somebody joins, as it is dialled.
#[must_use]
pub fn of_join(join: &Join) -> Part {
    match &join.conversation {
        Some(Conversation::ConversationNumber(named)) => of_number(named.kind(), named.number),
        Some(Conversation::ConversationId(id)) => {
            Uuid::try_parse(id).map_or_else(|_| named(&[id.as_bytes()]), |id| named(&[id.as_bytes()]))
        }
        None => 0,
    }
}

/// The part of a share.
#[must_use]
pub fn of_pair(Pair { customer_id, therapist_id }: &Pair) -> Part {
    named(&[customer_id.as_bytes(), therapist_id.as_bytes()])
}

/// The part of an inbox.
#[must_use]
pub fn of_user(user_id: &str) -> Part {
    named(&[user_id.as_bytes()])
}

fn of_number(kind: ConversationKind, number: i64) -> Part {
    named(&[kind.as_str_name().as_bytes(), &number.to_le_bytes()])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::v1::ConversationNumber;

    /// Instances of neighbouring versions must agree.
    #[test]
    fn a_part_is_the_same_for_ever() {
        assert_eq!(
            [of_user("42"), of_user("43"), named(&[Uuid::from_u128(7).as_bytes()]), named(&[])],
            [178, 381, 418, 449]
        );
    }

    #[test]
    fn whoever_dials_a_conversation_is_in_its_part() {
        let (id, number) = (Uuid::from_u128(0x1234), 77);
        let by_id = Join { conversation: Some(Conversation::ConversationId(id.to_string())), ..Join::default() };
        for kind in [ConversationKind::Therapy, ConversationKind::Clinic, ConversationKind::Consultation] {
            assert_eq!(of_join(&by_id), of_conversation(kind, id, number));
        }
        for kind in [ConversationKind::Mobile, ConversationKind::Mentoring] {
            let named = ConversationNumber { kind: kind.into(), number };
            let by_number = Join { conversation: Some(Conversation::ConversationNumber(named)), ..Join::default() };
            assert_eq!(of_join(&by_number), of_conversation(kind, id, number));
        }
    }

    #[test]
    fn parts_are_of_about_one_size() {
        let mut sizes = vec![0_usize; usize::from(PARTS)];
        for user in 0..usize::from(PARTS) * 100 {
            sizes[usize::from(of_user(&user.to_string()))] += 1;
        }
        assert!(
            sizes.iter().all(|size| (50..150).contains(size)),
            "{:?} to {:?}",
            sizes.iter().min(),
            sizes.iter().max()
        );
    }
}
