//! How a process offers its gRPC services, and how it reaches those of others.

use std::{
    collections::HashMap,
    convert::Infallible,
    future::Future,
    net::SocketAddr,
    path::PathBuf,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use http::{HeaderMap, HeaderValue, Request, Response, Uri, header::AUTHORIZATION};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_stream::{Stream, StreamExt as _};
use tokio_util::either::Either;
use tonic::{
    Code, Status,
    body::Body,
    server::NamedService,
    service::{Routes, RoutesBuilder},
    transport::{
        Channel, Endpoint, Server,
        server::{Connected, TcpIncoming},
    },
};
use tonic_health::{ServingStatus, server::HealthReporter};
use tonic_types::{ErrorDetails, StatusExt as _};
use tower::{BoxError, Service, ServiceExt, util::BoxCloneSyncService};
use tracing::Instrument as _;

pub use crate::callers::{Caller, Callers, Scope};
use crate::{
    Directory, Error, Kind, Lifecycle, Secret,
    directory::Instance,
    error::DOMAIN,
    metrics::{CounterSeries, Counters, HistogramSeries, Histograms, Metrics, SECONDS},
    preface::Punctual,
    tls::{ClientTls, ServerTls, ServerTlsConfig},
    traces::{self, Span, Traces},
};

/// A window for a whole connection: since h2 0.4.16, many small unread frames on a connection with a small window end
/// the connection (`too_many_data_frames`; the budget is half of this).
const CONNECTION_WINDOW_BYTES: u32 = 64 << 20;
/// A window for one stream into a server. With the connection's 64 MiB, 64 stalled streams leave the others alone.
const SERVER_STREAM_WINDOW_BYTES: u32 = 1 << 20;
/// A window for one stream into an edge, which has few streams and always reads them.
const LINK_STREAM_WINDOW_BYTES: u32 = 64 << 20;
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(5);
/// Calls and streams of one connection at a time; the client's library lets others wait. An edge has one stream for each
/// service, and a call for each handshake on its way.
const STREAMS_MAX: u32 = 1_024;
/// How long a connection may take to begin.
const PREFACE_TIMEOUT: Duration = Duration::from_secs(10);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// For the head of an answer: a unary call, or the opening of a stream.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// In which each answer says the version of the service, to those who may call it.
pub const VERSION_HEADER: &str = "switchboard-version";

/// `[grpc]`: what this process offers to other services.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GrpcConfig {
    /// Where all gRPC services of the process listen.
    pub listen: SocketAddr,
    /// The bearer token that callers must show, and that this process shows to others; made in the data directory
    /// when not given. Whoever shows it may do everything.
    pub token: Secret,
    /// A TOML file of other callers: `[[callers]]` with `name`, `scopes` (`read`, `write`, `admin`) and one of `token`,
    /// `token_file`, `token_sha256`. Read again when it changes.
    pub callers_file: PathBuf,
    /// `[grpc.tls]`
    pub tls: ServerTlsConfig,
}

impl Default for GrpcConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 50051)),
            token: Secret::default(),
            callers_file: PathBuf::new(),
            tls: ServerTlsConfig::default(),
        }
    }
}

impl GrpcConfig {
    /// What is wrong with it.
    #[must_use]
    pub fn mistakes(&self) -> Vec<String> {
        let mut mistakes: Vec<String> = self.tls.mistakes("grpc.tls").into_iter().collect();
        if !self.token.expose().bytes().all(|byte| byte.is_ascii_graphic()) {
            mistakes.push("grpc.token: printable ASCII without blanks".to_owned());
        }
        mistakes
    }
}

/// The gRPC services of one process: what its port serves, and what its own edge calls without a network.
pub struct Services {
    routes: RoutesBuilder,
    health: HealthReporter,
    guard: Guard,
    counts: Calls,
    traces: Traces,
}

