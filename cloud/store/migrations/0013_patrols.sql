-- Walks and drives of rangers.
CREATE TABLE patrols (
  pk bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  id text NOT NULL UNIQUE,
  started_ms bigint NOT NULL, ended_ms bigint,
  note text NOT NULL,
  track text,                             -- GeoJSON, checked before it comes here
  created_by text,
  rev bigint NOT NULL, cloud_rev bigint NOT NULL, marks jsonb NOT NULL, author text,
  created_ms bigint NOT NULL, updated_ms bigint NOT NULL, deleted_ms bigint
);
CREATE INDEX patrols_by_time ON patrols (started_ms);
