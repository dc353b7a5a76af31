-- Rangers and their patrols. They name each other and their animal by id: nothing waits for what it names.
CREATE TABLE teams (
  pk INTEGER PRIMARY KEY,
  id TEXT NOT NULL UNIQUE,
  name TEXT NOT NULL, description TEXT NOT NULL, is_active INTEGER NOT NULL,
  rev INTEGER NOT NULL DEFAULT 1, cloud_rev INTEGER NOT NULL DEFAULT 0, marks TEXT NOT NULL DEFAULT '{}', author TEXT,
  created_ms INTEGER NOT NULL, updated_ms INTEGER NOT NULL, deleted_ms INTEGER
);

CREATE TABLE rangers (
  pk INTEGER PRIMARY KEY,
  id TEXT NOT NULL UNIQUE,
  user_id TEXT, name TEXT NOT NULL, badge_number TEXT NOT NULL, team_id TEXT,
  phone TEXT, emergency_contact TEXT,     -- personal: managers and the person alone
  current_status TEXT NOT NULL, device_id TEXT,
  rev INTEGER NOT NULL DEFAULT 1, cloud_rev INTEGER NOT NULL DEFAULT 0, marks TEXT NOT NULL DEFAULT '{}', author TEXT,
  created_ms INTEGER NOT NULL, updated_ms INTEGER NOT NULL, deleted_ms INTEGER
);
CREATE INDEX rangers_by_user ON rangers (user_id);
CREATE INDEX rangers_by_team ON rangers (team_id);

-- Never changed; the id follows from ranger, instant and place.
CREATE TABLE ranger_positions (
  pk INTEGER PRIMARY KEY,
  id TEXT NOT NULL UNIQUE,
  ranger_id TEXT NOT NULL, recorded_ms INTEGER NOT NULL, lon_e7 INTEGER NOT NULL, lat_e7 INTEGER NOT NULL,
  alt_m REAL, h_acc_m REAL, speed_mps REAL, heading_deg REAL, activity_type TEXT NOT NULL,
  rev INTEGER NOT NULL DEFAULT 1, cloud_rev INTEGER NOT NULL DEFAULT 0, marks TEXT NOT NULL DEFAULT '{}', author TEXT,
  created_ms INTEGER NOT NULL, updated_ms INTEGER NOT NULL, deleted_ms INTEGER
);
CREATE INDEX ranger_positions_by_ranger ON ranger_positions (ranger_id, recorded_ms);
CREATE INDEX ranger_positions_by_time ON ranger_positions (recorded_ms);

CREATE TABLE patrol_logs (
  pk INTEGER PRIMARY KEY,
  id TEXT NOT NULL UNIQUE,
  ranger_id TEXT, team_id TEXT,
  log_type TEXT NOT NULL, priority TEXT NOT NULL, title TEXT NOT NULL, description TEXT NOT NULL,
  recorded_ms INTEGER NOT NULL, lon_e7 INTEGER, lat_e7 INTEGER,
  animal_id TEXT, photo_url TEXT, notes TEXT,
  is_resolved INTEGER NOT NULL, resolved_ms INTEGER, resolved_by TEXT, reported_by TEXT,
  alert_id TEXT,                          -- of an emergency
  local_id TEXT,
  rev INTEGER NOT NULL DEFAULT 1, cloud_rev INTEGER NOT NULL DEFAULT 0, marks TEXT NOT NULL DEFAULT '{}', author TEXT,
  created_ms INTEGER NOT NULL, updated_ms INTEGER NOT NULL, deleted_ms INTEGER
);
CREATE INDEX patrol_logs_by_time ON patrol_logs (recorded_ms);
CREATE INDEX patrol_logs_by_ranger ON patrol_logs (ranger_id, recorded_ms);

CREATE TABLE patrol_routes (
  pk INTEGER PRIMARY KEY,
  id TEXT NOT NULL UNIQUE,
  name TEXT NOT NULL, description TEXT NOT NULL, team_id TEXT,
  assigned_rangers TEXT NOT NULL, waypoints TEXT NOT NULL,  -- JSON: ids; {lat, lon, name}
  estimated_duration_h REAL,
  scheduled_start_ms INTEGER, scheduled_end_ms INTEGER, actual_start_ms INTEGER, actual_end_ms INTEGER,
  status TEXT NOT NULL, created_by TEXT,
  rev INTEGER NOT NULL DEFAULT 1, cloud_rev INTEGER NOT NULL DEFAULT 0, marks TEXT NOT NULL DEFAULT '{}', author TEXT,
  created_ms INTEGER NOT NULL, updated_ms INTEGER NOT NULL, deleted_ms INTEGER
);
CREATE INDEX patrol_routes_by_start ON patrol_routes (scheduled_start_ms);
