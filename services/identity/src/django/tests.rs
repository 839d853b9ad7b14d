//! Sessions of real Djangos, see `make_sessions.py`, in both kinds of database.

use serde::Deserialize;
use sqlx::{PgPool, SqlitePool, sqlite::SqliteConnectOptions};
use switchboard_chassis::{
    db::Pool,
    on_pool,
    testing::{Backend, new_postgres_database},
};
use tempfile::TempDir;

use super::*;

const SECRET_KEY: &str = "a test's SECRET_KEY, which Django wants to have fifty characters";
const PASSWORD: &str = "pbkdf2_sha256$1000$salt$c29tZSBoYXNo";
const VERSIONS: [&str; 5] = ["3.1.14", "3.2.25", "4.2.25", "5.2.8", "6.0.10"];
/// 2026-12-05 18:00:00 UTC.
const END: Micros = 1_796_493_600_000_000;

#[derive(Deserialize)]
struct Made {
    django: String,
    name: String,
    session_data: String,
    session_key: Option<String>,
    expire_date: Option<String>,
}

fn made() -> Vec<Made> {
    include_str!("sessions.jsonl").lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// One session of the newest Django.
fn session_data(name: &str) -> String {
    made().into_iter().rfind(|made| made.name == name).expect("made").session_data
}

fn keys(secrets: &[&str]) -> Keys {
    Keys::new(secrets.iter().copied())
}

#[test]
fn what_every_django_signs_is_read() {
    for version in VERSIONS {
        for (name, user_id) in
            [("login", "7"), ("uncompressed", "7"), ("large", "7"), ("uuid", "0190c42e-7a4b-7000-8000-00000000abcd")]
        {
            let mut all = made().into_iter();
            let made = all.find(|made| made.django == version && made.name == name).expect("made");
            let data = made.session_data;
            assert_eq!(data.starts_with('.'), name != "uncompressed");
            assert!(name != "large" || data.len() > 1_500);
            let login = keys(&[SECRET_KEY]).open(&data).expect("a login");
            assert_eq!(login.user_id, user_id, "{version} {name}");
            assert!(keys(&[SECRET_KEY]).is_hash_of(&login.auth_hash, PASSWORD));
        }
    }
}

#[test]
fn what_nobody_is_logged_in_by_is_refused() {
    let mut refused = 0;
    for Made { django, name, session_data, .. } in made() {
        if !["login", "uncompressed", "large", "uuid"].contains(&name.as_str()) {
            assert_eq!(keys(&[SECRET_KEY]).open(&session_data), None, "{django} {name}");
            refused += 1;
        }
    }
    assert_eq!(refused, 8 * VERSIONS.len());
    let junk = ["", ":", "::", "a:b:c", ".:1:x", "{}", "bm90:anything:at all", "\0"];
    assert!(junk.iter().all(|junk| keys(&[SECRET_KEY]).open(junk).is_none()));
    assert_eq!(keys(&[]).open(&session_data("login")), None, "without a key");
}

#[test]
fn no_byte_of_a_session_can_be_changed() {
    for name in ["login", "uncompressed"] {
        let good = session_data(name);
        for at in 0..good.len() {
            for with in ["A", "b", "_", ":", ".", "=", ""] {
                let mut forged = good.clone();
                forged.replace_range(at..=at, with);
                if forged != good {
                    assert_eq!(keys(&[SECRET_KEY]).open(&forged), None, "{forged}");
                }
            }
        }
        for around in [format!("{good}="), format!(" {good}"), format!("{good}:"), format!("{good}:{good}")] {
            assert_eq!(keys(&[SECRET_KEY]).open(&around), None, "{around}");
        }
    }
}

#[test]
fn a_key_that_was_replaced_is_good_while_it_is_a_fallback() {
    let data = session_data("login");
    let login = keys(&["new", "newer", SECRET_KEY]).open(&data).expect("a login");
    assert!(keys(&["new", SECRET_KEY]).is_hash_of(&login.auth_hash, PASSWORD));
    assert_eq!(keys(&["new"]).open(&data), None);
    assert!(!keys(&["new"]).is_hash_of(&login.auth_hash, PASSWORD));
    for wrong in ["", "0", "äöü", &login.auth_hash.to_uppercase(), &login.auth_hash[1..]] {
        assert!(!keys(&[SECRET_KEY]).is_hash_of(wrong, PASSWORD), "{wrong}");
    }
    let config = DjangoConfig {
        secret_key: Secret::new("new"),
        secret_key_fallbacks: Secret::new(" old, ,older,"),
        ..DjangoConfig::default()
    };
    assert_eq!(config.secrets().collect::<Vec<_>>(), ["new", "old", "older"]);
}

#[test]
fn what_is_wrong_in_the_settings_is_told() {
    let wrong = |change: fn(&mut DjangoConfig)| {
        let mut config = DjangoConfig::default();
        change(&mut config);
        config.mistakes().join("\n")
    };
    assert_eq!(wrong(|_| {}), "");
    assert!(wrong(|config| config.database_url = Secret::new("sqlite:x")).contains("django.secret_key: is required"));
    assert!(wrong(|config| config.secret_key = Secret::new("x")).contains("django.database_url: is required"));
    assert!(wrong(|config| config.secret_key_fallbacks = Secret::new("x")).contains("django.secret_key: is required"));
    assert!(wrong(|config| config.database_url = Secret::new("mysql://u:hunter2@h")).contains("sqlite: or postgres:"));
    assert!(!wrong(|config| config.database_url = Secret::new("mysql://u:hunter2@h")).contains("hunter2"));
    for name in ["", "1st", "a b", "a\"b", "a;b", "public.users", "ä", "a\0"] {
        let config = DjangoConfig { user_table: name.to_owned(), ..DjangoConfig::default() };
        assert!(config.mistakes().join("").contains("auth.django.user_table"), "{name}");
        let config = DjangoConfig { name_columns: vec![name.to_owned()], ..DjangoConfig::default() };
        assert!(config.mistakes().join("").contains("auth.django.name_columns"), "{name}");
        let config = DjangoConfig { email_column: name.to_owned(), ..DjangoConfig::default() };
        assert_eq!(config.mistakes().is_empty(), name.is_empty(), "{name}");
    }
}

/// A Django's database, to be written as Django would.
struct Site {
    pool: Pool,
    config: DjangoConfig,
    _directory: TempDir,
}

impl Site {
    /// With the tables of `contrib.auth` and `contrib.sessions` as `migrate` makes them, as far as they matter, and a
    /// user 7 of `make_sessions.py`.
    async fn new(backend: Backend) -> anyhow::Result<Self> {
        let (id, time) = match backend {
            Backend::Sqlite => ("integer NOT NULL PRIMARY KEY AUTOINCREMENT", "datetime"),
            Backend::Postgres => {
                ("integer NOT NULL PRIMARY KEY GENERATED BY DEFAULT AS IDENTITY", "timestamp with time zone")
            }
        };
        let site = Self::empty(backend).await?;
        site.run(&format!(
            r#"CREATE TABLE "auth_user" ("id" {id}, "password" varchar(128) NOT NULL, "is_superuser" bool NOT NULL,
                   "username" varchar(150) NOT NULL UNIQUE, "first_name" varchar(150) NOT NULL,
                   "last_name" varchar(150) NOT NULL, "email" varchar(254) NOT NULL, "is_staff" bool NOT NULL,
                   "is_active" bool NOT NULL);
               CREATE TABLE "django_session" ("session_key" varchar(40) NOT NULL PRIMARY KEY,
                   "session_data" text NOT NULL, "expire_date" {time} NOT NULL);
               INSERT INTO auth_user VALUES (7, '{PASSWORD}', false, 'johndoe', 'John', 'Doe', 'john@example.org',
                   true, true)"#
        ))
        .await?;
        Ok(site)
    }

    async fn empty(backend: Backend) -> anyhow::Result<Self> {
        let directory = tempfile::tempdir()?;
        let (pool, url) = match backend {
            Backend::Sqlite => {
                let file = directory.path().join("db.sqlite3");
                let options = SqliteConnectOptions::new().filename(&file).create_if_missing(true);
                (Pool::Sqlite(SqlitePool::connect_with(options).await?), format!("sqlite:{}", file.display()))
            }
            Backend::Postgres => {
                let url = new_postgres_database().await?;
                (Pool::Postgres(PgPool::connect(&url).await?), url)
            }
        };
        let config = DjangoConfig {
            secret_key: Secret::new(SECRET_KEY),
            database_url: Secret::new(url),
            ..DjangoConfig::default()
        };
        Ok(Self { pool, config, _directory: directory })
    }

    async fn run(&self, sql: &str) -> anyhow::Result<()> {
        on_pool!(&self.pool, pool => sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(pool).await.map(drop)?);
        Ok(())
    }

    async fn put_session(&self, key: &str, data: &str, expire_date: &str) -> anyhow::Result<()> {
        // Django speaks to Postgres in UTC.
        let zone = if matches!(self.pool, Pool::Postgres(_)) { "+00" } else { "" };
        self.run(&format!("INSERT INTO django_session VALUES ('{key}', '{data}', '{expire_date}{zone}')")).await
    }

    async fn django(&self) -> anyhow::Result<Django> {
        Ok(Django::open(&self.config).await?)
    }
}

