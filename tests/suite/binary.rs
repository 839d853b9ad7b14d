//! The commands of the binary, as a person types them.

use switchboard_tests::process::{self, Process};

fn in_directory(directory: &tempfile::TempDir) -> Vec<(&'static str, String)> {
    vec![("SWITCHBOARD_DATA_DIR", directory.path().join("data").display().to_string())]
}

#[test]
fn help_teaches() -> anyhow::Result<()> {
    let (code, out, _) = process::run(&["--help"], &[])?;
    assert_eq!(code, 0);
    for word in [
        "serve",
        "demo",
        "token",
        "provision",
        "export",
        "import",
        "backup",
        "doctor",
        "config",
        "SWITCHBOARD_<SECTION>__<KEY>",
        "--data-dir",
    ] {
        assert!(out.contains(word), "{word} is not in {out}");
    }
    let (code, out, _) = process::run(&["provision", "--help"], &[])?;
    assert!(code == 0 && out.contains(r#"{"conversation": {"kind": "CONVERSATION_KIND_THERAPY""#), "{out}");
    Ok(())
}

#[test]
fn the_version_says_which_build_it_is() -> anyhow::Result<()> {
    let (code, out, _) = process::run(&["--version"], &[])?;
    // Tests run a build for development; a release says its commit and the day of it.
    assert_eq!((code, out.trim()), (0, concat!("switchboard ", env!("CARGO_PKG_VERSION"), " (development)")));
    Ok(())
}

#[test]
fn config_shows_what_is_in_force_and_hides_secrets() -> anyhow::Result<()> {
    let secret = "a-secret-of-at-least-thirty-two-bytes";
    let settings = [
        ("SWITCHBOARD_AUTH__JWT__SECRET", secret.to_owned()),
        ("SWITCHBOARD_EDGE__LISTEN", "127.0.0.1:9999".to_owned()),
        ("SWITCHBOARD_STORE__URL", "postgres://user:hunter2@127.0.0.1/db".to_owned()),
    ];
    let (code, out, err) = process::run(&["config", "--set", "edge.ping_interval_s=7"], &settings)?;
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("127.0.0.1:9999") && out.contains("ping_interval_s = 7") && out.contains("(hidden)"), "{out}");
    assert!(!out.contains(secret) && !out.contains("hunter2"), "{out}");
    // What it prints can be read again.
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("switchboard.toml");
    std::fs::write(&file, out.lines().filter(|line| !line.contains("(hidden)")).collect::<Vec<_>>().join("\n"))?;
    let (code, again, err) = process::run(&["config", "--config", &file.display().to_string()], &[])?;
    assert_eq!(code, 0, "{err}");
    assert!(again.contains("127.0.0.1:9999"));
    Ok(())
}

#[test]
fn every_mistake_is_told_before_anything_starts() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let mut settings = in_directory(&directory);
    settings.push(("SWITCHBOARD_EDGE__LISTEN", "nowhere".to_owned()));
    settings.push(("SWITCHBOARD_EDGE__LISTNE", "127.0.0.1:1".to_owned()));
    settings.push(("SWITCHBOARD_STORE__URL_FILE", "/does/not/exist".to_owned()));
    let (code, _, err) = process::run(&["serve"], &settings)?;
    assert_eq!(code, 1);
    for part in ["3 mistake(s)", "edge.listen", "SWITCHBOARD_EDGE__LISTNE", "/does/not/exist"] {
        assert!(err.contains(part), "{part} is not in {err}");
    }
    assert!(!directory.path().join("data").exists());
    Ok(())
}

#[test]
fn a_token_is_signed_by_the_data_directory_s_secret() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let settings = in_directory(&directory);
    let (code, token, err) =
        process::run(&["token", "--user", "123", "--role", "customer", "--name", "Ada", "--ttl", "90m"], &settings)?;
    assert_eq!(code, 0, "{err}");
    assert_eq!(token.trim().split('.').count(), 3);
    let (code, _, err) = process::run(&["token", "--user", "1", "--ttl", "soon"], &settings)?;
    assert!(code != 0 && err.contains("as 90m"), "{err}");
    Ok(())
}

#[test]
fn provision_names_the_line_that_is_wrong() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("people.jsonl");
    std::fs::write(&file, "{\"user\": {\"id\": \"1\"}}\n\n{\"user\": {\"name\": \"x\"}}\n")?;
    let (code, _, err) = process::run(&["provision", &file.display().to_string()], &in_directory(&directory))?;
    assert!(code == 1 && err.contains("line 3"), "{err}");
    Ok(())
}

#[tokio::test]
async fn what_is_taken_is_explained() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let (edge, grpc) = (process::free_address()?, process::free_address()?);
    let mut settings = in_directory(&directory);
    settings.push(("SWITCHBOARD_EDGE__LISTEN", edge.to_string()));
    settings.push(("SWITCHBOARD_GRPC__LISTEN", grpc.to_string()));
    let admin = process::free_address()?;
    settings.push(("SWITCHBOARD_ADMIN__LISTEN", admin.to_string()));
    let mut server = Process::start(&["serve"], &settings)?;
    server.listens(edge).await?;

    // All of them at once.
    let (code, _, err) = process::run(&["serve"], &settings)?;
    assert_eq!(code, 1, "{err}");
    for (address, setting) in [(edge, "edge.listen"), (grpc, "grpc.listen"), (admin, "admin.listen")] {
        assert!(err.contains(&format!("cannot listen on {address} ({setting})")), "{err}");
    }

    settings.retain(|(name, _)| !name.ends_with("LISTEN"));
    settings.push(("SWITCHBOARD_EDGE__LISTEN", process::free_address()?.to_string()));
    settings.push(("SWITCHBOARD_GRPC__LISTEN", process::free_address()?.to_string()));
    let (code, _, err) = process::run(&["serve"], &settings)?;
    assert!(code == 1 && err.contains("in use by another process: SQLite serves one process"), "{err}");
    Ok(())
}
