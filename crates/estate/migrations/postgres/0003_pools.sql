-- Runs in pools: long ones never delay short ones, and no submitter takes a whole pool.

ALTER TABLE runs ADD COLUMN pool TEXT NOT NULL DEFAULT 'short';
-- 'user:3', 'key:7', 'operator', 'system'.
ALTER TABLE runs ADD COLUMN submitter TEXT NOT NULL DEFAULT 'system';
-- 1: submitted by a request, so that it counts towards what its submitter may have waiting.
ALTER TABLE runs ADD COLUMN counted BIGINT NOT NULL DEFAULT 0;
-- 1: takes a place in its lane. That is while it executes, and after its end while a thread of it lives.
ALTER TABLE runs ADD COLUMN occupies BIGINT NOT NULL DEFAULT 0;
-- Of a held run: when it joins the queue by itself, and when it has waited too long.
ALTER TABLE runs ADD COLUMN release_at BIGINT;
ALTER TABLE runs ADD COLUMN expires_at BIGINT;
-- 1: it was asked to stop before its node died, and is claimed again to clean up.
ALTER TABLE runs ADD COLUMN cancel_requested BIGINT NOT NULL DEFAULT 0;
-- What the database said: its own code, and where in the statement.
ALTER TABLE runs ADD COLUMN error_source_code TEXT;
ALTER TABLE runs ADD COLUMN error_position BIGINT;

UPDATE runs SET submitter = CASE WHEN actor_kind IN ('user', 'key') THEN actor_kind || ':' || actor_id ELSE actor_kind END,
    occupies = CASE WHEN state IN ('starting', 'running', 'cancelling') THEN 1 ELSE 0 END;
UPDATE runs SET error_source_code = error_detail::json ->> 'code',
    error_position = (error_detail::json ->> 'position')::bigint WHERE error_detail IS NOT NULL;
ALTER TABLE runs DROP COLUMN error_detail;

DROP INDEX runs_queue;
DROP INDEX runs_lane;
DROP INDEX runs_noun;
DROP INDEX runs_parent;
CREATE INDEX runs_queue ON runs (pool, id) WHERE state = 'queued';
CREATE INDEX runs_lane_waiting ON runs (lane) WHERE state = 'queued';
CREATE INDEX runs_occupies ON runs (lane) WHERE occupies = 1;
CREATE INDEX runs_node ON runs (node_id) WHERE occupies = 1;
CREATE INDEX runs_counted ON runs (submitter) WHERE state = 'queued' AND counted = 1;
CREATE INDEX runs_release ON runs (release_at) WHERE state = 'held';
CREATE INDEX runs_expires ON runs (expires_at) WHERE state = 'held';
-- Lists, newest first, by any one thing.
CREATE INDEX runs_kind ON runs (kind, id);
CREATE INDEX runs_state ON runs (state, id);
CREATE INDEX runs_submitter ON runs (submitter, id);
CREATE INDEX runs_noun ON runs (noun, noun_id, id);
CREATE INDEX runs_parent ON runs (parent_id, id);
CREATE INDEX runs_ou ON runs (ou_id, id);
CREATE INDEX runs_submitted ON runs (submitted_at, id);

-- What a run says of itself, in batches.
CREATE TABLE run_logs (
    run_id BIGINT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    -- The number of the batch, from 1.
    batch BIGINT NOT NULL,
    -- How many bytes all batches up to this one have.
    bytes BIGINT NOT NULL,
    lines TEXT NOT NULL,
    PRIMARY KEY (run_id, batch)
);
