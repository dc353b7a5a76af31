-- Photographs and other files by the hash of their bytes, in the parts in which they came; the same tables in both homes.
CREATE TABLE blobs (
  sha256 TEXT PRIMARY KEY,
  size BIGINT NOT NULL, received BIGINT NOT NULL, is_whole BIGINT NOT NULL,
  media_type TEXT NOT NULL, owner TEXT, origin TEXT NOT NULL,  -- origin: the station that brought it, '' for this home
  created_ms BIGINT NOT NULL, touched_ms BIGINT NOT NULL,
  sent_ms BIGINT                          -- at a station: when the cloud was known to have it
);
CREATE INDEX blobs_unsent ON blobs (created_ms) WHERE sent_ms IS NULL;
CREATE TABLE blob_parts (
  sha256 TEXT NOT NULL REFERENCES blobs (sha256),
  first BIGINT NOT NULL, part BYTEA NOT NULL,
  PRIMARY KEY (sha256, first)
);
