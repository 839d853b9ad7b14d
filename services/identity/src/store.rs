//! The tables of identity. All SQL of the service is here.

use std::collections::{HashMap, HashSet};

use sqlx::{FromRow, QueryBuilder};
use switchboard_chassis::{
    Lifecycle, Micros,
    audit::Asked,
    batch::Gather,
    db::{Db, Pool, Result, padded},
    on_pool, record_erasure,
    secret::sha256_hex,
};
use switchboard_proto::identity::v1::User;
use switchboard_webhooks::{Event, EventType, Outbox, Person, enqueue};

use crate::ticket::Token;

/// Users that one statement looks for.
const STATEMENT_IDS_MAX: usize = 512;

/// A registered device.
#[derive(Clone, Debug, PartialEq, Eq, FromRow)]
pub(crate) struct DeviceRow {
    pub(crate) device_id: String,
    pub(crate) active: bool,
    pub(crate) created_at: Micros,
}

/// A session that has not been checked for its end.
#[derive(Clone, Debug, PartialEq, Eq, FromRow)]
pub(crate) struct SessionRow {
    pub(crate) user_id: String,
    pub(crate) expires_at: Micros,
}

pub(crate) struct Store {
    db: Db,
    /// What other systems are told.
    outbox: Outbox,
    /// Users by their ids.
    users: Gather<Vec<String>, Vec<User>>,
    /// Whether tokens of users were revoked.
    revoked: Gather<(String, Token), bool>,
}

const USER_COLUMNS: &str =
    "users.id, username, full_name, email, users.profile_id, profiles, roles, assigned_mentor_id, inactive";

impl Store {
    pub(crate) fn new(db: Db, outbox: Outbox, lifecycle: &Lifecycle) -> Self {
        let read = db.read.clone();
        let users = Gather::start("identity users", lifecycle, move |asked: Vec<Vec<String>>| {
            let read = read.clone();
            async move { users(&read, &asked).await }
        });
        let read = db.read.clone();
        let revoked = Gather::start("identity revocations", lifecycle, move |asked: Vec<(String, Token)>| {
            let read = read.clone();
            async move { revoked(&read, &asked).await }
        });
        Self { db, outbox, users, revoked }
    }

    /// Stores a user as given; true when it is new.
    pub(crate) async fn upsert_user(&self, user: &User, now: Micros) -> Result<bool> {
        self.put_user(user, now, true).await
    }

    /// Stores a user unless there is one of that id, and says what there is now.
    pub(crate) async fn create_user(&self, user: User, now: Micros) -> Result<User> {
        if self.put_user(&user, now, false).await? {
            return Ok(user);
        }
        Ok(self.user(&user.id).await?.unwrap_or(user))
    }

