-- A page of the list of backups is found in an index alone.
DROP INDEX backups_started;
CREATE INDEX backups_listed ON backups (started_at, id, asset_id) WHERE deleted_at IS NULL;
CREATE INDEX backups_listed_asset ON backups (asset_id, started_at, id) WHERE deleted_at IS NULL;
