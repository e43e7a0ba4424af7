-- Each change of a row that can be edited counts, so that a change made to an older state of it is found out.
ALTER TABLE users ADD COLUMN row_version BIGINT NOT NULL DEFAULT 1;
ALTER TABLE datasources ADD COLUMN row_version BIGINT NOT NULL DEFAULT 1;
