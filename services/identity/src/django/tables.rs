//! Django's tables, which are only read. All SQL about them is here.

use std::{collections::HashSet, fs, path::Path, str::FromStr as _, time::Duration};

use sqlx::{
    FromRow, QueryBuilder,
    postgres::{PgConnectOptions, PgPoolOptions},
    sqlite::{SqliteConnectOptions, SqlitePoolOptions},
};
use switchboard_chassis::{
    Micros,
    db::{OpenError, Pool, Result},
    on_pool,
};
use uuid::Uuid;

use super::DjangoConfig;

const CONNECTIONS_MAX: u32 = 4;
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// In milliseconds.
const STATEMENT_TIMEOUT: &str = "5000";

/// A row of `django_session`.
#[derive(FromRow)]
pub(super) struct SessionRow {
    pub(super) session_key: String,
    pub(super) session_data: String,
    pub(super) expires_at: Micros,
}

/// A row of the table of users.
#[derive(FromRow)]
pub(super) struct UserRow {
    pub(super) id: String,
    pub(super) password: String,
    pub(super) is_active: bool,
    pub(super) is_staff: bool,
    pub(super) username: String,
    pub(super) full_name: String,
    pub(super) email: String,
}

/// Django's database. Cheap to clone.
#[derive(Clone)]
pub(super) struct Tables {
    pool: Pool,
    ids: Ids,
    /// Both up to `IN (`.
    select_sessions: String,
    select_users: String,
}

/// What kind of primary key users have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ids {
    Integer,
    Uuid,
    Text,
}

impl Tables {
    /// The configuration has been checked: its names can stand in a statement.
    pub(super) async fn open(config: &DjangoConfig) -> Result<Self, OpenError> {
        let url = config.database_url.expose();
        let pool = match url.strip_prefix("sqlite:") {
            Some(path) => sqlite(Path::new(path.strip_prefix("//").unwrap_or(path))).await?,
            None => postgres(url).await?,
        };
        let tables = Self {
            select_sessions: select_sessions(config, &pool),
            select_users: select_users(config),
            ids: ids(config, &pool).await?,
            pool,
        };
        // The database itself says best what is not there.
        for select in [&tables.select_sessions, &tables.select_users] {
            let nobody = sqlx::AssertSqlSafe(format!("{select} NULL)"));
            on_pool!(&tables.pool, pool => sqlx::query(nobody).execute(pool).await.map(drop))?;
        }
        Ok(tables)
    }

    #[cfg(test)]
    pub(super) fn pool(&self) -> &Pool {
        &self.pool
    }

    /// A user's id as Python's `str` has it; None when no user can have it.
    pub(super) fn user_id(&self, text: &str) -> Option<String> {
        self.ids.read(text)
    }

    /// The sessions of these keys, whether they have expired or not.
    pub(super) async fn sessions(&self, keys: &HashSet<&str>) -> Result<Vec<SessionRow>> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        Ok(on_pool!(&self.pool, pool => {
            let mut query = QueryBuilder::new(&self.select_sessions);
            let mut list = query.separated(", ");
            for key in keys {
                list.push_bind(*key);
            }
            query.push(")");
            query.build_query_as().persistent(keys.len() == 1).fetch_all(pool).await?
        }))
    }

    /// The users of these ids, which [`Tables::user_id`] gave.
    pub(super) async fn users(&self, ids: &HashSet<&str>) -> Result<Vec<UserRow>> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let kind = self.ids;
        // Compared as what they are, so that the index on them is used.
        let (before, after) = match (&self.pool, kind) {
            (Pool::Sqlite(_), _) => ("", ""),
            (Pool::Postgres(_), Ids::Integer) => ("CAST(", " AS BIGINT)"),
            (Pool::Postgres(_), Ids::Uuid) => ("CAST(", " AS UUID)"),
            (Pool::Postgres(_), Ids::Text) => ("CAST(", " AS TEXT)"),
        };
        let rows: Vec<UserRow> = on_pool!(&self.pool, pool => {
            let mut query = QueryBuilder::new(&self.select_users);
            let mut list = query.separated(", ");
            for id in ids {
                list.push(before).push_bind_unseparated(kind.stored(id)).push_unseparated(after);
            }
            query.push(")");
            query.build_query_as().persistent(ids.len() == 1).fetch_all(pool).await?
        });
        let named = |row: UserRow| Some(UserRow { id: kind.read(&row.id)?, ..row });
        Ok(rows.into_iter().filter_map(named).collect())
    }
}

impl Ids {
    /// By the name of a column's type.
    fn of_type(name: &str) -> Self {
        match name.to_lowercase().as_str() {
            // What Django makes of a UUIDField in SQLite is the second.
            "uuid" | "char(32)" => Self::Uuid,
            name if name.contains("int") => Self::Integer,
            _ => Self::Text,
        }
    }

