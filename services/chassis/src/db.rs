//! Databases: SQLite by default, Postgres by URL, one SQL text for both.

use std::{
    fs::{self, File, TryLockError},
    path::{Path, PathBuf},
    str::FromStr as _,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use sqlx::{
    Connection as _, PgPool, SqliteConnection, SqlitePool,
    postgres::{PgConnectOptions, PgConnection, PgPoolOptions},
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

pub use sqlx::migrate::Migrator;

use crate::{
    Error, Kind, Micros, Secret,
    metrics::{Gauges, Metrics},
};

const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// A connection to Postgres that was not used for so long may have broken meanwhile.
const RESTED: Duration = Duration::from_secs(1);
const SQLITE_READERS: u32 = 4;
/// See [`persist`].
const TRIES_MAX: u32 = 4;
const TRY_AGAIN_AFTER: Duration = Duration::from_millis(100);
/// 16 MiB of write-ahead log before it is folded into the file.
const WAL_PAGES: &str = "4096";
/// 32 MiB of pages in memory for the one writer: with SQLite's 2 MiB, the indexes of busy conversations were read again for
/// almost every message.
const WRITER_CACHE: &str = "-32768";

/// How often it is tried to empty the write-ahead log while readers are in the way.
const SCRUB_TRIES: u32 = 20;
const SCRUB_AGAIN: Duration = Duration::from_millis(100);

/// `[store]`: where services keep what they know.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StoreConfig {
    /// `sqlite:PATH` or `postgres://...`; empty is SQLite in the data directory. Each service has its own SQLite file
    /// (`PATH/chat.db`, or `name.chat.db` for a PATH that ends in `name.db`) or its own Postgres schema.
    pub url: Secret,
    /// What an acknowledged write survives.
    pub durability: Durability,
    /// The most connections that each service opens to Postgres.
    pub connections_max: u32,
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self { url: Secret::default(), durability: Durability::Commit, connections_max: 10 }
    }
}

impl StoreConfig {
    /// Whether several processes may use it: it is a server, and no file.
    #[must_use]
    pub fn is_shareable(&self) -> bool {
        is_postgres(self.url.expose())
    }
}

/// What an acknowledged write survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// Power loss (SQLite `synchronous=FULL`, Postgres `synchronous_commit=on`).
    Commit,
    /// The end of the process, but not always power loss (SQLite `NORMAL`, Postgres `off`).
    Relaxed,
}

/// Connections to one kind of database. See [`on_pool!`](crate::on_pool).
#[derive(Clone, Debug)]
pub enum Pool {
    /// A file of this machine.
    Sqlite(SqlitePool),
    /// A server.
    Postgres(PgPool),
}

/// Runs one body on whichever database it is: `on_pool!(pool, p => sqlx::query("...").execute(p).await)`. In a trace it is
/// a span, with the name of the function that it is in.
#[macro_export]
macro_rules! on_pool {
    ($pool:expr, $p:ident => $body:expr) => {
        match $pool {
            $crate::db::Pool::Sqlite($p) => {
                let _statements = $crate::traces::statements("sqlite", &|| ());
                $body
            }
            $crate::db::Pool::Postgres($p) => {
                let _statements = $crate::traces::statements("postgresql", &|| ());
                $body
            }
        }
    };
}

const STORE: Gauges<2> =
    Gauges::new("switchboard_store_info", "1, with the kind of database that a service has", &["service", "backend"]);
const POOL: Gauges<3> = Gauges::new(
    "switchboard_store_connections",
    "Connections to the database, by what they do: idle, used",
    &["service", "pool", "state"],
);
const POOL_MAX: Gauges<2> = Gauges::new(
    "switchboard_store_connections_max",
    "The most connections to the database; who needs another waits five seconds at most",
    &["service", "pool"],
);

fn backend_of<D: sqlx::Database>(_: &sqlx::Pool<D>) -> &'static str {
    if D::NAME == "SQLite" { "sqlite" } else { "postgres" }
}

/// One service's database.
#[derive(Debug)]
pub struct Db {
    /// For statements that only read.
    pub read: Pool,
    /// For statements that write. On SQLite, one connection: writers queue here and not on a lock.
    pub write: Pool,
    /// Keeps other processes away from a SQLite file.
    _lock: Option<File>,
}

