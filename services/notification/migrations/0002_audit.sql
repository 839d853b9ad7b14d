-- Who asked for what was erased. Of whom it was, only a hash is kept: it answers whether a given user was erased.
CREATE TABLE audit (
    at BIGINT NOT NULL,
    caller TEXT NOT NULL,
    action TEXT NOT NULL,
    -- SHA-256 of the user's id, in hex.
    subject_sha256 TEXT NOT NULL,
    -- How many rows went.
    erased BIGINT NOT NULL
);
CREATE INDEX audit_subject ON audit (subject_sha256);
