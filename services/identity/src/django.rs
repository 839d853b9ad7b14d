//! Sessions of a Django that people already log in to: `sessionid` is checked against Django's own database as Django
//! checks it. That database is only ever read.
//!
//! `signing` knows what Django signs and how (pure), `tables` holds the SQL.

mod signing;
mod tables;
#[cfg(test)]
mod tests;

use std::{
    collections::{HashMap, HashSet},
    iter,
    sync::Arc,
};

use serde::{Deserialize, Serialize};
use switchboard_chassis::{
    Micros, Secret,
    db::{self, Result},
};

use self::{
    signing::{Keys, Login},
    tables::{SessionRow, Tables, UserRow},
};

/// The most sessions that are looked up by one statement.
const KEYS_MAX: usize = 1_000;
/// Django takes no shorter key, and its column holds no longer one.
const KEY_BYTES: std::ops::RangeInclusive<usize> = 8..=40;

/// `[auth.django]`: where the sessions of a Django (3.1 or later) are, and what signs them. Its session engine must be
/// `db` or `cached_db` and its serializer JSON, as they are unless its settings say otherwise.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DjangoConfig {
    /// `SECRET_KEY` of its settings.
    pub secret_key: Secret,
    /// `SECRET_KEY_FALLBACKS` of its settings, with commas between them. No key that `startproject` makes has one.
    pub secret_key_fallbacks: Secret,
    /// `sqlite:PATH` or `postgres://...`; empty when there is no Django. A user that may only read is enough. The times
    /// in a SQLite file are UTC (`USE_TZ`).
    pub database_url: Secret,
    /// The table of sessions.
    pub session_table: String,
    /// The table of users, of `AUTH_USER_MODEL`.
    pub user_table: String,
    /// Its primary key: integers, UUIDs or text.
    pub user_id_column: String,
    /// What the password's hash is in.
    pub password_column: String,
    /// Who may log in; empty: everybody.
    pub is_active_column: String,
    /// Who is staff; empty: nobody.
    pub is_staff_column: String,
    /// What a user is called by; empty: nothing.
    pub username_column: String,
    /// What makes up the full name, in this order.
    pub name_columns: Vec<String>,
    /// The user's address; empty: none.
    pub email_column: String,
}

impl Default for DjangoConfig {
    fn default() -> Self {
        let column = str::to_owned;
        Self {
            secret_key: Secret::default(),
            secret_key_fallbacks: Secret::default(),
            database_url: Secret::default(),
            session_table: column("django_session"),
            user_table: column("auth_user"),
            user_id_column: column("id"),
            password_column: column("password"),
            is_active_column: column("is_active"),
            is_staff_column: column("is_staff"),
            username_column: column("username"),
            name_columns: vec![column("first_name"), column("last_name")],
            email_column: column("email"),
        }
    }
}

impl DjangoConfig {
    /// Whether there is a Django to ask.
    #[must_use]
    pub fn is_configured(&self) -> bool {
        !self.database_url.is_empty()
    }

    /// What is wrong with it.
    #[must_use]
    pub fn mistakes(&self) -> Vec<String> {
        let mut mistakes = Vec::new();
        let mut mistake = |setting: &str, wrong: &str| mistakes.push(format!("auth.django.{setting}: {wrong}"));
        match (self.is_configured(), self.secret_key.is_empty()) {
            (true, true) => mistake("secret_key", "is required with auth.django.database_url"),
            (false, false) => mistake("database_url", "is required with auth.django.secret_key"),
            (false, true) if !self.secret_key_fallbacks.is_empty() => {
                mistake("secret_key", "is required with auth.django.secret_key_fallbacks");
            }
            _ => {}
        }
        if let Err(wrong) = db::check_url(self.database_url.expose()) {
            mistake("database_url", &wrong);
        }
        for (setting, name) in [
            ("session_table", &self.session_table),
            ("user_table", &self.user_table),
            ("user_id_column", &self.user_id_column),
            ("password_column", &self.password_column),
        ] {
            if !is_name(name) {
                mistake(setting, NAME_WANTED);
            }
        }
        for (setting, name) in [
            ("is_active_column", &self.is_active_column),
            ("is_staff_column", &self.is_staff_column),
            ("username_column", &self.username_column),
            ("email_column", &self.email_column),
        ] {
            if !name.is_empty() && !is_name(name) {
                mistake(setting, NAME_WANTED);
            }
        }
        if !self.name_columns.iter().all(|name| is_name(name)) {
            mistake("name_columns", NAME_WANTED);
        }
        mistakes
    }

    /// `SECRET_KEY`, then each fallback.
    fn secrets(&self) -> impl Iterator<Item = &str> {
        let fallbacks = self.secret_key_fallbacks.expose().split(',').map(str::trim);
        iter::once(self.secret_key.expose()).chain(fallbacks).filter(|secret| !secret.is_empty())
    }
}

