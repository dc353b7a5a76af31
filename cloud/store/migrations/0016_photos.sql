-- Small copies of photographs, or why there is none; made when somebody first asks.
CREATE TABLE blob_copies (
  sha256 TEXT PRIMARY KEY REFERENCES blobs (sha256),
  jpeg BYTEA, why TEXT, made_ms BIGINT NOT NULL
);
