-- What models said to people who asked. Rows of this home alone: both homes can work them out.
CREATE TABLE predictions (
  pk INTEGER PRIMARY KEY,
  id TEXT NOT NULL UNIQUE,
  key TEXT NOT NULL UNIQUE,               -- who asked what of which fix and model: the same answer is one row
  tier TEXT NOT NULL,                     -- from which positions it was made, see shared/sync/predictions.py
  animal_id TEXT, prediction_type TEXT NOT NULL,
  input_data TEXT NOT NULL, results TEXT NOT NULL,   -- JSON
  confidence REAL, model_version TEXT, created_by TEXT, created_ms INTEGER NOT NULL
);
CREATE INDEX predictions_by_animal ON predictions (animal_id, created_ms);

-- How suitable the place of the newest computed fix is: the instant of that fix, once somebody has looked.
ALTER TABLE computed ADD COLUMN habitat_ms INTEGER;
ALTER TABLE computed ADD COLUMN suitability REAL;
ALTER TABLE computed ADD COLUMN habitat_model TEXT;
ALTER TABLE computed ADD COLUMN habitat_missing TEXT;
