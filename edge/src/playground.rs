//! A page on which two people chat, for trying things out, and on which operators see what the process counts: there
//! when `demo` or `edge.playground` switches it on. Everything that it loads is in `web/playground`, and in the binary.

use std::sync::{Arc, OnceLock};

use http::{HeaderName, HeaderValue, Method, StatusCode, header};
use switchboard_chassis::metrics;
use warp::reply::{Reply as _, Response};

use crate::{
    calls::{self, Calls, TooMany},
    credential,
    rest::Call,
    serve::With as _,
};

/// Whom the page knows. It holds credentials, so it is for demonstrations alone.
#[derive(Clone, Debug)]
pub struct Playground {
    people: Arc<OnceLock<String>>,
    /// What its sockets ask of services, where all people are made up.
    pub(crate) calls: Option<Calls>,
}

impl Playground {
    /// A demonstration, whose people are still to be told: see [`Playground::fill`].
    #[must_use]
    pub fn of_demo() -> Self {
        Self { people: Arc::default(), calls: Some(Calls::default()) }
    }

    /// A page that knows nobody: whoever looks at it brings credentials along.
    #[must_use]
    pub fn of_nobody() -> Self {
        let playground = Self { people: Arc::default(), calls: None };
        playground.fill(r#"{"people":[],"conversations":{}}"#.to_owned());
        playground
    }

    /// Tells the page whom there is, as JSON: see `web/playground/src/people.ts`. The first time counts.
    pub fn fill(&self, people: String) {
        // Told before.
        let _ = self.people.set(people);
    }
}

/// What the page is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum File {
    /// `/`
    Page,
    /// `/playground.js`
    Script,
    /// `/playground.css`
    Style,
    /// `/playground.json`: whom it knows.
    People,
    /// `/playground.calls?page=<name>`: the gRPC of a page's sockets, as it passes.
    Calls,
    /// `/playground.metrics`: what this process counts, for whoever may look at it over gRPC.
    Metrics,
}

const PAGE: &str = include_str!("../web/playground/playground.html");
const SCRIPT: &str = include_str!("../web/playground/playground.js");
const STYLE: &str = include_str!("../web/playground/playground.css");
/// Nothing from elsewhere, nothing inline. The documents' examples, pasted into the page's console, dial `localhost`.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; \
     connect-src 'self' ws://localhost:* ws://127.0.0.1:*; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const PLAIN: &str = "text/plain; charset=utf-8";

pub(crate) fn answer(call: &Call<'_>, file: File) -> Response {
    let Some(playground) = &call.edge.playground else { return StatusCode::NOT_FOUND.into_response() };
    match file {
        File::Page => typed(PAGE, "text/html; charset=utf-8"),
        File::Script => typed(SCRIPT, "text/javascript; charset=utf-8"),
        File::Style => typed(STYLE, "text/css; charset=utf-8"),
        File::People => match playground.people.get() {
            Some(people) => typed(people.clone(), "application/json"),
            // The process has just begun.
            None => StatusCode::SERVICE_UNAVAILABLE.into_response(),
        },
        File::Calls => match &playground.calls {
            Some(calls) => called(call, calls),
            None => StatusCode::NOT_FOUND.into_response(),
        },
        File::Metrics => counted(call),
    }
}

/// What passes for a page's sockets, as server-sent events: for a page of this server alone, by the name that it made up.
fn called(call: &Call<'_>, calls: &Calls) -> Response {
    if let Some(refused) = refused(call) {
        return refused;
    }
    let page = credential::parameter(call.query, "page").unwrap_or_default();
    if !calls::is_name(&page) {
        return typed("page: 16 to 64 letters, digits and -, that nobody guesses\n", PLAIN)
            .with(StatusCode::BAD_REQUEST);
    }
    match calls.listen(page, call.edge.lifecycle.clone()) {
        Ok(events) => guarded(events),
        Err(TooMany) => {
            let refused = typed("too many pages look on already\n", PLAIN).with(StatusCode::TOO_MANY_REQUESTS);
            with(refused, header::RETRY_AFTER, "10")
        }
    }
}

/// What this process counts: for who shows a token of the gRPC services in `authorization`, and for no other page.
fn counted(call: &Call<'_>) -> Response {
    if let Some(refused) = refused(call) {
        return refused;
    }
    if call.edge.guard.looker(call.headers).is_none() {
        let why =
            "send `Authorization: Bearer <token>` with grpc.token, or the token of a caller in grpc.callers_file\n";
        return with(typed(why, PLAIN).with(StatusCode::UNAUTHORIZED), header::WWW_AUTHENTICATE, "Bearer");
    }
    typed(call.edge.lifecycle.metrics().text(), metrics::CONTENT_TYPE)
}

/// Why nobody is answered who asks so, whoever it is.
fn refused(Call { edge, method, headers, client, .. }: &Call<'_>) -> Option<Response> {
    let refused = |status, why: &'static str| typed(why, PLAIN).with(status);
    if !matches!(*method, Method::GET | Method::HEAD) {
        return Some(with(refused(StatusCode::METHOD_NOT_ALLOWED, "GET only\n"), header::ALLOW, "GET, HEAD"));
    }
    // Guessing has the pace of handshakes.
    if !edge.room.keeps_pace(client.address) {
        return Some(with(refused(StatusCode::TOO_MANY_REQUESTS, "too many requests\n"), header::RETRY_AFTER, "1"));
    }
    let is_own =
        |origin: &HeaderValue| origin.to_str().is_ok_and(|origin| credential::is_allowed_origin(origin, headers, &[]));
    let is_foreign = headers.get(header::ORIGIN).is_some_and(|origin| !is_own(origin));
    is_foreign.then(|| refused(StatusCode::FORBIDDEN, "for the page of this server alone\n"))
}

fn with(mut response: Response, name: HeaderName, value: &'static str) -> Response {
    response.headers_mut().insert(name, HeaderValue::from_static(value));
    response
}

fn typed(body: impl warp::Reply, content_type: &'static str) -> Response {
    guarded(with(body.into_response(), header::CONTENT_TYPE, content_type))
}

/// Keeps browsers from whatever else could be done with an answer.
fn guarded(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert("cross-origin-resource-policy", HeaderValue::from_static("same-origin"));
    response
}
