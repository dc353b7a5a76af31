-- Frames as stations heard them, for a time: evidence of what was sent, by whom and how often. Nothing is computed of them.
CREATE TABLE station_frames (
  station_id text NOT NULL REFERENCES stations (id),
  digest bytea NOT NULL,                  -- of day, link, framing, topic and payload (shared.wire.raw)
  seq bigint NOT NULL,                    -- its place in the station's ledger
  link text NOT NULL, framing text NOT NULL, topic text NOT NULL, device text NOT NULL,
  payload bytea NOT NULL,
  received_ms bigint NOT NULL, clock text NOT NULL, copies integer NOT NULL,
  taken_ms bigint NOT NULL,               -- when it came here, by this home's clock
  PRIMARY KEY (station_id, digest)
);
CREATE INDEX station_frames_by_time ON station_frames (station_id, received_ms, seq);
CREATE INDEX station_frames_by_age ON station_frames (taken_ms);
