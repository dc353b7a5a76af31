-- Models that were brought to the cloud beside those of its program, and what was chosen of them.
CREATE TABLE models (
  model TEXT NOT NULL, version BIGINT NOT NULL, name TEXT NOT NULL,
  sha256 TEXT NOT NULL, size BIGINT NOT NULL,  -- of the file, which lies among the blobs
  manifest TEXT NOT NULL, key TEXT NOT NULL, signature TEXT NOT NULL,  -- as its publisher signed it
  brought_by TEXT NOT NULL, created_ms BIGINT NOT NULL,
  PRIMARY KEY (model, version, name)
);
CREATE TABLE model_choices (  -- never changed: the last one of a place and a file counts
  n BIGINT PRIMARY KEY,
  station TEXT NOT NULL, model TEXT NOT NULL, name TEXT NOT NULL,
  version BIGINT NOT NULL,   -- 0: what came with the program
  back_to BIGINT,            -- the choice that stands again, 0 for none of them
  chosen_by TEXT NOT NULL, chosen_ms BIGINT NOT NULL
);
