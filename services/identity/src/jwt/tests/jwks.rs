//! Keys that an issuer publishes.

use std::{sync::Arc, time::Duration};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use switchboard_chassis::{Kind, Lifecycle};
use tokio::time::Instant;

use super::{told, with_header};
use crate::jwt::{
    Algorithm, Fetcher, Jwks, JwtConfig, Keys, MICROS, Pace, Rules, Verifier,
    fixtures::{Issuer, NOW, Pair, SECRET, SILENCE, good, secret_token},
};

/// How often the tests' tokens may have keys fetched.
const ASK: Duration = Duration::from_millis(300);

/// A verifier over an issuer's keys, and what ends it.
fn over(url: &str, only: Option<Algorithm>, refresh: Duration) -> (Arc<Verifier>, Lifecycle) {
    let lifecycle = Lifecycle::new();
    let fetcher = Fetcher::new(url).expect("a fetcher");
    let keys = Jwks::start(fetcher, only, Pace { refresh, ask: ASK }, &lifecycle);
    (Arc::new(Verifier { keys: Keys::Jwks(keys), rules: Rules::new(&JwtConfig::default()) }), lifecycle)
}

const SELDOM: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn a_set_of_keys_of_every_kind() {
    let pairs = [Algorithm::Rs256, Algorithm::Es256, Algorithm::EdDsa].map(Pair::new);
    let set: Vec<Value> = pairs.iter().map(|pair| pair.jwk(pair.algorithm.name())).collect();
    let issuer = Issuer::new(&set);
    let (verifier, _lifecycle) = over(&issuer.url(), None, SELDOM);
    for pair in &pairs {
        let name = pair.algorithm.name();
        assert!(told(&verifier, &pair.token(Some(name), &good())).await.is_ok(), "{name}");
        assert!(told(&verifier, &pair.token(None, &good())).await.is_ok(), "{name} without a kid");
        for other in pairs.iter().filter(|other| other.algorithm != pair.algorithm) {
            let misnamed = other.token(Some(name), &good());
            assert_eq!(told(&verifier, &misnamed).await, Err("TOKEN_INVALID"));
        }
        for secret in [pair.public_pem.as_bytes(), pair.jwk(name).to_string().as_bytes()] {
            let confused = secret_token(Algorithm::Hs256, secret, &good());
            let confused = with_header(&confused, &json!({"alg": "HS256", "kid": name}));
            assert_eq!(told(&verifier, &confused).await, Err("TOKEN_INVALID"));
        }
    }
    // Pinned, the others are strangers.
    let (verifier, _lifecycle) = over(&issuer.url(), Some(Algorithm::Es256), SELDOM);
    for pair in &pairs {
        let is_good = told(&verifier, &pair.token(Some(pair.algorithm.name()), &good())).await.is_ok();
        assert_eq!(is_good, pair.algorithm == Algorithm::Es256, "{}", pair.algorithm);
    }
}

#[tokio::test]
async fn keys_of_a_set_that_are_never_taken() {
    let pair = Pair::new(Algorithm::Es256);
    let rsa = Pair::new(Algorithm::Rs256);
    let ed = Pair::new(Algorithm::EdDsa);
    let changed = |mut jwk: Value, name: &str, value: Value| {
        jwk[name] = value;
        jwk
    };
    let bad = [
        json!({"kty": "oct", "kid": "k", "alg": "HS256", "k": BASE64_URL_SAFE_NO_PAD.encode(SECRET)}),
        json!({"kty": "oct", "kid": "k", "k": BASE64_URL_SAFE_NO_PAD.encode(SECRET)}),
        changed(pair.jwk("k"), "use", json!("enc")),
        changed(pair.jwk("k"), "key_ops", json!(["sign"])),
        changed(pair.jwk("k"), "alg", json!("HS256")),
        changed(pair.jwk("k"), "alg", json!("ES384")),
        changed(pair.jwk("k"), "crv", json!("P-384")),
        changed(pair.jwk("k"), "x", json!("AAAA")),
        changed(pair.jwk("k"), "x", json!(BASE64_URL_SAFE_NO_PAD.encode([7; 32]))),
        changed(pair.jwk("k"), "x", json!("not base64")),
        changed(ed.jwk("k"), "x", json!("AAAA")),
        changed(ed.jwk("k"), "crv", json!("X25519")),
        changed(rsa.jwk("k"), "alg", json!("RS512")),
        changed(rsa.jwk("k"), "n", json!("AQAB")),
        changed(rsa.jwk("k"), "e", json!("AQ")),
        changed(rsa.jwk("k"), "e", json!("AA")),
        json!({"kid": "k"}),
        json!("k"),
        json!(null),
    ];
    let secret = secret_token(Algorithm::Hs256, SECRET.as_bytes(), &good());
    let secret = with_header(&secret, &json!({"alg": "HS256", "kid": "k"}));
    for jwk in bad {
        // One that is good shows that the others did not spoil the set.
        let other = Pair::new(Algorithm::EdDsa);
        let issuer = Issuer::new(&[jwk.clone(), other.jwk("other")]);
        let (verifier, _lifecycle) = over(&issuer.url(), None, SELDOM);
        assert!(told(&verifier, &other.token(Some("other"), &good())).await.is_ok(), "{jwk}");
        for token in [pair.token(Some("k"), &good()), rsa.token(Some("k"), &good()), ed.token(Some("k"), &good())] {
            assert_eq!(told(&verifier, &token).await, Err("TOKEN_INVALID"), "{jwk}");
        }
        assert_eq!(told(&verifier, &secret).await, Err("TOKEN_INVALID"), "{jwk}");
    }
}

