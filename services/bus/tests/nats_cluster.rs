//! What the bus does when two NATS servers lose each other: no process loses its connection.

use std::time::Duration;

use bytes::Bytes;
use switchboard_bus::{
    Bus, BusConfig, Heard, Subscription,
    testing::{NatsServer, new_bus_at},
};
use switchboard_chassis::Clock;
use tokio::{
    net::{TcpListener, TcpStream},
    task::{AbortHandle, JoinSet},
    time::{interval, timeout},
};

const SUBJECT: &str = "nats.one";
const WAIT_MAX: Duration = Duration::from_secs(30);

#[tokio::test]
async fn what_a_parted_cluster_lost_is_noticed() {
    let one_routes = free_port().await;
    let one = NatsServer::start(&["--cluster", &format!("nats://127.0.0.1:{one_routes}"), "--cluster_name", "test"])
        .await
        .expect("started");
    let wire = Wire::new(one_routes).await;
    let routes = format!("nats-route://127.0.0.1:{}", wire.port);
    let other = NatsServer::start(&["--cluster", "nats://127.0.0.1:-1", "--cluster_name", "test", "--routes", &routes])
        .await
        .expect("started");

    let config = new_bus_at(one.url());
    let here = Bus::connect(&config, &Clock::System).await.expect("connected");
    let config = BusConfig { url: other.url(), ..config };
    let there = Bus::connect(&config, &Clock::System).await.expect("connected");
    let mut subscription = there.subscribe(SUBJECT).await.expect("subscribed");
    heard(&here, &mut subscription, b"before").await;

    let wire = wire.cut().await;
    here.publish(SUBJECT, || Bytes::from_static(b"lost"));
    let _wire = wire.mended().await;
    // Nothing else is published: the beats say it.
    let mut news = Vec::new();
    while !matches!(news.last(), Some(Heard::Missed(_))) {
        news.extend(timeout(WAIT_MAX, subscription.next()).await.expect("in time"));
    }
    assert!(!news.contains(&Heard::Payload(Bytes::from_static(b"lost"))));
    heard(&here, &mut subscription, b"after").await;
}

/// Publishes until it is heard: the servers may not know yet, or not again, who listens.
async fn heard(bus: &Bus, subscription: &mut Subscription, payload: &'static [u8]) {
    let publishing = async {
        let mut every = interval(Duration::from_millis(50));
        loop {
            every.tick().await;
            bus.publish(SUBJECT, || Bytes::from_static(payload));
        }
    };
    let hearing =
        async { while subscription.next().await.expect("open") != Heard::Payload(Bytes::from_static(payload)) {} };
    timeout(WAIT_MAX, async {
        tokio::select! { () = publishing => {}, () = hearing => {} }
    })
    .await
    .expect("in time");
}

/// What the servers' route goes through.
struct Wire {
    port: u16,
    to: u16,
    accepting: AbortHandle,
}

impl Wire {
    async fn new(to: u16) -> Self {
        Self::listen(0, to).await
    }

    async fn listen(port: u16, to: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).await.expect("bound");
        let port = listener.local_addr().expect("bound").port();
        let accepting = tokio::spawn(async move {
            let mut routes = JoinSet::new();
            while let Ok((mut from, _)) = listener.accept().await {
                routes.spawn(async move {
                    let mut to = TcpStream::connect(("127.0.0.1", to)).await?;
                    tokio::io::copy_bidirectional(&mut from, &mut to).await
                });
            }
        });
        Self { port, to, accepting: accepting.abort_handle() }
    }

    async fn cut(self) -> Self {
        self.accepting.abort();
        while !self.accepting.is_finished() {
            tokio::task::yield_now().await;
        }
        self
    }

    async fn mended(self) -> Self {
        Self::listen(self.port, self.to).await
    }
}

async fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").await.and_then(|listener| listener.local_addr()).expect("bound").port()
}
