//! Public keys in a file.

use std::{fs, time::Duration};

use serde_json::json;
use switchboard_chassis::Lifecycle;
use tokio::time::Instant;

use super::{start, told, with_header};
use crate::jwt::{
    Algorithm, JwtConfig, Verifier,
    fixtures::{NOW, Pair, good, openssl, secret_token},
};

fn in_file(directory: &tempfile::TempDir, algorithm: Algorithm, text: &str) -> JwtConfig {
    let file = directory.path().join("keys.pem");
    fs::write(&file, text).expect("written");
    JwtConfig { algorithm, public_key_file: file, ..JwtConfig::default() }
}

#[tokio::test]
async fn public_keys_of_every_kind() {
    let directory = tempfile::tempdir().expect("a directory");
    let pairs = [Algorithm::Rs256, Algorithm::Es256, Algorithm::EdDsa].map(Pair::new);
    for pair in &pairs {
        let config = in_file(&directory, pair.algorithm, &pair.public_pem);
        assert_eq!(config.mistakes(), Vec::<String>::new());
        let verifier = start(&config);
        assert!(told(&verifier, &pair.token(None, &good())).await.is_ok(), "{}", pair.algorithm);
        assert!(told(&verifier, &pair.token(Some("any name"), &good())).await.is_ok(), "{}", pair.algorithm);
        let expired = json!({"user_id": 1, "exp": NOW});
        assert_eq!(told(&verifier, &pair.token(None, &expired)).await, Err("TOKEN_EXPIRED"));
        // Somebody else's, another algorithm's, and the oldest trick: the public key as a secret.
        let another = Pair::new(pair.algorithm);
        assert_eq!(told(&verifier, &another.token(None, &good())).await, Err("TOKEN_INVALID"));
        for other in pairs.iter().filter(|other| other.algorithm != pair.algorithm) {
            assert_eq!(told(&verifier, &other.token(None, &good())).await, Err("TOKEN_INVALID"));
            let renamed = with_header(&other.token(None, &good()), &json!({"alg": pair.algorithm.name()}));
            assert_eq!(told(&verifier, &renamed).await, Err("TOKEN_INVALID"));
        }
        let der = pem::parse(&pair.public_pem).expect("PEM").into_contents();
        for secret in [pair.public_pem.as_bytes(), pair.public_pem.trim().as_bytes(), &der] {
            for algorithm in [Algorithm::Hs256, Algorithm::Hs384, Algorithm::Hs512] {
                let confused = secret_token(algorithm, secret, &good());
                assert_eq!(told(&verifier, &confused).await, Err("TOKEN_INVALID"));
            }
        }
    }
    let rsa = &pairs[0];
    let pkcs1 = openssl(&["rsa", "-pubin", "-RSAPublicKey_out"], &rsa.public_pem);
    assert!(pkcs1.contains("BEGIN RSA PUBLIC KEY"));
    let verifier = start(&in_file(&directory, Algorithm::Rs256, &pkcs1));
    assert!(told(&verifier, &rsa.token(None, &good())).await.is_ok());
}

#[tokio::test]
async fn a_file_with_wrong_keys_says_what_is_wrong() {
    let directory = tempfile::tempdir().expect("a directory");
    let [rsa, ec, ed] = [Algorithm::Rs256, Algorithm::Es256, Algorithm::EdDsa].map(Pair::new);
    let public = |arguments: &[&str]| openssl(&["pkey", "-pubout"], &openssl(arguments, ""));
    let small = public(&["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:1024"]);
    let p384 = public(&["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"]);
    let ed448 = public(&["genpkey", "-algorithm", "ED448"]);
    let certificate = pem::encode(&pem::Pem::new("CERTIFICATE", [1, 2, 3]));
    let garbage = pem::encode(&pem::Pem::new("PUBLIC KEY", [1, 2, 3]));
    let torn = ec.public_pem.replace("-----END PUBLIC KEY-----", "");
    let many = ed.public_pem.repeat(17);
    let cases = [
        (Algorithm::Es256, "", "no PEM block"),
        (Algorithm::Es256, "a key", "no PEM block"),
        (Algorithm::Es256, torn.as_str(), "PEM"),
        (Algorithm::Es256, &(ec.public_pem.clone() + &torn), "PEM"),
        (Algorithm::Es256, &garbage, "PEM block 1 is not an RSA, P-256 or Ed25519 key"),
        (Algorithm::Es256, &certificate, "PEM block 1 is a certificate"),
        (Algorithm::Es256, &ec.private_pem, "PEM block 1 is a private key"),
        (Algorithm::Es256, &(ec.public_pem.clone() + &rsa.public_pem), "PEM block 2 is a key for RS256"),
        (Algorithm::Rs256, &ed.public_pem, "PEM block 1 is a key for EdDSA, and auth.jwt.algorithm is RS256"),
        (Algorithm::Rs256, &small, "not of 2,048 to 4,096 bits"),
        (Algorithm::Es256, &p384, "neither RSA nor P-256 nor Ed25519"),
        (Algorithm::EdDsa, &ed448, "not an RSA, P-256 or Ed25519 key"),
        (Algorithm::EdDsa, &many, "more than 16 keys"),
        (Algorithm::EdDsa, &"x".repeat(65 * 1024), "larger than 64 KiB"),
    ];
    for (algorithm, text, wanted) in cases {
        let config = in_file(&directory, algorithm, text);
        let mistakes = config.mistakes();
        assert_eq!(mistakes.len(), 1, "{wanted}: {mistakes:?}");
        assert!(mistakes[0].starts_with("auth.jwt.public_key_file: ") && mistakes[0].contains(wanted), "{mistakes:?}");
        let error = Verifier::start(&config, &Lifecycle::new()).err().expect("it does not start");
        assert!(error.to_string().contains(wanted), "{error}");
    }
}

#[tokio::test]
async fn keys_in_a_file_are_rotated_without_a_restart() {
    let directory = tempfile::tempdir().expect("a directory");
    let [old, new] = [Algorithm::Es256, Algorithm::Es256].map(Pair::new);
    let config = in_file(&directory, Algorithm::Es256, &old.public_pem);
    let lifecycle = Lifecycle::new();
    let verifier = Verifier::start(&config, &lifecycle).expect("it starts");
    let (by_old, by_new) = (old.token(None, &good()), new.token(None, &good()));
    let becomes = async |token: &str, is_good: bool| {
        let begun = Instant::now();
        while told(&verifier, token).await.is_ok() != is_good {
            assert!(begun.elapsed() < Duration::from_secs(20), "the file was not read again");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    becomes(&by_old, true).await;
    becomes(&by_new, false).await;
    fs::write(&config.public_key_file, format!("both\n{}{}", old.public_pem, new.public_pem)).expect("written");
    becomes(&by_new, true).await;
    becomes(&by_old, true).await;
    // What is wrong, or gone, changes nothing.
    fs::write(&config.public_key_file, "nothing").expect("written");
    tokio::time::sleep(Duration::from_secs(3)).await;
    fs::remove_file(&config.public_key_file).expect("removed");
    tokio::time::sleep(Duration::from_secs(3)).await;
    becomes(&by_old, true).await;
    fs::write(&config.public_key_file, &new.public_pem).expect("written");
    becomes(&by_old, false).await;
    becomes(&by_new, true).await;
    lifecycle.drain();
    lifecycle.finish(Duration::from_secs(5)).await.expect("it ends");
}
