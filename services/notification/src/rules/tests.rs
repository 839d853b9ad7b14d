use proptest::prelude::*;
use switchboard_proto::notification::v1::RefusalReason;

use super::*;

fn request() -> NotifyRequest {
    NotifyRequest { user_id: "u".to_owned(), title: "t".to_owned(), ..NotifyRequest::default() }
}

fn read(request: NotifyRequest) -> Result<Draft, Refusal> {
    draft(request, Uuid::nil())
}

fn data(json: &str) -> Option<prost_types::Struct> {
    Some(json::to_struct(serde_json::from_str(json).expect("an object")))
}

#[test]
fn what_is_left_out_has_defaults() {
    let draft = read(request()).expect("right");
    assert_eq!(draft.content.notification_type, "general");
    assert_eq!(draft.content.data, "");
    assert_eq!(draft.request_id, None);
}

#[test]
fn texts_are_counted_in_characters() {
    type Set = fn(&mut NotifyRequest, String);
    let texts: [(&str, usize, Set); 5] = [
        ("user_id", 255, |request, text| request.user_id = text),
        ("title", 255, |request, text| request.title = text),
        ("message", 4096, |request, text| request.message = text),
        ("notification_type", 64, |request, text| request.notification_type = text),
        ("request_id", 128, |request, text| request.request_id = text),
    ];
    for (field, most, set) in texts {
        let with = |text: String| {
            let mut request = request();
            set(&mut request, text);
            read(request)
        };
        assert!(with("é".repeat(most)).is_ok(), "{field}");
        for wrong in ["é".repeat(most + 1), "a\0b".to_owned()] {
            let refusal = with(wrong).expect_err(field);
            assert_eq!(refusal.reason, RefusalReason::InvalidArgument);
            assert!(refusal.message.starts_with(&format!("{field}: ")), "{refusal:?}");
        }
        assert_eq!(with(String::new()).is_err(), ["user_id", "title"].contains(&field), "{field}");
    }
}

#[test]
fn data_is_at_most_16_kib_of_json() {
    let with =
        |chars: usize| read(NotifyRequest { data: data(&format!(r#"{{"a":"{}"}}"#, "x".repeat(chars))), ..request() });
    let around = r#"{"a":""}"#.len();
    assert_eq!(with(DATA_BYTES_MAX - around).expect("just fits").content.data.len(), DATA_BYTES_MAX);
    assert!(with(DATA_BYTES_MAX - around + 1).expect_err("too long").message.starts_with("data: "));
}

#[test]
fn a_wrong_one_of_several_is_named() {
    let requests = vec![request(), NotifyRequest { title: String::new(), ..request() }];
    let refusal = drafts(requests, Uuid::nil).expect_err("no title");
    assert!(refusal.message.starts_with("notifications[1].title: "), "{refusal:?}");
    assert!(drafts(vec![request(); 500], Uuid::nil).is_ok());
    assert!(drafts(vec![request(); 501], Uuid::nil).is_err());
}

#[test]
fn what_was_read_is_ids_or_all() {
    let id = "0190163D-8694-739B-AEA5-966C26F8AD91";
    let ids = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>();
    let which = |all, ids| which(&Read { all, notification_ids: ids });
    assert_eq!(which(true, Vec::new()), Ok(Which::All));
    let other_spelling = format!("{{{}}}", id.to_lowercase());
    assert_eq!(which(false, ids(&[id, &other_spelling])), Ok(Which::These(vec![Uuid::parse_str(id).expect("a UUID")])));
    assert_eq!(which(false, ids(&["17"])), Err(model::no_notification()));
    for wrong in [which(true, ids(&[id])), which(false, Vec::new()), which(false, vec![id.to_owned(); 501])] {
        assert_eq!(wrong.expect_err("wrong").reason, RefusalReason::InvalidArgument);
    }
}

#[test]
fn pages_have_a_size() {
    let size = |page_size| page(&ListNotificationsRequest { page_size, ..Default::default() }).map(|page| page.size);
    assert_eq!(size(0), Ok(50));
    assert_eq!(size(7), Ok(7));
    assert_eq!(size(1000), Ok(200));
    assert!(size(-1).is_err());
}

proptest! {
    /// What the pages count a notification for is enough for its data: see `PAGE_BYTES`.
    #[test]
    fn data_does_not_grow_more_than_the_pages_reckon(numbers in prop::collection::vec(-9i64..10, 0..100)) {
        let json = serde_json::json!({ "a": numbers }).to_string();
        let encoded = prost::Message::encoded_len(&data(&json).expect("given"));
        prop_assert!(encoded <= json.len() * 6 + 32);
    }
}
