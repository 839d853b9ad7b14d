//! One small document over HTTP or HTTPS, from the host that was named and no other.

use std::{io, net::IpAddr, time::Duration};

use bytes::Bytes;
use http::{Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use switchboard_chassis::web::{Connector, check_url, connector, with_causes};

/// A larger document is refused.
const BODY_BYTES_MAX: usize = 256 * 1024;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// For all of it, from looking the name up to the last byte.
pub(super) const TOTAL_TIMEOUT: Duration = Duration::from_secs(5);
/// Within the same host.
const REDIRECTS_MAX: usize = 3;

/// Fetches one URL.
pub(super) struct Fetcher {
    client: Client<Connector, Empty<Bytes>>,
    url: Uri,
}

impl Fetcher {
    /// Certificates are checked with those that the machine trusts.
    ///
    /// # Errors
    /// When the URL is wrong, or it needs certificates and the machine trusts none.
    pub(super) fn new(url: &str) -> io::Result<Self> {
        let url = check_url(url).map_err(io::Error::other)?;
        let connector = connector(&url, CONNECT_TIMEOUT)?;
        // Minutes pass between two requests: nobody keeps a connection for that long.
        let client = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector);
        Ok(Self { client, url })
    }

    /// Whether what is fetched could have been changed on its way.
    pub(super) fn is_exposed(&self) -> bool {
        is_exposed(&self.url)
    }

    /// Fetches it.
    ///
    /// # Errors
    /// Why there is no document, for the log.
    pub(super) async fn fetch(&self) -> Result<Bytes, String> {
        let fetched = tokio::time::timeout(TOTAL_TIMEOUT, self.follow()).await;
        fetched.map_err(|_| format!("no answer within {} s", TOTAL_TIMEOUT.as_secs()))?
    }

    async fn follow(&self) -> Result<Bytes, String> {
        let mut url = self.url.clone();
        for _ in 0..=REDIRECTS_MAX {
            let request = Request::get(&url)
                .header(header::ACCEPT, "application/json")
                .header(header::USER_AGENT, "switchboard")
                .body(Empty::new())
                .map_err(|error| error.to_string())?;
            let response = self.client.request(request).await.map_err(|error| with_causes(&error))?;
            let status = response.status();
            if status == StatusCode::OK {
                let body = Limited::new(response.into_body(), BODY_BYTES_MAX).collect().await;
                return Ok(body.map_err(|error| format!("the answer breaks off: {error}"))?.to_bytes());
            }
            let location = response.headers().get(header::LOCATION).and_then(|location| location.to_str().ok());
            url = match location {
                Some(location) if status.is_redirection() => elsewhere(&url, location)?,
                _ => return Err(format!("answered with {status}")),
            };
        }
        Err("redirected too often".to_owned())
    }
}

/// Where a redirect leads, if that is the same host.
fn elsewhere(from: &Uri, location: &str) -> Result<Uri, String> {
    let refused = || format!("redirects to {location}, which is not followed: give the URL of the document itself");
    // The second kind of path is another host by the scheme in use.
    if location.starts_with('/') && !location.starts_with("//") {
        let mut parts = from.clone().into_parts();
        parts.path_and_query = Some(location.parse().map_err(|_| refused())?);
        return Uri::from_parts(parts).map_err(|_| refused());
    }
    let to: Uri = location.parse().map_err(|_| refused())?;
    if to.scheme() == from.scheme() && to.authority() == from.authority() { Ok(to) } else { Err(refused()) }
}

fn is_exposed(url: &Uri) -> bool {
    if url.scheme_str() == Some("https") {
        return false;
    }
    let host = url.host().unwrap_or_default();
    match host.trim_start_matches('[').trim_end_matches(']').parse() {
        Ok(IpAddr::V4(ip)) => !(ip.is_loopback() || ip.is_private() || ip.is_link_local()),
        Ok(IpAddr::V6(ip)) => !(ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local()),
        // Names without a dot, and these, are nobody's on the Internet.
        Err(_) => {
            let private = ["localhost", "local", "internal", "svc"];
            host.contains('.') && !host.rsplit('.').next().is_some_and(|last| private.contains(&last))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_checked() {
        for right in ["https://id.example.org/jwks.json?v=1", "http://127.0.0.1:8080", "http://[::1]/x"] {
            assert!(check_url(right).is_ok(), "{right}");
        }
        for wrong in
            ["", "id.example.org", "/x", "ftp://id/", "https://", "https:///x", "https://u:p@id/", "http://id:/"]
        {
            assert!(check_url(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn plain_http_is_for_networks_of_one_s_own() {
        for private in [
            "https://id.example.org/",
            "http://localhost:1/",
            "http://127.0.0.1/",
            "http://10.1.2.3/",
            "http://[::1]:2/",
            "http://[fd00::1]/",
            "http://django:8000/",
            "http://id.default.svc/",
            "http://id.default.svc.cluster.local/",
            "http://id.internal/",
        ] {
            assert!(!is_exposed(&private.parse().expect("a URL")), "{private}");
        }
        for exposed in
            ["http://id.example.org/", "http://8.8.8.8/", "http://[2001:db8::1]/", "http://internal.example.org/"]
        {
            assert!(is_exposed(&exposed.parse().expect("a URL")), "{exposed}");
        }
    }

    #[test]
    fn redirects_stay_at_home() {
        let from: Uri = "https://id.example.org/jwks".parse().expect("a URL");
        for (location, to) in [
            ("/keys?x=1", "https://id.example.org/keys?x=1"),
            ("https://id.example.org/jwks/", "https://id.example.org/jwks/"),
        ] {
            assert_eq!(elsewhere(&from, location).expect("followed").to_string(), to);
        }
        for location in [
            "https://evil.example/",
            "http://id.example.org/",
            "https://id.example.org:8443/",
            "//evil.example/x",
            "*",
            "",
        ] {
            assert!(elsewhere(&from, location).is_err(), "{location}");
        }
    }
}
