-- Counts the changes of the default branch that are not carried out yet; 0: none.
ALTER TABLE delivery_repos ADD COLUMN moving BIGINT NOT NULL DEFAULT 0;
CREATE INDEX delivery_repos_moving ON delivery_repos (id) WHERE moving > 0;