    async fn put_user(&self, user: &User, now: Micros, overwrite: bool) -> Result<bool> {
        Ok(on_pool!(&self.db.write, pool => {
            let mut tx = pool.begin().await?;
            let mut created = true;
            for statement in [
                "INSERT INTO users (id, username, full_name, email, profile_id, profiles, roles, assigned_mentor_id,
                     created_at, updated_at, inactive)
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9, $10) ON CONFLICT (id) DO NOTHING",
                "UPDATE users SET username = $2, full_name = $3, email = $4, profile_id = $5, profiles = $6,
                     roles = $7, assigned_mentor_id = $8, updated_at = $9, inactive = $10 WHERE id = $1",
            ] {
                let done = sqlx::query(statement)
                    .bind(&user.id)
                    .bind(&user.username)
                    .bind(&user.full_name)
                    .bind(&user.email)
                    .bind(&user.profile_id)
                    .bind(json(&user.profiles))
                    .bind(json(&user.roles))
                    .bind(&user.assigned_mentor_id)
                    .bind(now)
                    .bind(user.inactive)
                    .execute(&mut *tx)
                    .await?;
                if done.rows_affected() > 0 {
                    break;
                }
                created = false;
                if !overwrite {
                    return Ok(false);
                }
            }
            sqlx::query("DELETE FROM profiles WHERE user_id = $1").bind(&user.id).execute(&mut *tx).await?;
            for (role, profile_id) in &user.profiles {
                sqlx::query(
                    "INSERT INTO profiles (role, profile_id, user_id) VALUES ($1, $2, $3)
                     ON CONFLICT (role, profile_id) DO UPDATE SET user_id = excluded.user_id",
                )
                .bind(role)
                .bind(profile_id)
                .bind(&user.id)
                .execute(&mut *tx)
                .await?;
            }
            tx.commit().await?;
            created
        }))
    }

    pub(crate) async fn user(&self, id: &str) -> Result<Option<User>> {
        Ok(self.users(&[id.to_owned()]).await?.pop())
    }

    pub(crate) async fn user_by_profile(&self, role: &str, profile_id: &str) -> Result<Option<User>> {
        let row: Option<UserRow> = on_pool!(&self.db.read, pool => {
            sqlx::query_as(sqlx::AssertSqlSafe(format!(
                "SELECT {USER_COLUMNS} FROM users JOIN profiles ON profiles.user_id = users.id
                 WHERE profiles.role = $1 AND profiles.profile_id = $2"
            )))
            .bind(role)
            .bind(profile_id)
            .fetch_optional(pool)
            .await?
        });
        Ok(row.map(User::from))
    }

    pub(crate) async fn users(&self, ids: &[String]) -> Result<Vec<User>> {
        // Nobody has such an id, and Postgres cannot even ask for it.
        let mut ids: Vec<String> = ids.iter().filter(|id| !id.contains('\0')).cloned().collect();
        ids.sort_unstable();
        ids.dedup();
        if ids.is_empty() { Ok(Vec::new()) } else { self.users.get(ids).await }
    }

    /// Deletes a user with everything that is known of it; its tokens are revoked.
    pub(crate) async fn delete_user(&self, id: &str, revocation: Revocation, asked: &Asked) -> Result<bool> {
        let deleted = on_pool!(&self.db.write, pool => {
            let mut tx = pool.begin().await?;
            sqlx::query(REVOKE)
                .bind(USER)
                .bind(id)
                .bind(revocation.issued_until)
                .bind(revocation.expires_at)
                .execute(&mut *tx)
                .await?;
            sqlx::query("DELETE FROM sessions WHERE user_id = $1").bind(id).execute(&mut *tx).await?;
            sqlx::query("DELETE FROM profiles WHERE user_id = $1").bind(id).execute(&mut *tx).await?;
            let done = sqlx::query("DELETE FROM users WHERE id = $1").bind(id).execute(&mut *tx).await?.rows_affected();
            record_erasure!(tx, asked, "DeleteUser", done);
            tx.commit().await?;
            done
        });
        self.db.scrub().await?;
        Ok(deleted > 0)
    }

    /// Makes a device known and active, or not; true when it was not known before. `registered_at` is when it first was,
    /// elsewhere.
    pub(crate) async fn register_device(
        &self,
        device_id: &str,
        (active, keep_inactive): (bool, bool),
        registered_at: Option<Micros>,
        now: Micros,
    ) -> Result<(DeviceRow, bool)> {
        let known = self.device(device_id).await?;
        if let (Some(known), true) = (&known, keep_inactive) {
            return Ok((known.clone(), false));
        }
        let (row, is_new) = on_pool!(&self.db.write, pool => {
            let mut tx = pool.begin().await?;
            let made = sqlx::query(
                "INSERT INTO devices (device_id, active, created_at) VALUES ($1, $2, $3)
                 ON CONFLICT (device_id) DO NOTHING",
            )
            .bind(device_id)
            .bind(active)
            .bind(registered_at.unwrap_or(now))
            .execute(&mut *tx)
            .await?
            .rows_affected();
            let row: DeviceRow = sqlx::query_as(
                "UPDATE devices SET active = $2, created_at = CASE WHEN $4 THEN $3 ELSE created_at END
                 WHERE device_id = $1 RETURNING device_id, active, created_at",
            )
            .bind(device_id)
            .bind(active)
            .bind(registered_at.unwrap_or(now))
            .bind(registered_at.is_some())
            .fetch_one(&mut *tx)
            .await?;
            // One that moves in is no news.
            if made > 0 && registered_at.is_none() {
                let event = registered(&row);
                enqueue!(tx, self.outbox, &event);
            }
            tx.commit().await?;
            (row, made > 0)
        });
        if is_new {
            self.outbox.ring();
        }
        Ok((row, is_new))
    }

    /// Users above `after`, in the order of the bytes of their ids.
    pub(crate) async fn users_after(&self, after: &str, size: u32) -> Result<Vec<User>> {
        let by_bytes = self.db.by_bytes();
        let rows: Vec<UserRow> = on_pool!(&self.db.read, pool => {
            let mut query = QueryBuilder::new(format!("SELECT {USER_COLUMNS} FROM users WHERE id{by_bytes} > "));
            query.push_bind(after).push(format!(" ORDER BY id{by_bytes} LIMIT ")).push_bind(i64::from(size));
            query.build_query_as().fetch_all(pool).await?
        });
        Ok(rows.into_iter().map(User::from).collect())
    }

    /// Devices above `after`, in the order of the bytes of their ids; when given, `only` these.
    pub(crate) async fn devices_after(&self, after: &str, only: &[String], size: u32) -> Result<Vec<DeviceRow>> {
        let by_bytes = self.db.by_bytes();
        Ok(on_pool!(&self.db.read, pool => {
            let mut query = QueryBuilder::new(format!(
                "SELECT device_id, active, created_at FROM devices WHERE device_id{by_bytes} > "
            ));
            query.push_bind(after);
            if !only.is_empty() {
                query.push(" AND device_id IN (");
                let mut list = query.separated(", ");
                for id in only {
                    list.push_bind(id);
                }
                query.push(")");
            }
            query.push(format!(" ORDER BY device_id{by_bytes} LIMIT ")).push_bind(i64::from(size));
            query.build_query_as().persistent(false).fetch_all(pool).await?
        }))
    }

    pub(crate) async fn device(&self, device_id: &str) -> Result<Option<DeviceRow>> {
        Ok(on_pool!(&self.db.read, pool => {
            sqlx::query_as("SELECT device_id, active, created_at FROM devices WHERE device_id = $1")
                .bind(device_id)
                .fetch_optional(pool)
                .await?
        }))
    }

    pub(crate) async fn deactivate_device(&self, device_id: &str) -> Result<Option<DeviceRow>> {
        Ok(on_pool!(&self.db.write, pool => {
            sqlx::query_as(
                "UPDATE devices SET active = FALSE WHERE device_id = $1 RETURNING device_id, active, created_at",
            )
            .bind(device_id)
            .fetch_optional(pool)
            .await?
        }))
    }

    /// Stores a session, and forgets those that ended before `now`.
    pub(crate) async fn create_session(&self, key_sha256: &str, session: &SessionRow, now: Micros) -> Result<()> {
        on_pool!(&self.db.write, pool => {
            let mut tx = pool.begin().await?;
            sqlx::query("DELETE FROM sessions WHERE expires_at < $1").bind(now).execute(&mut *tx).await?;
            sqlx::query("INSERT INTO sessions (key_sha256, user_id, expires_at) VALUES ($1, $2, $3)")
                .bind(key_sha256)
                .bind(&session.user_id)
                .bind(session.expires_at)
                .execute(&mut *tx)
                .await?;
            tx.commit().await?;
        });
        Ok(())
    }

    pub(crate) async fn session(&self, key_sha256: &str) -> Result<Option<SessionRow>> {
        Ok(on_pool!(&self.db.read, pool => {
            sqlx::query_as("SELECT user_id, expires_at FROM sessions WHERE key_sha256 = $1")
                .bind(key_sha256)
                .fetch_optional(pool)
                .await?
        }))
    }

    /// Ends a session; gives the user whose it was.
    pub(crate) async fn delete_session(&self, key_sha256: &str) -> Result<Option<String>> {
        Ok(on_pool!(&self.db.write, pool => {
            sqlx::query_scalar("DELETE FROM sessions WHERE key_sha256 = $1 RETURNING user_id")
                .bind(key_sha256)
                .fetch_optional(pool)
                .await?
        }))
    }

    /// Revokes a user's tokens and ends its sessions.
    pub(crate) async fn revoke_user(&self, user_id: &str, revocation: Revocation) -> Result<()> {
        on_pool!(&self.db.write, pool => {
            let mut tx = pool.begin().await?;
            sqlx::query("DELETE FROM sessions WHERE user_id = $1").bind(user_id).execute(&mut *tx).await?;
            sqlx::query(REVOKE)
                .bind(USER)
                .bind(user_id)
                .bind(revocation.issued_until)
                .bind(revocation.expires_at)
                .execute(&mut *tx)
                .await?;
            tx.commit().await?;
        });
        self.forget_revocations(revocation.issued_until).await
    }

    /// Revokes one token.
    pub(crate) async fn revoke_token(&self, token_id: &str, revocation: Revocation) -> Result<()> {
        on_pool!(&self.db.write, pool => {
            sqlx::query(REVOKE)
                .bind(TOKEN)
                .bind(token_id)
                .bind(revocation.issued_until)
                .bind(revocation.expires_at)
                .execute(pool)
                .await?;
        });
        self.forget_revocations(revocation.issued_until).await
    }

    /// Forgets those of which every token has ended by itself.
    async fn forget_revocations(&self, now: Micros) -> Result<()> {
        on_pool!(&self.db.write, pool => {
            sqlx::query("DELETE FROM revocations WHERE expires_at < $1").bind(now).execute(pool).await?;
        });
        Ok(())
    }

    /// Whether a token was revoked, by itself or with all of its user's.
    pub(crate) async fn is_revoked(&self, user_id: &str, token: &Token) -> Result<bool> {
        // Nobody can have revoked it by such a name, and Postgres cannot even ask.
        if user_id.contains('\0') || token.id.contains('\0') {
            return Ok(false);
        }
        self.revoked.get((user_id.to_owned(), token.clone())).await
    }

    /// Those of these users who exist and are active.
    pub(crate) async fn active_users(&self, ids: &[&str]) -> Result<HashSet<String>> {
        self.of_these("SELECT id, created_at FROM users WHERE NOT inactive AND id IN (", ids).await
    }

    /// Those of these devices that are registered and active.
    pub(crate) async fn active_devices(&self, ids: &[&str]) -> Result<HashSet<String>> {
        self.of_these("SELECT device_id, created_at FROM devices WHERE active AND device_id IN (", ids).await
    }

    /// Those of these sessions that have not ended by a time.
    pub(crate) async fn sessions_that_last(&self, hashes: &[&str], now: Micros) -> Result<HashSet<String>> {
        let found: Vec<(String, Micros)> =
            self.among("SELECT key_sha256, expires_at FROM sessions WHERE key_sha256 IN (", hashes).await?;
        Ok(found.into_iter().filter(|(_, expires_at)| *expires_at > now).map(|(hash, _)| hash).collect())
    }

    /// Those of these tokens that were revoked one by one.
    pub(crate) async fn revoked_tokens(&self, ids: &[&str]) -> Result<HashSet<String>> {
        self.of_these("SELECT key, issued_until FROM revocations WHERE kind = 'token' AND key IN (", ids).await
    }

    /// Up to when tokens of these users are revoked.
    pub(crate) async fn revoked_users(&self, ids: &[&str]) -> Result<HashMap<String, Micros>> {
        let found = self.among("SELECT key, issued_until FROM revocations WHERE kind = 'user' AND key IN (", ids);
        Ok(found.await?.into_iter().collect())
    }

    async fn of_these(&self, select: &'static str, keys: &[&str]) -> Result<HashSet<String>> {
        Ok(self.among(select, keys).await?.into_iter().map(|(key, _)| key).collect())
    }

    /// Rows of a key and a time.
    async fn among(&self, select: &'static str, keys: &[&str]) -> Result<Vec<(String, Micros)>> {
        // Nobody has such a key, and Postgres cannot even ask for it.
        let keys: HashSet<&str> = keys.iter().copied().filter(|key| !key.contains('\0')).collect();
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        Ok(on_pool!(&self.db.read, pool => {
            let mut query = QueryBuilder::new(select);
            let mut list = query.separated(", ");
            for key in &keys {
                list.push_bind(*key);
            }
            query.push(")");
            query.build_query_as().persistent(false).fetch_all(pool).await?
        }))
    }
}

