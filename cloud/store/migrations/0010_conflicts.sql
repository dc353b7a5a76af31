-- What two people said of the same thing and a home could not both take; the same table in both homes (shared.sync.clashes).
CREATE TABLE conflicts (
  id TEXT PRIMARY KEY,
  seq BIGINT NOT NULL,                    -- in the order of commits of the home that decided; a resolution has a new one
  kind TEXT NOT NULL, entity TEXT NOT NULL, row_id TEXT NOT NULL, other_id TEXT,
  ours TEXT NOT NULL, theirs TEXT NOT NULL,  -- JSON objects of columns: what stands, what lost
  author TEXT, origin TEXT NOT NULL, made_ms BIGINT NOT NULL, noted_ms BIGINT NOT NULL,
  needs_person BIGINT NOT NULL, status TEXT NOT NULL,
  resolution TEXT, merged TEXT, note TEXT, resolved_by TEXT, resolved_ms BIGINT,
  is_from_above BIGINT NOT NULL           -- at a station: the cloud decided
);
CREATE INDEX conflicts_by_seq ON conflicts (seq);
CREATE INDEX conflicts_by_record ON conflicts (entity, row_id);
CREATE INDEX conflicts_by_status ON conflicts (status, noted_ms);
INSERT INTO counters (name, value) VALUES ('conflict', 0);
