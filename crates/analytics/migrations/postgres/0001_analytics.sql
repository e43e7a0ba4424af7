-- Dashboards, reports, filters and snippets. Their settings are JSON that `stored.rs` describes.

CREATE TABLE dashboards (
    id BIGINT PRIMARY KEY,
    ou_id BIGINT NOT NULL REFERENCES ous (id),
    name TEXT NOT NULL,
    body TEXT NOT NULL,
    creator_id BIGINT,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE INDEX dashboards_ou ON dashboards (ou_id);

CREATE TABLE reports (
    id BIGINT PRIMARY KEY,
    ou_id BIGINT NOT NULL REFERENCES ous (id),
    dashboard_id BIGINT REFERENCES dashboards (id) ON DELETE CASCADE,
    datasource_id BIGINT REFERENCES datasources (id) ON DELETE SET NULL,
    name TEXT NOT NULL,
    body TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE INDEX reports_dashboard ON reports (dashboard_id);
CREATE INDEX reports_ou ON reports (ou_id);

CREATE TABLE filters (
    id BIGINT PRIMARY KEY,
    ou_id BIGINT NOT NULL REFERENCES ous (id),
    variable_name TEXT NOT NULL,
    datasource_id BIGINT REFERENCES datasources (id) ON DELETE SET NULL,
    body TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX filters_variable ON filters (ou_id, variable_name);

-- The options of a drop-down with static SQL, as its query last gave them.
CREATE TABLE filter_options (
    filter_id BIGINT PRIMARY KEY REFERENCES filters (id) ON DELETE CASCADE,
    options TEXT NOT NULL,
    read_at BIGINT NOT NULL
);

CREATE TABLE snippets (
    id BIGINT PRIMARY KEY,
    ou_id BIGINT NOT NULL REFERENCES ous (id),
    name TEXT NOT NULL,
    description TEXT NOT NULL,
    body TEXT NOT NULL,
    datasource_id BIGINT REFERENCES datasources (id) ON DELETE SET NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX snippets_name ON snippets (ou_id, name);