impl Services {
    /// Health (open to all) and reflection, v1 and v1alpha, over `descriptors` (for every caller).
    ///
    /// # Panics
    /// When a descriptor set cannot be decoded: a build's fault.
    #[must_use]
    pub fn new(guard: Guard, descriptors: &[&'static [u8]], metrics: &Metrics, traces: Traces) -> Self {
        let counts = Calls { calls: metrics.counters(&CALLS), seconds: metrics.histograms(&CALL_SECONDS) };
        let (health, health_service) = tonic_health::server::health_reporter();
        let reflection = || {
            descriptors
                .iter()
                .chain([&tonic_types::pb::FILE_DESCRIPTOR_SET, &tonic_health::pb::FILE_DESCRIPTOR_SET])
                .fold(tonic_reflection::server::Builder::configure(), |builder, set| {
                    builder.register_encoded_file_descriptor_set(set)
                })
        };
        let mut routes = RoutesBuilder::default();
        routes.add_service(health_service);
        let v1 = reflection().build_v1().expect("descriptor sets are built with this program");
        routes.add_service(Guarded {
            inner: v1,
            guard: guard.clone(),
            counts: counts.clone(),
            traces: Traces::default(),
            is_for_every_caller: true,
        });
        let v1alpha = reflection().build_v1alpha().expect("descriptor sets are built with this program");
        routes.add_service(Guarded {
            inner: v1alpha,
            guard: guard.clone(),
            counts: counts.clone(),
            traces: Traces::default(),
            is_for_every_caller: true,
        });
        Self { routes, health, guard, counts, traces }
    }

    /// Adds a service, for callers with the scopes that its methods need.
    pub async fn add<S>(&mut self, service: S)
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>
            + NamedService
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send + 'static,
    {
        let (guard, counts, traces) = (self.guard.clone(), self.counts.clone(), self.traces.clone());
        self.routes.add_service(Guarded { inner: service, guard, counts, traces, is_for_every_caller: false });
        self.health.set_service_status(S::NAME, ServingStatus::Serving).await;
    }

    /// All services, ready to be served and called.
    #[must_use]
    pub fn build(self) -> BuiltServices {
        BuiltServices { routes: self.routes.routes().prepare(), health: self.health, token: self.guard.token }
    }
}

/// See [`Services::build`].
pub struct BuiltServices {
    routes: Routes,
    health: HealthReporter,
    token: Secret,
}

impl BuiltServices {
    /// Calls these services in this process: the same code, the token check included, without HTTP/2.
    #[must_use]
    pub fn peer(&self) -> Peer {
        let routes = self.routes.clone().map_request(|mut request: Request<Body>| {
            request.extensions_mut().insert(Inside);
            request
        });
        with_token(routes, &self.token)
    }

    /// Serves until the process stops. Streams end when their services end them, or at the stop.
    ///
    /// # Errors
    /// When the transport fails.
    pub async fn serve(
        self,
        listener: TcpListener,
        tls: Option<ServerTls>,
        lifecycle: Lifecycle,
    ) -> Result<(), tonic::transport::Error> {
        match tls {
            None => self.serve_all(TcpIncoming::from(listener).with_nodelay(Some(true)), lifecycle).await,
            Some(tls) => self.serve_all(tls.incoming(listener, &lifecycle), lifecycle).await,
        }
    }

