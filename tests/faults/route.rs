//! The network between the two NATS nodes, which can be cut.

use std::net::SocketAddr;

use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
};

/// Carries connections from one node to the other. While it is cut, there are none, and none can be made.
pub(crate) struct Route {
    is_cut: watch::Sender<bool>,
}

impl Route {
    /// Carries what connects to `from` to `to`.
    pub(crate) async fn new(from: SocketAddr, to: SocketAddr) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(from).await?;
        let (is_cut, cut) = watch::channel(false);
        tokio::spawn(async move {
            while !is_over(&cut) {
                let Ok((stream, _)) = listener.accept().await else { continue };
                tokio::spawn(carry(stream, to, cut.clone()));
            }
        });
        Ok(Self { is_cut })
    }

    pub(crate) fn cut(&self) {
        self.is_cut.send_replace(true);
    }

    pub(crate) fn mend(&self) {
        self.is_cut.send_replace(false);
    }
}

fn is_over(cut: &watch::Receiver<bool>) -> bool {
    cut.has_changed().is_err()
}

async fn carry(mut near: TcpStream, to: SocketAddr, mut cut: watch::Receiver<bool>) {
    if *cut.borrow_and_update() {
        return;
    }
    let carrying = async {
        let mut far = TcpStream::connect(to).await?;
        tokio::io::copy_bidirectional(&mut near, &mut far).await
    };
    tokio::select! {
        // A node that is away is one that cannot be reached.
        _ = carrying => {}
        _ = cut.wait_for(|is_cut| *is_cut) => {}
    }
}
