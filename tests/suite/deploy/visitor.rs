//! Who comes by TLS through a proxy.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
};

use anyhow::{Context as _, bail};
use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use switchboard_tests::PATIENCE;
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::ring,
        pki_types::{CertificateDer, ServerName, pem::PemObject as _},
    },
};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{self, Message, client::IntoClientRequest as _},
};

/// A proxy, as somebody sees it from outside.
#[derive(Clone)]
pub(super) struct Front {
    pub(super) address: SocketAddr,
    /// What its certificate is for, and what is asked for; with its port.
    pub(super) name: &'static str,
    /// Who signed its certificate.
    pub(super) roots: PathBuf,
    /// Where visitors come from.
    pub(super) from: Ipv4Addr,
}

impl Front {
    /// `name:port`
    pub(super) fn authority(&self) -> String {
        format!("{}:{}", self.name, self.address.port())
    }

    pub(super) fn origin(&self) -> String {
        format!("https://{}", self.authority())
    }

    async fn secured(&self, protocol: &[u8]) -> anyhow::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(&self.roots)?)?;
        let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![protocol.to_vec()];
        let socket = TcpSocket::new_v4()?;
        socket.bind((self.from, 0).into())?;
        let stream = socket.connect(self.address).await?;
        let handshake = TlsConnector::from(Arc::new(config)).connect(ServerName::try_from(self.name)?, stream);
        Ok(tokio::time::timeout(PATIENCE, handshake).await.context("no handshake")??)
    }

    /// A socket; or the status with which it is refused.
    pub(super) async fn visit(
        &self,
        path: &str,
        headers: &[(&'static str, String)],
    ) -> anyhow::Result<Result<Visitor, u16>> {
        let mut request = format!("wss://{}{path}", self.authority()).into_client_request()?;
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse()?);
        }
        let stream = self.secured(b"http/1.1").await?;
        match tokio::time::timeout(PATIENCE, client_async(request, stream)).await.context("no answer")? {
            Ok((socket, _)) => Ok(Ok(Visitor(socket))),
            Err(tungstenite::Error::Http(response)) => Ok(Err(response.status().as_u16())),
            Err(error) => Err(error.into()),
        }
    }

    /// A socket that must open.
    pub(super) async fn enter(&self, path: &str) -> anyhow::Result<Visitor> {
        self.visit(path, &[]).await?.map_err(|status| anyhow::anyhow!("{path}: refused with {status}"))
    }

    /// A page, by HTTP/2 as browsers ask: the status, and JSON.
    pub(super) async fn get(&self, path: &str, token: &str) -> anyhow::Result<(u16, Value)> {
        let stream = TokioIo::new(self.secured(b"h2").await?);
        let (mut sender, connection) = http2::handshake(TokioExecutor::new(), stream).await?;
        tokio::spawn(connection);
        let request = hyper::Request::get(format!("{}{path}", self.origin()))
            .header("authorization", format!("Bearer {token}"))
            .body(Empty::<Bytes>::new())?;
        let response = tokio::time::timeout(PATIENCE, sender.send_request(request)).await.context("no answer")??;
        let (parts, body) = response.into_parts();
        let body = body.collect().await?.to_bytes();
        Ok((parts.status.as_u16(), serde_json::from_slice(&body).unwrap_or_default()))
    }
}

/// An open socket.
pub(super) struct Visitor(WebSocketStream<TlsStream<TcpStream>>);

impl Visitor {
    pub(super) async fn next(&mut self) -> anyhow::Result<Value> {
        loop {
            match self.frame().await?.context("the connection ended")? {
                Message::Text(text) => return Ok(serde_json::from_str(&text)?),
                Message::Ping(_) => {}
                other => bail!("{other:?} instead of a text frame"),
            }
        }
    }

    /// Says something in a clinic's chat, where everybody hears it.
    pub(super) async fn say(&mut self, content: &str) -> anyhow::Result<()> {
        Ok(self.0.send(Message::text(json!({ "content": content }).to_string())).await?)
    }

    pub(super) async fn hears(&mut self, content: &str) -> anyhow::Result<()> {
        let heard = self.next().await?;
        anyhow::ensure!(heard["message"]["content"] == content, "{heard} instead of {content}");
        Ok(())
    }

    /// Waits for pings, and answers them.
    pub(super) async fn pinged(&mut self, times: usize) -> anyhow::Result<()> {
        for _ in 0..times {
            match self.frame().await?.context("the connection ended")? {
                Message::Ping(_) => self.0.flush().await?,
                other => bail!("{other:?} instead of a ping"),
            }
        }
        Ok(())
    }

    /// The code with which it is closed; `None` when it ends without a word.
    pub(super) async fn ends(&mut self) -> anyhow::Result<Option<u16>> {
        loop {
            match self.frame().await {
                Ok(Some(Message::Close(Some(close)))) => return Ok(Some(close.code.into())),
                Ok(Some(Message::Ping(_))) => {}
                Ok(Some(other)) => bail!("{other:?} instead of the end"),
                Ok(None) => return Ok(None),
                Err(error) if error.is::<tungstenite::Error>() => return Ok(None),
                Err(error) => return Err(error),
            }
        }
    }

    async fn frame(&mut self) -> anyhow::Result<Option<Message>> {
        let frame = tokio::time::timeout(PATIENCE, self.0.next()).await.context("nothing came in time")?;
        Ok(frame.transpose()?)
    }
}

/// Two people say something, and both hear both.
pub(super) async fn chat(one: &mut Visitor, other: &mut Visitor, what: &str) -> anyhow::Result<()> {
    for is_other in [false, true] {
        let content = format!("{what}, said by {}", if is_other { "the other" } else { "the one" });
        if is_other {
            other.say(&content).await?
        } else {
            one.say(&content).await?
        }
        one.hears(&content).await?;
        other.hears(&content).await?;
    }
    Ok(())
}