    async fn serve_all<S>(
        self,
        incoming: impl Stream<Item = std::io::Result<S>>,
        lifecycle: Lifecycle,
    ) -> Result<(), tonic::transport::Error>
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Connected + Unpin + Send + 'static,
    {
        let health = self.health;
        let draining = lifecycle.clone();
        lifecycle.spawn(async move {
            draining.drained().await;
            health.set_service_status("", ServingStatus::NotServing).await;
        });
        let incoming = incoming.map(|stream| stream.map(|stream| Punctual::new(stream, PREFACE_TIMEOUT)));
        Server::builder()
            .initial_stream_window_size(SERVER_STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
            .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
            .max_concurrent_streams(STREAMS_MAX)
            .add_routes(self.routes)
            .serve_with_incoming_shutdown(incoming, async move {
                lifecycle.drained().await;
            })
            .await
    }
}

/// Where calls to a service go: the same type for this process and for another one.
pub type Peer = BoxCloneSyncService<Request<Body>, Response<Body>, PeerError>;

/// A call that did not get through.
#[derive(Debug, thiserror::Error)]
#[error("cannot reach the service")]
pub struct PeerError(#[source] BoxError);

/// What is shown to other processes, and whom a call trusts.
#[derive(Clone)]
pub struct Access {
    token: Secret,
    tls: ClientTls,
}

impl Access {
    /// Shows the token; `tls` is for `https://` URLs.
    #[must_use]
    pub fn new(token: Secret, tls: ClientTls) -> Self {
        Self { token, tls }
    }
}

impl From<&Secret> for Access {
    /// Trusts the system's authorities.
    fn from(token: &Secret) -> Self {
        Self::new(token.clone(), ClientTls::default())
    }
}

impl From<&Self> for Access {
    fn from(access: &Self) -> Self {
        access.clone()
    }
}

/// Not the URL of a service.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct BadUrl(String);

/// Reaches a service at a URL such as `http://127.0.0.1:50051`, or `https://chat.internal:50051`, whose certificate must
/// be for the name. Connects at the first call, and again when the connection is lost.
///
/// # Errors
/// When the URL cannot be read.
pub fn remote_peer(url: &str, access: impl Into<Access>) -> Result<Peer, BadUrl> {
    let Access { token, tls } = access.into();
    Ok(with_token(channel(url, tls)?, &token))
}

/// The same without the token.
pub(crate) fn channel(url: &str, tls: ClientTls) -> Result<Channel, BadUrl> {
    let instance = Instance::read(url).map_err(BadUrl)?;
    let bad = |error: &dyn std::fmt::Display| BadUrl(format!("{url}: {error}"));
    // For tonic the connection is a plain one: TLS is made by our own connector, which knows when certificates change.
    let endpoint = Endpoint::from_shared(format!("http://{}", instance.address()))
        .map_err(|error| bad(&error))?
        .tcp_nodelay(true)
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(CALL_TIMEOUT)
        .initial_stream_window_size(LINK_STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true);
    Ok(if instance.is_tls() {
        let name = ServerName::try_from(instance.name().to_owned()).map_err(|error| bad(&error))?;
        let origin = instance.origin().parse::<Uri>().map_err(|error| bad(&error))?;
        let connector = tower::service_fn(move |_: Uri| {
            let (tls, host, port, name) = (tls.clone(), instance.host().to_owned(), instance.port(), name.clone());
            async move { tls.connect(&host, port, name).await.map(TokioIo::new) }
        });
        endpoint.origin(origin).connect_with_connector_lazy(connector)
    } else {
        endpoint.connect_lazy()
    })
}

/// Reaches any instance of a service, one after the other. A call whose connection could not be made goes to the next
/// one; a call that was under way when its connection broke does not, because it may have been done.
#[must_use]
pub fn any_peer(directory: Directory, access: impl Into<Access>) -> Peer {
    let instances = Arc::new(Instances { directory, access: access.into(), known: Mutex::default() });
    BoxCloneSyncService::new(tower::service_fn(move |request: Request<Body>| {
        let instances = instances.clone();
        async move { instances.call(request).await }
    }))
}

struct Instances {
    directory: Directory,
    access: Access,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    peers: Vec<(String, Peer)>,
    /// Whose turn it is.
    next: usize,
}

impl Instances {
    async fn call(&self, request: Request<Body>) -> Result<Response<Body>, PeerError> {
        let (parts, body) = request.into_parts();
        // Unary calls have small bodies, and may have to be made again.
        let body = body.collect().await.map_err(|status| PeerError(status.into()))?.to_bytes();
        if self.directory.now().is_empty() {
            // Its name is being looked up for the first time.
            let _ = tokio::time::timeout(CONNECT_TIMEOUT, self.directory.clone().changed()).await;
        }
        let mut failure = PeerError("no instance of the service is known".into());
        for peer in self.in_turn() {
            let body = Body::new(Full::new(body.clone()).map_err(|never| match never {}));
            let request = Request::from_parts(parts.clone(), body);
            match peer.oneshot(request).await {
                Err(error) if error.is_not_connected() => failure = error,
                other => return other,
            }
        }
        Err(failure)
    }

    /// All instances, beginning with the one whose turn it is.
    fn in_turn(&self) -> Vec<Peer> {
        let urls = self.directory.now();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.peers.retain(|(url, _)| urls.contains(url));
        for url in urls {
            if !known.peers.iter().any(|(theirs, _)| *theirs == url) {
                match remote_peer(&url, &self.access) {
                    Ok(peer) => known.peers.push((url, peer)),
                    Err(error) => tracing::error!(url, %error, "not the URL of a service"),
                }
            }
        }
        known.next = known.next.wrapping_add(1);
        let mut peers: Vec<Peer> = known.peers.iter().map(|(_, peer)| peer.clone()).collect();
        if !peers.is_empty() {
            let turn = known.next % peers.len();
            peers.rotate_left(turn);
        }
        peers
    }
}

impl PeerError {
    /// Whether nothing was sent, because there was no connection.
    fn is_not_connected(&self) -> bool {
        let mut source: Option<&(dyn std::error::Error + 'static)> = Some(self.0.as_ref());
        while let Some(error) = source {
            if error.is::<tonic::ConnectError>() {
                return true;
            }
            source = error.source();
        }
        false
    }
}

fn with_token<S>(service: S, token: &Secret) -> Peer
where
    S: Service<Request<Body>, Response = Response<Body>> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError> + 'static,
    S::Future: Send + 'static,
{
    let bearer = HeaderValue::try_from(format!("Bearer {}", token.expose())).ok().map(|mut value| {
        value.set_sensitive(true);
        value
    });
    let service = Shown { inner: service, bearer };
    BoxCloneSyncService::new(ServiceExt::<Request<Body>>::map_err(service, |error: S::Error| PeerError(error.into())))
}

/// Calls with what they show: the token, and where in a trace they are.
#[derive(Clone)]
struct Shown<S> {
    inner: S,
    bearer: Option<HeaderValue>,
}

impl<S> Service<Request<Body>> for Shown<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
    S::Error: 'static,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Either<S::Future, Pin<Box<dyn Future<Output = Result<Response<Body>, S::Error>> + Send>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        if let Some(bearer) = &self.bearer {
            request.headers_mut().insert(AUTHORIZATION, bearer.clone());
        }
        let Some(mut span) = traces::calling(&mut request).filter(Span::is_recorded) else {
            return Either::Left(self.inner.call(request));
        };
        let answered = self.inner.call(request);
        Either::Right(Box::pin(async move {
            let answer = answered.await;
            span.answered(answer.as_ref().map_or(Code::Unavailable, code), false);
            answer
        }))
    }
}

/// What the methods of all services need, by `<service>/<method>`. What is not here needs [`Scope::Admin`].
pub type Scopes = &'static [(&'static str, Scope)];