const NAME_WANTED: &str = "letters, digits and underscores, and no digit first";

/// Whether a name can stand in a statement.
fn is_name(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && name.bytes().next().is_some_and(|byte| !byte.is_ascii_digit())
}

/// Django's sessions cannot be checked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    /// What the settings say is wrong.
    #[error("{}", .0.join("; "))]
    Mistakes(Vec<String>),
    /// It cannot be reached, or lacks a table or a column.
    #[error("auth.django: {0}")]
    Database(#[from] db::OpenError),
}

/// What a session cookie of Django stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DjangoSession {
    /// The user's primary key, as Python's `str` has it.
    pub(crate) user_id: String,
    /// When the session ends, unless Django prolongs it.
    pub(crate) expires_at: Micros,
    pub(crate) username: String,
    pub(crate) full_name: String,
    pub(crate) email: String,
    pub(crate) is_staff: bool,
}

/// A Django's sessions. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Django {
    keys: Arc<Keys>,
    tables: Tables,
}

impl Django {
    /// Opens Django's database and looks whether everything that is configured is there.
    ///
    /// # Errors
    /// When it cannot be reached, or a table or a column is not there.
    pub(crate) async fn open(config: &DjangoConfig) -> Result<Self, OpenError> {
        let mistakes = config.mistakes();
        if !mistakes.is_empty() {
            return Err(OpenError::Mistakes(mistakes));
        }
        Ok(Self { keys: Arc::new(Keys::new(config.secrets())), tables: Tables::open(config).await? })
    }

    /// Whom a session cookie stands for, if it is good now. None: there is no such session, it has expired or was not
    /// signed by this Django, nobody is logged in by it, or the user's password was changed or the user deactivated.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(crate) async fn session(&self, key: &str, now: Micros) -> Result<Option<DjangoSession>> {
        let Some(row) = self.tables.sessions(&keys_of([key])).await?.pop() else { return Ok(None) };
        let Some(login) = self.login(&row, now) else { return Ok(None) };
        let user = self.tables.users(&HashSet::from([login.user_id.as_str()])).await?.pop();
        Ok(user.filter(|user| self.is_good(&login, user)).map(|user| DjangoSession {
            user_id: user.id,
            expires_at: row.expires_at,
            username: user.username,
            full_name: user.full_name,
            email: user.email,
            is_staff: user.is_staff,
        }))
    }

    /// Those of these sessions (key and user) that are good no more: logged out, expired, the user's password changed,
    /// the user deactivated or deleted. Two statements for up to 1,000 sessions.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(crate) async fn ended(&self, sessions: &[(String, String)], now: Micros) -> Result<Vec<String>> {
        let mut ended = Vec::new();
        for sessions in sessions.chunks(KEYS_MAX) {
            let keys = keys_of(sessions.iter().map(|(key, _)| key.as_str()));
            let rows = self.tables.sessions(&keys).await?;
            let logins: HashMap<&str, Login> =
                rows.iter().filter_map(|row| Some((row.session_key.as_str(), self.login(row, now)?))).collect();
            let ids: HashSet<&str> = logins.values().map(|login| login.user_id.as_str()).collect();
            let users = self.tables.users(&ids).await?;
            let users: HashMap<&str, &UserRow> = users.iter().map(|user| (user.id.as_str(), user)).collect();
            let is_good = |key: &str, user_id: &str| {
                let login = logins.get(key).filter(|login| login.user_id == user_id)?;
                let user = users.get(user_id)?;
                Some(self.is_good(login, user))
            };
            let gone = sessions.iter().filter(|(key, user_id)| is_good(key, user_id) != Some(true));
            ended.extend(gone.map(|(key, _)| key.clone()));
        }
        Ok(ended)
    }

    /// Who logged in by a session, if it is one of this Django and has not expired.
    fn login(&self, row: &SessionRow, now: Micros) -> Option<Login> {
        let login = self.keys.open(&row.session_data).filter(|_| row.expires_at > now)?;
        let user_id = self.tables.user_id(&login.user_id)?;
        Some(Login { user_id, ..login })
    }

    /// Whether the user may be logged in, and the password is still the one of then.
    fn is_good(&self, login: &Login, user: &UserRow) -> bool {
        user.is_active && self.keys.is_hash_of(&login.auth_hash, &user.password)
    }
}

/// Those that can be keys of sessions, each once.
fn keys_of<'a>(keys: impl IntoIterator<Item = &'a str>) -> HashSet<&'a str> {
    let can_be = |key: &&str| KEY_BYTES.contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic());
    keys.into_iter().filter(can_be).collect()
}
