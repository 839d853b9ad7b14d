//! The port for operators: `/metrics`, `/healthz`, `/readyz`. Plain HTTP, and open to whoever reaches it.

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::{Deserialize, Serialize};
use tokio::{net::TcpListener, sync::Semaphore};

use crate::{Lifecycle, lifecycle::Readiness, metrics::CONTENT_TYPE};

/// Connections at once; others wait.
const CONNECTIONS_MAX: usize = 64;
/// For a request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// After an error that is not the visitor's, such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// `[admin]`: what operators see.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdminConfig {
    /// Where `/metrics`, `/healthz` and `/readyz` listen; without a credential, so it is not for the public.
    pub listen: SocketAddr,
}

impl Default for AdminConfig {
    fn default() -> Self {
        Self { listen: SocketAddr::from(([127, 0, 0, 1], 8001)) }
    }
}

/// Serves until the process stops, and so through its soft end.
///
/// # Errors
/// Never: it is essential all the same, and says so if it ends.
pub async fn serve(listener: TcpListener, lifecycle: Lifecycle) -> Result<(), Infallible> {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return Ok(()) };
        let stream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
            () = lifecycle.stopped() => return Ok(()),
        };
        let lifecycle = lifecycle.clone();
        tokio::spawn(async move {
            let asked = lifecycle.clone();
            let answer = service_fn(move |request| std::future::ready(Ok::<_, Infallible>(answer(&request, &asked))));
            let mut builder = http1::Builder::new();
            builder.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
            let connection = builder.serve_connection(TokioIo::new(stream), answer);
            tokio::select! {
                // Whoever asks badly is not our concern.
                _ = connection => {}
                () = lifecycle.stopped() => {}
            }
            drop(place);
        });
    }
}

fn answer(request: &Request<Incoming>, lifecycle: &Lifecycle) -> Response<Full<Bytes>> {
    let path = request.uri().path();
    let (status, kind, text) = match path.strip_suffix('/').filter(|path| !path.is_empty()).unwrap_or(path) {
        _ if !matches!(*request.method(), Method::GET | Method::HEAD) => {
            (StatusCode::METHOD_NOT_ALLOWED, "text/plain; charset=utf-8", "GET only\n".to_owned())
        }
        "/metrics" => (StatusCode::OK, CONTENT_TYPE, lifecycle.metrics().text()),
        "/healthz" => (StatusCode::OK, "text/plain; charset=utf-8", "ok\n".to_owned()),
        "/readyz" => {
            let readiness = lifecycle.readiness();
            (readiness.status(), "text/plain; charset=utf-8", readiness.to_string())
        }
        "/" => (StatusCode::OK, "text/plain; charset=utf-8", "/metrics\n/healthz\n/readyz\n".to_owned()),
        _ => (StatusCode::NOT_FOUND, "text/plain; charset=utf-8", "not here: /metrics, /healthz, /readyz\n".to_owned()),
    };
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

impl Readiness {
    /// 200, or 503 for a process that should get no new work.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Ready | Self::Partly(_) => StatusCode::OK,
            Self::NotReady(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}