/// Decides who may call what.
#[derive(Clone)]
pub struct Guard {
    token: Secret,
    callers: Callers,
    scopes: Arc<HashMap<&'static str, Scope>>,
}

/// A request that never left the process. Extensions do not travel, so nobody else can say so.
#[derive(Clone, Copy)]
struct Inside;

impl Guard {
    /// Lets those pass who show `token`, and the `callers` whose scopes suffice for `scopes`.
    #[must_use]
    pub fn new(token: Secret, callers: Callers, scopes: Scopes) -> Self {
        Self { token, callers, scopes: Arc::new(scopes.iter().copied().collect()) }
    }

    /// Who shows these credentials, and the highest scope of theirs.
    fn caller(&self, headers: &HeaderMap, is_inside: bool) -> Result<(Caller, Scope), Status> {
        let shown = headers
            .get(AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.strip_prefix("Bearer ").or_else(|| value.strip_prefix("bearer ")))
            .ok_or_else(|| unauthenticated("send the metadata `authorization: Bearer <token>`"))?;
        if self.token.matches(shown) {
            let caller = if is_inside { Caller::itself() } else { Caller::deployment() };
            return Ok((caller, Scope::Admin));
        }
        self.callers.find(shown).ok_or_else(|| {
            unauthenticated("the bearer token is not the one of this deployment, nor of a caller in grpc.callers_file")
        })
    }

