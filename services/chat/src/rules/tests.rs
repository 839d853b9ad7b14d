//! The rules as tables and as properties.

use proptest::prelude::*;
use switchboard_proto::chat::v1::MessageStatus;

use super::*;
use crate::model::Openness;

fn seat(role: Role, user_id: &str) -> Seat {
    Seat { role, user_id: user_id.to_owned() }
}

fn conversation(kind: Kind, seats: Vec<Seat>) -> Conversation {
    Conversation {
        id: Uuid::nil(),
        number: 1,
        kind,
        seats,
        subject: String::new(),
        openness: Openness::Open,
        last_seq: 0,
        erased: 0,
        created_at: 0,
        updated_at: 0,
    }
}

fn open(kind: Kind, people: &[(&str, &str)]) -> Result<Opening, Refusal> {
    opening(OpenConversationRequest {
        kind: kind.into(),
        participants: people
            .iter()
            .map(|(user_id, role)| Participant { user_id: (*user_id).to_owned(), role: (*role).to_owned() })
            .collect(),
        ..OpenConversationRequest::default()
    })
}

fn text(content: &str) -> Send {
    Send { content: content.to_owned(), ..Send::default() }
}

#[test]
fn who_sits_in_which_kind() {
    use Kind::{Clinic, Consultation, Mentoring, Mobile, Therapy, Unspecified};
    type Case<'a> = (Kind, &'a [(&'a str, &'a str)], bool);
    let cases: &[Case<'_>] = &[
        (Therapy, &[("1", "customer"), ("2", "therapist")], true),
        (Therapy, &[("1", "customer"), ("2", "therapist"), ("3", "staff")], true),
        (Therapy, &[("1", "customer")], false),
        (Therapy, &[("1", "customer"), ("2", "customer"), ("3", "therapist")], false),
        (Therapy, &[("1", "patient"), ("2", "professional")], false),
        (Clinic, &[("1", "patient"), ("2", "provider")], true),
        (Clinic, &[("1", "patient"), ("1", "professional")], true),
        (Clinic, &[("1", "patient"), ("2", "professional"), ("3", "staff")], false),
        (Mobile, &[("d", "device")], true),
        (Mobile, &[("d", "device"), ("9", "admin")], true),
        (Mobile, &[("d", "device"), ("e", "device")], false),
        (Mentoring, &[("1", "student"), ("2", "teacher")], true),
        (Mentoring, &[("1", "student"), ("2", "trainer")], true),
        (Mentoring, &[("1", "student"), ("2", "trainer"), ("3", "teacher")], false),
        (Consultation, &[("1", "client"), ("2", "expert")], true),
        (Consultation, &[("1", "client"), ("2", "wizard")], false),
        (Consultation, &[("", "client"), ("2", "expert")], false),
        (Unspecified, &[], false),
    ];
    for (kind, people, right) in cases {
        assert_eq!(open(*kind, people).is_ok(), *right, "{kind:?} {people:?}");
    }
}

#[test]
fn the_same_people_in_another_order_are_the_same() {
    let one = open(Kind::Therapy, &[("1", "customer"), ("2", "therapist")]).expect("right");
    let two = open(Kind::Therapy, &[("2", "therapist"), ("1", "customer")]).expect("right");
    assert_eq!(people(one.kind, &one.seats), people(two.kind, &two.seats));
    assert!(people(one.kind, &one.seats).is_some());
    let mobile = open(Kind::Mobile, &[("d", "device")]).expect("right");
    assert_eq!(people(mobile.kind, &mobile.seats), None);
}

#[test]
fn who_enters_as_what() {
    use RefusalReason::{InvalidArgument, NotAParticipant, WrongRole};
    let clinic = conversation(Kind::Clinic, vec![seat(Role::Patient, "p"), seat(Role::Professional, "d")]);
    let both = conversation(Kind::Clinic, vec![seat(Role::Patient, "b"), seat(Role::Professional, "b")]);
    let mobile = conversation(Kind::Mobile, vec![seat(Role::Device, "dev")]);
    let cases = [
        (&clinic, "p", "", Ok(Role::Patient)),
        (&clinic, "d", "", Ok(Role::Professional)),
        (&clinic, "d", "Provider", Ok(Role::Professional)),
        (&clinic, "p", "professional", Err(WrongRole)),
        (&clinic, "x", "", Err(NotAParticipant)),
        (&clinic, "x", "patient", Err(NotAParticipant)),
        (&clinic, "x", "staff", Err(NotAParticipant)),
        (&clinic, "p", "king", Err(InvalidArgument)),
        (&both, "b", "", Ok(Role::Patient)),
        (&both, "b", "professional", Ok(Role::Professional)),
        (&mobile, "9", "staff", Ok(Role::Staff)),
        (&mobile, "9", "admin", Ok(Role::Staff)),
        (&mobile, "9", "", Err(NotAParticipant)),
        (&mobile, "other", "device", Err(NotAParticipant)),
    ];
    for (conversation, user, role, expected) in cases {
        assert_eq!(enter(conversation, user, role).map_err(|refusal| refusal.reason), expected, "{user} as {role:?}");
    }
}

#[test]
fn who_writes_as_what() {
    use RefusalReason::WrongRole;
    let both = conversation(Kind::Clinic, vec![seat(Role::Patient, "b"), seat(Role::Professional, "b")]);
    let mobile = conversation(Kind::Mobile, vec![seat(Role::Device, "dev")]);
    let cases = [
        (&both, "b", Role::Patient, "", Ok(Role::Patient)),
        (&both, "b", Role::Patient, "provider", Ok(Role::Professional)),
        (&mobile, "dev", Role::Device, "staff", Err(WrongRole)),
        (&mobile, "9", Role::Staff, "", Ok(Role::Staff)),
        (&mobile, "9", Role::Staff, "staff", Ok(Role::Staff)),
    ];
    for (conversation, user, entered, role, expected) in cases {
        let got = write_as(conversation, user, entered, role).map_err(|refusal| refusal.reason);
        assert_eq!(got, expected, "{user} as {role:?}");
    }
}

