-- What stations' models said of animals, as each station says it stands: which model and version, of which fix.
CREATE TABLE station_results (
  station_id text NOT NULL REFERENCES stations (id), animal_id text NOT NULL,
  through_ms bigint NOT NULL,             -- the fix that it was said of
  said text NOT NULL,                     -- JSON (shared.wire.batch.results.Said)
  received_ms bigint NOT NULL,
  PRIMARY KEY (station_id, animal_id)
);
CREATE INDEX station_results_by_animal ON station_results (animal_id, through_ms);
CREATE TABLE station_steps (
  station_id text NOT NULL, animal_id text NOT NULL, ended_ms bigint NOT NULL,
  started_ms bigint NOT NULL, step_m float8 NOT NULL,
  state text NOT NULL, confidence float8 NOT NULL, is_settled boolean NOT NULL, log_likelihood float8 NOT NULL,
  PRIMARY KEY (station_id, animal_id, ended_ms)
);
-- Occurrence of animals; a map is whole where its head came with the last of the tiles that had changed.
CREATE TABLE station_maps (
  station_id text NOT NULL REFERENCES stations (id), animal_id text NOT NULL,
  is_whole boolean NOT NULL, since_ms bigint, through_ms bigint, model text, head bytea, received_ms bigint NOT NULL,
  PRIMARY KEY (station_id, animal_id)
);
CREATE TABLE station_map_tiles (
  station_id text NOT NULL, animal_id text NOT NULL, "row" integer NOT NULL, "column" integer NOT NULL,
  cells bytea NOT NULL,
  PRIMARY KEY (station_id, animal_id, "row", "column")
);