/// The users of each list.
async fn users(read: &Pool, asked: &[Vec<String>]) -> Result<Vec<Vec<User>>> {
    let ids: Vec<&String> = asked.iter().flatten().collect::<HashSet<_>>().into_iter().collect();
    let mut found: HashMap<String, User> = HashMap::with_capacity(ids.len());
    for ids in ids.chunks(STATEMENT_IDS_MAX) {
        let rows: Vec<UserRow> = on_pool!(read, pool => {
            let mut query = QueryBuilder::new(format!("SELECT {USER_COLUMNS} FROM users WHERE id IN ("));
            let mut list = query.separated(", ");
            for id in padded(ids) {
                list.push_bind(*id);
            }
            query.push(")");
            query.build_query_as().fetch_all(pool).await?
        });
        found.extend(rows.into_iter().map(|row| (row.id.clone(), User::from(row))));
    }
    let of = |ids: &Vec<String>| ids.iter().filter_map(|id| found.get(id).cloned()).collect();
    Ok(asked.iter().map(of).collect())
}

/// Whether each token was revoked, by itself or with all of its user's.
async fn revoked(read: &Pool, asked: &[(String, Token)]) -> Result<Vec<bool>> {
    let rows: Vec<(String, String, Micros)> = on_pool!(read, pool => {
        let mut query =
            QueryBuilder::new("SELECT kind, key, issued_until FROM revocations WHERE kind = 'user' AND key IN (");
        let mut list = query.separated(", ");
        for (user_id, _) in padded(asked) {
            list.push_bind(user_id);
        }
        query.push(") OR kind = 'token' AND key IN (");
        let mut list = query.separated(", ");
        for (_, token) in padded(asked) {
            list.push_bind(&token.id);
        }
        query.push(")");
        query.build_query_as().fetch_all(pool).await?
    });
    let is_revoked = |(user_id, token): &(String, Token)| {
        rows.iter().any(|(kind, key, issued_until)| match kind.as_str() {
            USER => key == user_id && *issued_until >= token.issued_at,
            _ => *key == token.id,
        })
    };
    Ok(asked.iter().map(is_revoked).collect())
}

