//! Session cookies of a real Django: people log in and out at a site of its own (`tests/django`), and their browsers show
//! us the site's cookie.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context as _, bail};
use serde_json::{Value, json};
use switchboard_chassis::{Secret, testing::new_postgres_database};
use switchboard_identity::DjangoConfig;
use switchboard_proto::identity::v1::{GetUserRequest, get_user_request::Key};
use switchboard_tests::{Backend, Client, PATIENCE, Sandbox, client, process};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    sync::Mutex,
};

const ORIGIN: &str = "https://app.example.org";
const STUDENT: &str = "/ws/chat/my-conversation/";
const TEACHER: &str = "/ws/chat/conversations/123/";
const STAFF: &str = "/ws/mobile/chat/124/";
const UNAUTHENTICATED: (u16, &str) = (4001, "not authenticated");
const STAFF_UNAUTHENTICATED: (u16, &str) = (4002, "invalid or inactive device_id");

/// John and Tess are known to both by the same ids; Sam only to Django.
const PEOPLE: &str = r#"
{"user": {"id": "5", "username": "john", "roles": ["student"], "assigned_mentor_id": "6"}}
{"user": {"id": "6", "username": "tess", "roles": ["teacher"]}}
{"device": {"device_id": "phone"}}
{"conversation": {"kind": "CONVERSATION_KIND_MENTORING", "number": 123, "participants": [{"user_id": "5", "role": "student"}, {"user_id": "6", "role": "teacher"}]}}
{"conversation": {"kind": "CONVERSATION_KIND_MOBILE", "number": 124, "participants": [{"user_id": "phone", "role": "device"}]}}
"#;
const PASSWORD: &str = "correct horse battery staple";

/// A running Django site.
struct Site {
    database_url: String,
    secret_key: &'static str,
    pipes: Mutex<(ChildStdin, Lines<BufReader<ChildStdout>>)>,
    _child: Child,
    _directory: TempDir,
}

impl Site {
    async fn new(backend: Backend) -> anyhow::Result<Self> {
        let directory = tempfile::tempdir()?;
        let database_url = match backend {
            Backend::Sqlite => format!("sqlite:{}", directory.path().join("db.sqlite3").display()),
            Backend::Postgres => new_postgres_database().await?,
        };
        let site = Self::start(directory, database_url, "the first SECRET_KEY of this site is of fifty characters")?;
        site.act(json!(["prepare"])).await?;
        for (id, username, fields) in [
            (5, "john", json!({})),
            (6, "tess", json!({})),
            (9, "sam", json!({"is_staff": true, "first_name": "Sam", "last_name": "van Staff", "email": "sam@a.org"})),
        ] {
            site.act(json!(["add_user", id, username, PASSWORD, fields])).await?;
        }
        Ok(site)
    }

    fn start(directory: TempDir, database_url: String, secret_key: &'static str) -> anyhow::Result<Self> {
        let mut child = Command::new("python3")
            .arg(project().join("act.py"))
            .env("DATABASE_URL", &database_url)
            .env("SECRET_KEY", secret_key)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("python3 is missing: run ./tests/run")?;
        let pipes = (
            child.stdin.take().context("its input")?,
            BufReader::new(child.stdout.take().context("its output")?).lines(),
        );
        Ok(Self { database_url, secret_key, pipes: Mutex::new(pipes), _child: child, _directory: directory })
    }

    /// The same site after its SECRET_KEY was replaced, for good.
    fn with_another_key(self) -> anyhow::Result<Self> {
        let Self { database_url, _directory: directory, .. } = self;
        Self::start(directory, database_url, "the second SECRET_KEY of this site is of fifty characters")
    }

    /// See `tests/django/act.py`.
    async fn act(&self, action: Value) -> anyhow::Result<Value> {
        let (input, output) = &mut *self.pipes.lock().await;
        input.write_all(format!("{action}\n").as_bytes()).await?;
        let line = tokio::time::timeout(PATIENCE, output.next_line()).await.context("Django does not answer")??;
        let line = line.with_context(|| format!("Django died of {action}; was it installed by ./tests/run?"))?;
        Ok(serde_json::from_str(&line)?)
    }

