-- Stations' audit logs, as they were told: all that a station ever gave, so that what is altered there shows here.
CREATE TABLE station_audit (
  station_id text NOT NULL REFERENCES stations (id),
  seq bigint NOT NULL,
  hash text NOT NULL, prev_hash text NOT NULL,
  at_ms bigint NOT NULL, actor text NOT NULL, action text NOT NULL, detail text NOT NULL,
  taken_ms bigint NOT NULL,               -- when it came here, by this home's clock
  PRIMARY KEY (station_id, seq, hash)
);
