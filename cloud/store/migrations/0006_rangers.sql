-- Rangers and their patrols. They name each other and their animal by id: nothing waits for what it names.
-- station_id: which station brought a row first; NULL where it was entered in the cloud.
CREATE TABLE teams (
  pk bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  id text NOT NULL UNIQUE,
  name text NOT NULL, description text NOT NULL, is_active boolean NOT NULL,
  rev bigint NOT NULL, cloud_rev bigint NOT NULL, marks jsonb NOT NULL, author text,
  created_ms bigint NOT NULL, updated_ms bigint NOT NULL, deleted_ms bigint,
  station_id text
);

CREATE TABLE rangers (
  pk bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  id text NOT NULL UNIQUE,
  user_id text, name text NOT NULL, badge_number text NOT NULL, team_id text,
  phone text, emergency_contact text,     -- personal: managers and the person alone
  current_status text NOT NULL, device_id text,
  rev bigint NOT NULL, cloud_rev bigint NOT NULL, marks jsonb NOT NULL, author text,
  created_ms bigint NOT NULL, updated_ms bigint NOT NULL, deleted_ms bigint,
  station_id text
);
CREATE INDEX rangers_by_user ON rangers (user_id);
CREATE INDEX rangers_by_team ON rangers (team_id);

-- Never changed; the id follows from ranger, instant and place.
CREATE TABLE ranger_positions (
  pk bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  id text NOT NULL UNIQUE,
  ranger_id text NOT NULL, recorded_ms bigint NOT NULL, lon_e7 bigint NOT NULL, lat_e7 bigint NOT NULL,
  alt_m double precision, h_acc_m double precision, speed_mps double precision, heading_deg double precision, activity_type text NOT NULL,
  rev bigint NOT NULL, cloud_rev bigint NOT NULL, marks jsonb NOT NULL, author text,
  created_ms bigint NOT NULL, updated_ms bigint NOT NULL, deleted_ms bigint,
  station_id text
);
CREATE INDEX ranger_positions_by_ranger ON ranger_positions (ranger_id, recorded_ms);
CREATE INDEX ranger_positions_by_time ON ranger_positions (recorded_ms);

CREATE TABLE patrol_logs (
  pk bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  id text NOT NULL UNIQUE,
  ranger_id text, team_id text,
  log_type text NOT NULL, priority text NOT NULL, title text NOT NULL, description text NOT NULL,
  recorded_ms bigint NOT NULL, lon_e7 bigint, lat_e7 bigint,
  animal_id text, photo_url text, notes text,
  is_resolved boolean NOT NULL, resolved_ms bigint, resolved_by text, reported_by text,
  alert_id text,                          -- of an emergency
  local_id text,
  rev bigint NOT NULL, cloud_rev bigint NOT NULL, marks jsonb NOT NULL, author text,
  created_ms bigint NOT NULL, updated_ms bigint NOT NULL, deleted_ms bigint,
  station_id text
);
CREATE INDEX patrol_logs_by_time ON patrol_logs (recorded_ms);
CREATE INDEX patrol_logs_by_ranger ON patrol_logs (ranger_id, recorded_ms);

CREATE TABLE patrol_routes (
  pk bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  id text NOT NULL UNIQUE,
  name text NOT NULL, description text NOT NULL, team_id text,
  assigned_rangers text NOT NULL, waypoints text NOT NULL,  -- JSON: ids; {lat, lon, name}
  estimated_duration_h double precision,
  scheduled_start_ms bigint, scheduled_end_ms bigint, actual_start_ms bigint, actual_end_ms bigint,
  status text NOT NULL, created_by text,
  rev bigint NOT NULL, cloud_rev bigint NOT NULL, marks jsonb NOT NULL, author text,
  created_ms bigint NOT NULL, updated_ms bigint NOT NULL, deleted_ms bigint,
  station_id text
);
CREATE INDEX patrol_routes_by_start ON patrol_routes (scheduled_start_ms);
