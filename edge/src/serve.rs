//! Connections: accepted, asked what they want, answered.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, OnceLock},
    time::Duration,
};

use http::{
    HeaderMap, HeaderValue, Method, StatusCode, Uri,
    header::{AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER},
    request,
};
use hyper::{
    server::conn::http1,
    service::{Service as _, service_fn},
    upgrade::OnUpgrade,
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use switchboard_chassis::{
    tls::{ServerTls, TlsStream},
    traces::{self, Span},
};
use tokio::{
    net::{TcpListener, TcpStream},
    time::Instant,
};
use tokio_util::either::Either;
use tower::Layer as _;
use tower_http::cors::{AllowOrigin, CorsLayer};
use warp::{Filter, reply::Reply as _, reply::Response};

use crate::{
    Edge, Refusal,
    calls::{self, Tap},
    client_address::{Client, Proxies},
    closing, credential,
    goodbye::{self, Goodbye},
    handshake::{Admission, Visit},
    metrics::pattern,
    playground, rest,
    room::SocketPlace,
    routes::{self, Route, Target},
    session::{Handler, Heartbeat, Seat, Session},
    upgrade::{self, Wire},
};

/// After an error that is not the visitor's, such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How long a browser may remember what a page of another origin may ask.
const PREFLIGHT_GOOD_FOR: Duration = Duration::from_secs(600);

/// Accepts connections until the process drains.
pub(crate) async fn accept(edge: Arc<Edge>, listener: TcpListener, tls: Option<ServerTls>) -> std::io::Result<()> {
    let service =
        CorsLayer::layer(&sharing(edge.config.allowed_origins.clone()), warp::service(answering(edge.clone())));
    let service = TowerToHyperService::new(service);
    // What is wrong with them was told when the configuration was read.
    let proxies = Arc::new(Proxies::read(&edge.config.trusted_proxies).unwrap_or_default());
    let head_time = Duration::from_secs(edge.config.header_timeout_s);
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(head_time)
        // Many heads come in one read; the least that hyper takes.
        .max_buf_size(16 << 10);
    loop {
        let (stream, peer) = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    edge.counts.not_accepted.inc();
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
            () = edge.lifecycle.drained() => return Ok(()),
        };
        edge.counts.accepted.inc();
        let (service, proxies, is_tls) = (service.clone(), proxies.clone(), tls.is_some());
        let answer = service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
            let client = proxies.client(peer.ip(), is_tls, request.headers_mut());
            request.extensions_mut().insert(client);
            // CONNECT, and whoever writes an authority in its place: warp would panic, so it gets a path that is nobody's.
            if request.uri().path_and_query().is_none() {
                *request.uri_mut() = Uri::from_static("*");
            }
            service.call(request)
        });
        let (builder, tls, lifecycle) = (builder.clone(), tls.clone(), edge.lifecycle.clone());
        let tls_failed = edge.counts.tls_failed.clone();
        edge.lifecycle.spawn(async move {
            let stream = match tls {
                None => Either::Left(stream),
                Some(tls) => match secured(&tls, stream, peer, head_time).await {
                    Some(stream) => Either::Right(stream),
                    None => {
                        tls_failed.inc();
                        return;
                    }
                },
            };
            let connection = builder.serve_connection(TokioIo::<Wire>::new(stream), answer).with_upgrades();
            let mut connection = std::pin::pin!(connection);
            let ended = tokio::select! {
                ended = connection.as_mut() => ended,
                () = lifecycle.drained() => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            };
            if let Err(error) = ended {
                tracing::debug!(%error, "a connection ended badly");
            }
        });
    }
}

/// Lets pages of allowed origins read what REST answers, with a cookie or a token.
fn sharing(allowed: Vec<String>) -> CorsLayer {
    let is_allowed = move |origin: &HeaderValue, request: &request::Parts| {
        // The playground is for its own page alone.
        let is_shared = !matches!(routes::find(request.uri.path()), Some(Route::Playground(_)));
        let is_allowed = |origin| credential::is_allowed_origin(origin, &request.headers, &allowed);
        is_shared && origin.to_str().is_ok_and(is_allowed)
    };
    CorsLayer::new()
        .allow_origin(AllowOrigin::predicate(is_allowed))
        .allow_credentials(true)
        .allow_methods([Method::GET, Method::POST])
        .allow_headers([AUTHORIZATION, CONTENT_TYPE])
        .expose_headers([RETRY_AFTER])
        .max_age(PREFLIGHT_GOOD_FOR)
}

