-- Who was not there when a message came: told of it once for a burst of messages.
CREATE TABLE absences (
    conversation_id UUID NOT NULL,
    user_id TEXT NOT NULL,
    kind INTEGER NOT NULL,
    -- The first message of the burst, and who wrote it.
    message_id UUID NOT NULL,
    sender_id TEXT NOT NULL,
    since BIGINT NOT NULL,
    -- When the last message of the burst came.
    last_at BIGINT NOT NULL,
    is_told BOOLEAN NOT NULL,
    PRIMARY KEY (conversation_id, user_id)
);
CREATE INDEX absences_untold ON absences (since) WHERE NOT is_told;
CREATE INDEX absences_told ON absences (last_at) WHERE is_told;
CREATE INDEX absences_user ON absences (user_id);
CREATE INDEX absences_sender ON absences (sender_id);
