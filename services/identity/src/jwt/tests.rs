//! What is accepted and what is refused, by every kind of key.

mod file;
mod jwks;

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use switchboard_chassis::{Lifecycle, Secret};
use switchboard_proto::identity::v1::User;

use super::{
    fixtures::{NOW, SECRET, good, secret_token},
    *,
};

const TEN_YEARS_S: i64 = 10 * 365 * 24 * 3600;

fn with_secret() -> JwtConfig {
    JwtConfig { secret: Secret::new(SECRET), ..JwtConfig::default() }
}

fn start(config: &JwtConfig) -> Verifier {
    Verifier::start(config, &Lifecycle::new()).expect("it starts")
}

async fn told(verifier: &Verifier, token: &str) -> Result<Claims, &'static str> {
    verifier.verify(token, NOW * MICROS).await.map_err(|error| error.reason)
}

async fn by_secret(claims: &Value) -> Result<Claims, &'static str> {
    told(&start(&with_secret()), &secret_token(Algorithm::Hs256, SECRET.as_bytes(), claims)).await
}

/// A token with another header and the same signature.
fn with_header(token: &str, header: &Value) -> String {
    let (_, rest) = token.split_once('.').expect("a token");
    format!("{}.{rest}", BASE64_URL_SAFE_NO_PAD.encode(header.to_string()))
}

/// A token with this very header, signed with a secret by HS256.
fn signed_with_header(header: &str, claims: &Value) -> String {
    let encode = |text: &str| BASE64_URL_SAFE_NO_PAD.encode(text);
    let message = format!("{}.{}", encode(header), encode(&claims.to_string()));
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    let signature =
        jsonwebtoken::crypto::sign(message.as_bytes(), &key, jsonwebtoken::Algorithm::HS256).expect("signed");
    format!("{message}.{signature}")
}

#[tokio::test]
async fn claims_that_are_refused() {
    let cases = [
        (json!({"user_id": 1}), "TOKEN_INVALID"),
        (json!({"user_id": 1, "exp": null}), "TOKEN_INVALID"),
        (json!({"user_id": 1, "exp": "soon"}), "TOKEN_INVALID"),
        (json!({"user_id": 1, "exp": NOW}), "TOKEN_EXPIRED"),
        (json!({"user_id": 1, "exp": NOW - 1}), "TOKEN_EXPIRED"),
        (json!({"user_id": 1, "exp": -1e300}), "TOKEN_EXPIRED"),
        (json!({"user_id": 1, "exp": NOW + TEN_YEARS_S + 1}), "TOKEN_INVALID"),
        (json!({"user_id": 1, "exp": NOW + 9, "iat": NOW + 9 - TEN_YEARS_S - 1}), "TOKEN_INVALID"),
        (json!({"user_id": 1, "exp": 1e300}), "TOKEN_INVALID"),
        (json!({"user_id": 1, "exp": NOW + 9, "nbf": NOW + 5}), "TOKEN_INVALID"),
        (json!({"user_id": 1, "exp": NOW + 9, "token_type": "refresh"}), "TOKEN_INVALID"),
        (json!({"user_id": 1, "exp": NOW + 9, "token_type": "sliding"}), "TOKEN_INVALID"),
        (json!({"user_id": 1, "exp": NOW + 9, "token_type": 1}), "TOKEN_INVALID"),
        (json!({"exp": NOW + 9}), "TOKEN_INVALID"),
        (json!({"user_id": "", "exp": NOW + 9}), "TOKEN_INVALID"),
        (json!({"user_id": true, "exp": NOW + 9}), "TOKEN_INVALID"),
        (json!({"user_id": 1.5, "exp": NOW + 9}), "TOKEN_INVALID"),
        (json!([]), "TOKEN_INVALID"),
        (json!(["access", "1", null, NOW + 9]), "TOKEN_INVALID"),
        (json!("claims"), "TOKEN_INVALID"),
    ];
    for (claims, reason) in cases {
        assert_eq!(by_secret(&claims).await, Err(reason), "{claims}");
    }
}

