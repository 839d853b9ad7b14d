//! Whom a NATS server lets in, and whom the bus believes.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use bytes::Bytes;
use nkeys::KeyPair;
use serde_json::{Value, json};
use switchboard_bus::{
    Bus, BusConfig, ConnectError, Heard,
    testing::{NatsServer, new_bus_at},
};
use switchboard_chassis::{Clock, Secret};

const SUBJECT: &str = "nats.one";

async fn connect(config: &BusConfig) -> Result<Bus, ConnectError> {
    Bus::connect(config, &Clock::System).await
}

async fn works(config: &BusConfig) {
    let bus = connect(config).await.expect("connected");
    let mut subscription = bus.another().subscribe(SUBJECT).await.expect("subscribed");
    bus.publish(SUBJECT, || Bytes::from_static(b"hello"));
    let heard = tokio::time::timeout(Duration::from_secs(30), subscription.next()).await.expect("in time");
    assert_eq!(heard, Some(Heard::Payload(Bytes::from_static(b"hello"))));
}

#[tokio::test]
async fn wrong_credentials_are_told_as_such() {
    let server = NatsServer::start(&["--user", "anna", "--pass", "right"]).await.expect("started");
    let with = |user: &str, password: &str| BusConfig {
        user: user.to_owned(),
        password: Secret::new(password),
        ..new_bus_at(server.url())
    };
    for wrong in [with("anna", "wrong"), new_bus_at(server.url())] {
        let error = connect(&wrong).await.expect_err("refused");
        assert!(matches!(error, ConnectError::Refused(_)), "{error:?}");
        assert!(error.to_string().contains("refuses the credentials"), "{error}");
        assert!(!format!("{error} {error:?}").contains("wrong"), "{error:?}");
    }
    works(&with("anna", "right")).await;
}

#[tokio::test]
async fn a_token_is_a_credential() {
    let server = NatsServer::start(&["--auth", "right"]).await.expect("started");
    let with = |token: &str| BusConfig { token: Secret::new(token), ..new_bus_at(server.url()) };
    assert!(matches!(connect(&with("wrong")).await, Err(ConnectError::Refused(_))));
    works(&with("right")).await;
}

#[tokio::test]
async fn a_subject_that_is_not_allowed_is_an_error() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("nats.conf");
    let users = "{user: anna, password: p, permissions: {publish: 'ours.>', subscribe: 'ours.>'}}";
    std::fs::write(&file, format!("authorization {{ users: [{users}] }}")).expect("written");
    let server = NatsServer::start(&["-c", file.to_str().expect("text")]).await.expect("started");
    let with = |subject_prefix: &str| BusConfig {
        user: "anna".to_owned(),
        password: Secret::new("p"),
        subject_prefix: subject_prefix.to_owned(),
        ..new_bus_at(server.url())
    };
    // Nothing else needs to be allowed.
    works(&with("ours")).await;
    let theirs = connect(&with("theirs")).await.expect("connected");
    let error = theirs.subscribe(SUBJECT).await.expect_err("not allowed");
    assert!(error.to_string().contains("theirs.nats.one"), "{error}");
}