#[test]
fn what_a_message_may_be() {
    use RefusalReason::{EmptyContent, InvalidArgument};
    let image = |content: &str, url: &str| Send {
        message_type: MessageType::Image.into(),
        media_url: url.to_owned(),
        ..text(content)
    };
    let cases = [
        (text("hi"), Ok("hi")),
        (text("  hi \n"), Ok("hi")),
        (text(""), Err(EmptyContent)),
        (text(" \t\u{a0}\n"), Err(EmptyContent)),
        (text("a\0b"), Err(InvalidArgument)),
        (text(&"x".repeat(CONTENT_BYTES_MAX)), Ok("x")),
        (text(&"x".repeat(CONTENT_BYTES_MAX + 1)), Err(InvalidArgument)),
        (image("", "https://example.com/image.jpg"), Ok("")),
        (image("", ""), Err(EmptyContent)),
        (Send { media_url: "https://example.com/a".into(), ..text("") }, Err(EmptyContent)),
        (image("x", "javascript:alert(1)"), Err(InvalidArgument)),
        (image("x", "https://"), Err(InvalidArgument)),
        (image("x", "http:///path"), Err(InvalidArgument)),
        (image("x", "HTTP://example.com"), Ok("x")),
        (image("x", "h€€€€€p://example.com"), Err(InvalidArgument)),
        (Send { metadata_json: "x".repeat(METADATA_BYTES_MAX + 1), ..text("x") }, Err(InvalidArgument)),
        (Send { client_message_id: "c".repeat(65), ..text("x") }, Err(InvalidArgument)),
        (Send { client_message_id: "c".repeat(64), ..text("x") }, Ok("x")),
        (Send { id: "not a uuid".into(), ..text("x") }, Err(InvalidArgument)),
        (Send { message_type: 99, ..text("x") }, Err(InvalidArgument)),
    ];
    for (send, expected) in cases {
        let shown = format!("{:.80}", format!("{send:?}"));
        match (body(Kind::Clinic, send), expected) {
            (Ok((body, ..)), Ok(content)) => assert!(body.content.starts_with(content), "{shown}"),
            (Err(refusal), Err(reason)) => assert_eq!(refusal.reason, reason, "{shown}"),
            (got, _) => panic!("{shown}: {got:?}"),
        }
    }
}

#[test]
fn mentoring_keeps_the_text_as_sent() {
    let (kept, ..) = body(Kind::Mentoring, text("  hi ")).expect("right");
    assert_eq!(kept.content, "  hi ");
    assert!(body(Kind::Mentoring, text("   ")).is_err());
}

#[test]
fn what_a_receipt_may_be() {
    let receipt = |status: MessageStatus, ids: &[&str], up_to: &str, all: bool, strict: bool| {
        reading(Receipt {
            status: status.into(),
            message_ids: ids.iter().map(|id| (*id).to_owned()).collect(),
            up_to: up_to.to_owned(),
            all,
            strict,
            is_status_update: false,
        })
        .map(|reading| reading.which)
    };
    use MessageStatus::{Read, Sent};
    assert_eq!(receipt(Read, &[], "", true, false), Ok(Which::All));
    assert_eq!(receipt(Read, &["5"], "", false, false), Ok(Which::These(vec![MessageName::Number(5)])));
    assert_eq!(receipt(Read, &["5", "x"], "", false, false), Ok(Which::These(vec![MessageName::Number(5)])));
    assert!(receipt(Read, &["5", "x"], "", false, true).is_err());
    assert_eq!(receipt(Read, &[], "7", false, false), Ok(Which::UpTo(MessageName::Number(7))));
    assert!(receipt(Read, &[], "x", false, false).is_err());
    assert!(receipt(Read, &["1"], "7", false, false).is_err());
    assert!(receipt(Sent, &["1"], "", false, false).is_err());
}

proptest! {
    #[test]
    fn no_text_makes_the_rules_panic(content in any::<String>(), url in any::<String>(), role in any::<String>(), kind in 0..7) {
        let kind = Kind::try_from(kind).unwrap_or_default();
        let send = Send { media_url: url.clone(), message_type: 2, id: role.clone(), ..text(&content) };
        let _ = body(kind, send);
        let _ = enter(&conversation(kind, vec![]), &content, &role);
        let _ = is_web_url(&url);
        let _ = reading(Receipt { status: 3, up_to: role, ..Receipt::default() });
    }

    #[test]
    fn what_is_stored_is_never_blank_and_is_trimmed(content in any::<String>()) {
        if let Ok((body, ..)) = body(Kind::Therapy, text(&content)) {
            prop_assert!(!body.content.trim().is_empty());
            prop_assert_eq!(body.content.trim(), body.content.as_str());
            prop_assert_eq!(body.content.as_str(), content.trim());
        }
    }

    #[test]
    fn nobody_without_a_seat_enters_but_staff(user in "[a-z]{1,3}", role in "(|patient|professional|staff|admin|device)", kind in 1..6) {
        let kind = Kind::try_from(kind).unwrap_or_default();
        let room = conversation(kind, vec![seat(Role::Patient, "somebody else")]);
        if let Ok(entered) = enter(&room, &user, &role) {
            prop_assert_eq!(entered, Role::Staff);
            prop_assert!(admits_staff(kind));
        }
    }
}
