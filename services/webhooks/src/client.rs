//! One request to a receiver, and what its answer means.

use std::{
    io,
    time::{Duration, UNIX_EPOCH},
};

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode, Uri, header};
use http_body_util::Full;
use hyper_util::{client::legacy::Client as Http, rt::TokioExecutor};
use switchboard_chassis::{
    Micros,
    web::{Connector, connector, with_causes},
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// A receiver cannot put us off for longer.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(24 * 3600);

/// What became of a try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The receiver has it.
    Delivered,
    /// It may have it later, and not before this time has passed, if it said so.
    Later(String, Option<Duration>),
    /// It said no.
    Refused(String),
}

/// What is sent.
pub(crate) struct Signed<'a> {
    pub(crate) id: &'a str,
    pub(crate) timestamp: i64,
    pub(crate) signatures: String,
    pub(crate) body: String,
}

/// Makes requests to one endpoint.
pub(crate) struct Client {
    http: Http<Connector, Full<Bytes>>,
    url: Uri,
    timeout: Duration,
}

impl Client {
    /// Certificates are checked with those that the machine trusts.
    ///
    /// # Errors
    /// When the URL needs certificates and the machine trusts none.
    pub(crate) fn new(url: Uri, timeout: Duration) -> io::Result<Self> {
        let connector = connector(&url, CONNECT_TIMEOUT)?;
        let http = Http::builder(TokioExecutor::new()).pool_idle_timeout(IDLE_TIMEOUT).build(connector);
        Ok(Self { http, url, timeout })
    }

    /// Sends it once. Redirects are not followed.
    pub(crate) async fn send(&self, signed: Signed<'_>, now: Micros) -> Outcome {
        let request = Request::post(&self.url)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::USER_AGENT, "switchboard")
            .header("webhook-id", signed.id)
            .header("webhook-timestamp", signed.timestamp)
            .header("webhook-signature", signed.signatures)
            .body(Full::new(Bytes::from(signed.body)));
        let request = match request {
            Ok(request) => request,
            Err(error) => return Outcome::Refused(format!("cannot be sent: {error}")),
        };
        match tokio::time::timeout(self.timeout, self.http.request(request)).await {
            Err(_) => Outcome::Later(format!("no answer within {} ms", self.timeout.as_millis()), None),
            Ok(Err(error)) => Outcome::Later(with_causes(&error), None),
            Ok(Ok(response)) => judge(response.status(), response.headers(), now),
        }
    }
}

/// What an answer means. A refusal that time may heal is no refusal.
fn judge(status: StatusCode, headers: &HeaderMap, now: Micros) -> Outcome {
    let said = format!("answered with {status}");
    let heals =
        [StatusCode::REQUEST_TIMEOUT, StatusCode::CONFLICT, StatusCode::TOO_EARLY, StatusCode::TOO_MANY_REQUESTS];
    if status.is_success() {
        Outcome::Delivered
    } else if status.is_server_error() || heals.contains(&status) {
        let after = headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok());
        Outcome::Later(said, after.and_then(|after| retry_after(after, now)))
    } else if status.is_redirection() {
        Outcome::Refused(format!("{said}: redirects are not followed, give the URL that it leads to"))
    } else {
        Outcome::Refused(said)
    }
}

/// Seconds, or a date.
fn retry_after(text: &str, now: Micros) -> Option<Duration> {
    let after = match text.trim().parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let at = httpdate::parse_http_date(text.trim()).ok()?.duration_since(UNIX_EPOCH).ok()?;
            at.saturating_sub(Duration::from_micros(now.unsigned_abs()))
        }
    };
    Some(after.min(RETRY_AFTER_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(status: u16, retry_after: Option<&str>) -> Outcome {
        let mut headers = HeaderMap::new();
        if let Some(after) = retry_after {
            headers.insert(header::RETRY_AFTER, after.parse().expect("a value"));
        }
        judge(StatusCode::from_u16(status).expect("a status"), &headers, 1_700_000_000_000_000)
    }

    #[test]
    fn what_may_heal_is_tried_again() {
        for status in [200, 201, 204] {
            assert_eq!(judged(status, None), Outcome::Delivered);
        }
        for status in [408, 409, 425, 429, 500, 502, 503] {
            assert!(matches!(judged(status, None), Outcome::Later(_, None)), "{status}");
        }
        for status in [301, 302, 307, 400, 401, 403, 404, 410, 413, 422] {
            assert!(matches!(judged(status, None), Outcome::Refused(_)), "{status}");
        }
    }

    #[test]
    fn a_receiver_says_when_to_come_back() {
        let after = |text| match judged(503, Some(text)) {
            Outcome::Later(_, after) => after,
            other => panic!("{other:?}"),
        };
        assert_eq!(after("120"), Some(Duration::from_secs(120)));
        assert_eq!(after("99999999"), Some(RETRY_AFTER_MAX));
        assert_eq!(after("Tue, 14 Nov 2023 22:14:20 GMT"), Some(Duration::from_secs(60)));
        assert_eq!(after("Tue, 14 Nov 2023 22:00:00 GMT"), Some(Duration::ZERO));
        assert_eq!(after("soon"), None);
    }
}
