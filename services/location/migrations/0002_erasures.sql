-- Who was erased lately, and when: no instance stores an older position again. Kept as long as positions are.
CREATE TABLE erasures (
    user_id TEXT PRIMARY KEY,
    at BIGINT NOT NULL
);
CREATE INDEX erasures_at ON erasures (at);