#[tokio::test]
async fn a_new_key_is_fetched_when_a_token_names_it_and_an_old_one_ends() {
    let [old, new] = [Algorithm::Es256, Algorithm::Es256].map(Pair::new);
    let issuer = Issuer::new(&[old.jwk("old")]);
    let (verifier, _lifecycle) = over(&issuer.url(), None, SELDOM);
    assert!(told(&verifier, &old.token(Some("old"), &good())).await.is_ok());
    assert_eq!(issuer.asked(), 1);
    issuer.publish(&[old.jwk("old"), new.jwk("new")]);
    assert!(told(&verifier, &new.token(Some("new"), &good())).await.is_ok());
    assert!(told(&verifier, &old.token(Some("old"), &good())).await.is_ok());
    assert_eq!(issuer.asked(), 2);
    // A key that is not named any more is worth nothing, whoever asked.
    issuer.publish(&[new.jwk("new")]);
    tokio::time::sleep(ASK).await;
    assert_eq!(told(&verifier, &new.token(Some("unheard of"), &good())).await, Err("TOKEN_INVALID"));
    assert_eq!(issuer.asked(), 3);
    assert_eq!(told(&verifier, &old.token(Some("old"), &good())).await, Err("TOKEN_INVALID"));
    // A key under a name that another had is another key.
    issuer.publish(&[old.jwk("new")]);
    tokio::time::sleep(ASK).await;
    assert_eq!(told(&verifier, &new.token(Some("unheard of"), &good())).await, Err("TOKEN_INVALID"));
    assert_eq!(told(&verifier, &new.token(Some("new"), &good())).await, Err("TOKEN_INVALID"));
    assert!(told(&verifier, &old.token(Some("new"), &good())).await.is_ok());
    // An empty set is a set.
    issuer.publish(&[]);
    tokio::time::sleep(ASK).await;
    assert_eq!(told(&verifier, &new.token(Some("unheard of"), &good())).await, Err("TOKEN_INVALID"));
    assert_eq!(told(&verifier, &old.token(Some("new"), &good())).await, Err("TOKEN_INVALID"));
}

#[tokio::test]
async fn a_flood_of_unknown_keys_is_one_request() {
    let pair = Pair::new(Algorithm::EdDsa);
    let issuer = Issuer::new(&[pair.jwk("one")]);
    let (verifier, _lifecycle) = over(&issuer.url(), None, SELDOM);
    assert!(told(&verifier, &pair.token(Some("one"), &good())).await.is_ok());
    let mut visits = tokio::task::JoinSet::new();
    for n in 0..200 {
        let (verifier, token) = (verifier.clone(), pair.token(Some(&format!("unknown {n}")), &good()));
        visits.spawn(async move { told(&verifier, &token).await });
    }
    while let Some(visit) = visits.join_next().await {
        assert_eq!(visit.expect("no panic"), Err("TOKEN_INVALID"));
    }
    assert_eq!(issuer.asked(), 2);
    // Tokens that nobody would take do not have anything fetched.
    tokio::time::sleep(ASK).await;
    let secret = secret_token(Algorithm::Hs256, SECRET.as_bytes(), &good());
    for token in [
        with_header(&secret, &json!({"alg": "HS256", "kid": "unknown"})),
        with_header(&secret, &json!({"alg": "none", "kid": "unknown"})),
        with_header(&secret, &json!({"alg": "EdDSA", "kid": "one"})),
    ] {
        assert_eq!(told(&verifier, &token).await, Err("TOKEN_INVALID"));
    }
    assert_eq!(issuer.asked(), 2);
}

