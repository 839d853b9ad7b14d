//! Tokens of real issuers, Django's SimpleJWT of two generations and PyJWT, over real sockets; keys in a file, and keys
//! that an issuer publishes.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, Mutex},
};

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;
use switchboard::config::Config;
use switchboard_chassis::{Secret, error};
use switchboard_identity::jwt::Algorithm;
use switchboard_proto::identity::v1::{AuthenticateRequest, authenticate_request::Credential};
use switchboard_tests::{
    Backend, Client, PATIENCE, Sandbox,
    process::{self, Process},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    time::{Duration, Instant, sleep},
};
use tonic::Code;

/// Of each generation of SimpleJWT: `tests/run` installs `tests/requirements-simplejwt-<version>.txt`.
const GENERATIONS: [&str; 2] = ["5.3", "5.5"];
const SECRET: &str = "django-insecure-what-a-project's-settings-begin-with-and-more-bytes-than-64";
const ISSUER: &str = "https://id.example.org";
const PUBLIC: [(&str, Algorithm); 3] =
    [("RS256", Algorithm::Rs256), ("ES256", Algorithm::Es256), ("EdDSA", Algorithm::EdDsa)];

const PATH: &str = "/ws/chat/550e8400-e29b-41d4-a716-446655440000/";
const PEOPLE: &str = r#"
{"user": {"id": "701", "roles": ["patient"]}}
{"user": {"id": "702", "roles": ["professional"]}}
{"conversation": {"kind": "CONVERSATION_KIND_CLINIC", "id": "550e8400-e29b-41d4-a716-446655440000", "participants": [{"user_id": "701", "role": "patient"}, {"user_id": "702", "role": "professional"}]}}
"#;

/// What one generation of the libraries made: see `tests/clients/tokens.py`.
struct Made {
    directory: TempDir,
    tokens: Value,
}

impl Made {
    async fn by(generation: &str) -> anyhow::Result<Self> {
        let directory = tempfile::tempdir()?;
        let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/test-tools");
        let python = target.join(format!("simplejwt-{generation}/bin/python3"));
        ensure!(
            python.is_file(),
            "SimpleJWT {generation} is not installed ({} is missing): run ./tests/run",
            python.display()
        );
        let python = python.to_str().context("a path of text")?;
        let arguments = [directory.path().to_str().context("a path of text")?, SECRET, ISSUER];
        let tokens: Value = serde_json::from_str(&process::script(python, "tokens.py", &arguments).await?)?;
        let version = tokens["versions"]["simplejwt"].as_str().unwrap_or_default();
        ensure!(version.starts_with(generation), "SimpleJWT is {version}: run ./tests/run");
        Ok(Self { directory, tokens })
    }

