-- Records know what the cloud has of them (cloud_rev) and when each column was last changed and by whom (marks, JSON).
ALTER TABLE animals ADD COLUMN cloud_rev INTEGER NOT NULL DEFAULT 0;
ALTER TABLE animals ADD COLUMN marks TEXT NOT NULL DEFAULT '{}';
ALTER TABLE collars ADD COLUMN cloud_rev INTEGER NOT NULL DEFAULT 0;
ALTER TABLE collars ADD COLUMN marks TEXT NOT NULL DEFAULT '{}';
ALTER TABLE deployments ADD COLUMN cloud_rev INTEGER NOT NULL DEFAULT 0;
ALTER TABLE deployments ADD COLUMN marks TEXT NOT NULL DEFAULT '{}';

-- A collar that became another was a tombstone under another name, to free its own; now its name tells whose fixes
-- these were. Where someone else was heard under that name since, it means nothing any more.
UPDATE OR IGNORE collars SET id = substr(id, 1, length(id) - length(pk) - 1)
  WHERE deleted_ms IS NOT NULL AND id LIKE '%~' || pk;
DELETE FROM collars WHERE deleted_ms IS NOT NULL AND id LIKE '%~' || pk
  AND NOT EXISTS (SELECT 1 FROM fixes WHERE collar_pk = collars.pk);

-- An observation names its animal by id: it may come before the animal does. (SQLite refuses to rename a table beside
-- SpatiaLite's triggers, so the rows are carried over twice.)
CREATE TABLE carried AS
  SELECT o.pk, o.id, a.id AS animal_id, o.observation_type, o.description, o.recorded_ms, o.lon_e7, o.lat_e7,
    o.photo_url, o.observer, o.local_id, o.rev, o.author, o.created_ms, o.updated_ms, o.deleted_ms
  FROM observations o LEFT JOIN animals a ON a.pk = o.animal_pk;
DROP TABLE observations;
CREATE TABLE observations (
  pk INTEGER PRIMARY KEY,
  id TEXT NOT NULL UNIQUE,
  animal_id TEXT,
  observation_type TEXT NOT NULL, description TEXT NOT NULL,
  recorded_ms INTEGER NOT NULL, lon_e7 INTEGER, lat_e7 INTEGER,
  photo_url TEXT, observer TEXT, local_id TEXT,
  rev INTEGER NOT NULL DEFAULT 1, cloud_rev INTEGER NOT NULL DEFAULT 0, marks TEXT NOT NULL DEFAULT '{}', author TEXT,
  created_ms INTEGER NOT NULL, updated_ms INTEGER NOT NULL, deleted_ms INTEGER
);
INSERT INTO observations (pk, id, animal_id, observation_type, description, recorded_ms, lon_e7, lat_e7, photo_url,
    observer, local_id, rev, author, created_ms, updated_ms, deleted_ms)
  SELECT * FROM carried;
DROP TABLE carried;
CREATE INDEX observations_by_time ON observations (recorded_ms);
CREATE INDEX observations_by_animal ON observations (animal_id, recorded_ms);

CREATE TABLE zones (
  pk INTEGER PRIMARY KEY,
  id TEXT NOT NULL UNIQUE,
  name TEXT NOT NULL, zone_type TEXT NOT NULL, risk_level TEXT NOT NULL,
  geometry TEXT NOT NULL,                 -- GeoJSON, checked before it comes here
  buffer_m REAL NOT NULL, description TEXT NOT NULL, is_active INTEGER NOT NULL,
  rev INTEGER NOT NULL DEFAULT 1, cloud_rev INTEGER NOT NULL DEFAULT 0, marks TEXT NOT NULL DEFAULT '{}', author TEXT,
  created_ms INTEGER NOT NULL, updated_ms INTEGER NOT NULL, deleted_ms INTEGER
);

CREATE TABLE alerts (
  pk INTEGER PRIMARY KEY,
  id TEXT NOT NULL UNIQUE,
  animal_id TEXT, zone_id TEXT,           -- by id: an alert never waits for its animal
  alert_type TEXT NOT NULL, severity TEXT NOT NULL, status TEXT NOT NULL, title TEXT NOT NULL, message TEXT NOT NULL,
  lon_e7 INTEGER, lat_e7 INTEGER, detected_ms INTEGER NOT NULL, note TEXT,
  acknowledged_ms INTEGER, acknowledged_by TEXT, resolved_ms INTEGER, is_late INTEGER NOT NULL,
  rev INTEGER NOT NULL DEFAULT 1, cloud_rev INTEGER NOT NULL DEFAULT 0, marks TEXT NOT NULL DEFAULT '{}', author TEXT,
  created_ms INTEGER NOT NULL, updated_ms INTEGER NOT NULL, deleted_ms INTEGER
);
CREATE INDEX alerts_by_time ON alerts (detected_ms);
CREATE INDEX alerts_by_animal ON alerts (animal_id, detected_ms);

-- Nothing was sent to a cloud before this. A record's outbox row without a body stands for the record as it is when it
-- is sent, so one for each says it all; what names others comes after them.
DELETE FROM outbox WHERE entity <> 'fix';
INSERT INTO outbox (entity, first_pk, last_pk, operation)
  SELECT 'animal', pk, pk, 'insert' FROM animals WHERE deleted_ms IS NULL ORDER BY pk;
INSERT INTO outbox (entity, first_pk, last_pk, operation)
  SELECT 'collar', pk, pk, 'insert' FROM collars WHERE deleted_ms IS NULL AND stands_for_animal_pk IS NULL ORDER BY pk;
INSERT INTO outbox (entity, first_pk, last_pk, operation)
  SELECT 'deployment', pk, pk, 'insert' FROM deployments WHERE deleted_ms IS NULL ORDER BY pk;
INSERT INTO outbox (entity, first_pk, last_pk, operation)
  SELECT 'observation', pk, pk, 'insert' FROM observations WHERE deleted_ms IS NULL ORDER BY pk;

-- What was frozen for the cloud, numbered and chained by hash in each channel of an epoch. The payload is kept until the
-- cloud's receipt; what it held (runs: pairs of first and last row) is kept on, to fill a cloud that lost it.
CREATE TABLE batches (
  epoch TEXT NOT NULL, channel TEXT NOT NULL, n INTEGER NOT NULL,
  prev_hash BLOB NOT NULL, hash BLOB NOT NULL,
  items INTEGER NOT NULL, runs BLOB NOT NULL, payload BLOB,
  frozen_ms INTEGER NOT NULL, acknowledged_ms INTEGER,
  PRIMARY KEY (epoch, channel, n)
) WITHOUT ROWID;

-- The cloud that this station is enrolled at: at most one row.
CREATE TABLE enrolment (
  pk INTEGER PRIMARY KEY CHECK (pk = 1),
  url TEXT NOT NULL, station_id TEXT NOT NULL, private_key BLOB NOT NULL,
  epoch TEXT NOT NULL,                    -- 64 random bits: new at enrolment, after a restore, after a fork
  cloud_epoch TEXT, cursor INTEGER NOT NULL DEFAULT 0,
  enrolled_ms INTEGER NOT NULL, last_receipt_ms INTEGER
);
