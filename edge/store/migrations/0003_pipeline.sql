-- Zones as geometries beside their GeoJSON, so that what lies near a fix is a question to an index.
SELECT AddGeometryColumn('zones', 'geom', 4326, 'MULTIPOLYGON', 'XY');
SELECT CreateSpatialIndex('zones', 'geom');
UPDATE zones SET geom = GeomFromWKB(wkb_of_geojson(geometry), 4326);   -- a function of ours, see driver.py
CREATE INDEX zones_by_buffer ON zones (buffer_m) WHERE is_active AND deleted_ms IS NULL;

-- Routes to keep open: a line with a width, or an area.
CREATE TABLE corridors (
  pk INTEGER PRIMARY KEY,
  id TEXT NOT NULL UNIQUE,
  name TEXT NOT NULL, description TEXT NOT NULL, species TEXT, status TEXT NOT NULL,
  start_lon_e7 INTEGER, start_lat_e7 INTEGER, end_lon_e7 INTEGER, end_lat_e7 INTEGER,
  geometry TEXT,                          -- GeoJSON, checked before it comes here
  width_m REAL NOT NULL,                  -- of a line, from edge to edge
  optimization_score REAL, optimization_data TEXT, created_by TEXT,
  rev INTEGER NOT NULL DEFAULT 1, cloud_rev INTEGER NOT NULL DEFAULT 0, marks TEXT NOT NULL DEFAULT '{}', author TEXT,
  created_ms INTEGER NOT NULL, updated_ms INTEGER NOT NULL, deleted_ms INTEGER
);
SELECT AddGeometryColumn('corridors', 'geom', 4326, 'GEOMETRY', 'XY');
SELECT CreateSpatialIndex('corridors', 'geom');
CREATE INDEX corridors_by_width ON corridors (width_m) WHERE deleted_ms IS NULL;

-- Animals whose models are behind their fixes, and from when on. Written in the transaction of the change, by whoever
-- makes it; turn tells whether something came in between.
CREATE TABLE to_compute (animal_pk INTEGER PRIMARY KEY, since_ms INTEGER NOT NULL, turn INTEGER NOT NULL);
CREATE TRIGGER to_compute_new AFTER INSERT ON fixes WHEN NEW.animal_pk IS NOT NULL BEGIN
  INSERT INTO to_compute VALUES (NEW.animal_pk, NEW.recorded_ms, 1)
    ON CONFLICT (animal_pk) DO UPDATE SET since_ms = min(since_ms, excluded.since_ms), turn = turn + 1;
END;
CREATE TRIGGER to_compute_now AFTER UPDATE OF animal_pk, recorded_ms, flags, h_acc_m, hdop ON fixes
  WHEN NEW.animal_pk IS NOT NULL AND (NEW.animal_pk IS NOT OLD.animal_pk OR NEW.recorded_ms <> OLD.recorded_ms
    OR NEW.flags <> OLD.flags OR NEW.h_acc_m IS NOT OLD.h_acc_m OR NEW.hdop IS NOT OLD.hdop) BEGIN
  INSERT INTO to_compute VALUES (NEW.animal_pk, min(NEW.recorded_ms, OLD.recorded_ms), 1)
    ON CONFLICT (animal_pk) DO UPDATE SET since_ms = min(since_ms, excluded.since_ms), turn = turn + 1;
END;
CREATE TRIGGER to_compute_was AFTER UPDATE OF animal_pk ON fixes
  WHEN OLD.animal_pk IS NOT NULL AND OLD.animal_pk IS NOT NEW.animal_pk BEGIN
  INSERT INTO to_compute VALUES (OLD.animal_pk, OLD.recorded_ms, 1)
    ON CONFLICT (animal_pk) DO UPDATE SET since_ms = min(since_ms, excluded.since_ms), turn = turn + 1;
END;
CREATE TRIGGER to_compute_gone AFTER DELETE ON fixes WHEN OLD.animal_pk IS NOT NULL BEGIN
  INSERT INTO to_compute VALUES (OLD.animal_pk, OLD.recorded_ms, 1)
    ON CONFLICT (animal_pk) DO UPDATE SET since_ms = min(since_ms, excluded.since_ms), turn = turn + 1;
END;
-- another species has other models
CREATE TRIGGER to_compute_species AFTER UPDATE OF species ON animals WHEN NEW.species <> OLD.species BEGIN
  INSERT INTO to_compute SELECT NEW.pk, min(recorded_ms), 1 FROM fixes WHERE animal_pk = NEW.pk HAVING count(*) > 0
    ON CONFLICT (animal_pk) DO UPDATE SET since_ms = min(since_ms, excluded.since_ms), turn = turn + 1;
END;
INSERT INTO to_compute SELECT animal_pk, min(recorded_ms), 1 FROM fixes WHERE animal_pk IS NOT NULL GROUP BY animal_pk;

-- What the behaviour model says of each step, by the fix at which it ends.
CREATE TABLE steps (
  animal_pk INTEGER NOT NULL, ended_ms INTEGER NOT NULL,
  started_ms INTEGER NOT NULL, step_m REAL NOT NULL, angle_rad REAL,
  state TEXT NOT NULL, confidence REAL NOT NULL, lag INTEGER NOT NULL, is_settled INTEGER NOT NULL,
  log_likelihood REAL NOT NULL,
  PRIMARY KEY (animal_pk, ended_ms)
) WITHOUT ROWID;

-- By which models an animal was last computed, how far, and what was missing then.
CREATE TABLE computed (
  animal_pk INTEGER PRIMARY KEY,
  model TEXT, version INTEGER, interval_s REAL,   -- of behaviour: its name, version and regular step
  through_ms INTEGER, missing TEXT NOT NULL,      -- a JSON object: stage, reason
  path_model TEXT, path_sd_m REAL,                -- of its path: name and version, width between the last two fixes
  variance_m2_per_s REAL, variance_ms INTEGER     -- and variance, with the fix at which that was estimated
);

-- Occurrence of an animal: what bridges through through_ms say, in square tiles of seconds per cell. recent holds the
-- newest bridges with their numbers, to take them back one by one; stale_ms is the first instant changed since.
CREATE TABLE utilisations (
  animal_pk INTEGER PRIMARY KEY,
  since_ms INTEGER NOT NULL, through_ms INTEGER NOT NULL, stale_ms INTEGER,
  species TEXT NOT NULL, head BLOB NOT NULL, recent BLOB NOT NULL
);
CREATE TABLE utilisation_tiles (
  animal_pk INTEGER NOT NULL, row INTEGER NOT NULL, "column" INTEGER NOT NULL, cells BLOB NOT NULL,
  PRIMARY KEY (animal_pk, row, "column")
) WITHOUT ROWID;