#[tokio::test]
async fn keys_are_fetched_again_by_the_clock() {
    let [old, new] = [Algorithm::EdDsa, Algorithm::EdDsa].map(Pair::new);
    let issuer = Issuer::new(&[old.jwk("old")]);
    let (verifier, _lifecycle) = over(&issuer.url(), None, Duration::from_millis(100));
    let by_old = old.token(Some("old"), &good());
    assert!(told(&verifier, &by_old).await.is_ok());
    issuer.publish(&[new.jwk("new")]);
    let begun = Instant::now();
    while told(&verifier, &by_old).await.is_ok() {
        assert!(begun.elapsed() < Duration::from_secs(10), "it was not fetched again");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn an_issuer_that_fails_logs_nobody_out() {
    let [pair, other] = [Algorithm::EdDsa, Algorithm::EdDsa].map(Pair::new);
    let issuer = Issuer::new(&[pair.jwk("one")]);
    let (verifier, _lifecycle) = over(&issuer.url(), None, SELDOM);
    let (known, unknown) = (pair.token(Some("one"), &good()), other.token(Some("two"), &good()));
    assert!(told(&verifier, &known).await.is_ok());
    let huge = format!("{{\"keys\": [\"{}\"]}}", "x".repeat(256 * 1024));
    let failures: [&dyn Fn(); 8] = [
        &|| issuer.answer_with("200 OK", "", "garbage"),
        &|| issuer.answer_with("200 OK", "", "{\"key\": []}"),
        &|| issuer.answer_with("200 OK", "", &huge),
        &|| issuer.answer_with("500 Internal Server Error", "", "{\"keys\": []}"),
        &|| issuer.answer_with("204 No Content", "", ""),
        &|| issuer.answer_with("302 Found", "location: http://127.0.0.2/jwks.json\r\n", ""),
        &|| issuer.answer_with("302 Found", "location: /jwks.json\r\n", ""),
        &|| issuer.say("nonsense\r\n\r\n"),
    ];
    for (n, fail) in failures.iter().enumerate() {
        fail();
        tokio::time::sleep(ASK).await;
        let asked = issuer.asked();
        let refused = verifier.verify(&unknown, NOW * MICROS).await.expect_err("refused");
        assert_eq!((refused.kind, refused.reason), (Kind::Unavailable, "KEYS_UNAVAILABLE"), "{n}");
        assert!(issuer.asked() > asked, "{n}");
        assert!(told(&verifier, &known).await.is_ok(), "{n}");
    }
    // One that does not answer holds up only whom it might let in, and not for long.
    issuer.say(SILENCE);
    tokio::time::sleep(ASK).await;
    let begun = Instant::now();
    let (refused, ()) = tokio::join!(told(&verifier, &unknown), async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(told(&verifier, &known).await.is_ok());
        assert!(begun.elapsed() < Duration::from_secs(3));
    });
    assert_eq!(refused, Err("KEYS_UNAVAILABLE"));
    assert!((4..9).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
    issuer.publish(&[other.jwk("two")]);
    tokio::time::sleep(ASK).await;
    assert!(told(&verifier, &unknown).await.is_ok());
    assert_eq!(told(&verifier, &known).await, Err("TOKEN_INVALID"));
}

#[tokio::test]
async fn an_issuer_that_comes_later_is_found() {
    let pair = Pair::new(Algorithm::EdDsa);
    let issuer = Issuer::new(&[pair.jwk("one")]);
    issuer.answer_with("503 Service Unavailable", "", "");
    let (verifier, _lifecycle) = over(&issuer.url(), None, SELDOM);
    let token = pair.token(Some("one"), &good());
    assert_eq!(told(&verifier, &token).await, Err("KEYS_UNAVAILABLE"));
    issuer.publish(&[pair.jwk("one")]);
    // Nobody asks: it is tried again by itself.
    let asked = issuer.asked();
    let begun = Instant::now();
    while issuer.asked() == asked {
        assert!(begun.elapsed() < Duration::from_secs(10), "it was not tried again");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(told(&verifier, &token).await.is_ok());
    // Nobody listens at all.
    let (verifier, lifecycle) = over("http://127.0.0.1:1/jwks.json", None, SELDOM);
    assert_eq!(told(&verifier, &token).await, Err("KEYS_UNAVAILABLE"));
    lifecycle.drain();
    lifecycle.finish(Duration::from_secs(5)).await.expect("it ends");
    assert_eq!(told(&verifier, &token).await, Err("KEYS_UNAVAILABLE"));
}

#[tokio::test]
async fn redirects_are_followed_within_the_host() {
    let pair = Pair::new(Algorithm::EdDsa);
    let issuer = Issuer::new(&[pair.jwk("one")]);
    let token = pair.token(Some("one"), &good());
    let moved = issuer.url().replace("jwks.json", "moved");
    let (verifier, _lifecycle) = over(&moved, None, SELDOM);
    assert!(told(&verifier, &token).await.is_ok());
    assert_eq!(issuer.asked(), 2);
    // Another port is another host.
    let elsewhere = Issuer::new(&[]);
    elsewhere.answer_with("301 Moved Permanently", &format!("location: {}\r\n", issuer.url()), "");
    let (verifier, _lifecycle) = over(&elsewhere.url(), None, SELDOM);
    assert_eq!(told(&verifier, &token).await, Err("KEYS_UNAVAILABLE"));
    assert_eq!(issuer.asked(), 2);
}
