//! The gRPC of the playground's sockets: what the edge asks services for them, and what is answered, as JSON that grpcurl
//! would take.
//!
//! In a demonstration alone, where all people are made up: services answer an edge with more than a client may see. A
//! page names itself when it opens its sockets (`?calls=<page>.<side>`), and hears of them, and of no other's, under that
//! name.

use std::{
    collections::HashMap,
    convert::Infallible,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_util::{FutureExt as _, StreamExt as _, future::BoxFuture};
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt as _, Full};
use prost::Message as _;
use prost_reflect::{DynamicMessage, MessageDescriptor, MethodDescriptor};
use serde::Serialize;
use serde_json::Value;
use switchboard_chassis::{
    Lifecycle,
    grpc::{Peer, PeerError},
};
use switchboard_proto::{
    reflect,
    wire::{Answer, Wire},
};
use tokio::{sync::mpsc, time::Instant};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, body::Body};
use tower::{Service, util::BoxCloneSyncService};
use warp::reply::Reply as _;

/// Pages that look on at a time. Beyond it, another one is not told.
const PAGES_MAX: usize = 64;
/// Events that wait for a page. Beyond it, a page hears how many it missed.
const WAITING_MAX: usize = 512;
/// Of a longer text, so much is shown.
const SHOWN_CHARS: usize = 120;
/// How long a page's name may be, and how short: nobody guesses a page's.
const NAME_CHARS: std::ops::RangeInclusive<usize> = 16..=64;
/// A side of a page.
const SIDE_CHARS_MAX: usize = 16;
/// The bytes before a gRPC message: whether it is compressed, and its length.
const PREFIX_BYTES: usize = 5;

/// The pages that look on. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Calls {
    pages: Arc<Mutex<HashMap<String, Page>>>,
    last_call: Arc<AtomicU64>,
}

#[derive(Debug)]
struct Page {
    events: mpsc::Sender<String>,
    missed: u64,
}

/// There is no room for another page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooMany;

impl Calls {
    /// What a page's sockets ask and are answered, until the process drains. Who comes again under a name takes the place
    /// of who was there.
    pub(crate) fn listen(&self, page: String, lifecycle: Lifecycle) -> Result<warp::reply::Response, TooMany> {
        let (events, waiting) = mpsc::channel(WAITING_MAX);
        let mut pages = self.pages();
        pages.retain(|_, page| !page.events.is_closed());
        if pages.len() >= PAGES_MAX && !pages.contains_key(&page) {
            return Err(TooMany);
        }
        pages.insert(page, Page { events, missed: 0 });
        let drained = async move { lifecycle.drained().await };
        let events =
            ReceiverStream::new(waiting).map(|event| Ok::<_, Infallible>(warp::sse::Event::default().data(event)));
        Ok(warp::sse::reply(warp::sse::keep_alive().stream(events.take_until(drained))).into_response())
    }

    /// Who looks on at a socket that is opened with this name.
    pub(crate) fn tap(&self, name: &str) -> Option<Arc<Tap>> {
        let (page, side) = name.split_once('.')?;
        let is_side = side.len() <= SIDE_CHARS_MAX && is_plain(side);
        let tap = || Tap { calls: self.clone(), page: page.into(), side: side.into(), session: 0 };
        (is_name(page) && is_side).then(tap).map(Arc::new)
    }