    fn read(self, text: &str) -> Option<String> {
        match self {
            Self::Integer => text.parse::<i64>().ok().map(|id| id.to_string()),
            Self::Uuid => Uuid::parse_str(text).ok().map(|id| id.to_string()),
            // Postgres cannot even ask for a NUL.
            Self::Text => (!text.is_empty() && !text.contains('\0')).then(|| text.to_owned()),
        }
    }

    /// As SQLite keeps it; Postgres reads this as well.
    fn stored(self, id: &str) -> String {
        match self {
            Self::Uuid => id.replace('-', ""),
            Self::Integer | Self::Text => id.to_owned(),
        }
    }
}

async fn sqlite(file: &Path) -> Result<Pool, OpenError> {
    // SQLite's own words do not say which file.
    fs::metadata(file).map_err(|error| OpenError::File(file.to_owned(), error))?;
    let options = SqliteConnectOptions::new()
        .filename(file)
        .read_only(true)
        .busy_timeout(BUSY_TIMEOUT)
        .pragma("query_only", "ON");
    let pool = SqlitePoolOptions::new().max_connections(CONNECTIONS_MAX).acquire_timeout(ACQUIRE_TIMEOUT);
    Ok(Pool::Sqlite(pool.connect_with(options).await?))
}

async fn postgres(url: &str) -> Result<Pool, OpenError> {
    let options = PgConnectOptions::from_str(url)?
        .application_name("switchboard")
        .options([("default_transaction_read_only", "on"), ("statement_timeout", STATEMENT_TIMEOUT)]);
    let pool = PgPoolOptions::new().max_connections(CONNECTIONS_MAX).acquire_timeout(ACQUIRE_TIMEOUT);
    Ok(Pool::Postgres(pool.connect_with(options).await?))
}

async fn ids(config: &DjangoConfig, pool: &Pool) -> Result<Ids, OpenError> {
    let DjangoConfig { user_table: table, user_id_column: column, .. } = config;
    let name: Option<String> = match pool {
        Pool::Sqlite(pool) => {
            sqlx::query_scalar("SELECT type FROM pragma_table_info($1) WHERE name = $2 COLLATE NOCASE")
                .bind(table)
                .bind(column)
                .fetch_optional(pool)
                .await?
        }
        Pool::Postgres(pool) => {
            sqlx::query_scalar(
                "SELECT format_type(atttypid, NULL) FROM pg_attribute
                 WHERE attrelid = to_regclass($1) AND attname = $2 AND NOT attisdropped",
            )
            .bind(format!("\"{table}\""))
            .bind(column)
            .fetch_optional(pool)
            .await?
        }
    };
    Ok(Ids::of_type(&name.unwrap_or_default()))
}

/// Names stand behind `t.`, because SQLite takes a quoted name that stands alone and is no column's for a text.
fn select_sessions(config: &DjangoConfig, pool: &Pool) -> String {
    // In microseconds. A text of SQLite is `YYYY-MM-DD HH:MM:SS`, with or without `.` and six digits more.
    let expires_at = match pool {
        Pool::Sqlite(_) => {
            "CAST(strftime('%s', substr(t.expire_date, 1, 19)) AS INTEGER) * 1000000
             + CAST(substr(substr(t.expire_date, 21) || '000000', 1, 6) AS INTEGER)"
        }
        Pool::Postgres(_) => "CAST(EXTRACT(EPOCH FROM t.expire_date) * 1000000 AS BIGINT)",
    };
    format!(
        "SELECT CAST(t.session_key AS TEXT) AS session_key, CAST(t.session_data AS TEXT) AS session_data,
             COALESCE({expires_at}, 0) AS expires_at
         FROM \"{}\" AS t WHERE t.session_key IN (",
        config.session_table
    )
}

fn select_users(config: &DjangoConfig) -> String {
    let text = |name: &String| match name.as_str() {
        "" => "''".to_owned(),
        name => format!("COALESCE(CAST(t.\"{name}\" AS TEXT), '')"),
    };
    let flag = |name: &str, otherwise: &str| match name {
        "" => otherwise.to_owned(),
        name => format!("CASE WHEN t.\"{name}\" THEN TRUE ELSE FALSE END"),
    };
    let names: Vec<String> = config.name_columns.iter().map(text).collect();
    let full_name = if names.is_empty() { "''".to_owned() } else { names.join(" || ' ' || ") };
    format!(
        "SELECT CAST(t.\"{id}\" AS TEXT) AS id, {password} AS password, {is_active} AS is_active,
             {is_staff} AS is_staff, {username} AS username, TRIM({full_name}) AS full_name, {email} AS email
         FROM \"{table}\" AS t WHERE t.\"{id}\" IN (",
        id = config.user_id_column,
        password = text(&config.password_column),
        is_active = flag(&config.is_active_column, "TRUE"),
        is_staff = flag(&config.is_staff_column, "FALSE"),
        username = text(&config.username_column),
        email = text(&config.email_column),
        table = config.user_table,
    )
}
