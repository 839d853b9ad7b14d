//! A page on which two people chat, for trying things out: there when `demo` or `edge.playground` switches it on.
//! Everything that it loads is in `web/playground`, and in the binary.

use std::sync::{Arc, OnceLock};

use http::{HeaderValue, StatusCode, header};
use warp::reply::{Reply as _, Response};

/// Whom the page knows. It holds credentials, so it is for demonstrations alone.
#[derive(Clone, Debug, Default)]
pub struct Playground {
    people: Arc<OnceLock<String>>,
}

impl Playground {
    /// A page that knows nobody: whoever looks at it brings credentials along.
    #[must_use]
    pub fn of_nobody() -> Self {
        let playground = Self::default();
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
}

const PAGE: &str = include_str!("../web/playground/playground.html");
const SCRIPT: &str = include_str!("../web/playground/playground.js");
const STYLE: &str = include_str!("../web/playground/playground.css");
/// Nothing from elsewhere, nothing inline. The documents' examples, pasted into the page's console, dial `localhost`.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; \
     connect-src 'self' ws://localhost:* ws://127.0.0.1:*; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

pub(crate) fn answer(playground: Option<&Playground>, file: File) -> Response {
    let Some(playground) = playground else { return StatusCode::NOT_FOUND.into_response() };
    match file {
        File::Page => typed(PAGE, "text/html; charset=utf-8"),
        File::Script => typed(SCRIPT, "text/javascript; charset=utf-8"),
        File::Style => typed(STYLE, "text/css; charset=utf-8"),
        File::People => match playground.people.get() {
            Some(people) => typed(people.clone(), "application/json"),
            // The process has just begun.
            None => StatusCode::SERVICE_UNAVAILABLE.into_response(),
        },
    }
}

fn typed(body: impl warp::Reply, content_type: &'static str) -> Response {
    let mut response = body.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}