    fn pages(&self) -> MutexGuard<'_, HashMap<String, Page>> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a page may be called so.
pub(crate) fn is_name(page: &str) -> bool {
    NAME_CHARS.contains(&page.len()) && is_plain(page)
}

fn is_plain(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// Somebody looks on at a socket.
#[derive(Clone, Debug)]
pub(crate) struct Tap {
    calls: Calls,
    page: Arc<str>,
    side: Arc<str>,
    /// The session's number on its link, where it has one.
    session: u64,
}

tokio::task_local! {
    static TAP: Arc<Tap>;
}

/// Does something for a socket at which somebody looks on.
pub(crate) fn tapped<F: Future>(tap: Arc<Tap>, work: F) -> impl Future<Output = F::Output> {
    TAP.scope(tap, work)
}

/// Who looks on at what is done here.
fn here() -> Option<Arc<Tap>> {
    TAP.try_with(Arc::clone).ok()
}

/// Who looks on at a session that begins here.
pub(crate) fn of_session(session: u64) -> Option<Arc<Tap>> {
    here().map(|tap| Arc::new(Tap { session, ..Tap::clone(&tap) }))
}

/// What a page is told: see `web/playground/src/calls.ts`.
#[derive(Debug, Serialize)]
struct Told<'a> {
    side: &'a str,
    method: &'a str,
    way: Way,
    /// Of a unary call: its number.
    #[serde(skip_serializing_if = "Option::is_none")]
    call: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ms: Option<f64>,
    /// Of this page, which did not read fast enough.
    #[serde(skip_serializing_if = "is_zero")]
    missed: u64,
}

impl<'a> Told<'a> {
    fn new(side: &'a str, method: &'a str, way: Way, message: Option<Value>) -> Self {
        Self { side, method, way, call: None, message, status: None, ms: None, missed: 0 }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
enum Way {
    Asked,
    Answered,
}

impl Tap {
    /// Tells the page, if it is there. What it is told is made only then.
    fn tell<'a>(&'a self, told: impl FnOnce(&'a str) -> Option<Told<'a>>) {
        let mut pages = self.calls.pages();
        let Some(page) = pages.get_mut(&*self.page) else { return };
        let Ok(place) = page.events.try_reserve() else {
            page.missed += 1;
            return;
        };
        if let Some(told) = told(&self.side) {
            let told = Told { missed: std::mem::take(&mut page.missed), ..told };
            place.send(serde_json::to_string(&told).unwrap_or_default());
        }
    }

    /// A session asks on its link.
    pub(crate) fn asked<W: Wire>(&self, request: &W::Request) {
        self.passed(W::METHOD, Way::Asked, |method| (method.input(), request.encode_to_vec()));
    }

    /// A session hears on its link.
    pub(crate) fn heard<W: Wire>(&self, event: &W::Event, answer: Option<Answer>) {
        let answer = answer.filter(|answer| answer.session == self.session);
        let response = || W::response(vec![self.session], event.clone(), answer).encode_to_vec();
        self.passed(W::METHOD, Way::Answered, |method| (method.output(), response()));
    }

    fn passed(
        &self,
        name: &'static str,
        way: Way,
        message: impl FnOnce(&MethodDescriptor) -> (MessageDescriptor, Vec<u8>),
    ) {
        self.tell(|side| {
            let (descriptor, bytes) = message(&method(name)?);
            let message = shown(descriptor, &bytes);
            Some(Told::new(side, name, way, message))
        });
    }
}

/// `switchboard.chat.v1.ChatService/Converse`
fn method(name: &str) -> Option<MethodDescriptor> {
    let (service, method) = name.split_once('/')?;
    reflect::pool().get_service_by_name(service)?.methods().find(|found| found.name() == method)
}

/// A message as people read it.
fn shown(descriptor: MessageDescriptor, bytes: &[u8]) -> Option<Value> {
    let message = DynamicMessage::decode(descriptor, bytes).ok()?;
    // Numbers of 64 bits are text: a page has doubles.
    let options = reflect::options().stringify_64_bit_integers(true);
    let mut value = message.serialize_with_options(serde_json::value::Serializer, &options).ok()?;
    shorten(&mut value);
    Some(value)
}

fn shorten(value: &mut Value) {
    match value {
        Value::String(text) => {
            if let Some((end, _)) = text.char_indices().nth(SHOWN_CHARS) {
                let chars = text.chars().count();
                text.truncate(end);
                text.push_str(&format!("… ({chars} characters)"));
            }
        }
        Value::Array(values) => values.iter_mut().for_each(shorten),
        Value::Object(object) => object.values_mut().for_each(shorten),
        _ => {}
    }
}

/// Lets pages look on at the unary calls that their sockets make of a service.
pub(crate) fn watched(peer: Peer) -> Peer {
    BoxCloneSyncService::new(Watched(peer))
}

#[derive(Clone)]
struct Watched(Peer);

impl Service<Request<Body>> for Watched {
    type Response = Response<Body>;
    type Error = PeerError;
    type Future = BoxFuture<'static, Result<Response<Body>, PeerError>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), PeerError>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let unary = |method: &MethodDescriptor| !method.is_client_streaming() && !method.is_server_streaming();
        let method = method(request.uri().path().trim_start_matches('/')).filter(unary);
        let (Some(tap), Some(method)) = (here(), method) else { return self.0.call(request).boxed() };
        // The one that is ready is called.
        let ready = self.0.clone();
        let peer = std::mem::replace(&mut self.0, ready);
        look_on(tap, method, peer, request).boxed()
    }
}

async fn look_on(
    tap: Arc<Tap>,
    method: MethodDescriptor,
    mut peer: Peer,
    request: Request<Body>,
) -> Result<Response<Body>, PeerError> {
    let name = format!("{}/{}", method.parent_service().full_name(), method.name());
    let call = Some(tap.calls.last_call.fetch_add(1, Ordering::Relaxed) + 1);
    let (head, body) = request.into_parts();
    // All of it is here already.
    let asked = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    tap.tell(|side| {
        let message = shown(method.input(), message_in(&asked)?);
        Some(Told { call, ..Told::new(side, &name, Way::Asked, message) })
    });
    let began = Instant::now();
    let answered = peer.call(Request::from_parts(head, Body::new(Full::new(asked)))).await;
    let answered = match answered {
        Ok(response) => Ok(read(response).await),
        Err(error) => Err(error),
    };
    let ms = Some((began.elapsed().as_secs_f64() * 1e6).round() / 1e3);
    tap.tell(|side| {
        let (message, status) = match &answered {
            Ok((_, bytes, status)) => {
                (message_in(bytes).and_then(|bytes| shown(method.output(), bytes)), status.clone())
            }
            Err(error) => (None, error.to_string()),
        };
        let status = Some(status);
        Some(Told { call, status, ms, ..Told::new(side, &name, Way::Answered, message) })
    });
    answered.map(|(response, ..)| response)
}

/// The message of a unary call.
fn message_in(body: &Bytes) -> Option<&[u8]> {
    body.get(PREFIX_BYTES..).filter(|_| body.first() == Some(&0))
}

/// Reads an answer to its end: the same again, its message, and its status.
async fn read(response: Response<Body>) -> (Response<Body>, Bytes, String) {
    let (head, body) = response.into_parts();
    let (bytes, trailers) = match body.collect().await {
        Ok(collected) => {
            let trailers = collected.trailers().cloned();
            (collected.to_bytes(), trailers)
        }
        Err(status) => {
            let mut trailers = HeaderMap::new();
            // Of a message that no header can hold, nothing is left.
            let _ = status.add_header(&mut trailers);
            (Bytes::new(), Some(trailers))
        }
    };
    let status = trailers.as_ref().and_then(Status::from_header_map).or_else(|| Status::from_header_map(&head.headers));
    let status = status.map_or_else(|| format!("{:?}", Code::Unknown), |status| name(&status));
    let again = Full::new(bytes.clone()).with_trailers(async { trailers.map(Ok::<HeaderMap, Infallible>) });
    (Response::from_parts(head, Body::new(again)), bytes, status)
}

fn name(status: &Status) -> String {
    match status.code() {
        Code::Ok => "Ok".to_owned(),
        code => format!("{code:?}: {}", status.message()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use switchboard_proto::{
        location::v1::{Join, Pair, ShareRequest, share_request::Action},
        wire,
    };

    use super::*;

    const PAGE: &str = "0123456789abcdef";

    fn request() -> ShareRequest {
        let pair = Pair { customer_id: "c".repeat(SHOWN_CHARS + 1), therapist_id: "é".repeat(SHOWN_CHARS) };
        wire::Location::request(u64::MAX, 2, Action::Join(Join { pair: Some(pair), ..Join::default() }))
    }

    #[test]
    fn names_of_pages_and_sides() {
        let calls = Calls::default();
        for (name, is_one) in [
            (format!("{PAGE}.left"), true),
            (format!("{PAGE}."), true),
            (PAGE.to_owned(), false),
            ("short.left".to_owned(), false),
            (format!("{PAGE}\n.left"), false),
            (format!("{}.left", "a".repeat(65)), false),
            (format!("{PAGE}.{}", "a".repeat(17)), false),
            (format!("{PAGE}.a.b"), false),
        ] {
            assert_eq!(calls.tap(&name).is_some(), is_one, "{name:?}");
        }
    }

    #[tokio::test]
    async fn a_page_hears_of_its_own_sockets_and_how_many_it_missed() {
        let calls = Calls::default();
        let (events, mut heard) = mpsc::channel(1);
        calls.pages().insert(PAGE.to_owned(), Page { events, missed: 0 });
        let own = calls.tap(&format!("{PAGE}.left")).expect("a name");
        let other = calls.tap("fedcba9876543210.left").expect("a name");
        other.asked::<wire::Location>(&request());
        for _ in 0..3 {
            own.asked::<wire::Location>(&request());
        }
        let told: Value = serde_json::from_str(&heard.recv().await.expect("told")).expect("JSON");
        assert_eq!(
            told,
            json!({
                "side": "left",
                "method": "switchboard.location.v1.LocationService/Share",
                "way": "asked",
                "message": {
                    "session": u64::MAX.to_string(),
                    "request": "2",
                    "join": { "pair": {
                        "customer_id": format!("{}… (121 characters)", "c".repeat(SHOWN_CHARS)),
                        "therapist_id": "é".repeat(SHOWN_CHARS),
                    } },
                },
            })
        );
        own.asked::<wire::Location>(&request());
        let told: Value = serde_json::from_str(&heard.recv().await.expect("told")).expect("JSON");
        assert_eq!(told["missed"], 2);
    }

    #[tokio::test]
    async fn there_is_room_for_so_many_pages_and_for_who_comes_again() {
        let calls = Calls::default();
        let mut open: Vec<_> = (0..PAGES_MAX)
            .map(|number| calls.listen(format!("{PAGE}{number}"), Lifecycle::new()).expect("room"))
            .collect();
        assert!(calls.listen(PAGE.to_owned(), Lifecycle::new()).is_err());
        open[0] = calls.listen(format!("{PAGE}0"), Lifecycle::new()).expect("it was there before");
        open.pop();
        assert!(calls.listen(PAGE.to_owned(), Lifecycle::new()).is_ok(), "one has gone");
    }

    #[tokio::test]
    async fn what_is_looked_at_is_not_changed() {
        let answer = |body: &'static [u8], trailers: Option<Status>| {
            let trailers = trailers.map(|status| {
                let mut trailers = HeaderMap::new();
                status.add_header(&mut trailers).expect("a status");
                Ok::<_, Infallible>(trailers)
            });
            Response::new(Body::new(Full::new(Bytes::from_static(body)).with_trailers(async { trailers })))
        };
        for (status, told) in [(Status::ok(""), "Ok"), (Status::not_found("nobody"), "NotFound: nobody")] {
            let (again, bytes, seen) = read(answer(b"\0\0\0\0\x01x", Some(status.clone()))).await;
            assert_eq!((message_in(&bytes), seen.as_str()), (Some(&b"x"[..]), told));
            let collected = again.into_body().collect().await.expect("a body");
            let trailers = collected.trailers().and_then(Status::from_header_map).expect("a status");
            assert_eq!((trailers.code(), trailers.message()), (status.code(), status.message()));
            assert_eq!(collected.to_bytes(), bytes);
        }
        assert_eq!(read(answer(b"", None)).await.2, "Unknown");
    }
}
