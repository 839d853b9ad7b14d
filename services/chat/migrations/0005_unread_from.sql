-- Below it everything was read: where unread messages are looked for. An index of them cost each message a page of its own in
-- every commit.
ALTER TABLE conversations ADD COLUMN unread_from BIGINT NOT NULL DEFAULT 0;
DROP INDEX messages_unread;
