-- A purge reads what is past its retention from these indexes, however many runs there are.
CREATE INDEX runs_record_until ON runs ((finished_at + keep_record)) WHERE finished_at IS NOT NULL;
CREATE INDEX runs_data_until ON runs ((finished_at + keep_data)) WHERE result_blob IS NOT NULL OR result IS NOT NULL;

-- Ids come in blocks, so they are not in the order of submission.
DROP INDEX runs_queue;
DROP INDEX runs_kind;
DROP INDEX runs_state;
DROP INDEX runs_submitter;
DROP INDEX runs_noun;
DROP INDEX runs_parent;
DROP INDEX runs_ou;
CREATE INDEX runs_queue ON runs (pool, submitted_at, id) WHERE state = 'queued';
-- Small pools step from one waiting submitter to the next.
CREATE INDEX runs_turns ON runs (pool, submitter, submitted_at, id) WHERE state = 'queued';
CREATE INDEX runs_kind ON runs (kind, submitted_at, id);
CREATE INDEX runs_state ON runs (state, submitted_at, id);
CREATE INDEX runs_submitter ON runs (submitter, submitted_at, id);
CREATE INDEX runs_noun ON runs (noun, noun_id, submitted_at, id);
CREATE INDEX runs_parent ON runs (parent_id, submitted_at, id);
CREATE INDEX runs_ou ON runs (ou_id, submitted_at, id);