    async fn login(&self, username: &str, password: &str) -> anyhow::Result<String> {
        text(&self.act(json!(["login", username, password])).await?)
    }

    /// Whom Django itself takes a cookie for; nobody is empty.
    async fn whoami(&self, session: &str) -> anyhow::Result<String> {
        text(&self.act(json!(["whoami", session])).await?)
    }

    fn config(&self, fallbacks: &str) -> DjangoConfig {
        DjangoConfig {
            secret_key: Secret::new(self.secret_key),
            secret_key_fallbacks: Secret::new(fallbacks),
            database_url: Secret::new(self.database_url.as_str()),
            ..DjangoConfig::default()
        }
    }

    /// A system whose users log in here.
    async fn sandbox(&self, backend: Backend, fallbacks: &str) -> anyhow::Result<Sandbox> {
        let sandbox = Sandbox::start_with(backend, |config| {
            config.auth.django = self.config(fallbacks);
            config.edge.allowed_origins = vec![ORIGIN.to_owned()];
        })
        .await?;
        sandbox.provision(PEOPLE).await?;
        Ok(sandbox)
    }
}

fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("django")
}

fn text(value: &Value) -> anyhow::Result<String> {
    Ok(value.as_str().context("a text")?.to_owned())
}

/// Dials as a browser does.
async fn dial(sandbox: &Sandbox, path: &str, session: &str, origin: &str) -> anyhow::Result<Client> {
    let headers = [("cookie", format!("csrftoken=x; sessionid={session}")), ("origin", origin.to_owned())];
    Client::connect(&format!("ws://{}{path}", sandbox.edge), &headers).await
}

/// A socket that was let in.
async fn open(sandbox: &Sandbox, path: &str, session: &str) -> anyhow::Result<Client> {
    let mut socket = dial(sandbox, path, session, ORIGIN).await?;
    match socket.next_or_close().await? {
        Ok(greeting) if greeting["type"] == "connection_established" => Ok(socket),
        other => bail!("{path}: {other:?}"),
    }
}

/// How a socket ends, whatever is told before.
async fn ends(socket: &mut Client) -> anyhow::Result<(u16, String)> {
    loop {
        if let Err(end) = socket.next_or_close().await? {
            return Ok(end);
        }
    }
}

async fn is_refused(sandbox: &Sandbox, path: &str, session: &str) -> anyhow::Result<()> {
    let expected = if path == STAFF { STAFF_UNAUTHENTICATED } else { UNAUTHENTICATED };
    let (code, reason) = ends(&mut dial(sandbox, path, session, ORIGIN).await?).await?;
    assert_eq!((code, reason.as_str()), expected, "{path}");
    Ok(())
}

