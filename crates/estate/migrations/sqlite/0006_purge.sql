-- A purge reads what is past its retention from these indexes, however many runs there are.
CREATE INDEX runs_record_until ON runs ((finished_at + keep_record)) WHERE finished_at IS NOT NULL;
CREATE INDEX runs_data_until ON runs ((finished_at + keep_data)) WHERE result_blob IS NOT NULL OR result IS NOT NULL;
-- Small pools step from one waiting submitter to the next.
CREATE INDEX runs_turns ON runs (pool, submitter, id) WHERE state = 'queued';
