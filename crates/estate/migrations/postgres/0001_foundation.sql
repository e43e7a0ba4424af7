-- The tables every plane shares. Columns are BIGINT, DOUBLE PRECISION, TEXT, bytes and 0/1; times are microseconds UTC.

CREATE TABLE facts (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL
);

CREATE TABLE sequences (
    kind TEXT PRIMARY KEY,
    next BIGINT NOT NULL
);

-- Bumped by every write of identity, grants or datasources: nothing cached outlives it.
CREATE TABLE epochs (
    name TEXT PRIMARY KEY,
    value BIGINT NOT NULL
);
INSERT INTO epochs (name, value) VALUES ('authority', 1);

CREATE TABLE ous (
    id BIGINT PRIMARY KEY,
    uuid TEXT NOT NULL UNIQUE,
    parent_id BIGINT REFERENCES ous (id),
    -- The ids from the root to here: '/1/7/'. A subtree is a prefix.
    path TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    description TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX ous_name ON ous (parent_id, name);

CREATE TABLE users (
    id BIGINT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    email TEXT NOT NULL,
    first_name TEXT NOT NULL,
    last_name TEXT NOT NULL,
    password_hash TEXT,
    enabled BIGINT NOT NULL,
    confirmed BIGINT NOT NULL,
    inviter_id BIGINT,
    failures BIGINT NOT NULL,
    first_failure_at BIGINT,
    locked_until BIGINT,
    last_activity_at BIGINT,
    password_changed_at BIGINT,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE INDEX users_email ON users (email);

CREATE TABLE groups (
    id BIGINT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    description TEXT NOT NULL,
    -- 'everyone' for the group that every user is in; such groups are not edited.
    builtin TEXT,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);

CREATE TABLE group_members (
    group_id BIGINT NOT NULL REFERENCES groups (id) ON DELETE CASCADE,
    user_id BIGINT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    PRIMARY KEY (group_id, user_id)
);
CREATE INDEX group_members_user ON group_members (user_id);

CREATE TABLE roles (
    id BIGINT PRIMARY KEY,
    uuid TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL UNIQUE,
    description TEXT NOT NULL
);

CREATE TABLE role_permissions (
    role_id BIGINT NOT NULL REFERENCES roles (id) ON DELETE CASCADE,
    permission TEXT NOT NULL,
    PRIMARY KEY (role_id, permission)
);

-- A role or one permission, for a user, a group or a key, in a subtree or for one named resource.
CREATE TABLE grants (
    id BIGINT PRIMARY KEY,
    subject_kind TEXT NOT NULL,
    subject_id BIGINT NOT NULL,
    role_id BIGINT REFERENCES roles (id) ON DELETE CASCADE,
    permission TEXT,
    ou_id BIGINT REFERENCES ous (id) ON DELETE CASCADE,
    resource_id BIGINT,
    created_at BIGINT NOT NULL
);
CREATE INDEX grants_subject ON grants (subject_kind, subject_id);

-- Keys of every API; a Clumio token is a key whose secret is a JWT that names this row.
CREATE TABLE keys (
    id BIGINT PRIMARY KEY,
    api TEXT NOT NULL,
    name TEXT NOT NULL,
    secret_hash TEXT NOT NULL UNIQUE,
    -- The first characters, so that a person can tell keys apart.
    hint TEXT NOT NULL,
    -- The dialect's own names of what was granted, as the face gave them, for listings.
    labels TEXT NOT NULL,
    ou_id BIGINT NOT NULL REFERENCES ous (id),
    user_id BIGINT REFERENCES users (id) ON DELETE CASCADE,
    enabled BIGINT NOT NULL,
    created_at BIGINT NOT NULL
);

CREATE TABLE sessions (
    id BIGINT PRIMARY KEY,
    secret_hash TEXT NOT NULL UNIQUE,
    user_id BIGINT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    face TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    seen_at BIGINT NOT NULL
);
CREATE INDEX sessions_seen ON sessions (seen_at);

CREATE TABLE signing_keys (
    kid TEXT PRIMARY KEY,
    purpose TEXT NOT NULL,
    secret_sealed BYTEA NOT NULL,
    created_at BIGINT NOT NULL,
    -- Set when a newer key took over; it verifies until then.
    verifies_until BIGINT
);

CREATE TABLE settings (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL
);

CREATE TABLE audit_events (
    id BIGINT PRIMARY KEY,
    at BIGINT NOT NULL,
    actor_kind TEXT NOT NULL,
    actor_id BIGINT,
    actor_name TEXT NOT NULL,
    face TEXT NOT NULL,
    address TEXT,
    request_id TEXT NOT NULL,
    ou_id BIGINT NOT NULL,
    action TEXT NOT NULL,
    noun TEXT NOT NULL,
    noun_id BIGINT,
    outcome TEXT NOT NULL,
    detail TEXT NOT NULL
);
CREATE INDEX audit_events_at ON audit_events (at);

CREATE TABLE datasources (
    id BIGINT PRIMARY KEY,
    ou_id BIGINT NOT NULL REFERENCES ous (id),
    name TEXT NOT NULL,
    database_type TEXT NOT NULL,
    enabled BIGINT NOT NULL,
    -- Not NULL for sources that the server made itself: 'sample'.
    builtin TEXT UNIQUE,
    config TEXT NOT NULL,
    secrets_sealed BYTEA NOT NULL,
    -- Grows with every change of how to connect.
    version BIGINT NOT NULL,
    server_version TEXT,
    default_schema TEXT,
    session_zone TEXT,
    total_rows BIGINT,
    total_rows_exact BIGINT,
    schema_updated_at BIGINT,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE INDEX datasources_ou ON datasources (ou_id);

CREATE TABLE datasource_schemas (
    datasource_id BIGINT PRIMARY KEY REFERENCES datasources (id) ON DELETE CASCADE,
    catalog TEXT NOT NULL,
    read_at BIGINT NOT NULL
);

CREATE TABLE agents (
    id BIGINT PRIMARY KEY,
    ou_id BIGINT NOT NULL REFERENCES ous (id),
    public_key TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    enabled BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);

CREATE TABLE datasource_agents (
    datasource_id BIGINT NOT NULL REFERENCES datasources (id) ON DELETE CASCADE,
    agent_id BIGINT NOT NULL REFERENCES agents (id) ON DELETE CASCADE,
    PRIMARY KEY (datasource_id, agent_id)
);

CREATE TABLE nodes (
    id BIGINT PRIMARY KEY,
    name TEXT NOT NULL,
    -- The place in which only one process at a time can be a node: a locked data directory.
    home TEXT,
    started_at BIGINT NOT NULL,
    seen_at BIGINT NOT NULL
);

CREATE TABLE runs (
    id BIGINT PRIMARY KEY,
    uuid TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    state TEXT NOT NULL,
    ou_id BIGINT NOT NULL REFERENCES ous (id),
    -- What the run is about, where it is about one thing: 'datasource' and its id.
    noun TEXT,
    noun_id BIGINT,
    -- Runs with the same lane wait for one another beyond its limit.
    lane TEXT,
    lane_limit BIGINT,
    input TEXT NOT NULL,
    output TEXT,
    -- A small result lives here; a large one in the blob named by it.
    result BYTEA,
    result_blob TEXT,
    error_kind TEXT,
    error_code TEXT,
    error_message TEXT,
    error_detail TEXT,
    progress BIGINT NOT NULL,
    progress_note TEXT NOT NULL,
    actor_kind TEXT NOT NULL,
    actor_id BIGINT,
    actor_name TEXT NOT NULL,
    parent_id BIGINT,
    idempotency_key TEXT UNIQUE,
    attempt BIGINT NOT NULL,
    max_attempts BIGINT NOT NULL,
    time_limit BIGINT,
    node_id BIGINT,
    lease_until BIGINT,
    cancel_requested_at BIGINT,
    not_before BIGINT NOT NULL,
    submitted_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    started_at BIGINT,
    finished_at BIGINT,
    -- Retention of the record and of its data, in microseconds from the end.
    keep_record BIGINT NOT NULL,
    keep_data BIGINT NOT NULL
);
CREATE INDEX runs_queue ON runs (state, not_before, id);
CREATE INDEX runs_lane ON runs (lane, state);
CREATE INDEX runs_finished ON runs (finished_at);
CREATE INDEX runs_noun ON runs (noun, noun_id);

CREATE TABLE outbox (
    id BIGINT PRIMARY KEY,
    kind TEXT NOT NULL,
    noun TEXT NOT NULL,
    noun_id BIGINT NOT NULL,
    ou_id BIGINT NOT NULL,
    body TEXT NOT NULL,
    created_at BIGINT NOT NULL
);

CREATE TABLE subscribers (
    name TEXT PRIMARY KEY,
    -- The last event this subscriber has consumed.
    cursor_id BIGINT NOT NULL,
    failures BIGINT NOT NULL,
    retry_at BIGINT NOT NULL,
    last_error TEXT
);

-- One holder at a time: the dispatcher of events, the scheduler.
CREATE TABLE leases (
    name TEXT PRIMARY KEY,
    node_id BIGINT NOT NULL,
    until BIGINT NOT NULL
);

CREATE TABLE schedules (
    id BIGINT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    run_kind TEXT NOT NULL,
    cron TEXT NOT NULL,
    time_zone TEXT NOT NULL,
    input TEXT NOT NULL,
    noun TEXT,
    noun_id BIGINT,
    ou_id BIGINT NOT NULL,
    enabled BIGINT NOT NULL,
    next_at BIGINT NOT NULL
);
CREATE INDEX schedules_next ON schedules (enabled, next_at);
