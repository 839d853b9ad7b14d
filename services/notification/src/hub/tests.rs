use switchboard_bus::Bus;
use switchboard_chassis::testing::Backend;

use super::*;
use crate::store::tests::open;

const OLD: Inbox = Inbox { last_seq: 1, unread: 1, revision: 1 };
const NEW: Inbox = Inbox { last_seq: 2, unread: 2, revision: 2 };

async fn hub(store: Store) -> Hub {
    let (doorbell, _) = Doorbell::take(Bus::local()).await.expect("a place");
    Hub::new(Arc::new(store), doorbell)
}

#[tokio::test]
async fn what_happens_while_an_inbox_is_read_is_not_forgotten() {
    let (store, _directory) = open(Backend::Sqlite).await;
    let hub = hub(store).await;
    let joining = Joining::begin(&hub, "ann");
    hub.changed("ann", NEW, None);
    hub.changed("ann", OLD, None);
    hub.changed("ben", NEW, None);
    assert_eq!(hub.shard("ann").get_mut("ann").map(|entry| entry.admit(OLD)), Some(NEW));
    assert_eq!(hub.users(), 1);
    drop(joining);
    assert_eq!(hub.users(), 0);
}

#[tokio::test]
async fn the_first_is_told_what_was_read() {
    let (store, _directory) = open(Backend::Sqlite).await;
    let mut entry = Entry::new(hub(store).await.doorbell.want("ann"));
    assert_eq!(entry.admit(NEW), NEW);
    assert_eq!(entry.newest, Some(NEW));
}
