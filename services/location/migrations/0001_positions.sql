-- One text for SQLite and Postgres. Times are microseconds since 1970 (UTC).
-- The last position of each share, until it is too old.
CREATE TABLE positions (
    customer_id TEXT NOT NULL,
    therapist_id TEXT NOT NULL,
    latitude DOUBLE PRECISION NOT NULL,
    longitude DOUBLE PRECISION NOT NULL,
    accuracy_m DOUBLE PRECISION,
    heading_deg DOUBLE PRECISION,
    at BIGINT NOT NULL,
    PRIMARY KEY (customer_id, therapist_id)
);
CREATE INDEX positions_therapist ON positions (therapist_id);
CREATE INDEX positions_at ON positions (at);