async fn the_cookie_of_a_login_opens_sockets(backend: Backend) -> anyhow::Result<()> {
    let site = Site::new(backend).await?;
    let sandbox = site.sandbox(backend, "").await?;
    let [john, tess, sam] =
        [site.login("john", PASSWORD).await?, site.login("tess", PASSWORD).await?, site.login("sam", PASSWORD).await?];

    let mut student = open(&sandbox, STUDENT, &john).await?;
    let mut teacher = open(&sandbox, TEACHER, &tess).await?;
    student.send(r#"{"message": "Good morning"}"#).await?;
    let heard = teacher.next().await?;
    assert_eq!((&heard["message"]["content"], &heard["message"]["sender"]), (&json!("Good morning"), &json!(5)));

    // By REST too.
    let headers = [("cookie", format!("sessionid={john}")), ("origin", ORIGIN.to_owned())];
    let (status, page) = client::call_with(sandbox.edge, "GET", "/chat/my-conversation/", &headers, None).await?;
    assert_eq!((status, &page["id"]), (200, &json!(123)));

    // Django's staff are support staff, and are made known by what Django says.
    let mut phone = Client::connect(&format!("ws://{}{STAFF}?device_id=phone", sandbox.edge), &[]).await?;
    let mut staff = open(&sandbox, STAFF, &sam).await?;
    phone.send(r#"{"type": "chat_message", "content": "Help!"}"#).await?;
    while staff.next().await?["message"]["content"] != "Help!" {}
    let key = Some(Key::UserId("9".into()));
    let user = sandbox.identity()?.get_user(GetUserRequest { key }).await?.into_inner().user.context("Sam")?;
    assert_eq!(
        (user.username.as_str(), user.full_name.as_str(), user.email.as_str()),
        ("sam", "Sam van Staff", "sam@a.org")
    );
    assert_eq!(user.roles, ["staff"]);
    // What we were told of somebody is not changed by a login.
    let key = Some(Key::UserId("5".into()));
    let user = sandbox.identity()?.get_user(GetUserRequest { key }).await?.into_inner().user.context("John")?;
    assert_eq!((user.roles, user.assigned_mentor_id), (vec!["student".to_owned()], "6".to_owned()));

    // The page of somebody else may not use the cookie, and John is not staff.
    let refused = dial(&sandbox, STUDENT, &john, "https://evil.example").await.err().context("refused")?;
    assert!(refused.to_string().contains("403"), "{refused}");
    assert_eq!(ends(&mut dial(&sandbox, STAFF, &john, ORIGIN).await?).await?.0, 4004);
    Ok(())
}

async fn what_ends_a_session_ends_its_cookie(backend: Backend) -> anyhow::Result<()> {
    let site = Site::new(backend).await?;
    let sandbox = site.sandbox(backend, "").await?;
    for (username, path) in [("john", STUDENT), ("sam", STAFF)] {
        let good = async |session: &str| -> anyhow::Result<()> {
            assert_eq!(site.whoami(session).await?, username);
            open(&sandbox, path, session).await.map(drop)
        };
        let bad = async |session: &str| -> anyhow::Result<()> {
            is_refused(&sandbox, path, session).await?;
            // Asked last: Django deletes a session that is not good any more.
            assert_eq!(site.whoami(session).await?, "");
            Ok(())
        };
        let kept = site.login(username, PASSWORD).await?;

        let session = site.login(username, PASSWORD).await?;
        good(&session).await?;
        site.act(json!(["logout", session])).await?;
        bad(&session).await?;

        let session = site.login(username, PASSWORD).await?;
        site.act(json!(["expire", session, 60])).await?;
        good(&session).await?;
        site.act(json!(["expire", session, 0])).await?;
        bad(&session).await?;

        for forged in [session.to_uppercase(), format!("{kept}x"), "x".repeat(32), kept[1..].to_owned()] {
            bad(&forged).await?;
        }
        bad(&text(&site.act(json!(["visit_without_login"])).await?)?).await?;
        good(&kept).await?;

        site.act(json!(["set_active", username, false])).await?;
        is_refused(&sandbox, path, &kept).await?;
        site.act(json!(["set_active", username, true])).await?;
        good(&kept).await?;

        // Whoever changes the own password goes on by a new session; those of other browsers end.
        let session = site.login(username, PASSWORD).await?;
        let new_password = "a new password for everybody";
        let changed = text(&site.act(json!(["change_password", session, PASSWORD, new_password])).await?)?;
        assert_ne!(changed, session);
        good(&changed).await?;
        bad(&session).await?;
        bad(&kept).await?;
        site.act(json!(["set_password", username, PASSWORD])).await?;
        bad(&changed).await?;

        let session = site.login(username, PASSWORD).await?;
        good(&session).await?;
        site.act(json!(["delete_user", username])).await?;
        bad(&session).await?;
    }
    Ok(())
}

async fn a_secret_key_that_is_replaced(backend: Backend) -> anyhow::Result<()> {
    let site = Site::new(backend).await?;
    let old_key = site.secret_key;
    let of_before = site.login("john", PASSWORD).await?;
    let site = site.with_another_key()?;
    let of_after = site.login("john", PASSWORD).await?;

    let sandbox = site.sandbox(backend, &format!("an older one,{old_key}")).await?;
    open(&sandbox, STUDENT, &of_before).await?;
    open(&sandbox, STUDENT, &of_after).await?;
    let sandbox = site.sandbox(backend, "").await?;
    open(&sandbox, STUDENT, &of_after).await?;
    is_refused(&sandbox, STUDENT, &of_before).await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_secret_may_come_from_a_file_and_none_is_shown() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let mut settings = Vec::new();
    for (name, file, value) in [
        ("SWITCHBOARD_AUTH__DJANGO__SECRET_KEY_FILE", "key", "k3y"),
        ("SWITCHBOARD_AUTH__DJANGO__SECRET_KEY_FALLBACKS_FILE", "fallbacks", "0ld,0lder"),
        ("SWITCHBOARD_AUTH__DJANGO__DATABASE_URL_FILE", "url", "postgres://u:p4ss@db/app"),
    ] {
        let file = directory.path().join(file);
        std::fs::write(&file, value)?;
        settings.push((name, file.display().to_string()));
    }
    let (code, shown, err) = process::run(&["config"], &settings)?;
    assert_eq!(code, 0, "{err}");
    assert_eq!(shown.matches("(hidden)").count(), 3, "{shown}");
    for secret in ["k3y", "0ld", "p4ss"] {
        assert!(!shown.contains(secret), "{shown}");
    }
    Ok(())
}

async fn a_logout_ends_a_live_socket(backend: Backend) -> anyhow::Result<()> {
    ended_by(backend, async |site, session| site.act(json!(["logout", session])).await.map(drop)).await
}

async fn a_password_change_ends_a_live_socket(backend: Backend) -> anyhow::Result<()> {
    ended_by(backend, async |site, _| site.act(json!(["set_password", "sam", "another"])).await.map(drop)).await
}

async fn a_deactivation_ends_a_live_socket(backend: Backend) -> anyhow::Result<()> {
    ended_by(backend, async |site, _| site.act(json!(["set_active", "sam", false])).await.map(drop)).await
}

async fn an_early_end_ends_a_live_socket(backend: Backend) -> anyhow::Result<()> {
    ended_by(backend, async |site, session| site.act(json!(["expire", session, 0])).await.map(drop)).await
}

/// A live socket of Sam's ends within a few seconds, and nobody else's.
async fn ended_by(backend: Backend, act: impl AsyncFn(&Site, &str) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let site = Site::new(backend).await?;
    let sandbox = site.sandbox(backend, "").await?;
    let (john, sam) = (site.login("john", PASSWORD).await?, site.login("sam", PASSWORD).await?);
    let mut student = open(&sandbox, STUDENT, &john).await?;
    let mut staff = open(&sandbox, STAFF, &sam).await?;
    act(&site, &sam).await?;
    let begun = std::time::Instant::now();
    let (code, reason) = ends(&mut staff).await?;
    assert_eq!((code, reason.as_str()), STAFF_UNAUTHENTICATED);
    // Five seconds are promised; a machine that tests has more to do.
    assert!(begun.elapsed().as_secs() < 10);
    student.send(r#"{"message": "still here"}"#).await?;
    assert_eq!(student.next().await?["message"]["content"], "still here");
    is_refused(&sandbox, STAFF, &sam).await
}

macro_rules! on_both {
    ($($test:ident,)*) => {
        mod on_sqlite {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $test() -> anyhow::Result<()> {
                super::$test(super::Backend::Sqlite).await
            })*
        }
        mod on_postgres {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $test() -> anyhow::Result<()> {
                super::$test(super::Backend::Postgres).await
            })*
        }
    };
}

on_both!(
    the_cookie_of_a_login_opens_sockets,
    what_ends_a_session_ends_its_cookie,
    a_secret_key_that_is_replaced,
    a_logout_ends_a_live_socket,
    a_password_change_ends_a_live_socket,
    a_deactivation_ends_a_live_socket,
    an_early_end_ends_a_live_socket,
);
