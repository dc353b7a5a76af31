-- What the alarms remember of each animal, written in the transaction that writes its alerts. By id: records may be
-- named before they come.
CREATE TABLE watches (
  animal_id TEXT PRIMARY KEY,
  judged_ms INTEGER,                      -- the newest fix that was judged
  body BLOB NOT NULL
) WITHOUT ROWID;

-- Rules that a person silenced until then, for one animal or ('') for all.
CREATE TABLE alert_mutes (
  rule TEXT NOT NULL, animal_id TEXT NOT NULL,
  until_ms INTEGER NOT NULL, made_ms INTEGER NOT NULL, author TEXT,
  PRIMARY KEY (rule, animal_id)
) WITHOUT ROWID;

-- When the station could not hear: spans in which it did not run, as JSON. At most one row.
CREATE TABLE listening (
  pk INTEGER PRIMARY KEY CHECK (pk = 1),
  ticked_ms INTEGER NOT NULL, deaf TEXT NOT NULL
);
