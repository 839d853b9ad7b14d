//! How a process offers its gRPC services, and how it reaches those of others.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use http::{HeaderValue, Request, Response, header::AUTHORIZATION};
use http_body_util::{BodyExt as _, Full};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tonic::{
    Status,
    body::Body,
    server::NamedService,
    service::{Interceptor, Routes, RoutesBuilder, interceptor::InterceptedService},
    transport::{Endpoint, Server, server::TcpIncoming},
};
use tonic_health::{ServingStatus, server::HealthReporter};
use tower::{BoxError, Service, ServiceExt, util::BoxCloneSyncService};

use crate::{Directory, Error, Kind, Lifecycle, Secret};

/// A window for a whole connection: since h2 0.4.16, many small unread frames on a connection with a small window end
/// the connection (`too_many_data_frames`; the budget is half of this).
const CONNECTION_WINDOW_BYTES: u32 = 64 << 20;
/// A window for one stream into a server. With the connection's 64 MiB, 64 stalled streams leave the others alone.
const SERVER_STREAM_WINDOW_BYTES: u32 = 1 << 20;
/// A window for one stream into an edge, which has few streams and always reads them.
const LINK_STREAM_WINDOW_BYTES: u32 = 64 << 20;
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(5);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// For the head of an answer: a unary call, or the opening of a stream.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// `[grpc]`: what this process offers to other services.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GrpcConfig {
    /// Where all gRPC services of the process listen.
    pub listen: SocketAddr,
    /// The bearer token that callers must show, and that this process shows to others; made in the data directory
    /// when not given.
    pub token: Secret,
}

impl Default for GrpcConfig {
    fn default() -> Self {
        Self { listen: SocketAddr::from(([127, 0, 0, 1], 50051)), token: Secret::default() }
    }
}

/// The gRPC services of one process: what its port serves, and what its own edge calls without a network.
pub struct Services {
    routes: RoutesBuilder,
    health: HealthReporter,
    guard: BearerGuard,
}

impl Services {
    /// Health (open to all) and reflection, v1 and v1alpha, over `descriptors` (behind the token).
    ///
    /// # Panics
    /// When a descriptor set cannot be decoded: a build's fault.
    #[must_use]
    pub fn new(token: Secret, descriptors: &[&'static [u8]]) -> Self {
        let guard = BearerGuard { token };
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
        routes.add_service(InterceptedService::new(v1, guard.clone()));
        let v1alpha = reflection().build_v1alpha().expect("descriptor sets are built with this program");
        routes.add_service(InterceptedService::new(v1alpha, guard.clone()));
        Self { routes, health, guard }
    }

    /// Adds a service behind the token.
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
        self.routes.add_service(InterceptedService::new(service, self.guard.clone()));
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
        with_token(self.routes.clone(), &self.token)
    }

    /// Serves until the process stops. Streams end when their services end them, or at the stop.
    ///
    /// # Errors
    /// When the transport fails.
    pub async fn serve(self, listener: TcpListener, lifecycle: Lifecycle) -> Result<(), tonic::transport::Error> {
        let health = self.health;
        let draining = lifecycle.clone();
        lifecycle.spawn(async move {
            draining.drained().await;
            health.set_service_status("", ServingStatus::NotServing).await;
        });
        Server::builder()
            .initial_stream_window_size(SERVER_STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
            .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
            .add_routes(self.routes)
            .serve_with_incoming_shutdown(TcpIncoming::from(listener).with_nodelay(Some(true)), async move {
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

/// Reaches a service at a URL such as `http://127.0.0.1:50051`. Connects at the first call, and again when the
/// connection is lost.
///
/// # Errors
/// When the URL cannot be read.
pub fn remote_peer(url: &str, token: &Secret) -> Result<Peer, tonic::transport::Error> {
    let channel = Endpoint::from_shared(url.to_owned())?
        .tcp_nodelay(true)
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(CALL_TIMEOUT)
        .initial_stream_window_size(LINK_STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
        .connect_lazy();
    Ok(with_token(channel, token))
}

/// Reaches any instance of a service, one after the other. A call whose connection could not be made goes to the next
/// one; a call that was under way when its connection broke does not, because it may have been done.
#[must_use]
pub fn any_peer(directory: Directory, token: &Secret) -> Peer {
    let instances = Arc::new(Instances { directory, token: token.clone(), known: Mutex::default() });
    BoxCloneSyncService::new(tower::service_fn(move |request: Request<Body>| {
        let instances = instances.clone();
        async move { instances.call(request).await }
    }))
}

struct Instances {
    directory: Directory,
    token: Secret,
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
                match remote_peer(&url, &self.token) {
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
    let service = service.map_request(move |mut request: Request<Body>| {
        if let Some(bearer) = &bearer {
            request.headers_mut().insert(AUTHORIZATION, bearer.clone());
        }
        request
    });
    BoxCloneSyncService::new(ServiceExt::<Request<Body>>::map_err(service, |error: S::Error| PeerError(error.into())))
}

/// Lets a call pass that shows the token.
#[derive(Clone)]
struct BearerGuard {
    token: Secret,
}

impl Interceptor for BearerGuard {
    fn call(&mut self, request: tonic::Request<()>) -> Result<tonic::Request<()>, Status> {
        let shown = request
            .metadata()
            .get(AUTHORIZATION.as_str())
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.strip_prefix("Bearer ").or_else(|| value.strip_prefix("bearer ")));
        match shown {
            Some(shown) if self.token.matches(shown) => Ok(request),
            Some(_) => Err(unauthenticated("the bearer token is not the one of this deployment")),
            None => Err(unauthenticated("send the metadata `authorization: Bearer <token>`")),
        }
    }
}

fn unauthenticated(message: &str) -> Status {
    Error::new(Kind::Unauthenticated, "SERVICE_TOKEN_REQUIRED", message).into()
}
