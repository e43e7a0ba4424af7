CREATE TABLE repositories (
    id BIGINT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    address TEXT NOT NULL UNIQUE,
    -- The repository's own id. NULL: it was not made to its end.
    repository_id TEXT UNIQUE,
    append_only BIGINT NOT NULL,
    -- Every node reaches the same folder at this address.
    shared BIGINT NOT NULL,
    password_sealed BYTEA NOT NULL,
    -- `user:password` at the storage. NULL: it wants none.
    login_sealed BYTEA,
    -- When it was last found to be intact, and by reading how much.
    checked_at BIGINT,
    checked_depth TEXT,
    pruned_at BIGINT,
    created_at BIGINT NOT NULL,
    row_version BIGINT NOT NULL DEFAULT 1
);
