-- Numbers those that use the repository, in the order in which they came.
ALTER TABLE repositories ADD COLUMN tickets BIGINT NOT NULL DEFAULT 0;

-- The runs that use a repository or wait for it. One counts while its run executes.
CREATE TABLE repository_uses (
    run_id BIGINT PRIMARY KEY,
    repository_id BIGINT NOT NULL REFERENCES repositories (id) ON DELETE CASCADE,
    ticket BIGINT NOT NULL,
    -- Alone: it waits for those before it, and those after it wait for it.
    exclusive BIGINT NOT NULL
);
CREATE INDEX repository_uses_repository ON repository_uses (repository_id, ticket);

-- What was backed up. It outlives its datasource, which has the same UUID.
CREATE TABLE assets (
    id BIGINT PRIMARY KEY,
    uuid TEXT NOT NULL UNIQUE,
    ou_id BIGINT NOT NULL REFERENCES ous (id),
    name TEXT NOT NULL,
    database_type TEXT NOT NULL,
    -- `HOST:PORT/DATABASE`, or the path of a file.
    address TEXT NOT NULL,
    created_at BIGINT NOT NULL
);
CREATE INDEX assets_ou ON assets (ou_id);

-- Backups that can be restored. Each row says what the backup's manifest says.
CREATE TABLE backups (
    id BIGINT PRIMARY KEY,
    -- The run that made it, here or elsewhere.
    uuid TEXT NOT NULL UNIQUE,
    asset_id BIGINT NOT NULL REFERENCES assets (id),
    repository_id BIGINT NOT NULL REFERENCES repositories (id),
    snapshot_id TEXT NOT NULL,
    server_version TEXT NOT NULL,
    started_at BIGINT NOT NULL,
    -- NULL: it was made elsewhere.
    finished_at BIGINT,
    expires_at BIGINT NOT NULL,
    tables BIGINT NOT NULL,
    -- NULL: a table could not be counted.
    row_count BIGINT,
    bytes_read BIGINT NOT NULL,
    -- NULL: it was made elsewhere.
    bytes_added BIGINT,
    verified_at BIGINT,
    -- Not NULL: deleted; its snapshot is about to be forgotten.
    deleted_at BIGINT,
    row_version BIGINT NOT NULL DEFAULT 1
);
CREATE INDEX backups_asset ON backups (asset_id, started_at);
CREATE INDEX backups_started ON backups (started_at, id);
CREATE INDEX backups_repository ON backups (repository_id, expires_at);
