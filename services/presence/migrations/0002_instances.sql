-- Signs of life of the instances that share the database: the bus may be gone while they are well.
CREATE TABLE instances (
    id UUID NOT NULL PRIMARY KEY,
    at BIGINT NOT NULL
);
