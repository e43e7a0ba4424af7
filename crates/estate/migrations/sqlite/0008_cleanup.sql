-- Whether a run that waits was begun and has to clean up: it goes first in its lane, and a cancel does not end it.
ALTER TABLE runs ADD COLUMN cleans_up BIGINT NOT NULL DEFAULT 0;
CREATE INDEX runs_cleanup ON runs (lane) WHERE state = 'queued' AND cleans_up = 1;