async fn a_session_is_good_until_something_ends_it(backend: Backend) -> anyhow::Result<()> {
    let site = Site::new(backend).await?;
    let django = site.django().await?;
    let login = session_data("login");
    site.put_session("good-session", &login, "2026-12-05 18:00:00").await?;
    site.put_session("later-session", &login, "2026-12-05 18:00:00.000250").await?;
    site.put_session("large-session", &session_data("large"), "2026-12-05 18:00:00").await?;
    for name in ["anonymous", "no_hash", "no_backend", "other_key", "other_salt", "huge"] {
        site.put_session(&format!("{name}-session"), &session_data(name), "2026-12-05 18:00:00").await?;
    }

    let session = DjangoSession {
        user_id: "7".to_owned(),
        expires_at: END,
        username: "johndoe".to_owned(),
        full_name: "John Doe".to_owned(),
        email: "john@example.org".to_owned(),
        is_staff: true,
    };
    assert_eq!(django.session("good-session", END - 1).await?, Some(session.clone()));
    assert_eq!(django.session("good-session", END).await?, None, "expired");
    assert_eq!(django.session("large-session", 0).await?, Some(session.clone()));
    let later = DjangoSession { expires_at: END + 250, ..session };
    assert_eq!(django.session("later-session", END).await?, Some(later));
    for key in [
        "anonymous-session",
        "no_hash-session",
        "no_backend-session",
        "other_key-session",
        "other_salt-session",
        "huge-session",
        "GOOD-SESSION",
        "good-session ",
        "nobody-s-session",
        "short",
        "",
        "good\0session",
        "' OR 1=1 --",
        &"x".repeat(41),
    ] {
        assert_eq!(django.session(key, 0).await?, None, "{key}");
    }

    let owned = |(key, user): (&str, &str)| (key.to_owned(), user.to_owned());
    let watched = [
        ("good-session", "7"),
        ("later-session", "7"),
        ("later-session", "8"),
        ("anonymous-session", "7"),
        ("absent-session", "7"),
        ("short", "7"),
    ]
    .map(owned);
    let ended = async |now| django.ended(&watched, now).await;
    let never = ["later-session", "anonymous-session", "absent-session", "short"];
    assert_eq!(ended(END - 1).await?, never, "the one of another user is not that user's");
    assert_eq!(ended(END).await?, [&["good-session"], &never[..]].concat());
    assert_eq!(django.ended(&[], END).await?, [""; 0]);

    let all = [&["good-session", "later-session"], &never[..]].concat();
    for (what, undo) in [
        ("UPDATE auth_user SET password = 'changed'", format!("UPDATE auth_user SET password = '{PASSWORD}'")),
        ("UPDATE auth_user SET is_active = false", "UPDATE auth_user SET is_active = true".to_owned()),
        ("UPDATE auth_user SET id = 8", "UPDATE auth_user SET id = 7".to_owned()),
    ] {
        site.run(what).await?;
        assert_eq!(django.session("good-session", 0).await?, None, "{what}");
        assert_eq!(ended(0).await?, all, "{what}");
        site.run(&undo).await?;
        assert_eq!(ended(0).await?, never, "{undo}");
    }
    site.run("DELETE FROM django_session WHERE session_key = 'good-session'").await?;
    assert_eq!(django.session("good-session", 0).await?, None, "logged out");
    assert_eq!(ended(0).await?, [&["good-session"], &never[..]].concat());
    Ok(())
}

