-- The change log is folded (cloud/store/folding.py): up to this number it has of each row and origin the newest line alone.
INSERT INTO counters (name, value) VALUES ('folded', 0);
CREATE INDEX changes_of_fixes ON changes (row_id, kind, origin, seq) WHERE entity = 'fix';
CREATE INDEX scope_changes_of_rows ON scope_changes (station_id, entity, row_id, seq);
-- How far a station said to have come in the fixes that the cloud took itself, and when; some links never take them.
ALTER TABLE stations ADD COLUMN heard_cursor bigint NOT NULL DEFAULT 0;
ALTER TABLE stations ADD COLUMN heard_ms bigint;
