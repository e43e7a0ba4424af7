-- Environments, what is deployed to them, and deployments. Everything belongs to one organizational unit.

CREATE TABLE promotion_environments (
    id BIGINT PRIMARY KEY,
    ou_id BIGINT NOT NULL REFERENCES ous (id),
    uuid TEXT NOT NULL,
    name TEXT NOT NULL,
    description TEXT,
    -- yyyymmdd
    minimum_update TEXT,
    minimum_update_mandatory BIGINT NOT NULL,
    minimum_update_url TEXT,
    license_alias TEXT,
    environment_type TEXT,
    -- JSON that `stored.rs` describes.
    configuration TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    row_version BIGINT NOT NULL DEFAULT 1
);
CREATE UNIQUE INDEX promotion_environments_name ON promotion_environments (ou_id, name);

CREATE TABLE promotion_clusters (
    id BIGINT PRIMARY KEY,
    environment_id BIGINT NOT NULL REFERENCES promotion_environments (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    description TEXT,
    enabled BIGINT NOT NULL,
    -- From 1; clusters are deployed to in this order.
    position BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    row_version BIGINT NOT NULL DEFAULT 1
);
CREATE UNIQUE INDEX promotion_clusters_name ON promotion_clusters (environment_id, name);

CREATE TABLE promotion_servers (
    id BIGINT PRIMARY KEY,
    ou_id BIGINT NOT NULL REFERENCES ous (id),
    cluster_id BIGINT NOT NULL REFERENCES promotion_clusters (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    description TEXT,
    -- `VDP`, `SCHEDULER`, …
    type TEXT NOT NULL,
    host TEXT NOT NULL,
    port BIGINT,
    -- 1: a node of this store.
    embedded BIGINT NOT NULL,
    -- The node of an embedded server, and whether it was made with the server.
    node_id BIGINT REFERENCES virtual_nodes (id),
    node_made BIGINT NOT NULL,
    username TEXT,
    password_sealed BYTEA,
    default_database TEXT,
    use_kerberos BIGINT NOT NULL,
    use_pass_through BIGINT NOT NULL,
    enabled BIGINT NOT NULL,
    license_alias TEXT,
    use_default_license_alias BIGINT NOT NULL,
    -- From 1, within the cluster.
    position BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    row_version BIGINT NOT NULL DEFAULT 1
);
CREATE UNIQUE INDEX promotion_servers_name ON promotion_servers (ou_id, name);
CREATE UNIQUE INDEX promotion_servers_address ON promotion_servers (ou_id, host, port) WHERE embedded = 0;
CREATE INDEX promotion_servers_cluster ON promotion_servers (cluster_id);
CREATE UNIQUE INDEX promotion_servers_node ON promotion_servers (node_id);

-- Values for the arguments of scripts.
CREATE TABLE promotion_cluster_variables (
    cluster_id BIGINT NOT NULL REFERENCES promotion_clusters (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (cluster_id, name)
);
CREATE TABLE promotion_server_variables (
    server_id BIGINT NOT NULL REFERENCES promotion_servers (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (server_id, name)
);

-- Properties of environments (for VQL) and of clusters (for a Scheduler): one of the two parents is set.
CREATE TABLE promotion_properties (
    id BIGINT PRIMARY KEY,
    environment_id BIGINT REFERENCES promotion_environments (id) ON DELETE CASCADE,
    cluster_id BIGINT REFERENCES promotion_clusters (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    -- `plain`, `secret` (sealed; `value` is what is shown) or `ciphertext` (another program's)
    kind TEXT NOT NULL,
    value TEXT NOT NULL,
    value_sealed BYTEA,
    undefined BIGINT NOT NULL,
    -- The parts of the name that filters compare, in lower case except names; NULL where the name has no such part.
    database_name TEXT,
    element_type TEXT,
    element_type_name TEXT,
    element_name TEXT,
    updated_at BIGINT NOT NULL,
    row_version BIGINT NOT NULL DEFAULT 1
);
CREATE UNIQUE INDEX promotion_properties_environment ON promotion_properties (environment_id, name);
CREATE UNIQUE INDEX promotion_properties_cluster ON promotion_properties (cluster_id, name);
-- With the name, which lists are sorted by: otherwise SQLite prefers the index above and reads every property.
CREATE INDEX promotion_properties_database ON promotion_properties (environment_id, database_name, name);
CREATE INDEX promotion_properties_type ON promotion_properties (environment_id, element_type, name);
CREATE INDEX promotion_properties_type_name ON promotion_properties (environment_id, element_type_name, name);
CREATE INDEX promotion_properties_element ON promotion_properties (environment_id, element_name, name);

-- The key under which secret properties are shown; one row.
CREATE TABLE promotion_keys (
    id BIGINT PRIMARY KEY,
    key_sealed BYTEA NOT NULL
);

CREATE TABLE promotion_revisions (
    id BIGINT PRIMARY KEY,
    ou_id BIGINT NOT NULL REFERENCES ous (id),
    name TEXT NOT NULL,
    description TEXT,
    -- `INSERT`, `DELETE` or `VQL`
    type TEXT NOT NULL,
    replace_mode TEXT NOT NULL,
    -- SHA-256 of the script.
    content_hash TEXT NOT NULL,
    bytes BIGINT NOT NULL,
    -- Flags of the dialect that are kept; JSON that `stored.rs` describes.
    flags TEXT NOT NULL,
    -- As in `runs.submitter`: `user:3`.
    owner TEXT NOT NULL,
    created_by TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    modified_by TEXT NOT NULL,
    modified_at BIGINT NOT NULL,
    row_version BIGINT NOT NULL DEFAULT 1
);
CREATE INDEX promotion_revisions_newest ON promotion_revisions (ou_id, created_at, id);
CREATE INDEX promotion_revisions_owner ON promotion_revisions (owner, created_at, id);

-- Scripts and source values can contain passwords.
CREATE TABLE promotion_revision_texts (
    revision_id BIGINT PRIMARY KEY REFERENCES promotion_revisions (id) ON DELETE CASCADE,
    vql_sealed BYTEA NOT NULL,
    properties_sealed BYTEA
);

-- Where a revision was deployed.
CREATE TABLE promotion_revision_environments (
    revision_id BIGINT NOT NULL REFERENCES promotion_revisions (id) ON DELETE CASCADE,
    environment_id BIGINT NOT NULL REFERENCES promotion_environments (id) ON DELETE CASCADE,
    deployed_at BIGINT NOT NULL,
    PRIMARY KEY (revision_id, environment_id)
);
CREATE INDEX promotion_revision_environments_where ON promotion_revision_environments (environment_id);

-- The id is the run's. Rows stay when the environment or a revision is deleted.
CREATE TABLE promotion_deployments (
    id BIGINT PRIMARY KEY,
    ou_id BIGINT NOT NULL REFERENCES ous (id),
    environment_id BIGINT NOT NULL,
    environment_name TEXT NOT NULL,
    scenario TEXT NOT NULL,
    description TEXT NOT NULL,
    owner TEXT NOT NULL,
    user_name TEXT NOT NULL,
    -- `in_progress`, `ok`, `warning`, `error` or `cancelled`
    state TEXT NOT NULL,
    message TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    ended_at BIGINT
);
CREATE INDEX promotion_deployments_environment ON promotion_deployments (environment_id, state);

CREATE TABLE promotion_deployment_revisions (
    deployment_id BIGINT NOT NULL REFERENCES promotion_deployments (id) ON DELETE CASCADE,
    position BIGINT NOT NULL,
    revision_id BIGINT NOT NULL,
    name TEXT NOT NULL,
    description TEXT,
    PRIMARY KEY (deployment_id, position)
);
CREATE INDEX promotion_deployment_revisions_revision ON promotion_deployment_revisions (revision_id);

CREATE TABLE promotion_tasks (
    id BIGINT PRIMARY KEY,
    deployment_id BIGINT NOT NULL REFERENCES promotion_deployments (id) ON DELETE CASCADE,
    position BIGINT NOT NULL,
    name TEXT NOT NULL,
    -- `VQL`, `SCRIPT_SERVER`, `ROLLBACK`, …
    type TEXT NOT NULL,
    cluster_id BIGINT,
    cluster_name TEXT,
    server_id BIGINT,
    server_name TEXT,
    -- `pending`, `in_progress`, `ok`, `warning`, `error`, `skipped` or `disabled`
    state TEXT NOT NULL,
    output TEXT NOT NULL,
    started_at BIGINT,
    ended_at BIGINT,
    updated_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX promotion_tasks_position ON promotion_tasks (deployment_id, position);

-- What a deployment has done to each server, so that what was cut off can be undone.
CREATE TABLE promotion_deployment_servers (
    deployment_id BIGINT NOT NULL REFERENCES promotion_deployments (id) ON DELETE CASCADE,
    server_id BIGINT NOT NULL,
    server_name TEXT NOT NULL,
    -- The version before, and after; NULL until it is known.
    from_version BIGINT,
    to_version BIGINT,
    -- `planned`, `out`, `applying`, `applied`, `failed`, `rolled_back`, `back`
    phase TEXT NOT NULL,
    PRIMARY KEY (deployment_id, server_id)
);

-- Answers to what was applied to a node with a key, so that a repeated request is answered and not executed.
CREATE TABLE virtual_applications (
    node_id BIGINT NOT NULL REFERENCES virtual_nodes (id) ON DELETE CASCADE,
    key TEXT NOT NULL,
    from_version BIGINT NOT NULL,
    version BIGINT NOT NULL,
    applied_at BIGINT NOT NULL,
    PRIMARY KEY (node_id, key)
);

-- What was deployed to a server last, to notice changes by others.
CREATE TABLE promotion_server_states (
    server_id BIGINT PRIMARY KEY REFERENCES promotion_servers (id) ON DELETE CASCADE,
    deployment_id BIGINT NOT NULL,
    version BIGINT NOT NULL,
    content_hash TEXT NOT NULL,
    deployed_at BIGINT NOT NULL
);
