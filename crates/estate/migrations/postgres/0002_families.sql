-- Runs of one family are found by their parent. What was written and never read goes.

CREATE INDEX runs_parent ON runs (parent_id);

DROP INDEX runs_queue;
ALTER TABLE runs DROP COLUMN not_before;
ALTER TABLE runs DROP COLUMN cancel_requested_at;
CREATE INDEX runs_queue ON runs (state, id);

DROP INDEX schedules_next;
ALTER TABLE schedules DROP COLUMN enabled;
CREATE INDEX schedules_next ON schedules (next_at);
