-- Who has roles in a unit.
CREATE INDEX grants_ou ON grants (ou_id);

-- The trail, by what events are about, and by where they come from.
CREATE INDEX audit_events_noun ON audit_events (noun, noun_id, id);
CREATE INDEX audit_events_address ON audit_events (address, id);

-- Settings that only one dialect has, as JSON.
CREATE TABLE dialect_settings (
    dialect TEXT NOT NULL,
    name TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (dialect, name)
);
