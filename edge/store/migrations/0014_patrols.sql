-- Walks and drives of rangers.
CREATE TABLE patrols (
  pk INTEGER PRIMARY KEY,
  id TEXT NOT NULL UNIQUE,
  started_ms INTEGER NOT NULL, ended_ms INTEGER,
  note TEXT NOT NULL,
  track TEXT,                             -- GeoJSON, checked before it comes here
  created_by TEXT,
  rev INTEGER NOT NULL DEFAULT 1, cloud_rev INTEGER NOT NULL DEFAULT 0, marks TEXT NOT NULL DEFAULT '{}', author TEXT,
  created_ms INTEGER NOT NULL, updated_ms INTEGER NOT NULL, deleted_ms INTEGER
);
CREATE INDEX patrols_by_time ON patrols (started_ms);
