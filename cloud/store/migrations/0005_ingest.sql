-- Every frame that reached the cloud itself, as it came, before its sender heard a word. Numbers are given while the
-- counter's row is held to the commit: one that follows the ledger by number misses no frame. Nothing is removed here.
CREATE TABLE frames (
  seq bigint PRIMARY KEY,
  day integer NOT NULL,                   -- of reception, UTC, days since 1970
  digest bytea NOT NULL,                  -- of link, framing, topic and payload
  link text NOT NULL, framing text NOT NULL, topic text NOT NULL, device text NOT NULL,
  payload bytea NOT NULL,
  received_ms bigint NOT NULL,
  clock text NOT NULL,                    -- how far the clock could be trusted
  copies bigint NOT NULL DEFAULT 1,       -- identical frames of one link in one day are one row
  last_received_ms bigint NOT NULL,
  UNIQUE (day, digest)
);
INSERT INTO counters VALUES ('frame', 0), ('frames', 0);  -- the newest number; how many there are

-- How far the consumers of the ledger have come.
CREATE TABLE cursors (consumer text PRIMARY KEY, position bigint NOT NULL);

-- Frames that no codec can read, or whose fixes the database does not take. A codec that learns takes them off.
CREATE TABLE undecoded (
  frame_seq bigint PRIMARY KEY REFERENCES frames (seq),
  reason text NOT NULL
);

-- The fixes that this home took itself, as stations read them.
CREATE INDEX changes_of_own_fixes ON changes (seq) WHERE entity = 'fix' AND origin = '' AND kind = 'insert';
-- The collars whose fixes a station reads here; NULL: all.
ALTER TABLE stations ADD COLUMN follows text[];
