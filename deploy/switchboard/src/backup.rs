//! `switchboard backup` and `switchboard restore`: SQLite files while they are in use, and the secrets that were made.
//!
//! Each service's file is copied as it is at one moment, one after the other; a message that was acknowledged before the
//! backup began is in it. What another system keeps is not: Postgres (see `docs/OPERATIONS.md`), certificates, settings.

use std::{
    collections::BTreeMap,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail, ensure};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use switchboard_chassis::db;

use crate::config::{Config, Role};

const MANIFEST: &str = "backup.json";
const SECRETS: [&str; 2] = ["grpc-token", "jwt-secret"];

/// What is in a backup.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The version that made it.
    pub version: String,
    /// SHA-256 of each file, in hex.
    pub files: BTreeMap<String, String>,
}

/// The services' files, as they are called in a backup and where they are.
fn databases(config: &Config) -> Vec<(String, PathBuf)> {
    let services = Role::ALL.into_iter().filter(|role| *role != Role::Edge);
    services
        .filter_map(|role| {
            let path = db::sqlite_path(&config.store, &config.data_dir, role.name())?;
            Some((format!("{}.db", role.name()), path))
        })
        .collect()
}

fn postgres_is_not_ours(config: &Config) -> anyhow::Result<()> {
    ensure!(
        !config.store.is_shareable(),
        "store.url is a Postgres, which has tools of its own: pg_dump --schema='switchboard_*', and pg_restore or psql; \
         see docs/OPERATIONS.md"
    );
    Ok(())
}

/// Makes a backup in a directory that does not exist or is empty.
///
/// # Errors
/// When something cannot be read or written: what is in the directory then is no backup, as it has no `backup.json`.
pub async fn back_up(config: &Config, directory: &Path) -> anyhow::Result<Manifest> {
    postgres_is_not_ours(config)?;
    let wrong = || format!("cannot write {}", directory.display());
    DirBuilder::new().recursive(true).mode(0o700).create(directory).with_context(wrong)?;
    ensure!(
        fs::read_dir(directory).with_context(wrong)?.next().is_none(),
        "{} is not empty: give each backup a directory of its own",
        directory.display()
    );
    let mut manifest = Manifest { version: env!("CARGO_PKG_VERSION").to_owned(), files: BTreeMap::new() };
    for (name, file) in databases(config) {
        if !file.exists() {
            continue;
        }
        let copy = directory.join(&name);
        // What people wrote is for this user alone.
        create(&copy)?;
        db::back_up(&file, &copy).await.with_context(|| format!("cannot copy {}", file.display()))?;
        manifest.files.insert(name, sha256(&copy)?);
    }
    ensure!(
        !manifest.files.is_empty(),
        "there is no database in {}: give the server's --data-dir or store.url",
        config.data_dir.display()
    );
    for name in SECRETS {
        let file = config.data_dir.join(name);
        if file.exists() {
            let copy = directory.join(name);
            copied(&file, &copy)?;
            manifest.files.insert(name.to_owned(), sha256(&copy)?);
        }
    }
    // Last: without it, a backup is none.
    let text = serde_json::to_string_pretty(&manifest)?;
    let mut out = create(&directory.join(MANIFEST))?;
    out.write_all(text.as_bytes()).and_then(|()| out.sync_all()).with_context(wrong)?;
    File::open(directory).and_then(|directory| directory.sync_all()).with_context(wrong)?;
    Ok(manifest)
}

/// Puts a backup where a server with this configuration looks for it. Overwrites nothing.
///
/// # Errors
/// When the backup is not whole, or something is there already; then nothing was written.
pub fn restore(config: &Config, directory: &Path) -> anyhow::Result<Manifest> {
    postgres_is_not_ours(config)?;
    let file = directory.join(MANIFEST);
    let text = fs::read_to_string(&file)
        .with_context(|| format!("{}: not a backup, or one that was not finished", file.display()))?;
    let manifest: Manifest = serde_json::from_str(&text).with_context(|| format!("{}", file.display()))?;
    let databases: BTreeMap<String, PathBuf> = databases(config).into_iter().collect();
    let mut copies = Vec::new();
    for (name, expected) in &manifest.files {
        let from = directory.join(name);
        ensure!(
            sha256(&from)? == *expected,
            "{} is not what was backed up: its SHA-256 is another one; take another backup",
            from.display()
        );
        let to = match databases.get(name) {
            Some(path) => path.clone(),
            None if SECRETS.contains(&name.as_str()) => config.data_dir.join(name),
            None => bail!(
                "{name} is no file of this version ({}): restore it with the version that made it",
                manifest.version
            ),
        };
        for end in ["", "-wal", "-shm"] {
            let mut there = to.clone().into_os_string();
            there.push(end);
            let there = PathBuf::from(there);
            ensure!(
                !there.exists(),
                "{} exists: nothing is overwritten; stop the server, and move what is there out of the way, or give \
                 another --data-dir",
                there.display()
            );
        }
        copies.push((from, to));
    }
    for (from, to) in copies {
        if let Some(parent) = to.parent() {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(parent);
            made.with_context(|| format!("cannot make {}", parent.display()))?;
        }
        copied(&from, &to)?;
    }
    Ok(manifest)
}

fn create(path: &Path) -> anyhow::Result<File> {
    let opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    opened.with_context(|| format!("cannot write {}", path.display()))
}

fn copied(from: &Path, to: &Path) -> anyhow::Result<()> {
    let mut out = create(to)?;
    let done = File::open(from).and_then(|mut from| io::copy(&mut from, &mut out)).and_then(|_| out.sync_all());
    done.with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))
}

fn sha256(path: &Path) -> anyhow::Result<String> {
    let read = || -> io::Result<String> {
        let (mut file, mut hash, mut buffer) = (File::open(path)?, Sha256::new(), vec![0; 1 << 16]);
        loop {
            match file.read(&mut buffer)? {
                0 => return Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()),
                read => hash.update(&buffer[..read]),
            }
        }
    };
    read().with_context(|| format!("cannot read {}", path.display()))
}
