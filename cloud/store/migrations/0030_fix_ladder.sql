-- What maps of wide areas draw (cloud/store/ladder.py): of each square of each zoom the newest fix, and of each tile the
-- newest of each animal in it. Made of the fixes by the service as it runs, so that this change holds up nobody.
CREATE TABLE fix_ladder (
  zoom smallint NOT NULL,
  tile integer NOT NULL,                  -- its column and its row, in eleven bits each
  cell smallint NOT NULL,                 -- the square within the tile; -1 for the newest of an animal in the tile
  of_animal bigint NOT NULL,              -- whose newest it is; 0 in a square, and of fixes that nobody wears
  fix_id uuid NOT NULL,
  collar_pk bigint NOT NULL,
  wearer bigint NOT NULL,
  recorded_ms bigint NOT NULL,
  x integer NOT NULL, y integer NOT NULL, -- on the map, of 2^31 steps a side
  PRIMARY KEY (zoom, tile, cell, of_animal)
);
CREATE INDEX fix_ladder_by_fix ON fix_ladder (collar_pk, fix_id);
-- The number of the change log up to which the ladder is made; -1: it is not made yet.
INSERT INTO counters (name, value) VALUES ('laddered', -1);
