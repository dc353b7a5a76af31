-- The revision that a record came to have: what a phone knew of it follows from the number of a change.
ALTER TABLE changes ADD COLUMN rev bigint;
CREATE INDEX changes_of_rows ON changes (row_id, seq) WHERE entity <> 'fix';

-- Ids that a device gave and what they stand for; '' is the device of ids that are unique everywhere (WatermelonDB's).
CREATE TABLE phone_ids (
  device text NOT NULL, tbl text NOT NULL, local_id text NOT NULL,
  server_id text NOT NULL, hash text, seq bigint,
  PRIMARY KEY (device, tbl, local_id)
);
CREATE INDEX phone_ids_by_row ON phone_ids (tbl, server_id);
CREATE INDEX phone_ids_by_change ON phone_ids (tbl, seq);

-- What was ruled of a row that a phone pushed, what its user is told, and the row as it came.
CREATE TABLE phone_rulings (
  pk bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  origin text NOT NULL, author text NOT NULL, tbl text NOT NULL, row_id text NOT NULL,
  kind text NOT NULL,                     -- deleted: it goes from the phone; revived: it comes back; told: nothing of it
  code text NOT NULL, detail text NOT NULL, body text NOT NULL,
  made_ms bigint NOT NULL, seq bigint
);
CREATE INDEX phone_rulings_by_origin ON phone_rulings (origin, seq);
CREATE INDEX phone_rulings_unnumbered ON phone_rulings (pk) WHERE seq IS NULL;

-- The answers to uploads that their senders gave a name: a repeat gets the same.
CREATE TABLE uploads (
  author text NOT NULL, key text NOT NULL, hash text NOT NULL, answer text NOT NULL, made_ms bigint NOT NULL,
  PRIMARY KEY (author, key)
);