/// Also in the tables' own words: SQLite gave these texts to the Djangos that wrote them.
async fn the_times_of_every_django_are_read(backend: Backend) -> anyhow::Result<()> {
    let site = Site::new(backend).await?;
    let django = site.django().await?;
    let mut logins = 0;
    for made in made() {
        if let (Some(key), Some(expire_date)) = (made.session_key, made.expire_date) {
            site.put_session(&key, &made.session_data, &expire_date).await?;
            let session = django.session(&key, 0).await?.expect("good");
            let fraction = expire_date.split_once('.').map_or("0", |(_, fraction)| fraction);
            assert_eq!(session.expires_at % 1_000_000, fraction.parse::<i64>()?, "{expire_date}");
            // Two weeks after it was made, in November 2026.
            assert!((END - 86_400_000_000..END + 86_400_000_000).contains(&session.expires_at), "{expire_date}");
            logins += 1;
        }
    }
    assert_eq!(logins, VERSIONS.len());
    Ok(())
}

async fn a_user_model_of_ones_own_with_uuids(backend: Backend) -> anyhow::Result<()> {
    let mut site = Site::new(backend).await?;
    let (id_type, id) = match backend {
        Backend::Sqlite => ("char(32)", "0190c42e7a4b7000800000000000abcd"),
        Backend::Postgres => ("uuid", "0190c42e-7a4b-7000-8000-00000000abcd"),
    };
    site.run(&format!(
        r#"CREATE TABLE "People_person" ("Key" {id_type} NOT NULL PRIMARY KEY, "secret" varchar(128) NOT NULL,
               "address" varchar(254) NULL, "name" text NULL);
           INSERT INTO "People_person" VALUES ('{id}', '{PASSWORD}', 'ada@example.org', NULL)"#
    ))
    .await?;
    site.put_session("uuid-session", &session_data("uuid"), "2026-12-05 18:00:00").await?;
    site.put_session("integer-session", &session_data("login"), "2026-12-05 18:00:00").await?;
    site.config = DjangoConfig {
        user_table: "People_person".to_owned(),
        user_id_column: "Key".to_owned(),
        password_column: "secret".to_owned(),
        is_active_column: String::new(),
        is_staff_column: String::new(),
        username_column: "address".to_owned(),
        email_column: String::new(),
        name_columns: vec!["name".to_owned()],
        ..site.config
    };
    let django = site.django().await?;
    let session = django.session("uuid-session", 0).await?.expect("good");
    assert_eq!(session.user_id, "0190c42e-7a4b-7000-8000-00000000abcd");
    assert_eq!(
        (session.username.as_str(), session.full_name.as_str(), session.is_staff),
        ("ada@example.org", "", false)
    );
    assert_eq!(django.session("integer-session", 0).await?, None, "no user can have that id");
    let watched = [("uuid-session".to_owned(), session.user_id)];
    assert_eq!(django.ended(&watched, 0).await?, [""; 0]);
    site.run(r#"UPDATE "People_person" SET secret = 'changed'"#).await?;
    assert_eq!(django.ended(&watched, 0).await?, ["uuid-session"]);
    Ok(())
}