/// The one filter: finds the route, then answers.
fn answering(
    edge: Arc<Edge>,
) -> impl Filter<Extract = (Response,), Error = warp::Rejection> + Clone + Send + Sync + 'static {
    let query = warp::query::raw().or(warp::any().map(String::new)).unify();
    warp::method()
        .and(warp::path::full())
        .and(query)
        .and(warp::header::headers_cloned())
        .and(warp::ext::get::<Client>())
        .and(warp::ext::optional::<OnUpgrade>())
        .and(warp::body::stream())
        .and_then(
            move |method: Method,
                  path: warp::path::FullPath,
                  query: String,
                  headers: HeaderMap,
                  client,
                  upgrade,
                  body| {
                let edge = edge.clone();
                async move {
                    let call = |method| rest::Call {
                        edge: &edge,
                        method,
                        path: path.as_str(),
                        query: &query,
                        headers: &headers,
                        client,
                    };
                    let (began, route) = (Instant::now(), routes::find(path.as_str()));
                    let (pattern, is_socket) = (pattern(route.as_ref()), matches!(route, Some(Route::Socket(_))));
                    let asked = method.clone();
                    let mut traced = traced(&edge, route.as_ref(), &method, &headers);
                    let context = traced.context();
                    let answered = async {
                        match route {
                            Some(Route::Socket(target)) => {
                                visit(&edge, target, &method, &query, (&headers, client), (upgrade, &mut traced)).await
                            }
                            Some(Route::Clinic(endpoint)) => rest::clinic::answer(call(method), endpoint, body).await,
                            Some(Route::Mobile(endpoint)) => rest::mobile::answer(call(method), endpoint, body).await,
                            Some(Route::Mentoring(endpoint)) => {
                                rest::mentoring::answer(call(method), endpoint, body).await
                            }
                            Some(Route::Live) => "ok\n".into_response(),
                            Some(Route::Ready) => readiness(&edge),
                            Some(Route::Playground(file)) => playground::answer(&call(method), file),
                            None => StatusCode::NOT_FOUND.into_response(),
                        }
                    };
                    let response = traces::scope(context, answered).await;
                    traced.set("http.response.status_code", || i64::from(response.status().as_u16()));
                    if response.status().is_server_error() {
                        traced.fail("");
                    }
                    if !is_socket {
                        edge.counts.answered(pattern, &asked, response.status(), began.elapsed());
                    }
                    Ok::<_, Infallible>(response)
                }
            },
        )
}

/// A request's span: of those that are about what people do.
fn traced(edge: &Edge, route: Option<&Route>, method: &Method, headers: &HeaderMap) -> Span {
    let Some(Route::Socket(_) | Route::Clinic(_) | Route::Mobile(_) | Route::Mentoring(_)) = route else {
        return Span::default();
    };
    let route = pattern(route);
    let mut span = edge.lifecycle.traces().request(headers, route);
    // Anybody can make up a method.
    let method = if [Method::GET, Method::POST].contains(method) { method.as_str() } else { "_OTHER" };
    span.rename(|| format!("{method} {route}"));
    span.set("http.request.method", || method.to_owned());
    span.set("http.route", || route);
    span
}

fn readiness(edge: &Edge) -> Response {
    let readiness = edge.lifecycle.readiness();
    readiness.to_string().into_response().with(readiness.status())
}

