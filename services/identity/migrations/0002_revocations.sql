-- Credentials that are worthless before their end.
ALTER TABLE users ADD COLUMN inactive BOOLEAN NOT NULL DEFAULT FALSE;

-- Tokens: one by its jti, or all of a user that were issued up to a time. Kept until the last of them has ended by itself.
CREATE TABLE revocations (
    kind TEXT NOT NULL,
    key TEXT NOT NULL,
    issued_until BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    PRIMARY KEY (kind, key)
);
CREATE INDEX revocations_expiry ON revocations (expires_at);
