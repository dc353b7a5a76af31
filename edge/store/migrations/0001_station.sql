-- The station's own database. Instants are integer milliseconds since 1970, positions 1e-7 degree, ids UUIDs.
-- Every mutable row carries rev, author and a tombstone (deleted_ms).

CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;

CREATE TABLE collars (
  pk INTEGER PRIMARY KEY,
  id TEXT NOT NULL UNIQUE,
  stands_for_animal_pk INTEGER,          -- positions a person entered without a collar hang on such a row
  model TEXT, fix_interval_s INTEGER, notes TEXT,
  last_heard_ms INTEGER, battery_mv INTEGER, battery_pct REAL, firmware TEXT,
  rev INTEGER NOT NULL DEFAULT 1, author TEXT,
  created_ms INTEGER NOT NULL, updated_ms INTEGER NOT NULL, deleted_ms INTEGER
);

CREATE TABLE collar_aliases (
  alias TEXT PRIMARY KEY,
  collar_pk INTEGER NOT NULL REFERENCES collars (pk)
) WITHOUT ROWID;
CREATE INDEX collar_aliases_by_collar ON collar_aliases (collar_pk);

CREATE TABLE animals (
  pk INTEGER PRIMARY KEY,
  id TEXT NOT NULL UNIQUE,
  name TEXT NOT NULL, species TEXT NOT NULL,
  status TEXT NOT NULL, health_status TEXT NOT NULL, gender TEXT NOT NULL,
  age REAL, weight REAL, notes TEXT, created_by TEXT,
  rev INTEGER NOT NULL DEFAULT 1, author TEXT,
  created_ms INTEGER NOT NULL, updated_ms INTEGER NOT NULL, deleted_ms INTEGER
);
CREATE INDEX animals_active ON animals (pk) WHERE status = 'active' AND deleted_ms IS NULL;

CREATE TABLE deployments (
  pk INTEGER PRIMARY KEY,
  id TEXT NOT NULL UNIQUE,
  collar_pk INTEGER NOT NULL REFERENCES collars (pk),
  animal_pk INTEGER NOT NULL REFERENCES animals (pk),
  started_ms INTEGER NOT NULL, ended_ms INTEGER,
  notes TEXT,
  rev INTEGER NOT NULL DEFAULT 1, author TEXT,
  created_ms INTEGER NOT NULL, updated_ms INTEGER NOT NULL, deleted_ms INTEGER
);
CREATE INDEX deployments_by_collar ON deployments (collar_pk, started_ms);
CREATE INDEX deployments_by_animal ON deployments (animal_pk, started_ms);

CREATE TABLE fixes (
  pk INTEGER PRIMARY KEY,
  id BLOB NOT NULL,                       -- 16 bytes: raw device time, then a hash of what makes the fix itself
  collar_pk INTEGER NOT NULL REFERENCES collars (pk),
  animal_pk INTEGER REFERENCES animals (pk),
  recorded_ms INTEGER NOT NULL,           -- corrected
  raw_ms INTEGER NOT NULL,                -- as the device said
  received_ms INTEGER NOT NULL,           -- the earliest copy, by the station's clock
  sure_received_ms INTEGER,               -- the earliest copy that came while that clock was sure
  network_ms INTEGER,
  lon_e7 INTEGER, lat_e7 INTEGER,         -- NULL: the receiver failed, an event without geometry
  flags INTEGER NOT NULL,
  source TEXT NOT NULL,
  alt_m REAL, speed_mps REAL, heading_deg REAL,
  hdop REAL, pdop REAL, sats INTEGER, h_acc_m REAL, seq INTEGER,
  battery_mv INTEGER, battery_pct REAL, temperature_c REAL,
  rssi_dbm REAL, snr_db REAL,
  is_clock_unset INTEGER NOT NULL DEFAULT 0,
  said_animal_pk INTEGER,                 -- whom the sender named; counts where no deployment does
  link TEXT, local_id TEXT, activity_type TEXT, notes TEXT
);
SELECT AddGeometryColumn('fixes', 'geom', 4326, 'POINT', 'XY');
SELECT CreateSpatialIndex('fixes', 'geom');
CREATE UNIQUE INDEX fixes_by_id ON fixes (id);
CREATE INDEX fixes_by_collar ON fixes (collar_pk, recorded_ms);
CREATE INDEX fixes_by_animal ON fixes (animal_pk, recorded_ms) WHERE animal_pk IS NOT NULL;
CREATE INDEX fixes_by_time ON fixes (recorded_ms);

CREATE TABLE observations (
  pk INTEGER PRIMARY KEY,
  id TEXT NOT NULL UNIQUE,
  animal_pk INTEGER REFERENCES animals (pk),
  observation_type TEXT NOT NULL, description TEXT NOT NULL,
  recorded_ms INTEGER NOT NULL, lon_e7 INTEGER, lat_e7 INTEGER,
  photo_url TEXT, observer TEXT, local_id TEXT,
  rev INTEGER NOT NULL DEFAULT 1, author TEXT,
  created_ms INTEGER NOT NULL, updated_ms INTEGER NOT NULL, deleted_ms INTEGER
);
CREATE INDEX observations_by_time ON observations (recorded_ms);
CREATE INDEX observations_by_animal ON observations (animal_pk, recorded_ms);

-- What the cloud has not confirmed. Fixes are immutable, so a row points at a run of them; an edit carries its body.
CREATE TABLE outbox (
  oseq INTEGER PRIMARY KEY AUTOINCREMENT,
  entity TEXT NOT NULL,
  first_pk INTEGER NOT NULL, last_pk INTEGER NOT NULL,
  operation TEXT NOT NULL,
  body BLOB
);

-- How far each consumer of the ledger has come; moved in the transaction of what it wrote.
CREATE TABLE cursors (consumer TEXT PRIMARY KEY, position INTEGER NOT NULL) WITHOUT ROWID;

CREATE TABLE undecoded (
  ledger_seq INTEGER PRIMARY KEY,
  link TEXT NOT NULL, framing TEXT NOT NULL, topic TEXT NOT NULL,
  reason TEXT NOT NULL, received_ms INTEGER NOT NULL, size_bytes INTEGER NOT NULL, head BLOB NOT NULL
);

CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO counters VALUES ('fixes', 0);
