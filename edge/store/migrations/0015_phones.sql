-- Every change of a record and of fixes, numbered in the order of commits (one writer at a time): what phones pull.
-- Of fixes a line names their collar and the raw times between which they lie. The oldest lines go when there are a
-- million; a phone that has not come by for so long gets everything anew.
CREATE TABLE changes (
  seq INTEGER PRIMARY KEY AUTOINCREMENT,
  entity TEXT NOT NULL,
  row_id TEXT NOT NULL,                   -- of a record; of fixes their collar's
  kind TEXT NOT NULL,                     -- of fixes also: flag, move, gone (they have another collar's name now)
  first_ms INTEGER, last_ms INTEGER,
  origin TEXT NOT NULL,                   -- who brought it: a phone, the cloud, or '' for this home itself
  rev INTEGER                             -- the revision that a record came to have
);
CREATE INDEX changes_of_rows ON changes (row_id, seq) WHERE entity <> 'fix';

-- The number of this life of this home in the cursors of phones: 4096 to 8191, another one after a restore.
INSERT INTO facts VALUES ('phone_epoch', 4096 + abs(random() % 4096));

-- Ids that a device gave and what they stand for; '' is the device of ids that are unique everywhere (WatermelonDB's).
CREATE TABLE phone_ids (
  device TEXT NOT NULL, tbl TEXT NOT NULL, local_id TEXT NOT NULL,
  server_id TEXT NOT NULL, hash TEXT, seq INTEGER,
  PRIMARY KEY (device, tbl, local_id)
) WITHOUT ROWID;
CREATE INDEX phone_ids_by_row ON phone_ids (tbl, server_id);
CREATE INDEX phone_ids_by_change ON phone_ids (tbl, seq);

-- What was ruled of a row that a phone pushed, what its user is told, and the row as it came.
CREATE TABLE phone_rulings (
  pk INTEGER PRIMARY KEY,
  origin TEXT NOT NULL, author TEXT NOT NULL, tbl TEXT NOT NULL, row_id TEXT NOT NULL,
  kind TEXT NOT NULL,                     -- deleted: it goes from the phone; revived: it comes back; told: nothing of it
  code TEXT NOT NULL, detail TEXT NOT NULL, body TEXT NOT NULL,
  made_ms INTEGER NOT NULL, seq INTEGER
);
CREATE INDEX phone_rulings_by_origin ON phone_rulings (origin, seq);
CREATE INDEX phone_rulings_unnumbered ON phone_rulings (pk) WHERE seq IS NULL;

-- The answers to uploads that their senders gave a name: a repeat gets the same.
CREATE TABLE uploads (
  author TEXT NOT NULL, key TEXT NOT NULL, hash TEXT NOT NULL, answer TEXT NOT NULL, made_ms INTEGER NOT NULL,
  PRIMARY KEY (author, key)
) WITHOUT ROWID;
