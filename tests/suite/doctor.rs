//! `switchboard doctor`: each thing that it looks at is broken in turn.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, process::Command};

use anyhow::{Context as _, ensure};
use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use serde_json::Value;
use switchboard_chassis::testing::new_postgres_database;
use switchboard_tests::process::{Machine, binary, free_address, run};

/// What it finds with these further arguments: the exit code and the lines.
fn doctor(machine: &Machine, arguments: &[&str]) -> anyhow::Result<(i32, Vec<Value>)> {
    let (code, out, err) = machine.run(&[&["doctor", "--json"], arguments].concat())?;
    let findings: Vec<Value> = serde_json::from_str(&out).with_context(|| format!("{out}{err}"))?;
    // It says what to do about everything that is not right.
    for finding in &findings {
        let is_ok = finding["level"] == "ok";
        ensure!(is_ok || finding["advice"] != "", "{finding}");
    }
    let fails = findings.iter().any(|finding| finding["level"] == "fail");
    ensure!((code != 0) == fails, "{code}: {findings:#?}");
    Ok((code, findings))
}

/// A server listens before its databases are open; a call waits for them.
fn is_ready(machine: &Machine) -> anyhow::Result<()> {
    machine.provision(r#"{"user": {"id": "1"}}"#)
}

/// Nothing fails, but perhaps this machine: how full and how slow its disk is, is not ours.
fn nothing_fails(findings: &[Value]) -> anyhow::Result<()> {
    let is_ours = |finding: &&Value| {
        finding["what"] != "disk" && !finding["found"].as_str().is_some_and(|text| text.contains("until a commit"))
    };
    let failing: Vec<_> = findings.iter().filter(is_ours).filter(|finding| finding["level"] == "fail").collect();
    ensure!(failing.is_empty(), "{failing:#?}");
    Ok(())
}

/// The lines about one thing.
fn about<'a>(findings: &'a [Value], what: &str) -> Vec<&'a Value> {
    findings.iter().filter(|finding| finding["what"].as_str().is_some_and(|text| text.starts_with(what))).collect()
}

