-- What is to be told to other systems, for each endpoint. See services/webhooks.
CREATE TABLE webhook_deliveries (
    -- The event's.
    id TEXT NOT NULL,
    endpoint TEXT NOT NULL,
    event_type TEXT NOT NULL,
    payload TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    -- When it is tried next; while an instance has it, when that claim lapses.
    due_at BIGINT NOT NULL,
    last_error TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    -- When it was given up.
    dead_at BIGINT,
    PRIMARY KEY (id, endpoint)
);
CREATE INDEX webhook_deliveries_due ON webhook_deliveries (endpoint, due_at) WHERE dead_at IS NULL;
CREATE INDEX webhook_deliveries_dead ON webhook_deliveries (dead_at, id, endpoint) WHERE dead_at IS NOT NULL;

-- Whom an event concerns, by the SHA-256 of the id in hex.
CREATE TABLE webhook_people (
    person_sha256 TEXT NOT NULL,
    id TEXT NOT NULL,
    PRIMARY KEY (person_sha256, id)
);
CREATE INDEX webhook_people_id ON webhook_people (id);
