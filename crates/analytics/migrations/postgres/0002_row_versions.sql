-- Each change of a row that can be edited counts, so that a change made to an older state of it is found out.
ALTER TABLE dashboards ADD COLUMN row_version BIGINT NOT NULL DEFAULT 1;
ALTER TABLE reports ADD COLUMN row_version BIGINT NOT NULL DEFAULT 1;
ALTER TABLE filters ADD COLUMN row_version BIGINT NOT NULL DEFAULT 1;
ALTER TABLE snippets ADD COLUMN row_version BIGINT NOT NULL DEFAULT 1;
-- The state of the filter whose query gave the options.
ALTER TABLE filter_options ADD COLUMN filter_version BIGINT NOT NULL DEFAULT 0;