/// The worst line about one thing is of this level, and says this.
fn is(findings: &[Value], what: &str, level: &str, said: &str) -> anyhow::Result<()> {
    let lines = about(findings, what);
    let found = lines
        .iter()
        .any(|line| line["level"] == level && line["found"].as_str().is_some_and(|text| text.contains(said)));
    ensure!(found, "{what} is not {level} ({said}): {lines:#?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_right_is_told_as_right() -> anyhow::Result<()> {
    let machine = Machine::new()?;
    let (_, findings) = doctor(&machine, &[])?;
    nothing_fails(&findings)?;
    is(&findings, "data directory", "warn", "does not exist")?;
    is(&findings, "database of chat", "warn", "there is none yet")?;
    is(&findings, "services.chat", "warn", "nothing answers")?;
    assert!(!machine.data().exists(), "it changes nothing");

    let _server = machine.start(&["serve"], machine.edge).await?;
    is_ready(&machine)?;
    let (_, findings) = doctor(&machine, &[])?;
    nothing_fails(&findings)?;
    for what in ["configuration", "data directory", "bus", "certificates and callers"] {
        is(&findings, what, "ok", "")?;
    }
    is(&findings, "messages are kept", "ok", "therapy for ever, clinic for ever, mobile for ever")?;
    is(&findings, "notifications are kept", "ok", "90 days")?;
    is(&findings, "positions are kept", "ok", "600 seconds")?;
    let ages = ["--set", "chat.retention_days=30", "--set", "chat.retention.therapy=3650d"];
    is(&doctor(&machine, &ages)?.1, "messages are kept", "ok", "therapy 3650 days, clinic 30 days")?;
    let wrong = doctor(&machine, &["--set", "chat.retention.therapy=ten years"])?.1;
    is(&wrong, "configuration", "fail", "chat.retention.therapy: days such as \"3650d\" are wanted")?;
    for service in ["identity", "chat", "location", "notification", "presence"] {
        is(&findings, &format!("database of {service}"), "ok", "migrations applied")?;
        let lines = about(&findings, &format!("database of {service}"));
        assert!(
            lines
                .iter()
                .any(|line| line["found"].as_str().is_some_and(|text| text.contains("until a commit is on the disk")))
        );
        is(&findings, &format!("services.{service}"), "ok", "it answers, in this version")?;
    }
    let (_, text, _) = machine.run(&["doctor"])?;
    assert!(text.contains("ok    bus: local"), "{text}");
    // Nor does it leave anything behind.
    let left: Vec<_> = fs::read_dir(machine.data())?.filter_map(Result::ok).map(|entry| entry.file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().contains("probe")), "{left:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_directory_that_is_broken() -> anyhow::Result<()> {
    let machine = Machine::new()?;
    let mut server = machine.start(&["serve"], machine.edge).await?;
    is_ready(&machine)?;
    let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode));
    mode(&machine.data(), 0o755)?;
    is(&doctor(&machine, &[])?.1, "data directory", "warn", "open to others")?;
    mode(&machine.data(), 0o700)?;
    let secret = machine.data().join("jwt-secret");
    mode(&secret, 0o644)?;
    is(&doctor(&machine, &[])?.1, "secrets", "fail", "readable by others")?;
    mode(&secret, 0o600)?;
    server.kill()?;

    let sql = |statement: &str| -> anyhow::Result<()> {
        let code = format!(
            "import sqlite3; c = sqlite3.connect({:?}); c.execute({statement:?}); c.commit()",
            machine.data().join("chat.db")
        );
        ensure!(Command::new("python3").args(["-c", &code]).status()?.success());
        Ok(())
    };
    sql("INSERT INTO _sqlx_migrations VALUES (9999, 'later', '2026-01-01', 1, x'00', 0)")?;
    is(&doctor(&machine, &[])?.1, "database of chat", "fail", "1 that this version does not know")?;
    sql("DELETE FROM _sqlx_migrations WHERE version = 9999")?;
    sql("UPDATE _sqlx_migrations SET checksum = x'00' WHERE version = 2")?;
    is(&doctor(&machine, &[])?.1, "database of chat", "fail", "1 other than they were")?;
    sql("DELETE FROM _sqlx_migrations WHERE version = 2")?;
    is(&doctor(&machine, &[])?.1, "database of chat", "warn", "1 to come")?;
    fs::write(machine.data().join("identity.db"), "no database, but of some length".repeat(100))?;
    is(&doctor(&machine, &[])?.1, "database of identity", "fail", "")?;
    fs::remove_dir_all(machine.data())?;
    fs::write(machine.data(), "")?;
    is(&doctor(&machine, &[])?.1, "data directory", "fail", "is no directory")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_reached() -> anyhow::Result<()> {
    let machine = Machine::new()?;
    let nobody = free_address()?;
    let (_, findings) = doctor(&machine, &["--role", "edge"])?;
    is(&findings, "services.", "fail", "nothing answers").or_else(|_| is(&findings, "services", "warn", "no token"))?;

    let store = format!("store.url=postgres://user:hunter2@{nobody}/x");
    let (_, findings) = doctor(&machine, &["--set", &store])?;
    is(&findings, "database of chat", "fail", "")?;
    assert!(!format!("{findings:?}").contains("hunter2"));
    let bus = format!("bus.url=nats://{nobody}");
    is(&doctor(&machine, &["--set", &bus])?.1, "bus", "fail", "")?;
    let django = "auth.django.secret_key=a-secret-key-of-django-of-fifty-characters-or-more";
    let (_, findings) =
        doctor(&machine, &["--set", django, "--set", "auth.django.database_url=sqlite:/does/not/exist"])?;
    is(&findings, "Django", "fail", "")?;
    assert!(!format!("{findings:?}").contains("a-secret-key"));
    let jwks = format!("auth.jwt.jwks_url=http://{nobody}/jwks.json");
    is(&doctor(&machine, &["--set", &jwks])?.1, "JWKS", "fail", "")?;

    let (_, findings) = doctor(&machine, &["--set", "edge.listen=nowhere", "--set", "edge.listne=x"])?;
    assert_eq!(findings.len(), 2, "{findings:#?}");
    is(&findings, "configuration", "fail", "edge.listen:")?;
    is(&findings, "configuration", "fail", "edge.listne")
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_elsewhere_are_asked() -> anyhow::Result<()> {
    let machine = Machine::new()?;
    let store = format!("store.url={}", new_postgres_database().await?);
    let nats =
        switchboard_chassis::config::environment().into_iter().find(|(name, _)| name == "SWITCHBOARD_TEST_NATS_URL");
    let bus = format!("bus.url={}", nats.context("SWITCHBOARD_TEST_NATS_URL: run ./tests/run")?.1);
    let prefix = format!("bus.subject_prefix=doctor-{}", machine.edge.port());
    let here = ["--set", &store, "--set", &bus, "--set", &prefix];
    let services: Vec<&str> =
        [&["serve", "--role", "identity,chat,location,notification,presence"], &here[..]].concat();
    let _server = machine.start(&services, machine.grpc).await?;
    is_ready(&machine)?;
    let (_, findings) = doctor(&machine, &here)?;
    nothing_fails(&findings)?;
    is(&findings, "database of chat", "ok", "Postgres")?;
    is(&findings, "clock of the database of chat", "ok", "")?;
    is(&findings, "bus", "ok", "there and back")?;
    let (_, findings) = doctor(&machine, &["--role", "edge", "--set", "grpc.token=another-token-of-services"])?;
    is(&findings, "services.chat", "fail", "bearer token")?;
    assert!(!format!("{findings:?}").contains("another-token"));
    // A local bus beside a database for many.
    is(&doctor(&machine, &["--set", &store])?.1, "bus", "warn", "local")
}

#[test]
fn certificates_that_end_or_do_not_fit() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let machine = Machine::new()?;
    let at = |name: &str| directory.path().join(name);
    let pem = |label: &str, der: &[u8]| {
        use base64::Engine as _;
        format!(
            "-----BEGIN {label}-----\n{}\n-----END {label}-----\n",
            base64::engine::general_purpose::STANDARD.encode(der)
        )
    };
    let key = KeyPair::generate()?;
    fs::write(at("key"), pem("PRIVATE KEY", key.serialized_der()))?;
    fs::write(at("other"), pem("PRIVATE KEY", KeyPair::generate()?.serialized_der()))?;
    for (name, begins, ends) in [("good", 2020, 2999), ("ended", 2019, 2020), ("later", 2900, 2999)] {
        let mut params = CertificateParams::new(["a.example.org".to_owned()])?;
        (params.not_before, params.not_after) = (date_time_ymd(begins, 1, 1), date_time_ymd(ends, 1, 1));
        fs::write(at(name), pem("CERTIFICATE", params.self_signed(&key)?.der()))?;
    }
    let look = |certificate: &str, key: &str| {
        let certificate = format!("edge.tls.certificate_file={}", at(certificate).display());
        let key = format!("edge.tls.key_file={}", at(key).display());
        doctor(&machine, &["--role", "edge", "--set", &certificate, "--set", &key]).map(|(_, findings)| findings)
    };
    const SETTING: &str = "edge.tls.certificate_file";
    let findings = look("good", "key")?;
    is(&findings, SETTING, "ok", "days")?;
    is(&findings, "certificates and callers", "ok", "")?;
    is(&look("ended", "key")?, SETTING, "fail", "has ended")?;
    is(&look("later", "key")?, SETTING, "fail", "not good yet")?;
    is(&look("good", "other")?, "certificates and callers", "fail", "other")?;
    is(&look("missing", "key")?, "certificates and callers", "fail", "missing")
}

