//! Databases for tests, which must hold on both kinds.

use anyhow::Context as _;
use sqlx::{Connection as _, Executor as _, migrate::Migrator};
use tempfile::TempDir;

use crate::{
    Clock, Secret,
    config::environment,
    db::{Db, StoreConfig},
};

/// Where the tests' Postgres is; `tests/run` starts one.
const POSTGRES_VARIABLE: &str = "SWITCHBOARD_TEST_POSTGRES_URL";

/// Where a test keeps its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// In a temporary directory.
    Sqlite,
    /// In a new database of the server that `SWITCHBOARD_TEST_POSTGRES_URL` names.
    Postgres,
}

/// A service's new, empty database. It goes with the directory, or stays with the tests' server.
///
/// # Errors
/// When it cannot be made: a test must not pass without.
pub async fn database(backend: Backend, service: &str, migrations: &Migrator) -> anyhow::Result<(Db, TempDir)> {
    let directory = tempfile::tempdir()?;
    let mut config = StoreConfig { connections_max: 4, ..StoreConfig::default() };
    if backend == Backend::Postgres {
        config.url = Secret::new(new_postgres_database().await?);
    }
    Ok((Db::open(&config, directory.path(), service, migrations).await?, directory))
}

/// The URL of a new, empty database.
///
/// # Errors
/// When there is no server.
pub async fn new_postgres_database() -> anyhow::Result<String> {
    let url = environment().into_iter().find(|(name, _)| name == POSTGRES_VARIABLE).map(|(_, url)| url).with_context(
        || format!("{POSTGRES_VARIABLE} is not set: run ./tests/run, which starts a Postgres for the tests"),
    )?;
    let name = format!("test_{}", Clock::System.new_id().simple());
    let mut server =
        sqlx::PgConnection::connect(&url).await.with_context(|| format!("no Postgres at {POSTGRES_VARIABLE}"))?;
    server.execute(sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}"))).await?;
    let (base, _) = url.rsplit_once('/').context("a URL with a database")?;
    Ok(format!("{base}/{name}"))
}
