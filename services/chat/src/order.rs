//! Which place each message of a batch takes, and which is a repeat. Pure.

use std::collections::HashMap;

use switchboard_chassis::Micros;
use switchboard_proto::chat::v1::RefusalReason;
use uuid::Uuid;

use crate::model::{self, Draft, Message, Openness, Refusal, Status};

/// What became of one draft.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Appended {
    Stored(Message),
    /// It was stored before.
    Repeat(Message),
    Refused(Refusal),
}

/// The message numbers that this instance may still give.
#[derive(Debug, Default)]
pub(crate) struct Numbers {
    pub(crate) next: i64,
    /// The first that it may not.
    pub(crate) end: i64,
}

type ClientKey = (Uuid, String, String);

/// Gives each draft its place. Pure; returns what became of each and the new heads of the conversations that grew.
pub(crate) fn place(
    drafts: &[Draft],
    heads: &[(Uuid, i64, i32)],
    known: Vec<Message>,
    now: Micros,
    numbers: &mut Numbers,
) -> (Vec<Appended>, Vec<(Uuid, u64)>) {
    let mut heads: HashMap<Uuid, (u64, i32, bool)> =
        heads.iter().map(|(id, seq, status)| (*id, (seq.unsigned_abs(), *status, false))).collect();
    let mut by_id: HashMap<Uuid, Message> = HashMap::new();
    let mut by_client: HashMap<ClientKey, Message> = HashMap::new();
    let remember = |message: &Message, by_client: &mut HashMap<ClientKey, Message>| {
        if let Some(client_id) = &message.client_message_id {
            by_client.insert((message.conversation_id, message.sender_id.clone(), client_id.clone()), message.clone());
        }
    };
    for message in known {
        remember(&message, &mut by_client);
        by_id.insert(message.id, message);
    }

    let mut appended = Vec::with_capacity(drafts.len());
    for draft in drafts {
        let client_key = draft
            .client_message_id
            .as_ref()
            .map(|client_id| (draft.conversation_id, draft.sender_id.clone(), client_id.clone()));
        let first = client_key.and_then(|key| by_client.get(&key)).or_else(|| by_id.get(&draft.id));
        let result = match (first, heads.get_mut(&draft.conversation_id)) {
            (Some(first), _)
                if first.conversation_id == draft.conversation_id && first.sender_id == draft.sender_id =>
            {
                Appended::Repeat(first.clone())
            }
            (Some(_), _) => {
                Appended::Refused(Refusal::new(RefusalReason::AlreadyExists, "another message has this id"))
            }
            (None, None) => Appended::Refused(model::no_conversation()),
            (None, Some((_, status, _))) if *status != i32::from(Openness::Open) => {
                Appended::Refused(Refusal::new(RefusalReason::ConversationClosed, "the conversation is closed"))
            }
            (None, Some((last_seq, _, grew))) => {
                *last_seq += 1;
                *grew = true;
                let message = Message {
                    id: draft.id,
                    conversation_id: draft.conversation_id,
                    number: numbers.next,
                    seq: *last_seq,
                    sender_id: draft.sender_id.clone(),
                    sender_role: draft.sender_role,
                    body: draft.body.clone(),
                    client_message_id: draft.client_message_id.clone(),
                    created_at: now,
                    status: Status::Sent,
                };
                numbers.next += 1;
                remember(&message, &mut by_client);
                by_id.insert(message.id, message.clone());
                Appended::Stored(message)
            }
        };
        appended.push(result);
    }
    let grown = heads.into_iter().filter(|(_, (_, _, grew))| *grew).map(|(id, (seq, ..))| (id, seq)).collect();
    (appended, grown)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::model::{Body, Kind, MessageType, Role};

    /// `(conversation, sender, client id, retry)`, each of few values so that they meet.
    fn draft((conversation, sender, client, retry): (u128, u8, u8, bool), id: usize) -> Draft {
        Draft {
            kind: Kind::Consultation,
            absent: Vec::new(),
            conversation_id: Uuid::from_u128(conversation),
            part: 0,
            // A retry has the id of an earlier draft.
            id: Uuid::from_u128(1_000 + if retry { (id / 2) as u128 } else { id as u128 }),
            retry,
            sender_id: sender.to_string(),
            sender_role: Role::Customer,
            body: Body {
                content: "x".to_owned(),
                message_type: MessageType::Text,
                media_url: String::new(),
                is_urgent: false,
                metadata_json: String::new(),
            },
            client_message_id: (client > 0).then(|| client.to_string()),
        }
    }

    const OPEN: i32 = Openness::Open as i32;
    const CLOSED: i32 = Openness::Closed as i32;

    proptest! {
        /// Whatever comes in whatever batches: places without holes or repeats, a client id stored once, and the heads
        /// are what was stored.
        #[test]
        fn places_have_no_holes_and_repeats_store_nothing(
            batches in prop::collection::vec(prop::collection::vec((0u128..4, 0u8..2, 0u8..4, any::<bool>()), 1..20), 1..6),
        ) {
            // Conversation 0 does not exist, 3 is closed.
            let mut heads = BTreeMap::from([(1u128, (5i64, OPEN)), (2, (0, OPEN)), (3, (9, CLOSED))]);
            let mut archive: Vec<Message> = Vec::new();
            let mut numbers = Numbers { next: 1, end: i64::MAX };
            for (batch_index, batch) in batches.into_iter().enumerate() {
                let drafts: Vec<Draft> = batch
                    .into_iter()
                    .enumerate()
                    .map(|(index, case)| draft(case, batch_index * 100 + index))
                    .collect();
                let rows: Vec<(Uuid, i64, i32)> =
                    heads.iter().map(|(id, (seq, status))| (Uuid::from_u128(*id), *seq, *status)).collect();
                let known: Vec<Message> = archive
                    .iter()
                    .filter(|message| drafts.iter().any(|draft| {
                        draft.id == message.id
                            || draft.client_message_id.is_some()
                                && draft.client_message_id == message.client_message_id
                                && draft.conversation_id == message.conversation_id
                                && draft.sender_id == message.sender_id
                    }))
                    .cloned()
                    .collect();
                let (appended, grown) = place(&drafts, &rows, known, 7, &mut numbers);
                prop_assert_eq!(appended.len(), drafts.len());
                for (result, draft) in appended.iter().zip(&drafts) {
                    match result {
                        Appended::Stored(message) => {
                            let (head, status) = heads.get_mut(&draft.conversation_id.as_u128()).expect("it exists");
                            prop_assert_eq!(*status, OPEN);
                            *head += 1;
                            prop_assert_eq!(message.seq, head.unsigned_abs());
                            prop_assert!(!archive.iter().any(|other| other.number == message.number));
                            prop_assert!(!archive.iter().any(|other| other.id == message.id));
                            prop_assert!(!archive.iter().any(|other| other.client_message_id.is_some()
                                && other.client_message_id == message.client_message_id
                                && other.sender_id == message.sender_id
                                && other.conversation_id == message.conversation_id));
                            archive.push(message.clone());
                        }
                        Appended::Repeat(first) => {
                            prop_assert!(archive.contains(first));
                            prop_assert_eq!(&first.sender_id, &draft.sender_id);
                            prop_assert_eq!(first.conversation_id, draft.conversation_id);
                        }
                        Appended::Refused(_) => {
                            let id = draft.conversation_id.as_u128();
                            prop_assert!(id == 0 || id == 3 || archive.iter().any(|other| other.id == draft.id));
                        }
                    }
                }
                for (id, seq) in grown {
                    prop_assert_eq!(heads[&id.as_u128()].0.unsigned_abs(), seq);
                }
            }
        }
    }
}