    /// Who shows a token that may look: for what is told over HTTP to whoever may [`Scope::Read`] here.
    #[must_use]
    pub fn looker(&self, headers: &HeaderMap) -> Option<Caller> {
        let (caller, has) = self.caller(headers, false).ok()?;
        (has >= Scope::Read).then_some(caller)
    }

    /// Whether a caller may call a method.
    fn check(&self, caller: &Caller, has: Scope, method: &str) -> Result<(), Status> {
        let needed = self.scopes.get(method).copied().unwrap_or(Scope::Admin);
        if has >= needed {
            return Ok(());
        }
        let name = caller.name();
        tracing::warn!(caller = name, method, %needed, "a caller's scopes do not suffice");
        let mut details = ErrorDetails::new();
        let metadata = [("scope", needed.name()), ("caller", name), ("method", method)];
        details.set_error_info(
            "SCOPE_REQUIRED",
            DOMAIN,
            metadata.map(|(key, value)| (key.to_owned(), value.to_owned())),
        );
        let message = format!("{method} needs the scope `{needed}`, and the caller `{name}` has not got it");
        Err(Status::with_error_details(Code::PermissionDenied, message, details))
    }
}

fn unauthenticated(message: &str) -> Status {
    Error::new(Kind::Unauthenticated, "SERVICE_TOKEN_REQUIRED", message).into()
}

const CALLS: Counters<3> = Counters::new(
    "switchboard_grpc_requests_total",
    "Calls that were answered, and streams that were opened, by the code of the answer's head",
    &["service", "method", "code"],
);
const CALL_SECONDS: Histograms<2> = Histograms::new(
    "switchboard_grpc_request_duration_seconds",
    "From a call to the head of its answer; of a stream, to its opening",
    &["service", "method"],
    SECONDS,
);

/// What all services count of their calls.
#[derive(Clone)]
struct Calls {
    calls: CounterSeries<3>,
    seconds: HistogramSeries<2>,
}

/// One call that is being answered.
struct Counted {
    calls: Calls,
    service: &'static str,
    method: &'static str,
    began_at: Instant,
}

impl Calls {
    fn call(&self, service: &'static str, method: Option<&'static str>) -> Counted {
        Counted { calls: self.clone(), service, method: method.unwrap_or("other"), began_at: Instant::now() }
    }
}

impl Counted {
    fn answered(self, response: &Response<Body>) {
        let Self { calls, service, method, began_at } = self;
        calls.calls.of([service, method, &format!("{:?}", code(response))]).inc();
        calls.seconds.of([service, method]).observe(began_at.elapsed().as_secs_f64());
    }
}

/// Of the answer's head.
fn code(response: &Response<Body>) -> Code {
    // A call that failed is answered by a head alone.
    response.headers().get("grpc-status").map_or(Code::Ok, |code| Code::from_bytes(code.as_bytes()))
}

/// A service behind the guard.
#[derive(Clone)]
struct Guarded<S> {
    inner: S,
    guard: Guard,
    counts: Calls,
    traces: Traces,
    /// Whatever the scopes of its methods.
    is_for_every_caller: bool,
}

