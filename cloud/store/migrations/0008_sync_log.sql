-- What was brought to this home and from it, session by session; the same tables in both homes (shared.sync.log).
CREATE TABLE sync_log (
  id TEXT PRIMARY KEY,
  user_id TEXT,                           -- whose session; NULL: the home itself and its stations
  device_id TEXT NOT NULL, path TEXT NOT NULL,
  total BIGINT NOT NULL, synced BIGINT NOT NULL, conflicts BIGINT NOT NULL, failed BIGINT NOT NULL,
  started_ms BIGINT NOT NULL, completed_ms BIGINT NOT NULL
);
CREATE INDEX sync_log_by_time ON sync_log (started_ms);

-- Items that failed or were in conflict, with what is needed to try them again.
CREATE TABLE sync_items (
  id TEXT PRIMARY KEY,
  sync_id TEXT, user_id TEXT, device_id TEXT NOT NULL,
  data_type TEXT NOT NULL, local_id TEXT, server_id TEXT,
  data TEXT NOT NULL,                     -- a JSON object
  status TEXT NOT NULL, conflict_data TEXT, error_message TEXT, attempts BIGINT NOT NULL,
  offline_since_ms BIGINT, created_ms BIGINT NOT NULL, synced_ms BIGINT,
  form TEXT NOT NULL, body BYTEA
);
CREATE INDEX sync_items_by_status ON sync_items (status, created_ms);
