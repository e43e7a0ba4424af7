-- Nodes with virtual databases. A version of a node is a list of objects and never changes; a text is kept once, by its
-- hash. The words `node` and `nodes` mean server processes elsewhere, so these tables start with `virtual_`.

CREATE TABLE virtual_nodes (
    id BIGINT PRIMARY KEY,
    ou_id BIGINT NOT NULL REFERENCES ous (id),
    name TEXT NOT NULL,
    -- The version that queries read; 0: empty.
    version BIGINT NOT NULL,
    -- The newest version.
    last_version BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    row_version BIGINT NOT NULL DEFAULT 1
);
CREATE UNIQUE INDEX virtual_nodes_name ON virtual_nodes (ou_id, name);

CREATE TABLE virtual_versions (
    node_id BIGINT NOT NULL REFERENCES virtual_nodes (id) ON DELETE CASCADE,
    number BIGINT NOT NULL,
    content_hash TEXT NOT NULL,
    objects BIGINT NOT NULL,
    applied_by TEXT NOT NULL,
    applied_at BIGINT NOT NULL,
    PRIMARY KEY (node_id, number)
);

-- JSON that `stored.rs` describes.
CREATE TABLE virtual_texts (
    hash TEXT PRIMARY KEY,
    body TEXT NOT NULL
);

CREATE TABLE virtual_objects (
    node_id BIGINT NOT NULL,
    number BIGINT NOT NULL,
    position BIGINT NOT NULL,
    hash TEXT NOT NULL REFERENCES virtual_texts (hash),
    PRIMARY KEY (node_id, number, position),
    FOREIGN KEY (node_id, number) REFERENCES virtual_versions (node_id, number) ON DELETE CASCADE
);
CREATE INDEX virtual_objects_hash ON virtual_objects (hash);

-- Datasources that a script declares by a URL. Their ids are of the same sequence as the inventory's.
CREATE TABLE virtual_datasources (
    id BIGINT PRIMARY KEY,
    node_id BIGINT NOT NULL REFERENCES virtual_nodes (id) ON DELETE CASCADE,
    config TEXT NOT NULL,
    password_sealed BYTEA,
    created_at BIGINT NOT NULL
);
CREATE INDEX virtual_datasources_node ON virtual_datasources (node_id);

-- Which datasources, declared or of the inventory, a version names.
CREATE TABLE virtual_version_datasources (
    node_id BIGINT NOT NULL,
    number BIGINT NOT NULL,
    datasource_id BIGINT NOT NULL,
    PRIMARY KEY (node_id, number, datasource_id),
    FOREIGN KEY (node_id, number) REFERENCES virtual_versions (node_id, number) ON DELETE CASCADE
);
CREATE INDEX virtual_version_datasources_id ON virtual_version_datasources (datasource_id);
