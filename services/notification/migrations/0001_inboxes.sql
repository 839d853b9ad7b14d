-- One text for SQLite and Postgres. Times are microseconds since 1970 (UTC).

-- A row stays when everything in the inbox is gone: see Store::erase.
CREATE TABLE inboxes (
    user_id TEXT NOT NULL PRIMARY KEY,
    last_seq BIGINT NOT NULL,
    unread BIGINT NOT NULL,
    revision BIGINT NOT NULL
);

CREATE TABLE notifications (
    user_id TEXT NOT NULL,
    seq BIGINT NOT NULL,
    id UUID NOT NULL,
    title TEXT NOT NULL,
    message TEXT NOT NULL,
    notification_type TEXT NOT NULL,
    -- A JSON object, or empty.
    data TEXT NOT NULL,
    is_read BOOLEAN NOT NULL,
    created_at BIGINT NOT NULL,
    request_id TEXT,
    PRIMARY KEY (user_id, seq)
);
CREATE UNIQUE INDEX notifications_id ON notifications (id);
CREATE UNIQUE INDEX notifications_request ON notifications (user_id, request_id) WHERE request_id IS NOT NULL;
-- What is read leaves this index.
CREATE INDEX notifications_unread ON notifications (user_id, seq) WHERE NOT is_read;
-- Retention takes the oldest.
CREATE INDEX notifications_age ON notifications (created_at);
