-- Who sits in a conversation is found by the seats; only staff write without one. An index of all senders cost each message
-- a page of its own in every commit.
DROP INDEX messages_sender;
CREATE INDEX messages_staff ON messages (sender_id) WHERE sender_role = 'staff';
