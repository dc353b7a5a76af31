-- Models that were brought to the station beside those of its program, and what was chosen of them.
CREATE TABLE models (
  model TEXT NOT NULL, version INTEGER NOT NULL, name TEXT NOT NULL,
  sha256 TEXT NOT NULL, size INTEGER NOT NULL,  -- of the file, which lies among the blobs
  manifest TEXT NOT NULL, key TEXT NOT NULL, signature TEXT NOT NULL,  -- as its publisher signed it
  brought_by TEXT NOT NULL, created_ms INTEGER NOT NULL,
  PRIMARY KEY (model, version, name)
);
CREATE TABLE model_choices (  -- never changed: the last one of a place and a file counts
  n INTEGER PRIMARY KEY,
  station TEXT NOT NULL, model TEXT NOT NULL, name TEXT NOT NULL,
  version INTEGER NOT NULL,   -- 0: what came with the program
  back_to INTEGER,            -- the choice that stands again, 0 for none of them
  chosen_by TEXT NOT NULL, chosen_ms INTEGER NOT NULL
);
