//! A neighbour of a later version, which says more than we know: everything between an edge and its services goes through
//! something that adds it, in both directions.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll, ready},
};

use anyhow::Context as _;
use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use http_body_util::combinators::UnsyncBoxBody;
use hyper::{
    Request, Response, Uri,
    body::{Body, Frame, Incoming},
    client::conn::http2 as client,
    header::{CONTENT_LENGTH, HeaderMap},
    server::conn::http2 as server,
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message as _;
use switchboard_proto::chat::v1::{ConverseResponse, converse_response::Event};
use switchboard_tests::{Backend, Sandbox};
use tokio::net::{TcpListener, TcpStream};

use crate::every::{self, CLINIC, CONSULTATION, MOBILE, PEOPLE};

/// A message's head on the wire: whether it is compressed, and its length.
const HEAD: usize = 5;
/// Fields that no version has.
const LATER_FIELD: u64 = 1_999;
const LATER_EVENT: u64 = 1_998;

/// Listens, and passes everything on to services with what a later version would add.
async fn later(services: SocketAddr) -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let upstream = TcpStream::connect(services).await?;
                let (sender, connection) = client::handshake(TokioExecutor::new(), TokioIo::new(upstream)).await?;
                tokio::spawn(connection);
                let service = service_fn(move |request| pass(sender.clone(), services, request));
                server::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await?;
                anyhow::Ok(())
            });
        }
    });
    Ok(address)
}

type More = UnsyncBoxBody<Bytes, hyper::Error>;

async fn pass(
    mut sender: client::SendRequest<More>,
    services: SocketAddr,
    request: Request<Incoming>,
) -> Result<Response<More>, hyper::Error> {
    let (mut parts, body) = request.into_parts();
    let path = parts.uri.path().to_owned();
    parts.uri = format!("http://{services}{path}").parse::<Uri>().unwrap_or_default();
    parts.version = hyper::Version::HTTP_2;
    // It is longer now.
    parts.headers.remove(CONTENT_LENGTH);
    let adding = |body, add| UnsyncBoxBody::new(Adding { body, add, read: BytesMut::new(), ready: VecDeque::new() });
    let response = sender.send_request(Request::from_parts(parts, adding(body, field))).await?;
    let (mut parts, body) = response.into_parts();
    parts.headers.remove(CONTENT_LENGTH);
    let is_chat = path == "/switchboard.chat.v1.ChatService/Converse";
    Ok(Response::from_parts(parts, adding(body, if is_chat { event } else { field })))
}

/// A message with a field that we do not know, as all that there is to send.
fn field(message: &[u8]) -> Vec<Bytes> {
    let mut more = BytesMut::from(message);
    prost::encoding::encode_varint(LATER_FIELD << 3, &mut more);
    prost::encoding::encode_varint(7, &mut more);
    vec![more.freeze()]
}

/// An event with such a field, values that we do not know in place of ours, and one more event after it.
fn event(message: &[u8]) -> Vec<Bytes> {
    let mut told = ConverseResponse::decode(message).unwrap_or_default();
    let mut unknown = BytesMut::from(
        ConverseResponse { sessions: told.sessions.clone(), ..ConverseResponse::default() }.encode_to_vec().as_slice(),
    );
    prost::encoding::encode_varint(LATER_EVENT << 3 | 2, &mut unknown);
    prost::encoding::encode_varint(0, &mut unknown);
    if let Some(Event::Message(message)) = &mut told.event {
        message.message_type = 99;
        message.status = 99;
    }
    let mut all = field(&told.encode_to_vec());
    all.push(unknown.freeze());
    all
}

/// A body whose messages are replaced.
struct Adding {
    body: Incoming,
    add: fn(&[u8]) -> Vec<Bytes>,
    read: BytesMut,
    ready: VecDeque<Frame<Bytes>>,
}

impl Body for Adding {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        loop {
            if let Some(frame) = self.ready.pop_front() {
                return Poll::Ready(Some(Ok(frame)));
            }
            let Some(frame) = ready!(Pin::new(&mut self.body).poll_frame(cx)?) else { return Poll::Ready(None) };
            match frame.into_data() {
                Ok(data) => self.read.extend_from_slice(&data),
                Err(trailers) => {
                    let trailers = trailers.into_trailers().unwrap_or_else(|_| HeaderMap::new());
                    self.ready.push_back(Frame::trailers(trailers));
                }
            }
            while self.read.len() >= HEAD {
                let length = (&self.read[1..HEAD]).get_u32() as usize;
                if self.read.len() < HEAD + length {
                    break;
                }
                let message = self.read.split_to(HEAD + length);
                for more in (self.add)(&message[HEAD..]) {
                    let mut framed = BytesMut::with_capacity(HEAD + more.len());
                    framed.put_u8(0);
                    framed.put_u32(u32::try_from(more.len()).unwrap_or(u32::MAX));
                    framed.put(more);
                    self.ready.push_back(Frame::data(framed.freeze()));
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_later_neighbour_is_understood() -> anyhow::Result<()> {
    let mut sandbox = Sandbox::start(Backend::Sqlite).await?;
    sandbox.provision(PEOPLE).await?;
    let (edge, _lifecycle) = sandbox.edge_over(&[later(sandbox.grpc).await?]).await?;
    sandbox.edge = edge;
    for path in every::EVERY {
        every::open(&sandbox, path).await.with_context(|| path.to_owned())?;
    }
    for (path, frame, at) in [
        (CLINIC, r#"{"content": "hello", "role": "patient"}"#, "/message/content"),
        (CONSULTATION, r#"{"type": "chat_message", "message": "hello"}"#, "/data/content"),
        (MOBILE, r#"{"type": "chat_message", "content": "hello"}"#, "/message/content"),
    ] {
        let mut socket = every::open(&sandbox, path).await?;
        // What is not known of the last one does not disturb the next.
        for _ in 0..3 {
            socket.send(frame).await?;
            let told = socket.next().await?;
            assert_eq!(told.pointer(at).context("told")?, "hello", "{path}: {told}");
            if path == MOBILE {
                assert_eq!(told["message"]["message_type"], "text");
            }
        }
    }
    Ok(())
}