impl Db {
    /// Opens (and creates) the database of `service` and brings its tables up to date.
    ///
    /// # Errors
    /// When it cannot be reached, is in use by another process (SQLite), or a migration fails.
    pub async fn open(
        config: &StoreConfig,
        data_dir: &Path,
        service: &str,
        migrations: &Migrator,
    ) -> Result<Self, OpenError> {
        let db = match sqlite_path(config, data_dir, service) {
            Some(file) => sqlite(&file, config.durability).await?,
            None => postgres(config.url.expose(), service, config).await?,
        };
        on_pool!(&db.write, p => migrations.run(p).await)?;
        Ok(db)
    }

    /// Counts the use of its connections, and says what it is.
    pub fn observe(&self, metrics: &Metrics, service: &str) {
        let backend = on_pool!(&self.write, pool => backend_of(pool));
        metrics.gauge(&STORE, [service, backend]).set(1);
        let mut pools = vec![("write", self.write.clone())];
        // On Postgres they are one.
        if matches!(self.read, Pool::Sqlite(_)) {
            pools.push(("read", self.read.clone()));
        }
        for (name, pool) in pools {
            let most = on_pool!(&pool, pool => pool.options().get_max_connections());
            metrics.gauge(&POOL_MAX, [service, name]).set(most.into());
            let of = |state| metrics.gauge(&POOL, [service, name, state]);
            let (idle, used) = (of("idle"), of("used"));
            metrics.sample(move || {
                let (all, unused) = on_pool!(&pool, pool => (i64::from(pool.size()), pool.num_idle()));
                let unused = i64::try_from(unused).unwrap_or(i64::MAX).min(all);
                idle.set(unused);
                used.set(all - unused);
            });
        }
    }

    /// To be called after something was erased, so that it leaves the files, too. SQLite overwrites what it deletes
    /// (`secure_delete`), but copies of before are in its write-ahead log, which is emptied here; when readers are in the
    /// way for long, a warning says so, and the next erasure or the end of the process does it. Postgres does the like by
    /// itself: VACUUM frees the place of deleted rows, and its log goes by its own rules.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn scrub(&self) -> Result<()> {
        let Pool::Sqlite(pool) = &self.write else { return Ok(()) };
        for _ in 0..SCRUB_TRIES {
            let (busy, ..): (i64, i64, i64) =
                sqlx::query_as("PRAGMA wal_checkpoint(TRUNCATE)").persistent(false).fetch_one(pool).await?;
            if busy == 0 {
                return Ok(());
            }
            tokio::time::sleep(SCRUB_AGAIN).await;
        }
        tracing::warn!("what was erased is still in the write-ahead log, because it is being read");
        Ok(())
    }

    /// The suffix with which texts are compared and ordered by their bytes: the order of SQLite, which in Postgres depends on
    /// the database's locale.
    #[must_use]
    pub fn by_bytes(&self) -> &'static str {
        match self.read {
            Pool::Sqlite(_) => "",
            Pool::Postgres(_) => " COLLATE \"C\"",
        }
    }

    /// The suffix with which a SELECT inside a transaction keeps other writers away from its rows; SQLite, with its one
    /// writer, needs none.
    #[must_use]
    pub fn for_update(&self) -> &'static str {
        match self.write {
            Pool::Sqlite(_) => "",
            Pool::Postgres(_) => " FOR UPDATE",
        }
    }
}

/// What a look at a service's database found, without changing anything in it.
#[derive(Clone, Debug)]
pub struct Examined {
    /// What it is, with its version.
    pub server: String,
    /// Migrations that were applied, and are known to this program.
    pub applied: usize,
    /// Those that are still to come.
    pub pending: usize,
    /// Those that only a later version of this program knows.
    pub unknown: usize,
    /// Those that are not what they were when they were applied, or failed in the middle.
    pub wrong: usize,
    /// How long a commit takes until it would survive power loss.
    pub commit: Duration,
    /// What its server's clock says; `None` when it has none of its own.
    pub now: Option<Micros>,
}

/// Where the SQLite file of a service is; `None` when it is in Postgres.
#[must_use]
pub fn sqlite_path(config: &StoreConfig, data_dir: &Path, service: &str) -> Option<PathBuf> {
    let url = config.url.expose();
    if url.is_empty() {
        return Some(data_dir.join(format!("{service}.db")));
    }
    url.strip_prefix("sqlite:").map(|path| sqlite_file(path.strip_prefix("//").unwrap_or(path), service))
}

