//! Keys, tokens and issuers for tests, made when they run.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    process::{Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use jsonwebtoken::{EncodingKey, Header, encode, jwk::Jwk};
use serde_json::{Value, json};

use super::Algorithm;

/// The moment of all tests, in seconds.
pub(super) const NOW: i64 = 1_800_000_000;
/// A secret that is long enough for every algorithm.
pub(super) const SECRET: &str = "a test's secret of more than 64 bytes, which is enough even for HS512";

/// A private key and what it is good for.
pub(super) struct Pair {
    pub(super) algorithm: Algorithm,
    signing: EncodingKey,
    /// PKCS 8.
    pub(super) private_pem: String,
    /// SPKI.
    pub(super) public_pem: String,
}

impl Pair {
    pub(super) fn new(algorithm: Algorithm) -> Self {
        let private_pem = match algorithm {
            Algorithm::Rs256 => openssl(&["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"], ""),
            Algorithm::Es256 => openssl(&["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"], ""),
            Algorithm::EdDsa => openssl(&["genpkey", "-algorithm", "ED25519"], ""),
            secret => panic!("{secret} has no pair"),
        };
        let public_pem = openssl(&["pkey", "-pubout"], &private_pem);
        let text = private_pem.as_bytes();
        let signing = match algorithm {
            Algorithm::Rs256 => EncodingKey::from_rsa_pem(text),
            Algorithm::Es256 => EncodingKey::from_ec_pem(text),
            _ => EncodingKey::from_ed_pem(text),
        };
        Self { algorithm, signing: signing.expect("a key"), private_pem, public_pem }
    }

    pub(super) fn token(&self, key_id: Option<&str>, claims: &Value) -> String {
        let header = Header { kid: key_id.map(str::to_owned), ..Header::new(self.algorithm.into()) };
        encode(&header, claims, &self.signing).expect("a token")
    }

    /// As a member of a JWKS.
    pub(super) fn jwk(&self, key_id: &str) -> Value {
        let jwk = Jwk::from_encoding_key(&self.signing, self.algorithm.into()).expect("a key");
        let mut jwk = serde_json::to_value(jwk).expect("JSON");
        jwk["kid"] = json!(key_id);
        jwk
    }
}

/// Claims that are good for a while.
pub(super) fn good() -> Value {
    json!({"user_id": 1, "exp": NOW + 9})
}

/// A token signed with a secret.
pub(super) fn secret_token(algorithm: Algorithm, secret: &[u8], claims: &Value) -> String {
    encode(&Header::new(algorithm.into()), claims, &EncodingKey::from_secret(secret)).expect("a token")
}

/// What a program says to an input.
pub(super) fn openssl(arguments: &[&str], input: &str) -> String {
    let mut child = Command::new("openssl")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("openssl is missing: run ./tests/run");
    child.stdin.take().expect("its input").write_all(input.as_bytes()).expect("written");
    let output = child.wait_with_output().expect("its output");
    assert!(output.status.success(), "openssl {arguments:?} fails");
    String::from_utf8(output.stdout).expect("text")
}

/// An issuer that publishes what it is told to, at any path; `/moved` leads to `/jwks.json`.
pub(super) struct Issuer {
    address: SocketAddr,
    answer: Arc<Mutex<String>>,
    asked: Arc<AtomicUsize>,
}

/// In the place of an answer: none, for longer than anybody waits.
pub(super) const SILENCE: &str = "";

impl Issuer {
    pub(super) fn new(keys: &[Value]) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let address = listener.local_addr().expect("an address");
        let issuer = Self { address, answer: Arc::default(), asked: Arc::default() };
        issuer.publish(keys);
        let (answer, asked) = (issuer.answer.clone(), issuer.asked.clone());
        thread::spawn(move || {
            for mut socket in listener.incoming().flatten() {
                let (answer, asked) = (answer.clone(), asked.clone());
                thread::spawn(move || {
                    let mut head = [0; 4096];
                    let _ = socket.read(&mut head);
                    asked.fetch_add(1, Ordering::SeqCst);
                    let mut answer = answer.lock().expect("whole").clone();
                    if head.starts_with(b"GET /moved ") {
                        answer = "HTTP/1.1 308 Moved\r\nlocation: /jwks.json\r\ncontent-length: 0\r\n\r\n".to_owned();
                    }
                    if answer == SILENCE {
                        thread::sleep(Duration::from_secs(60));
                    }
                    let _ = socket.write_all(answer.as_bytes());
                });
            }
        });
        issuer
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}/jwks.json", self.address)
    }

    /// How often it was asked.
    pub(super) fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    pub(super) fn publish(&self, keys: &[Value]) {
        self.answer_with("200 OK", "", &json!({ "keys": keys }).to_string());
    }

    pub(super) fn answer_with(&self, status: &str, header: &str, body: &str) {
        let length = body.len();
        self.say(&format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {length}\r\n{header}\r\n{body}"));
    }

    pub(super) fn say(&self, answer: &str) {
        answer.clone_into(&mut self.answer.lock().expect("whole"));
    }
}
