use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::model::Content;

/// `(user, request)`, each of few values so that they meet.
fn draft((user, request): (u8, u8), id: usize) -> Draft {
    Draft {
        id: Uuid::from_u128(id as u128),
        user_id: format!("user {user}"),
        content: Content {
            title: format!("title {id}"),
            message: String::new(),
            notification_type: "general".to_owned(),
            data: String::new(),
        },
        request_id: (request > 1).then(|| format!("request {request}")),
    }
}

fn is_repeat(one: &Notification, draft: &Draft) -> bool {
    let is_named = draft.request_id.is_some() && one.request_id == draft.request_id && one.user_id == draft.user_id;
    is_named || one.id == draft.id
}

/// What a database does with a batch, whose answer may be lost.
#[derive(Default)]
struct Archive {
    notifications: Vec<Notification>,
    inboxes: BTreeMap<String, Inbox>,
}

impl Archive {
    fn append(&mut self, drafts: &[Draft]) -> Vec<Appended> {
        let known: Vec<Notification> = self
            .notifications
            .iter()
            .filter(|known| drafts.iter().any(|draft| is_repeat(known, draft)))
            .cloned()
            .collect();
        let plan = plan(drafts, &known);
        let mut raised = HashMap::new();
        for (user_id, gained) in &plan.gains {
            let inbox = self.inboxes.entry((*user_id).to_owned()).or_default();
            inbox.last_seq += gained;
            inbox.unread = inbox.unread.saturating_add_unsigned(*gained);
            inbox.revision += gained;
            raised.insert((*user_id).to_owned(), *inbox);
        }
        let appended = plan.place(&raised, 7);
        self.notifications.extend(appended.iter().filter_map(|appended| match appended {
            Appended::Stored(notification, _) => Some(notification.clone()),
            Appended::Repeat { .. } => None,
        }));
        appended
    }
}

proptest! {
    /// Whatever comes in whatever batches, each of which may come again: places without holes, the inbox after each
    /// very notification, a request stored once.
    #[test]
    fn places_have_no_holes_and_repeats_store_nothing(
        batches in prop::collection::vec((prop::collection::vec((0u8..3, 0u8..5), 1..20), any::<bool>()), 1..6),
    ) {
        let mut archive = Archive::default();
        for (number, (batch, is_lost)) in batches.into_iter().enumerate() {
            let drafts: Vec<Draft> =
                batch.into_iter().enumerate().map(|(index, case)| draft(case, number * 100 + index)).collect();
            let before = archive.inboxes.clone();
            let stored_before = archive.notifications.clone();
            let appended = archive.append(&drafts);
            prop_assert_eq!(appended.len(), drafts.len());

            let mut inboxes = before;
            let mut seen = stored_before.clone();
            for (appended, draft) in appended.iter().zip(&drafts) {
                match appended {
                    Appended::Stored(notification, inbox) => {
                        prop_assert!(!seen.iter().any(|earlier| is_repeat(earlier, draft)));
                        let expected = inboxes.entry(draft.user_id.clone()).or_default();
                        expected.last_seq += 1;
                        expected.unread += 1;
                        expected.revision += 1;
                        prop_assert_eq!(*inbox, *expected);
                        prop_assert_eq!(notification.seq, inbox.last_seq);
                        prop_assert_eq!(&notification.content, &draft.content);
                        seen.push(notification.clone());
                    }
                    Appended::Repeat { first, is_ours } => {
                        prop_assert!(!is_ours);
                        prop_assert!(seen.contains(first) && is_repeat(first, draft));
                    }
                }
            }
            prop_assert_eq!(&inboxes, &archive.inboxes);
            prop_assert_eq!(&seen, &archive.notifications);

            if is_lost {
                let again = archive.append(&drafts);
                prop_assert_eq!(&seen, &archive.notifications);
                prop_assert_eq!(&inboxes, &archive.inboxes);
                for (again, first) in again.iter().zip(&appended) {
                    let Appended::Repeat { is_ours, .. } = again else { panic!("stored again") };
                    prop_assert_eq!(*is_ours, matches!(first, Appended::Stored(..)));
                }
            }
        }
    }
}
