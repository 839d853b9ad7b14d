-- One text for SQLite and Postgres. Times are microseconds since 1970 (UTC); lists and maps are JSON.
CREATE TABLE users (
    id TEXT NOT NULL PRIMARY KEY,
    username TEXT NOT NULL,
    full_name TEXT NOT NULL,
    email TEXT NOT NULL,
    profile_id TEXT NOT NULL,
    profiles TEXT NOT NULL,
    roles TEXT NOT NULL,
    assigned_mentor_id TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);

-- The same profiles as in users.profiles, to find a user by one.
CREATE TABLE profiles (
    role TEXT NOT NULL,
    profile_id TEXT NOT NULL,
    user_id TEXT NOT NULL,
    PRIMARY KEY (role, profile_id)
);
CREATE INDEX profiles_user ON profiles (user_id);

CREATE TABLE devices (
    device_id TEXT NOT NULL PRIMARY KEY,
    active BOOLEAN NOT NULL,
    created_at BIGINT NOT NULL
);

-- The key itself is not stored.
CREATE TABLE sessions (
    key_sha256 TEXT NOT NULL PRIMARY KEY,
    user_id TEXT NOT NULL,
    expires_at BIGINT NOT NULL
);
CREATE INDEX sessions_user ON sessions (user_id);
CREATE INDEX sessions_expiry ON sessions (expires_at);
