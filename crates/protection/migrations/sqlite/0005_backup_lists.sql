-- A page of the list of backups is found in an index alone.
DROP INDEX backups_started;
CREATE INDEX backups_listed ON backups (deleted_at, started_at, id, asset_id);
CREATE INDEX backups_listed_asset ON backups (asset_id, deleted_at, started_at, id);
