//! What the playground tells operators of a process: to whom, and to which pages.

use std::{fs, time::Instant};

use anyhow::ensure;
use switchboard_tests::{Backend, PATIENCE, Sandbox, client};
use tokio_tungstenite::tungstenite::http::HeaderMap;

const PATH: &str = "/playground.metrics";
const SCOPES: [&str; 3] = ["read", "write", "admin"];

/// A sandbox with a caller of each scope; the directory has their file.
async fn sandbox(is_on: bool) -> anyhow::Result<(Sandbox, tempfile::TempDir)> {
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("callers.toml");
    let caller =
        |scope: &str| format!("[[callers]]\nname = '{scope}'\nscopes = ['{scope}']\ntoken = 'the-token-of-{scope}'\n");
    fs::write(&file, SCOPES.map(caller).concat())?;
    let sandbox = Sandbox::start_with(Backend::Sqlite, |config| {
        config.grpc.callers_file = file;
        config.edge.playground = is_on;
        config.edge.handshakes_per_address_s = 1;
        config.edge.trusted_proxies = vec!["127.0.0.1".to_owned()];
    })
    .await?;
    Ok((sandbox, directory))
}

/// Asks, and looks whether the answer may be kept or read by anybody else.
async fn ask(
    sandbox: &Sandbox,
    (method, path): (&str, &str),
    headers: &[(&'static str, &str)],
) -> anyhow::Result<(u16, String, HeaderMap)> {
    let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    let answer = client::exchange(sandbox.edge, method, path, &headers, None).await?;
    let theirs = answer.headers();
    for (name, value) in
        [("cache-control", "no-store"), ("x-content-type-options", "nosniff"), ("referrer-policy", "no-referrer")]
    {
        ensure!(theirs.get(name).is_some_and(|its| its == value), "{name} of {method} {path}: {theirs:?}");
    }
    ensure!(theirs.contains_key("content-security-policy") && !theirs.contains_key("set-cookie"), "{theirs:?}");
    ensure!(!theirs.contains_key("access-control-allow-origin"), "{method} {path} is shared: {theirs:?}");
    let body = String::from_utf8(answer.body().to_vec())?;
    ensure!(answer.status() == 200 || !body.contains("switchboard_"), "{}: {body}", answer.status());
    Ok((answer.status().as_u16(), body, theirs.clone()))
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_told_what_a_process_counts() -> anyhow::Result<()> {
    let (sandbox, _directory) = sandbox(true).await?;
    let deployment = sandbox.secrets.grpc_token.expose();
    // Each scope includes looking; nobody has none.
    for token in SCOPES.map(|scope| format!("the-token-of-{scope}")).into_iter().chain([deployment.to_owned()]) {
        let bearer = format!("Bearer {token}");
        let (status, body, headers) = ask(&sandbox, ("GET", PATH), &[("authorization", &bearer)]).await?;
        assert_eq!((status, body.ends_with("# EOF\n")), (200, true), "{token}");
        assert!(body.contains("switchboard_edge_sockets{protocol=\"clinic\",endpoint=\"chat\"} 0"), "{body}");
        assert_eq!(headers["content-type"], "application/openmetrics-text; version=1.0.0; charset=utf-8");
        assert_eq!(ask(&sandbox, ("HEAD", PATH), &[("authorization", &bearer)]).await?.0, 200);
        // The trailing slash and the prefix, as everywhere.
        let path = format!("/api/v1{PATH}/");
        assert_eq!(ask(&sandbox, ("GET", &path), &[("authorization", &bearer)]).await?.0, 200);
    }
    // What is good for sockets and REST is not good here.
    let user = sandbox.token("900")?;
    let shown = [
        String::new(),
        format!("Bearer {user}"),
        "Bearer ".to_owned(),
        "Bearer the-token-of-nobody".to_owned(),
        "Bearer the-token-of-rea".to_owned(),
        format!("Bearer {deployment}x"),
        format!("Basic {deployment}"),
        deployment.to_owned(),
    ];
    for authorization in &shown {
        let (status, body, headers) = ask(&sandbox, ("GET", PATH), &[("authorization", authorization)]).await?;
        assert_eq!(status, 401, "{authorization}");
        assert!(body.contains("Authorization: Bearer") && body.contains("grpc.token"), "{body}");
        assert_eq!(headers["www-authenticate"], "Bearer");
    }
    // In a URL or a cookie it is never good: those are logged and sent by themselves.
    let path = format!("{PATH}?token={deployment}");
    let cookie = format!("sessionid={deployment}; token={deployment}");
    assert_eq!(ask(&sandbox, ("GET", &path), &[("cookie", &cookie)]).await?.0, 401);
    let (status, body, headers) =
        ask(&sandbox, ("POST", PATH), &[("authorization", "Bearer the-token-of-admin")]).await?;
    assert_eq!((status, body.as_str()), (405, "GET only\n"));
    assert_eq!(headers["allow"], "GET, HEAD");
    Ok(())
}

/// Not even pages that may use REST, and not with a good token.
#[tokio::test(flavor = "multi_thread")]
async fn no_other_page_is_told() -> anyhow::Result<()> {
    const ALLOWED: &str = "https://app.example.org";
    let (sandbox, _directory) = sandbox(true).await?;
    let bearer = ("authorization", "Bearer the-token-of-admin");
    let own = format!("http://{}", sandbox.edge);
    assert_eq!(ask(&sandbox, ("GET", PATH), &[bearer, ("origin", &own)]).await?.0, 200);
    for origin in [ALLOWED, "https://evil.example", "null", ""] {
        assert_eq!(ask(&sandbox, ("GET", PATH), &[bearer, ("origin", origin)]).await?.0, 403, "{origin}");
        let asks = [
            ("origin", origin.to_owned()),
            ("access-control-request-method", "GET".to_owned()),
            ("access-control-request-headers", "authorization".to_owned()),
        ];
        let preflight = client::exchange(sandbox.edge, "OPTIONS", PATH, &asks, None).await?;
        assert!(!preflight.headers().contains_key("access-control-allow-origin"), "{origin}");
    }
    let origin = [("origin", ALLOWED.to_owned())];
    let rest = client::exchange(sandbox.edge, "GET", "/chat/chats/", &origin, None).await?;
    assert_eq!(rest.headers()["access-control-allow-origin"], ALLOWED);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_told_where_there_is_no_playground() -> anyhow::Result<()> {
    let (sandbox, _directory) = sandbox(false).await?;
    let headers = [("authorization", format!("Bearer {}", sandbox.secrets.grpc_token.expose()))];
    for method in ["GET", "POST"] {
        let answer = client::exchange(sandbox.edge, method, PATH, &headers, None).await?;
        assert_eq!((answer.status().as_u16(), answer.body().as_ref()), (404, &b""[..]), "{method}");
    }
    Ok(())
}

/// An address asks at the pace of handshakes, with whatever token.
#[tokio::test(flavor = "multi_thread")]
async fn who_guesses_is_slowed_down() -> anyhow::Result<()> {
    let (sandbox, _directory) = sandbox(true).await?;
    let of = |address: &'static str| ("x-forwarded-for", address);
    let begun = Instant::now();
    let mut guesses = 0;
    while ask(&sandbox, ("GET", PATH), &[of("192.0.2.1"), ("authorization", "Bearer a-guess")]).await?.0 == 401 {
        guesses += 1;
        ensure!(begun.elapsed() < PATIENCE, "it guesses on: {guesses}");
    }
    assert!(guesses >= 10, "ten seconds' come at once: {guesses}");
    let right = ("authorization", "Bearer the-token-of-read");
    let (status, _, headers) = loop {
        let answer = ask(&sandbox, ("GET", PATH), &[of("192.0.2.1"), right]).await?;
        // One of every second passes.
        if answer.0 != 200 {
            break answer;
        }
        ensure!(begun.elapsed() < PATIENCE, "a good token has another pace");
    };
    assert_eq!((status, &headers["retry-after"]), (429, &"1".parse()?));
    let (status, told, _) = ask(&sandbox, ("GET", PATH), &[of("192.0.2.2"), right]).await?;
    assert_eq!(status, 200, "another address is not concerned");
    let counted = "switchboard_edge_http_requests_total{route=\"/playground.metrics\",method=\"GET\",status=\"401\"}";
    assert!(told.contains(&format!("{counted} {guesses}\n")), "{guesses}: {told}");
    assert!(!told.contains("limit=\"handshakes_per_address_s\"} 0"), "{told}");
    Ok(())
}
