-- What the corridor policy advised on the newest computed fix of each animal, given the zones and corridors of then.
CREATE TABLE advice (
  animal_pk INTEGER PRIMARY KEY,
  recorded_ms INTEGER NOT NULL,           -- of the fix
  areas TEXT NOT NULL,                    -- which zones and corridors there were
  said TEXT, missing TEXT                 -- JSON, or why there is none
);
