-- Schedules of any plane: whose they are, when they are due, what to do about a time that was missed.

ALTER TABLE schedules RENAME TO schedules_of_runs;
DROP INDEX schedules_next;
CREATE TABLE schedules (
    id BIGINT PRIMARY KEY,
    -- The plane whose follower acts when it is due, and that plane's name for it.
    plane TEXT NOT NULL,
    name TEXT NOT NULL,
    ou_id BIGINT NOT NULL REFERENCES ous (id) ON DELETE CASCADE,
    owner_kind TEXT NOT NULL,
    owner_id BIGINT,
    owner_name TEXT NOT NULL,
    enabled BIGINT NOT NULL,
    -- 'cron' with an expression and a zone, 'every' with microseconds, 'once'.
    timing TEXT NOT NULL,
    cron TEXT,
    time_zone TEXT,
    every BIGINT,
    active_from BIGINT,
    active_to BIGINT,
    -- 'run_once' or 'skip'.
    missed TEXT NOT NULL,
    noun TEXT,
    noun_id BIGINT,
    -- JSON of the plane.
    body TEXT NOT NULL,
    -- NULL: never again.
    next_at BIGINT,
    last_at BIGINT,
    -- When next_at was found: a clock that was set back must not keep it waiting.
    planned_at BIGINT NOT NULL,
    failures BIGINT NOT NULL,
    retry_at BIGINT NOT NULL,
    last_error TEXT,
    row_version BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
INSERT INTO schedules (id, plane, name, ou_id, owner_kind, owner_name, enabled, timing, cron, time_zone, missed, noun,
    noun_id, body, next_at, planned_at, failures, retry_at, row_version, created_at, updated_at)
SELECT id, CASE WHEN run_kind = 'attribution' THEN 'delivery' ELSE 'estate' END, name, ou_id, 'system', 'system', 1,
    'cron', cron, time_zone, 'run_once', noun, noun_id, '{"version":1,"kind":"' || run_kind || '","input":{"version":1}}',
    next_at, 0, 0, 0, 1, 0, 0
FROM schedules_of_runs;
DROP TABLE schedules_of_runs;
CREATE UNIQUE INDEX schedules_name ON schedules (plane, name);
CREATE INDEX schedules_next ON schedules (next_at) WHERE enabled = 1;
CREATE INDEX schedules_planned ON schedules (planned_at) WHERE enabled = 1;
