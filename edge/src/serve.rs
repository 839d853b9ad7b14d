//! Connections: accepted, asked what they want, answered.

use std::{convert::Infallible, sync::Arc, time::Duration};

use http::{HeaderMap, Method, StatusCode};
use hyper::{server::conn::http1, upgrade::OnUpgrade};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::OwnedSemaphorePermit,
};
use warp::{Filter, reply::Reply as _, reply::Response};

use crate::{
    Edge, Refusal, closing, credential, goodbye,
    handshake::{Admission, Visit},
    playground, rest,
    routes::{self, Route, Target},
    session::{self, Handler, Heartbeat, Seat},
    upgrade,
};

/// After an error that is not the visitor's, such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Accepts connections until the process drains.
pub(crate) async fn accept(edge: Arc<Edge>, listener: TcpListener) -> std::io::Result<()> {
    let service = TowerToHyperService::new(warp::service(answering(edge.clone())));
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_secs(edge.config.header_timeout_s))
        // Many heads come in one read; the least that hyper takes.
        .max_buf_size(16 << 10);
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
            () = edge.lifecycle.drained() => return Ok(()),
        };
        let connection = builder.serve_connection(TokioIo::new(stream), service.clone()).with_upgrades();
        let lifecycle = edge.lifecycle.clone();
        edge.lifecycle.spawn(async move {
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

/// The one filter: finds the route, then answers.
fn answering(
    edge: Arc<Edge>,
) -> impl Filter<Extract = (Response,), Error = warp::Rejection> + Clone + Send + Sync + 'static {
    let query = warp::query::raw().or(warp::any().map(String::new)).unify();
    warp::method()
        .and(warp::path::full())
        .and(query)
        .and(warp::header::headers_cloned())
        .and(warp::ext::optional::<OnUpgrade>())
        .and(warp::body::stream())
        .and_then(
            move |method: Method, path: warp::path::FullPath, query: String, headers: HeaderMap, upgrade, body| {
                let edge = edge.clone();
                async move {
                    let call = |method| rest::Call {
                        edge: &edge,
                        method,
                        path: path.as_str(),
                        query: &query,
                        headers: &headers,
                    };
                    let response = match routes::find(path.as_str()) {
                        Some(Route::Socket(target)) => visit(&edge, target, &method, &query, &headers, upgrade).await,
                        Some(Route::Clinic(endpoint)) => rest::clinic::answer(call(method), endpoint, body).await,
                        Some(Route::Mobile(endpoint)) => rest::mobile::answer(call(method), endpoint, body).await,
                        Some(Route::Mentoring(endpoint)) => rest::mentoring::answer(call(method), endpoint, body).await,
                        Some(Route::Live) => "ok\n".into_response(),
                        Some(Route::Ready) => readiness(&edge),
                        Some(Route::Playground) => playground::page(edge.playground.as_ref()),
                        Some(Route::PlaygroundPeople) => playground::people(edge.playground.as_ref()),
                        None => StatusCode::NOT_FOUND.into_response(),
                    };
                    Ok::<_, Infallible>(response)
                }
            },
        )
}

fn readiness(edge: &Edge) -> Response {
    if edge.lifecycle.is_draining() {
        ("draining\n").into_response().with(StatusCode::SERVICE_UNAVAILABLE)
    } else {
        let links = &edge.links;
        let down: Vec<&str> = [
            ("chat", links.chat.is_up()),
            ("location", links.location.is_up()),
            ("notification", links.notification.is_up()),
            ("presence", links.presence.is_up()),
        ]
        .into_iter()
        .filter_map(|(service, is_up)| (!is_up).then_some(service))
        .collect();
        match down.as_slice() {
            [] => "ready\n".into_response(),
            // Conversations are what an edge is for: without the others it still is of use.
            down if down.contains(&"chat") => {
                format!("no link to: {}\n", down.join(", ")).into_response().with(StatusCode::SERVICE_UNAVAILABLE)
            }
            down => format!("ready, but no link to: {}\n", down.join(", ")).into_response(),
        }
    }
}

async fn visit(
    edge: &Arc<Edge>,
    target: Target,
    method: &Method,
    query: &str,
    headers: &HeaderMap,
    on_upgrade: Option<OnUpgrade>,
) -> Response {
    let (Ok(accept), Some(on_upgrade), &Method::GET) = (upgrade::accept_key(headers), on_upgrade, method) else {
        return upgrade::required().into_response();
    };
    let shown = credential::shown_token(query, headers);
    let token = shown.as_ref().map(|shown| shown.token.as_str());
    let (admitted, place) = match edge.room.take() {
        Some((handshake, socket)) => {
            let admitted = edge.admit(&target, &Visit { query, headers, token }).await;
            drop(handshake);
            (admitted, Some(socket))
        }
        None => (Err(goodbye::OVERLOADED.into()), None),
    };
    let subprotocol = shown.and_then(|shown| shown.subprotocol);
    let heartbeat = Heartbeat {
        ping_interval: Duration::from_secs(edge.config.ping_interval_s),
        idle_timeout: Duration::from_secs(edge.config.idle_timeout_s),
    };
    match admitted {
        Ok(admission) => {
            let lifecycle = &edge.lifecycle;
            match admission {
                Admission::Chat(seat) => lifecycle.spawn(sit(on_upgrade, seat, heartbeat, place)),
                Admission::Location(seat) => lifecycle.spawn(sit(on_upgrade, seat, heartbeat, place)),
                Admission::Notifications(seat) => lifecycle.spawn(sit(on_upgrade, seat, heartbeat, place)),
                Admission::Presence(seat) => lifecycle.spawn(sit(on_upgrade, seat, heartbeat, place)),
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

/// Serves a socket from its upgrade to its end.
async fn sit<H: Handler>(
    on_upgrade: OnUpgrade,
    seat: Box<Seat<H>>,
    heartbeat: Heartbeat,
    place: Option<OwnedSemaphorePermit>,
) {
    if let Some(socket) = upgrade::socket(on_upgrade).await {
        session::run::<TcpStream, H>(socket, *seat, heartbeat).await;
    }
    drop(place);
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
