//! Which credential a request shows, and whose pages may show a cookie. Pure.

use http::{
    HeaderMap, HeaderValue,
    header::{AUTHORIZATION, COOKIE, HOST, SEC_WEBSOCKET_PROTOCOL},
};

/// A JWT that was shown, and the subprotocol to select if it came as one.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ShownToken {
    pub(crate) token: String,
    pub(crate) subprotocol: Option<HeaderValue>,
}

/// The token of a request: `?token=`, else `Authorization: Bearer`, else the subprotocols `bearer, <token>`. A bad one
/// does not fall back to the next.
pub(crate) fn shown_token(query: &str, headers: &HeaderMap) -> Option<ShownToken> {
    let plain = |token: String| Some(ShownToken { token, subprotocol: None });
    if let Some(token) = parameter(query, "token") {
        return plain(token);
    }
    if let Some(bearer) = headers.get(AUTHORIZATION) {
        let (scheme, token) = bearer.to_str().ok()?.split_once(' ')?;
        return if scheme.eq_ignore_ascii_case("bearer") { plain(token.trim().to_owned()) } else { None };
    }
    let mut offered = headers
        .get_all(SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim);
    offered.find(|protocol| *protocol == "bearer")?;
    let token = offered.next()?.to_owned();
    Some(ShownToken { token, subprotocol: Some(HeaderValue::from_static("bearer")) })
}

/// A parameter of a query string.
pub(crate) fn parameter(query: &str, name: &str) -> Option<String> {
    form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

/// The value of the cookie `sessionid`.
pub(crate) fn session_cookie(headers: &HeaderMap) -> Option<String> {
    let cookies =
        headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(';'));
    cookies
        .filter_map(|cookie| cookie.trim().split_once('='))
        .find(|(name, _)| *name == "sessionid")
        .map(|(_, value)| value.to_owned())
}

/// Whether a page of this origin may use a session cookie: the server's own host, and those that are configured.
pub(crate) fn is_allowed_origin(origin: &str, headers: &HeaderMap, allowed: &[String]) -> bool {
    let Some((scheme, host)) = origin.split_once("://") else { return false };
    let own = headers.get(HOST).and_then(|host| host.to_str().ok());
    own.is_some_and(|own| own.eq_ignore_ascii_case(host))
        || allowed.iter().filter_map(|allowed| allowed.split_once("://")).any(|(allowed_scheme, allowed_host)| {
            let host = host.to_ascii_lowercase();
            allowed_scheme == scheme
                && match allowed_host.strip_prefix('*') {
                    Some(below) => host.len() > below.len() && host.ends_with(below),
                    None => host == allowed_host,
                }
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(query: &str, headers: &[(&'static str, &'static str)]) -> Option<String> {
        let headers = headers
            .iter()
            .map(|(name, value)| (name.parse().expect("a name"), HeaderValue::from_static(value)))
            .collect();
        shown_token(query, &headers).map(|shown| shown.token)
    }

    #[test]
    fn whose_pages_may_use_a_cookie() {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, HeaderValue::from_static("chat.example.com:8000"));
        let allowed = ["https://app.example.org".to_owned(), "https://*.example.net".to_owned()];
        for (origin, expected) in [
            ("http://chat.example.com:8000", true),
            ("https://chat.example.com", false),
            ("https://app.example.org", true),
            ("http://app.example.org", false),
            ("https://APP.example.org", true),
            ("https://app.example.org.evil.com", false),
            ("https://a.example.net", true),
            ("https://a.b.example.net", true),
            ("https://example.net", false),
            ("https://evilexample.net", false),
            ("null", false),
            ("", false),
        ] {
            assert_eq!(is_allowed_origin(origin, &headers, &allowed), expected, "{origin}");
        }
    }

    #[test]
    fn the_session_among_cookies() {
        let mut headers = HeaderMap::new();
        headers.insert(COOKIE, HeaderValue::from_static("csrftoken=x; sessionid=abc=1; other=y"));
        assert_eq!(session_cookie(&headers).as_deref(), Some("abc=1"));
        assert_eq!(session_cookie(&HeaderMap::new()), None);
    }

    #[test]
    fn where_a_token_may_be() {
        let bearer = ("authorization", "Bearer B");
        let subprotocol = ("sec-websocket-protocol", "chat, bearer, C");
        assert_eq!(token("a=1&token=A", &[bearer, subprotocol]).as_deref(), Some("A"));
        assert_eq!(token("", &[bearer, subprotocol]).as_deref(), Some("B"));
        assert_eq!(token("", &[subprotocol]).as_deref(), Some("C"));
        assert_eq!(token("token=", &[bearer]).as_deref(), Some(""), "a bad one does not fall back");
        assert_eq!(token("", &[("authorization", "Basic B"), subprotocol]), None);
        assert_eq!(token("", &[("sec-websocket-protocol", "bearer")]), None);
        assert_eq!(token("", &[]), None);
    }
}