#[tokio::test]
async fn a_credentials_file_is_a_credential() {
    let directory = tempfile::tempdir().expect("a directory");
    let [operator, account, user] = [KeyPair::new_operator(), KeyPair::new_account(), KeyPair::new_user()];
    let unlimited =
        json!({ "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "conn": -1, "leaf": -1 });
    let of_operator = jwt(&operator, &operator, &json!({ "type": "operator", "version": 2 }));
    let of_account = jwt(&operator, &account, &json!({ "type": "account", "version": 2, "limits": unlimited }));
    let of_user = jwt(&account, &user, &json!({ "type": "user", "version": 2, "subs": -1, "data": -1, "payload": -1 }));
    let preload = format!("{}: {of_account}", account.public_key());
    let server_file = directory.path().join("nats.conf");
    let server_config = format!("operator: {of_operator}\nresolver: MEMORY\nresolver_preload: {{ {preload} }}\n");
    std::fs::write(&server_file, server_config).expect("written");
    let server = NatsServer::start(&["-c", text(&server_file)]).await.expect("started");

    let with = |name: &str, user: &KeyPair| {
        let credentials_file = directory.path().join(name);
        let seed = user.seed().expect("a seed");
        let block = |name: &str, value: &str| format!("-----BEGIN {name}-----\n{value}\n------END {name}------\n\n");
        let file = block("NATS USER JWT", &of_user) + &block("USER NKEY SEED", &seed);
        std::fs::write(&credentials_file, file).expect("written");
        BusConfig { credentials_file, ..new_bus_at(server.url()) }
    };
    works(&with("right.creds", &user)).await;
    let stranger = with("wrong.creds", &KeyPair::new_user());
    assert!(matches!(connect(&stranger).await, Err(ConnectError::Refused(_))));
    std::fs::write(&stranger.credentials_file, "nonsense").expect("written");
    let error = connect(&stranger).await.expect_err("no credentials");
    assert!(error.to_string().contains("wrong.creds"), "{error}");
}

#[tokio::test]
async fn with_tls_both_sides_show_who_they_are() {
    let directory = tempfile::tempdir().expect("a directory");
    let at = |name: &str| directory.path().join(name);
    for name in ["ca", "other-ca"] {
        certificate(directory.path(), name, None);
    }
    certificate(directory.path(), "server", Some("ca"));
    certificate(directory.path(), "client", Some("ca"));
    let [ca, cert, key] = [at("ca.pem"), at("server.pem"), at("server-key.pem")];
    let arguments = ["--tlscert", text(&cert), "--tlskey", text(&key), "--tlscacert", text(&ca), "--tlsverify"];
    let server = NatsServer::start(&arguments).await.expect("started");
    let right = BusConfig {
        tls_ca_file: ca.clone(),
        tls_cert_file: at("client.pem"),
        tls_key_file: at("client-key.pem"),
        ..new_bus_at(server.url().replace("nats://", "tls://"))
    };
    works(&right).await;

    let wrong = BusConfig { tls_ca_file: at("other-ca.pem"), ..right.clone() };
    let error = connect(&wrong).await.expect_err("the server is not believed").to_string();
    assert!(error.contains("UnknownIssuer"), "{error}");
    let wrong = BusConfig { tls_cert_file: PathBuf::new(), tls_key_file: PathBuf::new(), ..right.clone() };
    connect(&wrong).await.expect_err("the client is not believed");
    let wrong = BusConfig { tls_ca_file: at("no-ca.pem"), ..right };
    let error = connect(&wrong).await.expect_err("no file").to_string();
    assert!(error.contains("no-ca.pem"), "{error}");
}

#[tokio::test]
async fn with_tls_nothing_is_said_to_a_server_without() {
    let server = NatsServer::start(&[]).await.expect("started");
    let config = new_bus_at(server.url().replace("nats://", "tls://"));
    connect(&config).await.expect_err("no TLS there");
}

/// What `issuer` says of `subject`, as NATS writes it.
fn jwt(issuer: &KeyPair, subject: &KeyPair, claims: &Value) -> String {
    let part = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    let (issued_by, about) = (issuer.public_key(), subject.public_key());
    let claims = json!({ "jti": about, "iat": 1, "iss": issued_by, "name": "test", "sub": about, "nats": claims });
    let signed = part(&json!({ "typ": "JWT", "alg": "ed25519-nkey" })) + "." + &part(&claims);
    let signature = issuer.sign(signed.as_bytes()).expect("it has a seed");
    signed + "." + &BASE64_URL_SAFE_NO_PAD.encode(signature)
}

/// Makes `name.pem` and `name-key.pem`: an authority, or a certificate for 127.0.0.1 by one.
fn certificate(directory: &Path, name: &str, by: Option<&str>) {
    let mut arguments: Vec<String> =
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -config openssl.cnf"
            .split(' ')
            .map(str::to_owned)
            .collect();
    arguments.extend(["-keyout".to_owned(), format!("{name}-key.pem"), "-out".to_owned(), format!("{name}.pem")]);
    arguments.extend(["-subj".to_owned(), format!("/CN={name}")]);
    match by {
        Some(by) => {
            arguments.extend(["-CA".to_owned(), format!("{by}.pem"), "-CAkey".to_owned(), format!("{by}-key.pem")])
        }
        None => arguments.extend(["-extensions".to_owned(), "authority".to_owned()]),
    }
    let config = "[req]\ndistinguished_name = name\nx509_extensions = member\n[name]\n\
                  [authority]\nbasicConstraints = critical, CA:TRUE\n\
                  [member]\nbasicConstraints = critical, CA:FALSE\nsubjectAltName = IP:127.0.0.1\n";
    std::fs::write(directory.join("openssl.cnf"), config).expect("written");
    let output = Command::new("openssl").args(&arguments).current_dir(directory).output().expect("openssl runs");
    assert!(output.status.success(), "openssl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn text(path: &Path) -> &str {
    path.to_str().expect("text")
}