async fn text_as_a_primary_key(backend: Backend) -> anyhow::Result<()> {
    let mut site = Site::new(backend).await?;
    site.run("ALTER TABLE auth_user ADD COLUMN code varchar(20); UPDATE auth_user SET code = '7'").await?;
    site.put_session("text-session", &session_data("login"), "2026-12-05 18:00:00").await?;
    site.config.user_id_column = "code".to_owned();
    let django = site.django().await?;
    assert_eq!(django.session("text-session", 0).await?.expect("good").user_id, "7");
    site.run("UPDATE auth_user SET code = '07'").await?;
    assert_eq!(django.session("text-session", 0).await?, None);
    Ok(())
}

async fn many_sessions_at_once(backend: Backend) -> anyhow::Result<()> {
    let site = Site::new(backend).await?;
    let login = session_data("login");
    let watched: Vec<(String, String)> = (0..2_500).map(|at| (format!("session-{at}"), "7".to_owned())).collect();
    let rows: Vec<String> =
        watched.iter().step_by(2).map(|(key, _)| format!("('{key}', '{login}', '2026-12-05 18:00:00Z')")).collect();
    site.run(&format!("INSERT INTO django_session VALUES {}", rows.join(", "))).await?;
    let ended = site.django().await?.ended(&watched, 0).await?;
    let expected: Vec<&str> = watched.iter().skip(1).step_by(2).map(|(key, _)| key.as_str()).collect();
    assert_eq!(ended, expected);
    Ok(())
}

