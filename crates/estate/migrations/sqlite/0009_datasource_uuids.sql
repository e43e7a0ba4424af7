-- The datasource's id in every list and in every backup, also after it was deleted.
ALTER TABLE datasources ADD COLUMN uuid TEXT;
UPDATE datasources SET uuid = lower(hex(randomblob(4))) || '-' || lower(hex(randomblob(2))) || '-4' ||
    substr(lower(hex(randomblob(2))), 2) || '-' || substr('89ab', 1 + (random() & 3), 1) ||
    substr(lower(hex(randomblob(2))), 2) || '-' || lower(hex(randomblob(6)));
CREATE UNIQUE INDEX datasources_uuid ON datasources (uuid);