    fn token(&self, library: &str, name: &str) -> anyhow::Result<&str> {
        self.tokens[library][name].as_str().with_context(|| format!("{library} made no {name}"))
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

async fn sandbox(change: impl FnOnce(&mut Config)) -> anyhow::Result<Sandbox> {
    let sandbox = Sandbox::start_with(Backend::Sqlite, change).await?;
    sandbox.provision(PEOPLE).await?;
    Ok(sandbox)
}

/// Comes as patient 701 and says something: the code of the goodbye, if that is the answer.
async fn visit(edge: &str, token: &str) -> anyhow::Result<Result<(), u16>> {
    let mut client = Client::connect(&format!("ws://{edge}{PATH}?token={token}"), &[]).await?;
    client.send(r#"{"content": "hello"}"#).await?;
    match client.next_or_close().await? {
        Ok(frame) => {
            ensure!(frame["message"]["content"] == "hello" && frame["message"]["sender_type"] == "patient", "{frame}");
            Ok(Ok(()))
        }
        Err((code, _)) => Ok(Err(code)),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn simplejwt_s_access_tokens_are_good_and_its_refresh_tokens_are_not() -> anyhow::Result<()> {
    let sandbox = sandbox(|config| config.auth.jwt.secret = Secret::new(SECRET)).await?;
    let edge = sandbox.edge.to_string();
    for generation in GENERATIONS {
        let made = Made::by(generation).await?;
        for (name, wanted) in [
            ("access", Ok(())),
            ("access_of_refresh", Ok(())),
            ("access_user_id_number", Ok(())),
            ("access_user_id_string", Ok(())),
            ("refresh", Err(4001)),
            ("expired", Err(4001)),
        ] {
            let token = made.token("simplejwt", name)?;
            assert_eq!(visit(&edge, token).await?, wanted, "{name} of {generation}");
        }
        for name in ["HS384", "HS512", "RS256", "ES256", "EdDSA"] {
            assert_eq!(visit(&edge, made.token("pyjwt", name)?).await?, Err(4001), "{name} is not what is configured");
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn pyjwt_s_tokens_of_every_algorithm_are_good() -> anyhow::Result<()> {
    let made = [Made::by(GENERATIONS[0]).await?, Made::by(GENERATIONS[1]).await?];
    for (name, algorithm) in [("HS256", Algorithm::Hs256), ("HS384", Algorithm::Hs384), ("HS512", Algorithm::Hs512)] {
        let sandbox = sandbox(|config| {
            config.auth.jwt.secret = Secret::new(SECRET);
            config.auth.jwt.algorithm = algorithm;
        })
        .await?;
        for made in &made {
            for other in ["HS256", "HS384", "HS512"] {
                let wanted = if other == name { Ok(()) } else { Err(4001) };
                let token = made.token("pyjwt", other)?;
                assert_eq!(visit(&sandbox.edge.to_string(), token).await?, wanted, "{other} where {name} is wanted");
            }
        }
    }
    for (name, algorithm) in PUBLIC {
        // The keys of both in one file, as while one takes the place of the other.
        let directory = tempfile::tempdir()?;
        let file = directory.path().join("keys.pem");
        let texts = made.iter().map(|made| std::fs::read_to_string(made.file(&format!("{name}.pem"))));
        std::fs::write(&file, texts.collect::<Result<String, _>>()?)?;
        let sandbox = sandbox(|config| {
            config.auth.jwt.public_key_file = file;
            config.auth.jwt.algorithm = algorithm;
            config.auth.jwt.issuer = ISSUER.to_owned();
            config.auth.jwt.audience = "chat".to_owned();
        })
        .await?;
        let edge = sandbox.edge.to_string();
        for made in &made {
            assert_eq!(visit(&edge, made.token("pyjwt", &format!("{name} for us"))?).await?, Ok(()), "{name}");
            assert_eq!(visit(&edge, made.token("pyjwt", name)?).await?, Err(4001), "{name} without issuer");
            assert_eq!(visit(&edge, made.token("simplejwt", "access")?).await?, Err(4001));
        }
    }
    Ok(())
}

/// Publishes a document, or nothing, over plain HTTP.
struct Issuer {
    url: String,
    document: Arc<Mutex<Option<String>>>,
}

impl Issuer {
    async fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}/jwks.json", listener.local_addr()?);
        let document: Arc<Mutex<Option<String>>> = Arc::default();
        let published = document.clone();
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let answer = match published.lock().ok().and_then(|published| published.clone()) {
                    Some(text) => format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{text}", text.len()),
                    None => "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n".to_owned(),
                };
                let mut request = [0; 4096];
                let _ = socket.read(&mut request).await;
                let _ = socket.write_all(answer.as_bytes()).await;
            }
        });
        Ok(Self { url, document })
    }

    fn publish(&self, file: Option<PathBuf>) -> anyhow::Result<()> {
        let text = file.map(std::fs::read_to_string).transpose()?;
        *self.document.lock().map_err(|_| anyhow::anyhow!("a test panicked"))? = text;
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_issuer_s_published_keys_are_followed() -> anyhow::Result<()> {
    let [old, new] = [Made::by(GENERATIONS[0]).await?, Made::by(GENERATIONS[1]).await?];
    let issuer = Issuer::start().await?;
    let sandbox = sandbox(|config| config.auth.jwt.jwks_url.clone_from(&issuer.url)).await?;
    let edge = sandbox.edge.to_string();

    // Not there yet: everybody is asked to come back.
    assert_eq!(visit(&edge, old.token("pyjwt", "RS256")?).await?, Err(1013));
    let credential = Some(Credential::Token(old.token("pyjwt", "RS256")?.to_owned()));
    let refused = sandbox.identity()?.authenticate(AuthenticateRequest { credential }).await.expect_err("no keys");
    assert_eq!((refused.code(), error::reason(&refused).as_str()), (Code::Unavailable, "KEYS_UNAVAILABLE"));

    issuer.publish(Some(old.file("jwks.json")))?;
    let begun = Instant::now();
    while visit(&edge, old.token("pyjwt", "RS256")?).await?.is_err() {
        ensure!(begun.elapsed() < PATIENCE, "the keys are not fetched");
        sleep(Duration::from_millis(100)).await;
    }
    for (name, _) in PUBLIC {
        assert_eq!(visit(&edge, old.token("pyjwt", name)?).await?, Ok(()), "{name}");
        assert_eq!(visit(&edge, old.token("pyjwt", &format!("{name} stranger"))?).await?, Err(4001), "{name}");
        assert_eq!(visit(&edge, new.token("pyjwt", name)?).await?, Err(4001), "{name} by another key of that name");
    }
    // Signed with a secret that this deployment has, and nobody uses.
    let own = sandbox.token("701")?;
    for token in [&own, old.token("simplejwt", "access")?, old.token("pyjwt", "HS256")?] {
        assert_eq!(visit(&edge, token).await?, Err(4001));
    }
    // The issuer is away: nobody notices.
    issuer.publish(None)?;
    assert_eq!(visit(&edge, old.token("pyjwt", "EdDSA")?).await?, Ok(()));
    Ok(())
}

fn openssl(arguments: &[&str], directory: &Path) -> anyhow::Result<()> {
    let mut command = Command::new("openssl");
    command.args(arguments).current_dir(directory).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    ensure!(command.status().context("openssl is missing: run ./tests/run")?.success(), "openssl {arguments:?} fails");
    Ok(())
}

/// A real process, an issuer with a certificate, and only those who trust it get its keys.
#[tokio::test(flavor = "multi_thread")]
async fn keys_come_over_https_from_whom_the_machine_trusts() -> anyhow::Result<()> {
    let made = Made::by(GENERATIONS[1]).await?;
    let directory = made.directory.path();
    openssl(
        &[
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=localhost",
            "-addext",
            "subjectAltName=DNS:localhost",
            "-addext",
            "basicConstraints=critical,CA:FALSE",
            "-keyout",
            "tls.key",
            "-out",
            "tls.crt",
        ],
        directory,
    )?;
    let address = process::free_address()?;
    let port = address.port().to_string();
    let mut issuer = Process::spawn(
        Command::new("openssl")
            .args(["s_server", "-quiet", "-WWW", "-accept", &port, "-cert", "tls.crt", "-key", "tls.key"])
            .current_dir(directory)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null()),
    )?;
    issuer.listens(address).await?;

    std::fs::write(directory.join("people.jsonl"), PEOPLE)?;
    for (trusted, wanted) in [("tls.crt", Ok(())), ("stranger.crt", Err(1013))] {
        if trusted == "stranger.crt" {
            openssl(
                &[
                    "req",
                    "-x509",
                    "-newkey",
                    "ec",
                    "-pkeyopt",
                    "ec_paramgen_curve:P-256",
                    "-nodes",
                    "-subj",
                    "/CN=stranger",
                    "-keyout",
                    "stranger.key",
                    "-out",
                    trusted,
                ],
                directory,
            )?;
        }
        let (edge, grpc) = (process::free_address()?, process::free_address()?);
        let settings = [
            ("SWITCHBOARD_DATA_DIR", directory.join(format!("data-{trusted}")).display().to_string()),
            ("SWITCHBOARD_EDGE__LISTEN", edge.to_string()),
            ("SWITCHBOARD_GRPC__LISTEN", grpc.to_string()),
            ("SWITCHBOARD_SERVICES__IDENTITY", format!("http://{grpc}")),
            ("SWITCHBOARD_SERVICES__CHAT", format!("http://{grpc}")),
            ("SWITCHBOARD_AUTH__JWT__ALGORITHM", "RS256".to_owned()),
            ("SWITCHBOARD_AUTH__JWT__JWKS_URL", format!("https://localhost:{port}/jwks.json")),
            ("SSL_CERT_FILE", directory.join(trusted).display().to_string()),
        ];
        let mut server = Process::start(&["serve"], &settings)?;
        server.listens(edge).await?;
        let people = directory.join("people.jsonl").display().to_string();
        let (code, _, err) = process::run(&["provision", &people], &settings)?;
        ensure!(code == 0, "{err}");
        let edge = edge.to_string();
        assert_eq!(visit(&edge, made.token("pyjwt", "RS256")?).await?, wanted, "{trusted}");
        assert_eq!(visit(&edge, made.token("pyjwt", "EdDSA")?).await?, Err(4001), "only RS256 is taken");

        let (code, out, err) = process::run(&["token", "--user", "701"], &settings)?;
        assert!(code == 1 && out.is_empty() && err.contains("auth.jwt.jwks_url") && err.contains("issuer"), "{err}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_keys_are_told_before_anything_starts() -> anyhow::Result<()> {
    let made = Made::by(GENERATIONS[1]).await?;
    let file = |name: &str| made.file(name).display().to_string();
    let name = |setting: &str| format!("SWITCHBOARD_AUTH__JWT__{setting}");
    let data = made.directory.path().join("data");
    type Case<'a> = (&'a [(&'a str, String)], &'a [&'a str]);
    let cases: [Case<'_>; 5] = [
        (&[("ALGORITHM", "RS257".to_owned())], &["auth.jwt.algorithm", "RS257", "EdDSA"]),
        (&[("ALGORITHM", "RS256".to_owned())], &["auth.jwt.algorithm: RS256 needs auth.jwt.public_key_file"]),
        (
            &[("ALGORITHM", "RS256".to_owned()), ("PUBLIC_KEY_FILE", file("ES256.pem"))],
            &["auth.jwt.public_key_file", "PEM block 1 is a key for ES256"],
        ),
        (
            &[("ALGORITHM", "RS256".to_owned()), ("PUBLIC_KEY_FILE", file("jwks.json"))],
            &["auth.jwt.public_key_file", "no PEM block"],
        ),
        (
            &[
                ("JWKS_URL", "id.example.org".to_owned()),
                ("SECRET", SECRET.to_owned()),
                ("LIFETIME_MAX_S", "0".to_owned()),
            ],
            &["auth.jwt.secret, auth.jwt.jwks_url: give one of them", "auth.jwt.lifetime_max_s", "2 mistake(s)"],
        ),
    ];
    for (wrong, wanted) in cases {
        let names: Vec<String> = wrong.iter().map(|(setting, _)| name(setting)).collect();
        let mut settings: Vec<(&str, String)> =
            names.iter().zip(wrong).map(|(name, (_, value))| (name.as_str(), value.clone())).collect();
        settings.push(("SWITCHBOARD_DATA_DIR", data.display().to_string()));
        let (code, _, err) = process::run(&["serve"], &settings)?;
        for part in wanted {
            if code != 1 || !err.contains(part) {
                bail!("{part} is not in {err}");
            }
        }
        assert!(!data.exists());
    }
    Ok(())
}
