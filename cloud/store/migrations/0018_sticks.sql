-- What a station last asked for on a USB stick, and which of its batches were refused then (shared.wire.stick): a stick
-- that goes back answers it.
CREATE TABLE sticks (
  station_id TEXT PRIMARY KEY REFERENCES stations (id),
  request BYTEA NOT NULL, refused BYTEA NOT NULL, taken_ms BIGINT NOT NULL
);