/// Looks at a service's database; `None` when there is none yet. A server may be using it meanwhile.
///
/// # Errors
/// When it does not answer.
pub async fn examine(
    config: &StoreConfig,
    data_dir: &Path,
    service: &str,
    migrations: &Migrator,
) -> Result<Option<Examined>, OpenError> {
    type Applied = Vec<(i64, bool, Vec<u8>)>;
    const APPLIED: &str = "SELECT version, success, checksum FROM _sqlx_migrations ORDER BY version";
    let (server, applied, commit, now): (String, Applied, Duration, Option<Micros>) =
        if let Some(file) = sqlite_path(config, data_dir, service) {
            if !file.exists() {
                return Ok(None);
            }
            let mut connection = beside(&file).await?;
            let version: String = sqlx::query_scalar("SELECT sqlite_version()").fetch_one(&mut connection).await?;
            let there: Option<String> =
                sqlx::query_scalar("SELECT name FROM sqlite_master WHERE name = '_sqlx_migrations'")
                    .fetch_optional(&mut connection)
                    .await?;
            if there.is_none() {
                return Ok(None);
            }
            let applied = sqlx::query_as(APPLIED).fetch_all(&mut connection).await?;
            connection.close().await?;
            let commit = synchronised(&file).map_err(|error| OpenError::File(file.clone(), error))?;
            (format!("SQLite {version}"), applied, commit, None)
        } else {
            let schema = format!("switchboard_{service}");
            let options = PgConnectOptions::from_str(config.url.expose())?.options([("search_path", schema.as_str())]);
            let mut connection = PgConnection::connect_with(&options).await?;
            let version: String = sqlx::query_scalar("SHOW server_version").fetch_one(&mut connection).await?;
            // Half of the way there and back is before the server reads its clock.
            let now: i64 = sqlx::query_scalar("SELECT (EXTRACT(EPOCH FROM clock_timestamp()) * 1000000)::BIGINT")
                .fetch_one(&mut connection)
                .await?;
            let there: Option<String> =
                sqlx::query_scalar("SELECT to_regclass('_sqlx_migrations')::TEXT").fetch_one(&mut connection).await?;
            let applied = match there {
                Some(_) => sqlx::query_as(APPLIED).fetch_all(&mut connection).await?,
                None => Vec::new(),
            };
            let begun = std::time::Instant::now();
            // It writes to the log and to no table.
            sqlx::query("SELECT pg_logical_emit_message(TRUE, 'switchboard', '')").execute(&mut connection).await?;
            let commit = begun.elapsed();
            connection.close().await?;
            (format!("Postgres {version}"), applied, commit, Some(now))
        };
    let mut examined = Examined { server, applied: 0, pending: 0, unknown: 0, wrong: 0, commit, now };
    for (version, success, checksum) in &applied {
        match migrations.iter().find(|migration| migration.version == *version) {
            None => examined.unknown += 1,
            Some(known) if *success && known.checksum.as_ref() == checksum.as_slice() => examined.applied += 1,
            Some(_) => examined.wrong += 1,
        }
    }
    let is_applied = |version: i64| applied.iter().any(|(applied, ..)| *applied == version);
    examined.pending = migrations.iter().filter(|migration| !is_applied(migration.version)).count();
    Ok(Some(examined))
}

/// Copies a SQLite file while it may be in use, as it is at one moment, into a file that does not exist or is empty; checks
/// the copy.
///
/// # Errors
/// When it cannot be read or written, or the copy is not whole.
pub async fn back_up(file: &Path, into: &Path) -> Result<(), OpenError> {
    let mut connection = beside(file).await?;
    sqlx::query("VACUUM INTO $1").bind(into.display().to_string()).execute(&mut connection).await?;
    connection.close().await?;
    let wrong = |error| OpenError::File(into.to_owned(), error);
    let options = SqliteConnectOptions::new().filename(into).create_if_missing(false).pragma("query_only", "ON");
    let mut copy = SqliteConnection::connect_with(&options).await?;
    let told: String = sqlx::query_scalar("PRAGMA integrity_check(1)").fetch_one(&mut copy).await?;
    copy.close().await?;
    if told != "ok" {
        return Err(wrong(std::io::Error::other("the copy is not whole: check the disk, and the original")));
    }
    File::open(into).and_then(|copy| copy.sync_all()).map_err(wrong)
}

