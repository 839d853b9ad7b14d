//! Requests of ours to web servers: what their URLs may be, how they are reached, and what went wrong.

use std::{error::Error, io, sync::Arc, time::Duration};

use http::Uri;
use hyper_rustls::{ConfigBuilderExt as _, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto::ring};

/// Makes connections for a client of `hyper_util`.
pub type Connector = HttpsConnector<HttpConnector>;

/// A URL of a web server, with a host and without credentials.
///
/// # Errors
/// What it must be.
pub fn check_url(url: &str) -> Result<Uri, &'static str> {
    const WRONG: &str = "https://host/path is wanted, or http:// on a network of your own";
    let uri: Uri = url.parse().map_err(|_| WRONG)?;
    let (Some("http" | "https"), Some(authority)) = (uri.scheme_str(), uri.authority()) else { return Err(WRONG) };
    if authority.host().is_empty() || authority.as_str().ends_with(':') {
        return Err(WRONG);
    }
    if authority.as_str().contains('@') {
        return Err("a user and a password in it would not be sent");
    }
    Ok(uri)
}

/// Connects by HTTP/1.1, within `timeout`. Certificates are checked with those that the machine trusts.
///
/// # Errors
/// When the URL needs certificates and the machine trusts none.
pub fn connector(url: &Uri, timeout: Duration) -> io::Result<Connector> {
    let tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?;
    let tls = match url.scheme_str() {
        Some("https") => tls.with_native_roots()?,
        _ => tls.with_root_certificates(RootCertStore::empty()),
    };
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(timeout));
    Ok(HttpsConnectorBuilder::new()
        .with_tls_config(tls.with_no_client_auth())
        .https_or_http()
        .enable_http1()
        .wrap_connector(tcp))
}

/// An error and what is behind it: a client says `client error (Connect)` and leaves the rest to its causes.
#[must_use]
pub fn with_causes(error: &dyn Error) -> String {
    let (mut text, mut cause) = (error.to_string(), error.source());
    while let Some(next) = cause {
        text = format!("{text}: {next}");
        cause = next.source();
    }
    text
}
