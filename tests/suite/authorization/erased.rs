//! Whoever was erased from the chats says nothing any more, on sockets that are open still, and comes back to nothing.

use anyhow::Context as _;
use switchboard_proto::chat::v1::EraseUserRequest;

use super::{Actor, Room, World, room::fate, table};

/// Who is erased from which room, and what comes of coming back.
const ERASED: [(&str, &str, &str); 5] = [
    // The pair is still a pair: it begins anew.
    ("therapy", "customer", "in"),
    ("clinic", "patient", "4003 not authorized for this conversation"),
    ("mobile", "phone", "4004 not authorized for this conversation"),
    ("mentoring", "teacher", "4003 not authorized for this conversation"),
    ("consultation", "client", "4003 not authorized for this conversation"),
];

/// What is said afterwards, on the socket that was open.
fn frames(room: &str) -> &'static [&'static str] {
    match room {
        "therapy" => &[r#"{"message":"late"}"#],
        "clinic" => &[r#"{"content":"late"}"#],
        "mobile" => &[
            r#"{"type":"chat_message","content":"late"}"#,
            r#"{"type":"typing_indicator","is_typing":true}"#,
            r#"{"type":"message_status","message_id":{mobile.b.number},"status":"read"}"#,
            r#"{"type":"read_receipt","message_ids":[{mobile.b.number}]}"#,
        ],
        "mentoring" => &[r#"{"message":"late"}"#, r#"{"type":"mark_read","message_id":{mentoring.a.number}}"#],
        _ => &[
            r#"{"type":"chat_message","message":"late"}"#,
            r#"{"type":"typing","is_typing":true}"#,
            r#"{"type":"read_receipt","message_id":"{consultation.b.id}"}"#,
        ],
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_erased_is_out() -> anyhow::Result<()> {
    let playing = async {
        let mut wrong = Vec::new();
        let tables = table::say()?;
        for (name, who, back) in ERASED {
            let world = World::start().await?;
            let seats = tables.iter().find(|seats| seats.name == name).context("a room")?;
            let mut room = Room::open(&world, seats).await?;
            let gone = room.index(who).context("a seat")?;
            world.sandbox.chat()?.erase_user(EraseUserRequest { user_id: who.to_owned() }).await?;
            wrong.extend(room.says_in_vain(gone, frames(name), &world).await?);
            let fate = fate(world.enter(&Actor::read(who), &seats.path).await?).await?;
            if fate != back {
                wrong.push(format!("{who} comes back to {name}: {fate}"));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        anyhow::Ok(())
    };
    tokio::time::timeout(super::TABLE_TIMEOUT, playing).await.context("not in time")?
}
