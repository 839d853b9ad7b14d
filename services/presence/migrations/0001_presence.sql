-- One text for SQLite and Postgres. Times are microseconds since 1970 (UTC).

-- When a user came or went last; who is online now is not here.
CREATE TABLE last_seen (
    user_id TEXT NOT NULL PRIMARY KEY,
    at BIGINT NOT NULL
);
