-- What is asked for each run that is submitted or claimed must read only what waits, never a submitter's whole history.
-- A planner without statistics prefers the index of all runs by submitter, so these are on an expression that only they
-- have.
DROP INDEX runs_turns;
DROP INDEX runs_counted;
CREATE INDEX runs_turns ON runs (pool, (submitter || ''), submitted_at, id) WHERE state = 'queued';
CREATE INDEX runs_counted ON runs ((submitter || '')) WHERE state = 'queued' AND counted = 1;