/// Says that there is a device, and not its id, which is its credential.
fn registered(device: &DeviceRow) -> Event {
    let mut data = serde_json::Map::new();
    Person::Device(&device.device_id).name_in(&mut data, "");
    Event {
        id: format!("device-{}", sha256_hex(&device.device_id)),
        event_type: EventType::DeviceRegistered,
        at: device.created_at,
        data,
        text: serde_json::Map::new(),
        people: vec![device.device_id.clone()],
    }
}

/// Tokens that are worthless before their end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Revocation {
    /// Of a user: those that were issued up to now.
    pub(crate) issued_until: Micros,
    /// When all of them have ended by themselves.
    pub(crate) expires_at: Micros,
}

const USER: &str = "user";
const TOKEN: &str = "token";
const REVOKE: &str = "INSERT INTO revocations (kind, key, issued_until, expires_at) VALUES ($1, $2, $3, $4)
     ON CONFLICT (kind, key) DO UPDATE SET issued_until = excluded.issued_until, expires_at = excluded.expires_at
     WHERE excluded.issued_until > revocations.issued_until";

#[derive(FromRow)]
struct UserRow {
    id: String,
    username: String,
    full_name: String,
    email: String,
    profile_id: String,
    profiles: String,
    roles: String,
    assigned_mentor_id: String,
    inactive: bool,
}

impl From<UserRow> for User {
    fn from(row: UserRow) -> Self {
        Self {
            id: row.id,
            username: row.username,
            full_name: row.full_name,
            email: row.email,
            profile_id: row.profile_id,
            profiles: serde_json::from_str::<HashMap<_, _>>(&row.profiles).unwrap_or_default(),
            roles: serde_json::from_str(&row.roles).unwrap_or_default(),
            assigned_mentor_id: row.assigned_mentor_id,
            inactive: row.inactive,
        }
    }
}

fn json<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_string(value).unwrap_or_default()
}