impl<S: NamedService> NamedService for Guarded<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<Request<Body>> for Guarded<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + NamedService,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let method = request.uri().path().trim_start_matches('/');
        let is_inside = request.extensions().get::<Inside>().is_some();
        let admitted = self.guard.caller(request.headers(), is_inside).and_then(|(caller, has)| {
            if !self.is_for_every_caller {
                self.guard.check(&caller, has, method)?;
            }
            Ok(caller)
        });
        // Anybody can make up a method.
        let known = self.guard.scopes.get_key_value(method).map(|(known, _)| *known);
        let counted = self.counts.call(S::NAME, known.and_then(|known| known.rsplit('/').next()));
        match admitted {
            Ok(caller) => {
                let span = tracing::info_span!("rpc", method, caller = caller.name(), trace_id = tracing::field::Empty);
                // Whoever is let in may say of which trace it is.
                let mut traced = self.traces.request(request.headers(), known.unwrap_or(S::NAME));
                traced.is_call(known.unwrap_or(S::NAME));
                traced.set("switchboard.caller", || caller.name().to_owned());
                if let Some(trace_id) = traced.trace_id() {
                    span.record("trace_id", tracing::field::display(trace_id));
                }
                request.extensions_mut().insert(caller);
                let answered = self.inner.call(request).instrument(span);
                Box::pin(async move {
                    let mut response = traces::scope(traced.context(), answered).await?;
                    counted.answered(&response);
                    traced.answered(code(&response), true);
                    let version = HeaderValue::from_static(env!("CARGO_PKG_VERSION"));
                    response.headers_mut().insert(VERSION_HEADER, version);
                    Ok(response)
                })
            }
            Err(status) => {
                let response = status.into_http();
                counted.answered(&response);
                Box::pin(std::future::ready(Ok(response)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::error::reason;

    const SCOPES: Scopes =
        &[("a.v1.S/Look", Scope::Read), ("a.v1.S/Send", Scope::Write), ("a.v1.S/Erase", Scope::Admin)];

    #[tokio::test]
    async fn who_may_call_what() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("callers.toml");
        let callers = ["read", "write", "admin"].map(|scope| {
            format!("[[callers]]\nname = '{scope}r'\nscopes = ['{scope}']\ntoken = 'the-token-of-{scope}r'\n")
        });
        fs::write(&file, callers.concat()).expect("written");
        let callers = Callers::new(&file, &Lifecycle::new()).expect("callers");
        let guard = Guard::new(Secret::new("deployment-token"), callers, SCOPES);
        let may = |token: &str, method: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(AUTHORIZATION, format!("Bearer {token}").parse().expect("a header"));
            let (caller, has) = guard.caller(&headers, false)?;
            guard.check(&caller, has, method).map(|()| caller.name().to_owned())
        };
        for (token, name, expected) in [
            ("the-token-of-readr", "readr", [true, false, false, false]),
            ("the-token-of-writer", "writer", [true, true, false, false]),
            ("the-token-of-adminr", "adminr", [true, true, true, true]),
            ("deployment-token", "deployment", [true, true, true, true]),
        ] {
            let methods = ["a.v1.S/Look", "a.v1.S/Send", "a.v1.S/Erase", "a.v1.S/Unknown"];
            for (method, expected) in methods.into_iter().zip(expected) {
                match may(token, method) {
                    Ok(caller) => assert!(expected && caller == name, "{token} {method}"),
                    Err(status) => {
                        assert!(!expected, "{token} {method}");
                        assert_eq!(
                            (status.code(), reason(&status).as_str()),
                            (Code::PermissionDenied, "SCOPE_REQUIRED")
                        );
                        assert!(status.message().contains(name), "{status}");
                    }
                }
            }
            let mut headers = HeaderMap::new();
            assert_eq!(guard.looker(&headers), None);
            headers.insert(AUTHORIZATION, format!("Bearer {token}").parse().expect("a header"));
            assert_eq!(guard.looker(&headers).map(|caller| caller.name().to_owned()).as_deref(), Some(name));
        }
        for token in ["", "the-token-of-nobody", "deployment-toke"] {
            assert_eq!(may(token, "a.v1.S/Look").expect_err("unknown").code(), Code::Unauthenticated, "{token}");
        }
        assert_eq!(
            guard.caller(&HeaderMap::new(), true).expect_err("no token").code(),
            Code::Unauthenticated,
            "the own process shows its token, too"
        );
    }
}
