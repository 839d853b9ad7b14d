//! Sockets end with their credentials, and live on with new ones.

use anyhow::Context as _;
use jsonwebtoken::{EncodingKey, Header};
use serde_json::{Value, json};
use switchboard::config::Role;
use switchboard_proto::identity::v1::{
    CreateSessionRequest, DeactivateDeviceRequest, DeleteSessionRequest, DeleteUserRequest, RevokeRequest,
    UpsertUserRequest, User, revoke_request::Credential,
};
use switchboard_tests::{Backend, Client, Sandbox};

use crate::every::{
    CLINIC, CONSULTATION, EVERY, LOCATION, MENTORING, MOBILE, NOTIFICATIONS, PEOPLE, PRESENCE, THERAPY, open,
};

const UNAUTHENTICATED: (u16, &str) = (4001, "not authenticated");
const OF_TOKENS: [&str; 6] = [THERAPY, LOCATION, CLINIC, CONSULTATION, NOTIFICATIONS, PRESENCE];

async fn revoke(sandbox: &Sandbox, credential: Credential) -> anyhow::Result<()> {
    sandbox.identity()?.revoke(RevokeRequest { credential: Some(credential) }).await?;
    Ok(())
}

/// Passes over what is told of others.
async fn ends_with(socket: &mut Client, expected: (u16, &str)) -> anyhow::Result<()> {
    loop {
        if let Err((code, reason)) = socket.next_or_close().await? {
            assert_eq!((code, reason.as_str()), expected);
            return Ok(());
        }
    }
}

/// Passes over what is said before it.
async fn said(socket: &mut Client, text: &str) -> anyhow::Result<()> {
    while !socket.next().await?.to_string().contains(text) {}
    Ok(())
}

