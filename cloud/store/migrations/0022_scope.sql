-- What a station is to know of: an area and animals. A station with neither has every record, as before.
ALTER TABLE stations ADD COLUMN scope_area text;        -- GeoJSON, as it was drawn
ALTER TABLE stations ADD COLUMN scope_animals text[];
ALTER TABLE stations ADD COLUMN scope_geom geometry(MultiPolygon, 4326);

-- Of those that have a scope, the records that lie in it: each was told to the station, or is in the feed for it.
CREATE TABLE station_rows (
  station_id text NOT NULL REFERENCES stations (id), entity text NOT NULL, row_id text NOT NULL,
  PRIMARY KEY (station_id, entity, row_id)
);
-- What entered or left a station's scope, numbered with the changes; fixes of a collar that entered, with their span.
CREATE TABLE scope_changes (
  seq bigint PRIMARY KEY,
  station_id text NOT NULL,
  entity text NOT NULL, row_id text NOT NULL,
  kind text NOT NULL,                     -- enter, leave
  first_ms bigint, last_ms bigint
);
CREATE INDEX scope_changes_by_station ON scope_changes (station_id, seq);

-- A station may compare fixes that came down to it; what it brought itself is its own. Rows of before count as brought.
ALTER TABLE station_collars ADD COLUMN is_brought boolean NOT NULL DEFAULT true;
