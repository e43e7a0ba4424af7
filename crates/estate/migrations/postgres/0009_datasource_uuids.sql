-- The datasource's id in every list and in every backup, also after it was deleted.
ALTER TABLE datasources ADD COLUMN uuid TEXT;
UPDATE datasources SET uuid = gen_random_uuid()::TEXT;
CREATE UNIQUE INDEX datasources_uuid ON datasources (uuid);
