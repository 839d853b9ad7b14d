-- Who was erased lately, and when: no instance stores an older position again. Kept as long as positions are. Of the user
-- only the SHA-256 of the id is kept, in hex.
CREATE TABLE erasures (
    user_sha256 TEXT PRIMARY KEY,
    at BIGINT NOT NULL
);
CREATE INDEX erasures_at ON erasures (at);