async fn visit(
    edge: &Arc<Edge>,
    target: Target,
    method: &Method,
    query: &str,
    (headers, client): (&HeaderMap, Client),
    (on_upgrade, traced): (Option<OnUpgrade>, &mut Span),
) -> Response {
    let (Ok(accept), Some(on_upgrade), &Method::GET) = (upgrade::accept_key(headers), on_upgrade, method) else {
        return upgrade::required().into_response();
    };
    let shown = credential::shown_token(query, headers);
    let token = shown.as_ref().map(|shown| shown.token.as_str());
    let calls = edge.playground.as_ref().and_then(|playground| playground.calls.as_ref());
    let tap = calls.and_then(|calls| calls.tap(&credential::parameter(query, "calls")?));
    let began = Instant::now();
    let visit = Visit { query, headers, token, address: client.address, who: OnceLock::new() };
    let (admitted, place) = match edge.room.take(client.address) {
        Some((handshake, socket)) => {
            let admitted = match &tap {
                None => edge.admit(&target, &visit).await,
                // Boxed, as it is of demonstrations.
                Some(tap) => Box::pin(calls::tapped(tap.clone(), edge.admit(&target, &visit))).await,
            };
            drop(handshake);
            (admitted, Some(socket))
        }
        None => (Err(goodbye::OVERLOADED.into()), None),
    };
    let user_id = visit.who.get().map(String::as_str);
    let refused = admitted.as_ref().err().map(|turned| (turned.goodbye, turned.is_foreign));
    edge.counts.handshake(&target, refused, began.elapsed(), traced);
    if let Some(user_id) = user_id {
        traced.set("user.id", || user_id.to_owned());
    }
    let subprotocol = shown.and_then(|shown| shown.subprotocol);
    let heartbeat = Heartbeat {
        ping_interval: Duration::from_secs(edge.config.ping_interval_s),
        idle_timeout: Duration::from_secs(edge.config.idle_timeout_s),
    };
    if let Err(turned) = &admitted {
        let Goodbye { code, reason: why, .. } = turned.goodbye;
        let (conversation, client) = (target.conversation(), client.address);
        tracing::debug!(target: "sockets", user_id, conversation, %client, code, why, "a visitor was refused");
    }
    match admitted {
        Ok(admission) => {
            let lifecycle = &edge.lifecycle;
            match admission {
                Admission::Chat(seat) => lifecycle.spawn(sit(on_upgrade, seat, heartbeat, (place, tap))),
                Admission::Location(seat) => lifecycle.spawn(sit(on_upgrade, seat, heartbeat, (place, tap))),
                Admission::Notifications(seat) => lifecycle.spawn(sit(on_upgrade, seat, heartbeat, (place, tap))),
                Admission::Presence(seat) => lifecycle.spawn(sit(on_upgrade, seat, heartbeat, (place, tap))),
            }
        }
        Err(turned) if turned.is_foreign => {
            return "a page of this origin may not use the session: see edge.allowed_origins\n"
                .into_response()
                .with(StatusCode::FORBIDDEN);
        }
        Err(turned) if edge.config.refusal == Refusal::Http => {
            return turned.goodbye.reason.into_response().with(turned.goodbye.status);
        }
        Err(turned) => {
            edge.lifecycle.spawn(async move {
                if let Some(socket) = upgrade::socket(on_upgrade).await {
                    closing::say_goodbye(socket, turned.last_words, turned.goodbye).await;
                }
            });
        }
    }
    upgrade::switching(&accept, subprotocol).into_response()
}

/// The handshake of TLS.
async fn secured(tls: &ServerTls, stream: TcpStream, peer: SocketAddr, within: Duration) -> Option<Box<TlsStream>> {
    match tls.accept(stream, within).await {
        Ok(stream) => Some(Box::new(stream)),
        Err(error) => {
            tracing::debug!(%error, %peer, "a TLS handshake failed");
            None
        }
    }
}

/// Serves a socket from its upgrade to its end.
fn sit<H: Handler>(
    on_upgrade: OnUpgrade,
    seat: Box<Seat<H>>,
    heartbeat: Heartbeat,
    (place, tap): (Option<SocketPlace>, Option<Arc<Tap>>),
) -> impl Future<Output = ()> + Send {
    // Boxed, as it comes once.
    let opening = Box::pin(async move {
        upgrade::socket(on_upgrade).await.map(|socket| Session::<Wire, H>::new(socket, seat, heartbeat))
    });
    async move {
        if let Some(session) = opening.await {
            match tap {
                None => session.serve().await,
                Some(tap) => Box::pin(calls::tapped(tap, session.serve())).await,
            }
        }
        drop(place);
    }
}

/// Sets a response's status.
pub(crate) trait With {
    fn with(self, status: StatusCode) -> Self;
}

impl With for Response {
    fn with(mut self, status: StatusCode) -> Self {
        *self.status_mut() = status;
        self
    }
}