/// A connection to a file that another process may serve.
async fn beside(file: &Path) -> Result<SqliteConnection, OpenError> {
    let options = SqliteConnectOptions::new().filename(file).create_if_missing(false).busy_timeout(BUSY_TIMEOUT);
    Ok(SqliteConnection::connect_with(&options).await?)
}

/// How long it takes until something written beside a file is on the disk.
fn synchronised(file: &Path) -> std::io::Result<Duration> {
    let probe = file.with_extension(format!("{}.probe", std::process::id()));
    let written = (|| {
        let mut opened = File::create(&probe)?;
        let begun = std::time::Instant::now();
        std::io::Write::write_all(&mut opened, &[0; 4096])?;
        opened.sync_data()?;
        Ok(begun.elapsed())
    })();
    let _ = fs::remove_file(&probe);
    written
}

/// Why a database could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it.
    #[error(
        "{0} is in use by another process: SQLite serves one process; stop the other one, give this one another \
         data directory, or share a Postgres by store.url"
    )]
    InUse(PathBuf),
    /// The file cannot be made.
    #[error("{0}: {1}")]
    File(PathBuf, std::io::Error),
    /// The database said no.
    #[error("cannot open the database: {0}")]
    Database(#[from] sqlx::Error),
    /// The tables cannot be brought up to date.
    #[error("cannot bring the tables up to date: {0}")]
    Migration(#[from] sqlx::migrate::MigrateError),
}

fn is_postgres(url: &str) -> bool {
    url.starts_with("postgres://") || url.starts_with("postgresql://")
}

/// Checks a URL without connecting.
///
/// # Errors
/// What is wrong with it.
pub fn check_url(url: &str) -> Result<(), String> {
    if url.is_empty() || url.starts_with("sqlite:") {
        return Ok(());
    }
    if is_postgres(url) {
        // The parser's words may quote a password.
        return PgConnectOptions::from_str(url)
            .map(drop)
            .map_err(|_| "not a Postgres URL (postgres://user:password@host:5432/database)".to_owned());
    }
    Err("begin with sqlite: or postgres://".to_owned())
}

fn sqlite_file(path: &str, service: &str) -> PathBuf {
    let path = Path::new(path);
    match (path.file_stem(), path.extension()) {
        (Some(stem), Some(extension)) => {
            path.with_file_name(format!("{}.{service}.{}", stem.display(), extension.display()))
        }
        _ => path.join(format!("{service}.db")),
    }
}

async fn sqlite(file: &Path, durability: Durability) -> Result<Db, OpenError> {
    let wrong = |error| OpenError::File(file.to_owned(), error);
    if let Some(directory) = file.parent() {
        fs::create_dir_all(directory).map_err(wrong)?;
    }
    let lock_file = file.with_extension("lock");
    let lock = File::options().create(true).truncate(false).write(true).open(&lock_file).map_err(wrong)?;
    lock.try_lock().map_err(|error| match error {
        TryLockError::WouldBlock => OpenError::InUse(file.to_owned()),
        TryLockError::Error(error) => OpenError::File(lock_file.clone(), error),
    })?;
    let options = SqliteConnectOptions::new()
        .filename(file)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(match durability {
            Durability::Commit => SqliteSynchronous::Full,
            Durability::Relaxed => SqliteSynchronous::Normal,
        })
        .busy_timeout(BUSY_TIMEOUT)
        // What is erased is overwritten, not only unlinked.
        .pragma("secure_delete", "ON")
        // A batch's INSERT may have to be undone as one: its undo log is a file otherwise.
        .pragma("temp_store", "MEMORY")
        // Pages written over and over between two checkpoints are synchronised once.
        .pragma("wal_autocheckpoint", WAL_PAGES);
    // A file's connection does not break while nobody looks, so none is tried before it is used.
    let pool = || SqlitePoolOptions::new().acquire_timeout(ACQUIRE_TIMEOUT).test_before_acquire(false);
    let write = pool()
        .max_connections(1)
        .after_release(|connection, _| Box::pin(has_finished(connection)))
        .connect_with(options.clone().pragma("cache_size", WRITER_CACHE))
        .await?;
    let read = pool().max_connections(SQLITE_READERS).connect_lazy_with(options.pragma("query_only", "ON"));
    Ok(Db { read: Pool::Sqlite(read), write: Pool::Sqlite(write), _lock: Some(lock) })
}

/// Whether a connection may be used again. When SQLite has rolled back by itself (the disk is full), sqlx's own ROLLBACK
/// fails and it goes on counting the transaction as open: the next ones would be savepoints inside of one that is never
/// committed, and what they store would be gone with the process.
async fn has_finished(connection: &mut SqliteConnection) -> sqlx::Result<bool> {
    if connection.is_in_transaction() {
        // Its rollback may only be on the way.
        connection.ping().await?;
    }
    Ok(!connection.is_in_transaction())
}

/// Whether a connection may be used. One that rested is asked first, which costs its user a round trip; one that answered a
/// moment ago is not.
async fn answers(connection: &mut PgConnection, idle_for: Duration) -> sqlx::Result<bool> {
    Ok(idle_for < RESTED || connection.ping().await.is_ok())
}

async fn postgres(url: &str, service: &str, config: &StoreConfig) -> Result<Db, OpenError> {
    let schema = format!("switchboard_{service}");
    let options = PgConnectOptions::from_str(url)?;
    let mut connection = PgConnection::connect_with(&options).await?;
    // Two processes that start at once may both try: a lock of Postgres lets one go first.
    sqlx::raw_sql(sqlx::AssertSqlSafe(format!(
        "BEGIN; SELECT pg_advisory_xact_lock(hashtext('{schema}')); CREATE SCHEMA IF NOT EXISTS {schema}; COMMIT"
    )))
    .execute(&mut connection)
    .await?;
    connection.close().await?;
    let synchronous_commit = match config.durability {
        Durability::Commit => "on",
        Durability::Relaxed => "off",
    };
    let pool = PgPoolOptions::new()
        .max_connections(config.connections_max)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .test_before_acquire(false)
        .before_acquire(|connection, used| Box::pin(answers(connection, used.idle_for)))
        .connect_with(options.options([("search_path", schema.as_str()), ("synchronous_commit", synchronous_commit)]))
        .await?;
    Ok(Db { read: Pool::Postgres(pool.clone()), write: Pool::Postgres(pool), _lock: None })
}

/// What a statement lists, with the last item repeated until there are a power of two, or one and a half times
/// one: so the texts of statements are few, and each is parsed once.
pub fn padded<T>(items: &[T]) -> impl Iterator<Item = &T> {
    let power = items.len().next_power_of_two();
    let length = if items.len() <= power / 4 * 3 { power / 4 * 3 } else { power };
    items.iter().chain(items.last().into_iter().cycle().take(length.saturating_sub(items.len())))
}

/// Does something, and again while the database does not answer: four times, after longer and longer pauses. An answer
/// that was lost on its way may have been a yes: `attempt` is told whether it is another try.
///
/// # Errors
/// Those of the last try.
pub async fn persist<T, F: Future<Output = Result<T>>>(mut attempt: impl FnMut(bool) -> F) -> Result<T> {
    let mut tries = 1;
    loop {
        match attempt(tries > 1).await {
            Err(error) if error.kind == Kind::Unavailable && tries < TRIES_MAX => {
                tokio::time::sleep(TRY_AGAIN_AFTER * tries).await;
                tries += 1;
            }
            other => return other,
        }
    }
}

/// Turns `?` on a database call into our [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_service_has_its_own_sqlite_file() {
        assert_eq!(sqlite_file("/data", "chat"), Path::new("/data/chat.db"));
        assert_eq!(sqlite_file("/data/app.db", "chat"), Path::new("/data/app.chat.db"));
    }

    #[test]
    fn few_texts_for_all_lengths() {
        let mut lengths = std::collections::BTreeSet::new();
        for length in 1..=512_usize {
            let items: Vec<usize> = (0..length).collect();
            let all: Vec<usize> = padded(&items).copied().collect();
            assert_eq!(all[..length], items);
            assert!(all[length..].iter().all(|item| *item == length - 1));
            assert!(all.len() - length <= length / 2, "{length}: {}", all.len());
            lengths.insert(all.len());
        }
        assert_eq!(Vec::from_iter(lengths.iter().copied().take(9)), [1, 2, 3, 4, 6, 8, 12, 16, 24]);
        assert_eq!(lengths.len(), 18);
        assert_eq!(padded::<usize>(&[]).count(), 0);
    }

    #[test]
    fn a_url_that_is_no_database_is_explained() {
        assert!(check_url("mysql://x").is_err());
        assert!(check_url("postgres://u:p@localhost/db").is_ok());
        assert!(check_url("sqlite:/data").is_ok());
    }
}
