-- How databases are backed up by themselves.
CREATE TABLE policies (
    id BIGINT PRIMARY KEY,
    uuid TEXT NOT NULL UNIQUE,
    ou_id BIGINT NOT NULL REFERENCES ous (id),
    name TEXT NOT NULL,
    enabled BIGINT NOT NULL,
    -- `unlocked`, or what a run is about to do: `updating`, `deleting`.
    lock_status TEXT NOT NULL,
    -- JSON: its operations.
    body TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    row_version BIGINT NOT NULL DEFAULT 1
);
CREATE INDEX policies_ou ON policies (ou_id);

-- Each database has at most one policy.
CREATE TABLE policy_assignments (
    datasource_id BIGINT PRIMARY KEY REFERENCES datasources (id) ON DELETE CASCADE,
    policy_id BIGINT NOT NULL REFERENCES policies (id) ON DELETE CASCADE,
    assigned_at BIGINT NOT NULL
);
CREATE INDEX policy_assignments_policy ON policy_assignments (policy_id);

-- What was done for a goal of a database.
CREATE TABLE policy_marks (
    datasource_id BIGINT NOT NULL REFERENCES datasources (id) ON DELETE CASCADE,
    -- The repository, and how often.
    goal TEXT NOT NULL,
    -- When its last backup started.
    started_at BIGINT,
    -- When one was submitted that has not been made yet.
    attempted_at BIGINT,
    PRIMARY KEY (datasource_id, goal)
);

-- What needs attention: one row for each cause, however often it occurs before it is cleared.
CREATE TABLE alerts (
    id BIGINT PRIMARY KEY,
    uuid TEXT NOT NULL UNIQUE,
    ou_id BIGINT NOT NULL REFERENCES ous (id),
    kind TEXT NOT NULL,
    cause TEXT NOT NULL,
    severity TEXT NOT NULL,
    -- `active` or `cleared`.
    status TEXT NOT NULL,
    notes TEXT NOT NULL,
    description TEXT NOT NULL,
    -- The asset's or backup's UUID, and its name then.
    entity_kind TEXT NOT NULL,
    entity_uuid TEXT NOT NULL,
    entity_name TEXT NOT NULL,
    -- Of a backup: the name of its repository. A backup in another one does not clear it. Empty: not of one.
    repository TEXT NOT NULL,
    -- For a grant on a single datasource. NULL: it is gone.
    datasource_id BIGINT,
    raised_count BIGINT NOT NULL,
    -- The run that raised it last.
    run_id BIGINT NOT NULL,
    raised_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    cleared_at BIGINT,
    row_version BIGINT NOT NULL DEFAULT 1
);
CREATE UNIQUE INDEX alerts_active ON alerts (kind, cause, entity_uuid, repository) WHERE status = 'active';
CREATE INDEX alerts_raised ON alerts (raised_at, id);
CREATE INDEX alerts_entity ON alerts (entity_uuid);