async fn nothing_can_be_written(backend: Backend) -> anyhow::Result<()> {
    let site = Site::new(backend).await?;
    let django = site.django().await?;
    for statement in ["DELETE FROM auth_user", "CREATE TABLE x (y integer)", "UPDATE auth_user SET id = 9"] {
        let done = on_pool!(django.tables.pool(), pool => sqlx::query(statement).execute(pool).await.map(drop));
        assert!(done.is_err(), "{statement}");
    }
    Ok(())
}

async fn what_is_not_there_is_told_at_the_start(backend: Backend) -> anyhow::Result<()> {
    let told = async |site: &Site| site.django().await.err().expect("refused").to_string();
    let empty = Site::empty(backend).await?;
    assert!(told(&empty).await.contains("django_session"), "{}", told(&empty).await);
    let mut site = Site::new(backend).await?;
    site.config.is_active_column = "is_activ".to_owned();
    assert!(told(&site).await.contains("is_activ"), "{}", told(&site).await);
    site.config.database_url = Secret::default();
    assert!(told(&site).await.contains("database_url: is required"));
    Ok(())
}

#[tokio::test]
async fn a_file_that_is_not_there_is_not_made() -> anyhow::Result<()> {
    let mut site = Site::empty(Backend::Sqlite).await?;
    site.config.database_url = Secret::new("sqlite:///does/not/exist.sqlite3");
    let told = site.django().await.err().expect("refused").to_string();
    assert!(told.contains("/does/not/exist.sqlite3"), "{told}");
    Ok(())
}

#[tokio::test]
async fn a_write_ahead_log_is_read_along() -> anyhow::Result<()> {
    let site = Site::new(Backend::Sqlite).await?;
    site.run("PRAGMA journal_mode = WAL").await?;
    let django = site.django().await?;
    site.put_session("logged-session", &session_data("login"), "2026-12-05 18:00:00").await?;
    assert!(django.session("logged-session", 0).await?.is_some());
    Ok(())
}

#[tokio::test]
async fn tables_of_another_schema_are_found_by_the_search_path() -> anyhow::Result<()> {
    let mut site = Site::new(Backend::Postgres).await?;
    site.put_session("schema-session", &session_data("login"), "2026-12-05 18:00:00").await?;
    site.run("CREATE SCHEMA app; ALTER TABLE auth_user SET SCHEMA app; ALTER TABLE django_session SET SCHEMA app")
        .await?;
    assert!(site.django().await.is_err());
    let url = format!("{}?options=-csearch_path%3Dapp", site.config.database_url.expose());
    site.config.database_url = Secret::new(url);
    assert!(site.django().await?.session("schema-session", 0).await?.is_some());
    Ok(())
}

macro_rules! on_both {
    ($($test:ident),* $(,)?) => {
        mod sqlite {
            use super::Backend;
            $(#[tokio::test]
            async fn $test() -> anyhow::Result<()> {
                super::$test(Backend::Sqlite).await
            })*
        }
        mod postgres {
            use super::Backend;
            $(#[tokio::test]
            async fn $test() -> anyhow::Result<()> {
                super::$test(Backend::Postgres).await
            })*
        }
    };
}

on_both!(
    a_session_is_good_until_something_ends_it,
    the_times_of_every_django_are_read,
    a_user_model_of_ones_own_with_uuids,
    text_as_a_primary_key,
    many_sessions_at_once,
    nothing_can_be_written,
    what_is_not_there_is_told_at_the_start,
);
