-- One text for SQLite and Postgres. Times are microseconds since 1970 (UTC).
CREATE TABLE conversations (
    id UUID NOT NULL PRIMARY KEY,
    kind INTEGER NOT NULL,
    number BIGINT NOT NULL,
    -- The participants in one spelling, for kinds that have one conversation for the same people; else null.
    people TEXT,
    subject TEXT NOT NULL,
    status INTEGER NOT NULL,
    last_seq BIGINT NOT NULL,
    -- Messages that were erased: while none were, the message with seq n is the n-th.
    erased BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX conversations_number ON conversations (kind, number);
CREATE UNIQUE INDEX conversations_people ON conversations (kind, people);

CREATE TABLE seats (
    conversation_id UUID NOT NULL,
    user_id TEXT NOT NULL,
    role TEXT NOT NULL,
    kind INTEGER NOT NULL,
    PRIMARY KEY (conversation_id, user_id, role)
);
CREATE INDEX seats_user ON seats (user_id, kind);

CREATE TABLE messages (
    conversation_id UUID NOT NULL,
    seq BIGINT NOT NULL,
    id UUID NOT NULL,
    number BIGINT NOT NULL,
    sender_id TEXT NOT NULL,
    sender_role TEXT NOT NULL,
    content TEXT NOT NULL,
    message_type INTEGER NOT NULL,
    media_url TEXT NOT NULL,
    is_urgent BOOLEAN NOT NULL,
    metadata TEXT NOT NULL,
    client_message_id TEXT,
    status INTEGER NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (conversation_id, seq)
);
CREATE UNIQUE INDEX messages_id ON messages (id);
CREATE INDEX messages_number ON messages (number);
CREATE UNIQUE INDEX messages_client_id ON messages (conversation_id, sender_id, client_message_id)
    WHERE client_message_id IS NOT NULL;
-- 3 is READ: what is read leaves this index.
CREATE INDEX messages_unread ON messages (conversation_id, seq) WHERE status < 3;
CREATE INDEX messages_sender ON messages (sender_id);

-- Numbers are taken from here in blocks.
CREATE TABLE counters (
    name TEXT NOT NULL PRIMARY KEY,
    value BIGINT NOT NULL
);
INSERT INTO counters (name, value) VALUES
    ('message_number', 0),
    ('CONVERSATION_KIND_THERAPY_NUMBER', 0),
    ('CONVERSATION_KIND_CLINIC_NUMBER', 0),
    ('CONVERSATION_KIND_MOBILE_NUMBER', 0),
    ('CONVERSATION_KIND_MENTORING_NUMBER', 0),
    ('CONVERSATION_KIND_CONSULTATION_NUMBER', 0);