/// Passes over what is told of others.
async fn next_of(socket: &mut Client, kinds: [&str; 2]) -> anyhow::Result<Value> {
    loop {
        let frame = socket.next().await?;
        if kinds.iter().any(|kind| frame["type"] == *kind) {
            return Ok(frame);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_who_is_revoked_is_out_and_may_come_back_with_another_token() -> anyhow::Result<()> {
    let sandbox = Sandbox::start(Backend::Sqlite).await?;
    sandbox.provision(PEOPLE).await?;
    let mut sockets = Vec::new();
    for path in OF_TOKENS.into_iter().chain([MENTORING]) {
        sockets.push((path, open(&sandbox, path).await?));
    }
    let mut device = open(&sandbox, MOBILE).await?;
    let mut other = sandbox.connect(THERAPY, "2").await?;
    let old = sandbox.token("1")?;
    revoke(&sandbox, Credential::UserId("1".into())).await?;
    for (path, socket) in &mut sockets {
        ends_with(socket, UNAUTHENTICATED).await.with_context(|| (*path).to_owned())?;
    }
    let url = format!("ws://{}{THERAPY}?token={old}", sandbox.edge);
    ends_with(&mut Client::connect(&url, &[]).await?, UNAUTHENTICATED).await?;
    // To the second: a token of the second in which it was revoked is one of before.
    let mut again = loop {
        let mut socket = sandbox.connect(THERAPY, "1").await?;
        socket.send(r#"{"message": "I am back"}"#).await?;
        match socket.next_or_close().await? {
            Ok(_) => break socket,
            Err(refused) => assert_eq!(refused.0, 4001),
        }
    };
    said(&mut other, "I am back").await?;
    device.send(r#"{"type": "chat_message", "content": "still here"}"#).await?;
    said(&mut device, "still here").await?;
    again.send(r#"{"message": "and stay"}"#).await?;
    said(&mut other, "and stay").await
}

/// A token of user 1 with an id of its own, as SimpleJWT makes them.
fn token_named(sandbox: &Sandbox, id: &str) -> anyhow::Result<String> {
    let now = jsonwebtoken::get_current_timestamp();
    let claims = json!({"token_type": "access", "user_id": "1", "jti": id, "iat": now, "exp": now + 3600});
    let key = EncodingKey::from_secret(sandbox.secrets.jwt_secret.expose().as_bytes());
    Ok(jsonwebtoken::encode(&Header::default(), &claims, &key)?)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_revoked_alone_by_itself_or_by_its_id() -> anyhow::Result<()> {
    let sandbox = Sandbox::start(Backend::Sqlite).await?;
    sandbox.provision(PEOPLE).await?;
    let connect =
        async |token: &str| Client::connect(&format!("ws://{}{CLINIC}?token={token}", sandbox.edge), &[]).await;
    let (one, two, three) =
        (token_named(&sandbox, "one")?, token_named(&sandbox, "two")?, token_named(&sandbox, "three")?);
    let (mut first, mut second, mut third) = (connect(&one).await?, connect(&two).await?, connect(&three).await?);
    // All are in.
    third.send(r#"{"content": "hello", "role": "patient"}"#).await?;
    for socket in [&mut first, &mut second, &mut third] {
        said(socket, "hello").await?;
    }
    revoke(&sandbox, Credential::TokenId("one".into())).await?;
    ends_with(&mut first, UNAUTHENTICATED).await?;
    revoke(&sandbox, Credential::Token(two.clone())).await?;
    ends_with(&mut second, UNAUTHENTICATED).await?;
    for token in [&one, &two] {
        ends_with(&mut connect(token).await?, UNAUTHENTICATED).await?;
    }
    third.send(r#"{"content": "still here", "role": "patient"}"#).await?;
    said(&mut third, "still here").await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_credential_stands_on_ends_its_sockets() -> anyhow::Result<()> {
    // The edge apart: it hears of it by gRPC.
    let sandbox = Sandbox::start(Backend::Sqlite).await?;
    sandbox.provision(PEOPLE).await?;
    let mut identity = sandbox.identity()?;
    let (edge, _lifecycle) = sandbox.edge_over(&[sandbox.grpc]).await?;

    let mut device = Client::connect(&format!("ws://{edge}{MOBILE}"), &[]).await?;
    device.next().await?;
    identity.deactivate_device(DeactivateDeviceRequest { device_id: "d".into() }).await?;
    ends_with(&mut device, (4002, "invalid or inactive device_id")).await?;

    let request = CreateSessionRequest { user_id: "1".into(), ttl_seconds: 0 };
    let session_key = identity.create_session(request).await?.into_inner().session_key;
    let cookie = [("cookie", format!("sessionid={session_key}"))];
    let mut session = Client::connect(&format!("ws://{edge}{MENTORING}"), &cookie).await?;
    session.next().await?;
    let mut token = sandbox.connect_at(edge, THERAPY, "1").await?;
    identity.delete_session(DeleteSessionRequest { session_key }).await?;
    ends_with(&mut session, UNAUTHENTICATED).await?;
    token.send(r#"{"message": "a token is no session"}"#).await?;
    assert_eq!(token.next().await?["message"], "a token is no session");

    let inactive = User { id: "1".into(), roles: vec!["customer".into()], inactive: true, ..User::default() };
    identity.upsert_user(UpsertUserRequest { user: Some(inactive.clone()) }).await?;
    ends_with(&mut token, UNAUTHENTICATED).await?;
    ends_with(&mut sandbox.connect_at(edge, THERAPY, "1").await?, UNAUTHENTICATED).await?;
    let active = User { inactive: false, ..inactive };
    identity.upsert_user(UpsertUserRequest { user: Some(active) }).await?;
    let mut token = sandbox.connect_at(edge, THERAPY, "1").await?;
    token.send(r#"{"message": "active again"}"#).await?;
    assert_eq!(token.next().await?["message"], "active again");

    let old = sandbox.token("1")?;
    identity.delete_user(DeleteUserRequest { user_id: "1".into() }).await?;
    ends_with(&mut token, UNAUTHENTICATED).await?;
    // Nor does a token of before make the user again.
    let url = format!("ws://{edge}{THERAPY}?token={old}");
    ends_with(&mut Client::connect(&url, &[]).await?, UNAUTHENTICATED).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_revoked_while_the_edge_could_not_hear_it_ends_its_sockets() -> anyhow::Result<()> {
    let sandbox = Sandbox::start(Backend::Postgres).await?;
    sandbox.provision(PEOPLE).await?;
    // This edge has another instance of the services, which goes away; then it finds the first.
    let (other, leaving) = sandbox.another(&Role::ALL[1..]).await?;
    let (edge, _lifecycle) = sandbox.edge_over(&[other, sandbox.grpc]).await?;
    let mut socket = sandbox.connect_at(edge, THERAPY, "1").await?;
    socket.send(r#"{"message": "hello"}"#).await?;
    socket.next().await?;
    leaving.drain();
    revoke(&sandbox, Credential::UserId("1".into())).await?;
    ends_with(&mut socket, UNAUTHENTICATED).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_lives_on_with_another_token() -> anyhow::Result<()> {
    const LONG_S: i64 = 3600;
    let sandbox = Sandbox::start(Backend::Sqlite).await?;
    sandbox.provision(PEOPLE).await?;
    let user = User { id: "1".into(), ..User::default() };
    for path in OF_TOKENS {
        let short = sandbox.token_for(&user, 3)?;
        let separator = if path.contains('?') { '&' } else { '?' };
        let url = format!("ws://{}{path}{separator}token={short}", sandbox.edge);
        let mut socket = Client::connect(&url, &[]).await?;
        let answers = ["refreshed", "refresh_refused"];
        for (token, reason) in [
            (sandbox.token("2")?, "OTHER_USER"),
            (sandbox.token_for(&user, -10)?, "TOKEN_EXPIRED"),
            ("nonsense".to_owned(), "TOKEN_INVALID"),
            (String::new(), "TOKEN_INVALID"),
        ] {
            socket.send(json!({"type": "refresh", "token": token}).to_string()).await?;
            let refused = next_of(&mut socket, answers).await?;
            assert_eq!((&refused["type"], &refused["reason"]), (&json!("refresh_refused"), &json!(reason)), "{path}");
        }
        let long = sandbox.token_for(&user, LONG_S)?;
        socket.send(json!({"type": "refresh", "token": long}).to_string()).await?;
        let refreshed = next_of(&mut socket, answers).await?;
        assert_eq!(refreshed["type"], "refreshed", "{path}: {refreshed}");
        assert!(refreshed["expires_at"].as_str().is_some_and(|at| at.ends_with('Z')), "{refreshed}");
        // And shorter again: it ends by this one.
        let short = sandbox.token_for(&user, 1)?;
        socket.send(json!({"type": "refresh", "token": short}).to_string()).await?;
        ends_with(&mut socket, UNAUTHENTICATED).await.with_context(|| path)?;
    }
    // Who came without a token has none to refresh.
    for path in EVERY.into_iter().filter(|path| !OF_TOKENS.contains(path)) {
        let mut socket = open(&sandbox, path).await?;
        socket.send(json!({"type": "refresh", "token": sandbox.token("1")?}).to_string()).await?;
        assert!(socket.next().await?.to_string().contains("rror"), "{path}");
    }
    Ok(())
}
