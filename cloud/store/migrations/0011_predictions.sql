-- What models said to people who asked. Rows of this home alone: both homes can work them out.
CREATE TABLE predictions (
  pk bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  id text NOT NULL UNIQUE,
  key text NOT NULL UNIQUE,               -- who asked what of which fix and model: the same answer is one row
  tier text NOT NULL,                     -- from which positions it was made, see shared/sync/predictions.py
  animal_id text, prediction_type text NOT NULL,
  input_data text NOT NULL, results text NOT NULL,   -- JSON
  confidence double precision, model_version text, created_by text, created_ms bigint NOT NULL
);
CREATE INDEX predictions_by_animal ON predictions (animal_id, created_ms);
