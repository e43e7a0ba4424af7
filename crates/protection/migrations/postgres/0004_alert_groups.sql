-- Alerts with the same cause about the same database, as one. What else is shown of a group is made from its alerts.
CREATE TABLE alert_groups (
    uuid TEXT PRIMARY KEY,
    -- The database, also of alerts about its backups, and its name then.
    parent_uuid TEXT NOT NULL,
    parent_name TEXT NOT NULL,
    kind TEXT NOT NULL,
    cause TEXT NOT NULL,
    notes TEXT NOT NULL,
    -- When the notes were written.
    noted_at BIGINT
);
CREATE UNIQUE INDEX alert_groups_key ON alert_groups (parent_uuid, kind, cause);

ALTER TABLE alerts ADD COLUMN group_uuid TEXT REFERENCES alert_groups (uuid);
CREATE INDEX alerts_group ON alerts (group_uuid);

INSERT INTO alert_groups (uuid, parent_uuid, parent_name, kind, cause, notes)
SELECT CAST(gen_random_uuid() AS TEXT), n.parent_uuid, n.name, n.kind, n.cause, ''
FROM (SELECT COALESCE(s.uuid, a.entity_uuid) AS parent_uuid, min(a.entity_name) AS name, a.kind AS kind, a.cause AS cause
    FROM alerts a LEFT JOIN backups b ON b.uuid = a.entity_uuid LEFT JOIN assets s ON s.id = b.asset_id
    GROUP BY COALESCE(s.uuid, a.entity_uuid), a.kind, a.cause) n;
UPDATE alerts SET group_uuid = (SELECT g.uuid FROM alert_groups g WHERE g.kind = alerts.kind AND g.cause = alerts.cause
    AND g.parent_uuid = COALESCE((SELECT s.uuid FROM backups b JOIN assets s ON s.id = b.asset_id
        WHERE b.uuid = alerts.entity_uuid), alerts.entity_uuid));
