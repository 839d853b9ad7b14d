//! Asks a listener how it is, for health checks of containers and of service managers: there, no other program can ask.
//!
//! Certificates are not checked: nothing secret is told, and the answer is believed no further than an exit code.

use std::{fmt, io, net::IpAddr, sync::Arc, time::Duration};

use http::{Request, Uri, header::HOST};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, rustls::pki_types::ServerName};
use tokio_util::either::Either;
use tonic::transport::Endpoint;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

use crate::tls::{self, ClientTlsConfig};

/// How long one listener has for its answer, its connection included.
const ANSWER_MAX: Duration = Duration::from_secs(4);
const BODY_BYTES_MAX: usize = 16 << 10;

type Stream = Either<TcpStream, Box<tokio_rustls::client::TlsStream<TcpStream>>>;

/// How a listener is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// Serves; with what it says.
    Well(String),
    /// Does not serve, or gives no answer; with the reason.
    Unwell(String),
    /// Nobody listens there.
    Absent,
}

/// Whom to ask: `http://host:port/path`, `https://...`, `grpc://host:port` or `grpcs://host:port`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    is_grpc: bool,
    is_tls: bool,
    host: String,
    port: u16,
    path: String,
}

impl Target {
    /// Reads a URL.
    ///
    /// # Errors
    /// What a URL looks like.
    pub fn read(url: &str) -> Result<Self, String> {
        let wrong =
            || format!("{url:?}: http://host:port/path, https://..., grpc://host:port or grpcs://... is wanted");
        let uri: Uri = url.parse().map_err(|_| wrong())?;
        let (is_grpc, is_tls, usual) = match uri.scheme_str() {
            Some("http") => (false, false, Some(80)),
            Some("https") => (false, true, Some(443)),
            Some("grpc") => (true, false, None),
            Some("grpcs") => (true, true, None),
            _ => return Err(wrong()),
        };
        let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = uri.port_u16().or(usual).filter(|port| *port != 0).ok_or_else(wrong)?;
        let path = uri.path_and_query().map_or_else(|| "/".to_owned(), ToString::to_string);
        if host.is_empty() || is_grpc && path != "/" {
            return Err(wrong());
        }
        Ok(Self { is_grpc, is_tls, host, port, path })
    }

    /// Asks.
    pub async fn ask(&self, shown: &ClientTlsConfig) -> Health {
        let asked = async { if self.is_grpc { self.ask_grpc(shown).await } else { self.ask_http(shown).await } };
        match tokio::time::timeout(ANSWER_MAX, asked).await {
            Ok(Ok(health)) => health,
            Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => Health::Absent,
            Ok(Err(error)) => Health::Unwell(error.to_string()),
            Err(_) => Health::Unwell(format!("no answer in {} s", ANSWER_MAX.as_secs())),
        }
    }

    async fn ask_http(&self, shown: &ClientTlsConfig) -> io::Result<Health> {
        let stream = self.connect(shown, tls::HTTP1).await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        let connection = tokio::spawn(connection);
        let request = Request::get(&self.path).header(HOST, self.authority()).body(Empty::<&[u8]>::new());
        let response = sender.send_request(request.map_err(io::Error::other)?).await.map_err(io::Error::other)?;
        let (status, body) = (response.status(), Limited::new(response.into_body(), BODY_BYTES_MAX));
        let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
        connection.abort();
        let said = String::from_utf8_lossy(&body).trim().to_owned();
        Ok(if status.is_success() { Health::Well(said) } else { Health::Unwell(format!("{status}: {said}")) })
    }

    async fn ask_grpc(&self, shown: &ClientTlsConfig) -> io::Result<Health> {
        let stream = self.connect(shown, tls::HTTP2).await?;
        // There is one connection, and it is here already.
        let mut stream = Some(TokioIo::new(stream));
        let connector = tower::service_fn(move |_: Uri| {
            std::future::ready(stream.take().ok_or_else(|| io::Error::other("the connection was lost")))
        });
        let endpoint = Endpoint::from_shared(format!("http://{}", self.authority())).map_err(io::Error::other)?;
        let channel = endpoint.connect_with_connector(connector).await.map_err(io::Error::other)?;
        let answer = HealthClient::new(channel).check(HealthCheckRequest { service: String::new() }).await;
        Ok(match answer.map(|answer| answer.into_inner().status()) {
            Ok(ServingStatus::Serving) => Health::Well("serving".to_owned()),
            Ok(_) => Health::Unwell("not serving".to_owned()),
            Err(status) => Health::Unwell(status.to_string()),
        })
    }

    async fn connect(&self, shown: &ClientTlsConfig, protocol: &[u8]) -> io::Result<Stream> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
        if !self.is_tls {
            return Ok(Either::Left(stream));
        }
        let config = Arc::new(tls::asking_config(shown, protocol).map_err(io::Error::other)?);
        let name = ServerName::try_from(self.host.clone()).map_err(io::Error::other)?;
        Ok(Either::Right(Box::new(TlsConnector::from(config).connect(name, stream).await?)))
    }

    fn authority(&self) -> String {
        match self.host.parse() {
            Ok(IpAddr::V6(address)) => format!("[{address}]:{}", self.port),
            _ => format!("{}:{}", self.host, self.port),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match (self.is_grpc, self.is_tls) {
            (false, false) => "http",
            (false, true) => "https",
            (true, false) => "grpc",
            (true, true) => "grpcs",
        };
        let path = if self.is_grpc { "" } else { &self.path };
        write!(f, "{scheme}://{}{path}", self.authority())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whom_to_ask() {
        for right in
            ["http://127.0.0.1:8000/readyz", "https://[::1]:1/", "grpc://chat.internal:50051", "grpcs://[::1]:2"]
        {
            assert_eq!(Target::read(right).map(|target| target.to_string()).as_deref(), Ok(right));
        }
        assert_eq!(Target::read("https://a/readyz").expect("right").to_string(), "https://a:443/readyz");
        for wrong in ["", "127.0.0.1:8000", "ftp://a:1", "grpc://a", "grpc://a:1/path", "http://a:0/"] {
            assert!(Target::read(wrong).is_err(), "{wrong}");
        }
    }
}