#[test]
fn limits_of_the_system() -> anyhow::Result<()> {
    let machine = Machine::new()?;
    let data = machine.data().display().to_string();
    for (limit, sockets, level) in [("600", "10000", "warn"), ("600", "50", "ok")] {
        let output = Command::new("sh")
            .args([
                "-c",
                "ulimit -n $1; exec $2 doctor --json --role edge --data-dir $3 --set edge.sockets_max=$4",
                "sh",
                limit,
            ])
            .arg(binary()?)
            .args([&data, sockets])
            .output()?;
        let findings: Vec<Value> = serde_json::from_slice(&output.stdout)?;
        is(&findings, "open files", level, "600 are allowed")?;
        is(&findings, "listen backlog", "ok", "").or_else(|_| is(&findings, "listen backlog", "warn", "somaxconn"))?;
    }
    Ok(())
}

/// Everything that it says together, with secrets in every place where one can be.
#[test]
fn no_secret_is_told() -> anyhow::Result<()> {
    let machine = Machine::new()?;
    let settings = [
        ("SWITCHBOARD_DATA_DIR", machine.data().display().to_string()),
        ("SWITCHBOARD_GRPC__TOKEN", "secret-of-grpc-0123456789".to_owned()),
        ("SWITCHBOARD_AUTH__JWT__SECRET", "secret-of-jwt-0123456789-0123456789".to_owned()),
        ("SWITCHBOARD_STORE__URL", "postgres://user:secret-of-store@127.0.0.1:1/x".to_owned()),
        ("SWITCHBOARD_BUS__URL", "nats://127.0.0.1:1".to_owned()),
        ("SWITCHBOARD_BUS__TOKEN", "secret-of-bus".to_owned()),
        ("SWITCHBOARD_AUTH__DJANGO__SECRET_KEY", "secret-of-django".to_owned()),
        ("SWITCHBOARD_AUTH__DJANGO__DATABASE_URL", "postgres://user:secret-of-tables@127.0.0.1:1/x".to_owned()),
    ];
    let (code, out, err) = run(&["doctor"], &settings)?;
    assert!(code == 1 && out.contains("FAIL"), "{out}{err}");
    assert!(!out.contains("secret-of") && !err.contains("secret-of"), "{out}{err}");
    Ok(())
}
