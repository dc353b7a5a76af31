-- Routes to keep open: lines with a width, or areas.
CREATE TABLE corridors (
  pk bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  id text NOT NULL UNIQUE,
  name text NOT NULL, description text NOT NULL, species text, status text NOT NULL,
  start_lon_e7 bigint, start_lat_e7 bigint, end_lon_e7 bigint, end_lat_e7 bigint,
  geometry text,                          -- GeoJSON, checked before it comes here
  width_m double precision NOT NULL,      -- of a line, from edge to edge
  optimization_score double precision, optimization_data text, created_by text,
  rev bigint NOT NULL, cloud_rev bigint NOT NULL, marks jsonb NOT NULL, author text,
  created_ms bigint NOT NULL, updated_ms bigint NOT NULL, deleted_ms bigint,
  geom geometry(Geometry, 4326)
);
CREATE INDEX corridors_by_place ON corridors USING gist (geom);

-- Zones as geometries beside their GeoJSON; those that are there are filled by the migration's program.
ALTER TABLE zones ADD COLUMN geom geometry(MultiPolygon, 4326);
CREATE INDEX zones_by_place ON zones USING gist (geom);
