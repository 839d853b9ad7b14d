use futures_util::StreamExt as _;
use switchboard_bus::Bus;
use switchboard_chassis::{audit::Asked, testing::Backend};

use super::*;
use crate::store::feed::tests::Fixture;

async fn next(stream: &mut WatchStream) -> anyhow::Result<Event> {
    let told = stream.next().await.ok_or_else(|| anyhow::anyhow!("the feed ended"))??;
    told.event.ok_or_else(|| anyhow::anyhow!("nothing is told"))
}

/// What was read before an erasure is not told long after it.
#[tokio::test]
async fn a_slow_watcher_is_told_nothing_that_went() -> anyhow::Result<()> {
    let fixture = Fixture::new(Backend::Sqlite).await?;
    let lifecycle = Lifecycle::new();
    let feed = Feed::new(fixture.store.clone(), Bell::start(Bus::local(), &lifecycle).await?, lifecycle.clone());
    let conversation = fixture.open("pat", "dora").await?;
    for _ in 0..8 {
        fixture.append(&[(conversation, "pat")]).await?;
    }
    let request = WatchRequest { start: WatchStart::Oldest.into(), ..WatchRequest::default() };
    let mut stream = feed.watch(request).await?;
    assert!(matches!(next(&mut stream).await?, Event::Heartbeat(_)));
    assert!(matches!(next(&mut stream).await?, Event::ConversationOpened(_)));
    assert!(matches!(next(&mut stream).await?, Event::Message(message) if message.seq == 1));
    let asked = Asked { caller: "test".into(), at: 1, subject_sha256: "hash".into() };
    fixture.store.erase("pat", &asked).await?;
    tokio::time::pause();
    tokio::time::advance(FRESH * 2).await;
    tokio::time::resume();
    assert!(matches!(next(&mut stream).await?, Event::Erased(erased) if erased.messages == 8));
    lifecycle.drain();
    let ended = stream.next().await.ok_or_else(|| anyhow::anyhow!("it says that it ends"))?;
    assert_eq!(ended.expect_err("the end").code(), tonic::Code::Unavailable);
    assert!(stream.next().await.is_none());
    Ok(())
}
