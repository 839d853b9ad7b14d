//! A page on which two people chat, for trying things out. Only there when `demo` switches it on.

use http::{HeaderValue, StatusCode, header};
use warp::reply::{Reply as _, Response};

/// Whom the page knows, as JSON: see `web/playground.html`. It holds tokens, so it is for demonstrations alone.
#[derive(Clone, Debug)]
pub struct Playground {
    /// The JSON.
    pub people: String,
}

const PAGE: &str = include_str!("../web/playground.html");
const POLICY: &str = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:; connect-src 'self' ws: wss:; base-uri 'none'; form-action 'none'";

pub(crate) fn page(playground: Option<&Playground>) -> Response {
    match playground {
        Some(_) => typed(PAGE.into_response(), "text/html; charset=utf-8"),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

pub(crate) fn people(playground: Option<&Playground>) -> Response {
    match playground {
        Some(playground) => typed(playground.people.clone().into_response(), "application/json"),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

fn typed(mut response: Response, content_type: &'static str) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