#[tokio::test]
async fn headers_that_are_refused() {
    let verifier = start(&with_secret());
    let right = secret_token(Algorithm::Hs256, SECRET.as_bytes(), &good());
    assert!(told(&verifier, &right).await.is_ok());
    assert!(
        told(&verifier, &signed_with_header(r#"{"alg":"HS256","kid":"whatever","typ":"x"}"#, &good())).await.is_ok()
    );
    for header in [
        r#"{"typ":"JWT"}"#,
        r#"{"alg":"none"}"#,
        r#"{"alg":"None"}"#,
        r#"{"alg":"hs256"}"#,
        r#"{"alg":""}"#,
        r#"{"alg":null}"#,
        r#"{"alg":["HS256"]}"#,
        r#"{"alg":"HS512"}"#,
        r#"{"alg":"RS256"}"#,
        r#"{"alg":"HS256","alg":"HS256"}"#,
        r#"{"alg":"HS256","crit":["b64"],"b64":true}"#,
        r#"{"alg":"HS256","crit":[]}"#,
        r#"{"alg":"HS256","crit":null}"#,
        r#"{"alg":"HS256","kid":1}"#,
        r#"["HS256"]"#,
        "",
    ] {
        let token = signed_with_header(header, &good());
        assert_eq!(told(&verifier, &token).await, Err("TOKEN_INVALID"), "{header}");
    }
}

#[tokio::test]
async fn what_is_no_token() {
    let verifier = start(&with_secret());
    let right = secret_token(Algorithm::Hs256, SECRET.as_bytes(), &good());
    let (message, signature) = right.rsplit_once('.').expect("a token");
    let unsigned = format!("{message}.");
    let padded = format!("{right}=");
    let more = format!("{right}.{signature}");
    let without_type = with_header(&unsigned, &json!({"alg": "none"}));
    let long = "a".repeat(65 * 1024);
    let long = format!("{message}.{long}");
    for junk in ["", "a", "a.b.c", "....", "Bearer x", &unsigned, &padded, &more, &without_type, &long, message] {
        assert_eq!(told(&verifier, junk).await, Err("TOKEN_INVALID"), "{}", &junk[..junk.len().min(300)]);
    }
    // No bit of a token may change. (The last character of a signature has bits that carry nothing: it must not have any.)
    for place in 0..right.len() {
        let mut changed = right.clone().into_bytes();
        changed[place] ^= 1;
        if let Ok(changed) = String::from_utf8(changed) {
            assert_eq!(told(&verifier, &changed).await, Err("TOKEN_INVALID"), "{place}");
        }
    }
}

#[tokio::test]
async fn secrets_have_the_algorithm_that_is_configured() {
    let algorithms = [Algorithm::Hs256, Algorithm::Hs384, Algorithm::Hs512];
    for configured in algorithms {
        let verifier = start(&JwtConfig { algorithm: configured, ..with_secret() });
        for signed in algorithms {
            let token = secret_token(signed, SECRET.as_bytes(), &good());
            assert_eq!(told(&verifier, &token).await.is_ok(), signed == configured, "{signed} for {configured}");
        }
        let token = secret_token(configured, b"another secret of more than 32 bytes", &good());
        assert_eq!(told(&verifier, &token).await, Err("TOKEN_INVALID"));
    }
}

#[tokio::test]
async fn ids_are_numbers_or_strings_in_user_id_or_sub() {
    for (claims, id) in [
        (json!({"user_id": 123, "exp": NOW + 9}), "123"),
        (json!({"user_id": "123", "exp": NOW + 9, "token_type": "access"}), "123"),
        (json!({"sub": "u-1", "exp": NOW + 9}), "u-1"),
        (json!({"user_id": 5, "sub": "x", "exp": 1_800_000_009.5}), "5"),
    ] {
        assert_eq!(by_secret(&claims).await.map(|claims| claims.user.id), Ok(id.to_owned()));
    }
}

#[tokio::test]
async fn claims_of_other_shapes_say_nothing() {
    let claims = json!({"user_id": 1, "exp": NOW + 9, "email": null, "roles": null, "role": "client", "username": 5,
        "profiles": {"patient": 7, "professional": "d"}, "name": "Ada", "full_name": ["x"], "jti": 7, "iss": 1, "aud": {}});
    let claims = by_secret(&claims).await.expect("good");
    assert_eq!((claims.user.full_name.as_str(), claims.user.roles), ("Ada", vec!["client".to_owned()]));
    assert_eq!(claims.user.profiles.len(), 1);
    assert_eq!((claims.token_id, claims.issued_at), (None, None));
}

#[tokio::test]
async fn a_token_says_which_it_is_and_since_when() {
    let claims = json!({"user_id": 1, "exp": NOW + 9, "iat": NOW - 5, "jti": "0f1e"});
    let claims = by_secret(&claims).await.expect("good");
    assert_eq!((claims.token_id.as_deref(), claims.issued_at), (Some("0f1e"), Some((NOW - 5) * MICROS)));
    assert_eq!(claims.expires_at, (NOW + 9) * MICROS);
}

#[tokio::test]
async fn issuer_audience_and_lifetime_are_compared() {
    let config = JwtConfig {
        issuer: "https://id.example.org".to_owned(),
        audience: "chat".to_owned(),
        lifetime_max_s: 60,
        leeway_s: 5,
        ..with_secret()
    };
    let verifier = start(&config);
    let right = json!({"user_id": 1, "exp": NOW + 60, "iss": "https://id.example.org", "aud": "chat"});
    let changed = |name: &str, value: Value| {
        let mut claims = right.clone();
        claims[name] = value;
        claims
    };
    let without = |name: &str| {
        let mut claims = right.clone();
        claims.as_object_mut().expect("an object").remove(name);
        claims
    };
    let cases = [
        (right.clone(), Ok(())),
        (changed("aud", json!(["other", "chat"])), Ok(())),
        (changed("exp", json!(NOW - 4)), Ok(())),
        (changed("nbf", json!(NOW + 5)), Ok(())),
        (changed("exp", json!(NOW - 5)), Err("TOKEN_EXPIRED")),
        (changed("nbf", json!(NOW + 6)), Err("TOKEN_INVALID")),
        (changed("exp", json!(NOW + 61)), Err("TOKEN_INVALID")),
        (changed("iat", json!(NOW - 1)), Err("TOKEN_INVALID")),
        (without("iss"), Err("TOKEN_INVALID")),
        (changed("iss", json!("https://id.example.org/")), Err("TOKEN_INVALID")),
        (changed("iss", json!(["https://id.example.org"])), Err("TOKEN_INVALID")),
        (without("aud"), Err("TOKEN_INVALID")),
        (changed("aud", json!("chat2")), Err("TOKEN_INVALID")),
        (changed("aud", json!([])), Err("TOKEN_INVALID")),
        (changed("aud", json!([["chat"]])), Err("TOKEN_INVALID")),
        (changed("aud", json!({"chat": true})), Err("TOKEN_INVALID")),
    ];
    for (claims, wanted) in cases {
        let token = secret_token(Algorithm::Hs256, SECRET.as_bytes(), &claims);
        assert_eq!(told(&verifier, &token).await.map(|_| ()), wanted, "{claims}");
    }
}

#[tokio::test]
async fn what_is_signed_verifies() {
    let user = User { id: "7".into(), full_name: "Ada L.".into(), roles: vec!["customer".into()], ..User::default() };
    for algorithm in [Algorithm::Hs256, Algorithm::Hs384, Algorithm::Hs512] {
        let token = sign_with(algorithm, &Secret::new(SECRET), &user, NOW * MICROS, 60).expect("a token");
        let claims = told(&start(&JwtConfig { algorithm, ..with_secret() }), &token).await.expect("good");
        assert_eq!(claims.user, user);
        assert_eq!(claims.expires_at, (NOW + 60) * MICROS);
    }
    assert!(sign_with(Algorithm::Rs256, &Secret::new(SECRET), &user, NOW * MICROS, 60).is_err());
}
