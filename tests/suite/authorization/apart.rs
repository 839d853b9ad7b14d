//! People who are kept apart: strangers of whom one is not told, and a device that has somebody's name.

use anyhow::Context as _;
use switchboard_edge::Audience;

use super::{Actor, Entered, World, room::fate};

/// With the audience `contacts`, presence is told to those who share a conversation, and to nobody else.
#[tokio::test(flavor = "multi_thread")]
async fn strangers_are_not_told_who_is_online() -> anyhow::Result<()> {
    let world = World::start_with(|config| config.edge.presence_audience = Audience::Contacts).await?;
    let open = async |who: &str| match world.enter(&Actor::read(who), "/ws/presence/").await? {
        Entered::In(client) => anyhow::Ok(client),
        Entered::Refused(status) => anyhow::bail!("HTTP {status}"),
    };
    let (mut expert, mut stranger) = (open("expert").await?, open("expert-2").await?);
    let mut staff = open("staff").await?;
    let _client = open("client").await?;
    assert_eq!(expert.next().await?["user_id"], "client");
    // Who comes next is a contact of the other, and the first that each of the others is told of.
    let _other = open("client-2").await?;
    assert_eq!(stranger.next().await?["user_id"], "client-2");
    // A newcomer is told of contacts only, too.
    let mut client = open("client").await?;
    assert_eq!(client.next().await?["user_id"], "expert");
    for socket in [&mut expert, &mut stranger, &mut staff, &mut client] {
        socket.send("?").await?;
        assert_eq!(socket.next().await?["type"], "error", "nobody else was told of");
    }
    Ok(())
}

/// Anybody registers a device by any name. What it opens is not counted as that user's.
#[tokio::test(flavor = "multi_thread")]
async fn a_device_does_not_take_a_user_s_place() -> anyhow::Result<()> {
    let world = World::start_with(|config| config.edge.sockets_per_user_max = 1).await?;
    let device = Actor::read("customer by device");
    assert_eq!(world.call(&device, "POST /mobile/sessions/create/ {}").await?.0, 201);
    let (status, started) = world.call(&device, "POST /mobile/chat/start/ {}").await?;
    assert_eq!(status, 201);
    let path = format!("/ws/mobile/chat/{}/", started["conversation_id"]);
    let Entered::In(_device) = world.enter(&device, &path).await? else { anyhow::bail!("the device was refused") };
    let second = fate(world.enter(&device, &path).await?).await?;
    assert_eq!(second, "1008 too many sockets of this user", "the device has its one place");
    let user = world.enter(&Actor::read("customer"), "/ws/chat/customer/therapist/").await?;
    assert_eq!(fate(user).await.context("the user")?, "in");
    Ok(())
}
