//! A WebSocket client that expects.

use std::net::SocketAddr;

use anyhow::{Context as _, anyhow, bail};
use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{Message, client::IntoClientRequest as _, http::Response, protocol::CloseFrame},
};

use crate::PATIENCE;

/// One open socket.
pub struct Client {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    /// The server's answer to the upgrade.
    pub response: Response<Option<Vec<u8>>>,
}

impl Client {
    /// Connects, with additional headers.
    ///
    /// # Errors
    /// When the server does not upgrade.
    pub async fn connect(url: &str, headers: &[(&'static str, String)]) -> anyhow::Result<Self> {
        let mut request = url.into_client_request()?;
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse()?);
        }
        let (socket, response) =
            tokio::time::timeout(PATIENCE, connect_async(request)).await.context("connecting")??;
        Ok(Self { socket, response })
    }

    /// Sends a text frame.
    ///
    /// # Errors
    /// When the socket is gone.
    pub async fn send(&mut self, text: impl Into<String>) -> anyhow::Result<()> {
        self.send_frame(Message::Text(text.into().into())).await
    }

    /// Sends any frame.
    ///
    /// # Errors
    /// When the socket is gone.
    pub async fn send_frame(&mut self, frame: Message) -> anyhow::Result<()> {
        Ok(self.socket.send(frame).await?)
    }

    /// The next text frame, as JSON. Pings are passed over.
    ///
    /// # Errors
    /// When something else comes, or nothing in time.
    pub async fn next(&mut self) -> anyhow::Result<Value> {
        match self.frame().await? {
            Message::Text(text) => serde_json::from_str(&text).with_context(|| format!("not JSON: {text}")),
            other => Err(anyhow!("{other:?} instead of a text frame")),
        }
    }

    /// The code and the reason with which the server closes.
    ///
    /// # Errors
    /// When something else comes, or nothing in time, or the connection breaks without a close frame.
    pub async fn closed(&mut self) -> anyhow::Result<(u16, String)> {
        match self.frame().await? {
            Message::Close(Some(CloseFrame { code, reason })) => Ok((code.into(), reason.to_string())),
            other => Err(anyhow!("{other:?} instead of a close frame")),
        }
    }

    /// The next text frame as JSON, or else the code and the reason with which the server closes.
    ///
    /// # Errors
    /// When something else comes, or nothing in time.
    pub async fn next_or_close(&mut self) -> anyhow::Result<Result<Value, (u16, String)>> {
        match self.frame().await? {
            Message::Text(text) => Ok(Ok(serde_json::from_str(&text)?)),
            Message::Close(Some(CloseFrame { code, reason })) => Ok(Err((code.into(), reason.to_string()))),
            other => Err(anyhow!("{other:?} instead of a text or close frame")),
        }
    }

    /// Writes bytes past the WebSocket library.
    ///
    /// # Errors
    /// When the socket is gone.
    pub async fn send_raw(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        Ok(self.socket.get_mut().write_all(bytes).await?)
    }

    /// Plays dead: what the server sends is read past the WebSocket library, which then answers nothing, until there
    /// is a close frame; that one is left to be read.
    ///
    /// # Errors
    /// When the socket is gone.
    pub async fn answer_no_pings(&mut self) -> anyhow::Result<()> {
        const PING: [u8; 2] = [0x89, 0];
        let MaybeTlsStream::Plain(stream) = self.socket.get_mut() else { bail!("not a plain stream") };
        let mut head = [0; 2];
        loop {
            let peeked = tokio::time::timeout(PATIENCE, stream.peek(&mut head)).await.context("nothing came")??;
            match (peeked, head) {
                (2, PING) => _ = stream.read_exact(&mut head).await?,
                (1, _) => tokio::task::yield_now().await,
                _ => return Ok(()),
            }
        }
    }

    /// Closes by the handshake.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn close(mut self) -> anyhow::Result<()> {
        self.socket.close(None).await?;
        while let Ok(frame) = self.frame().await {
            if matches!(frame, Message::Close(_)) {
                return Ok(());
            }
        }
        bail!("the server did not answer the close frame")
    }

    async fn frame(&mut self) -> anyhow::Result<Message> {
        let frame = async {
            loop {
                match self.socket.next().await.context("the connection ended")?? {
                    Message::Ping(_) | Message::Pong(_) => {}
                    frame => return Ok(frame),
                }
            }
        };
        // Pings are no patience: a server that says nothing else has nothing to say.
        tokio::time::timeout(PATIENCE, frame).await.context("nothing came in time")?
    }
}

/// A plain HTTP call with a JSON body: the status, and the answer as JSON (text that is not JSON as a string).
///
/// # Errors
/// When there is no answer.
pub async fn call(
    address: SocketAddr,
    method: &str,
    path: &str,
    token: Option<&str>,
    body: Option<String>,
) -> anyhow::Result<(u16, Value)> {
    let bearer = token.map(|token| ("authorization", format!("Bearer {token}")));
    call_with(address, method, path, bearer.as_slice(), body).await
}

/// The same with any headers.
///
/// # Errors
/// When there is no answer.
pub async fn call_with(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&'static str, String)],
    body: Option<String>,
) -> anyhow::Result<(u16, Value)> {
    let (parts, body) = exchange(address, method, path, headers, body).await?.into_parts();
    let text = String::from_utf8_lossy(&body);
    Ok((parts.status.as_u16(), serde_json::from_str(&text).unwrap_or_else(|_| Value::from(text.as_ref()))))
}

/// The same with the answer as it came.
///
/// # Errors
/// When there is no answer.
pub async fn exchange(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&'static str, String)],
    body: Option<String>,
) -> anyhow::Result<Response<Bytes>> {
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(TcpStream::connect(address).await?)).await?;
    tokio::spawn(connection);
    let mut request = hyper::Request::builder().method(method).uri(path).header("host", address.to_string());
    for (name, value) in headers {
        request = request.header(*name, value);
    }
    if body.is_some() {
        request = request.header("content-type", "application/json");
    }
    let request = request.body(Full::new(Bytes::from(body.unwrap_or_default())))?;
    let response = tokio::time::timeout(PATIENCE, sender.send_request(request)).await.context("no answer")??;
    let (parts, body) = response.into_parts();
    Ok(Response::from_parts(parts, body.collect().await?.to_bytes()))
}
