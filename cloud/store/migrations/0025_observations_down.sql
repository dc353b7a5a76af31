-- Observations lie in a station's scope or do not, as cloud/store/scope.py says.
INSERT INTO station_rows (station_id, entity, row_id)
  SELECT s.id, 'observation', r.id FROM stations s CROSS JOIN observations r
  WHERE (s.scope_geom IS NOT NULL OR s.scope_animals IS NOT NULL)
    AND (EXISTS (SELECT FROM changes m WHERE m.row_id = r.id AND m.entity = 'observation' AND m.kind = 'insert'
          AND m.origin = s.id)
      OR EXISTS (SELECT FROM station_rows w WHERE w.station_id = s.id AND w.entity = 'animal' AND w.row_id = r.animal_id)
      OR ST_Intersects(ST_SetSRID(ST_MakePoint(r.lon_e7 / 1e7, r.lat_e7 / 1e7), 4326), s.scope_geom))
  ON CONFLICT DO NOTHING;

-- The cursors of stations have passed them, and alerts and patrols that they entered: they are told again, once.
WITH told AS (
  SELECT entity, id, rev, row_number() OVER (ORDER BY entity, pk) AS n FROM (
    SELECT 'observation' AS entity, id, rev, pk FROM observations
    UNION ALL SELECT 'alert', id, rev, pk FROM alerts
    UNION ALL SELECT 'patrol_log', id, rev, pk FROM patrol_logs
    UNION ALL SELECT 'patrol', id, rev, pk FROM patrols
  ) r
), counted AS (
  UPDATE counters SET value = value + (SELECT count(*) FROM told) WHERE name = 'change' RETURNING value
)
INSERT INTO changes (seq, entity, row_id, kind, origin, rev)
  SELECT counted.value - (SELECT count(*) FROM told) + told.n, told.entity, told.id, 'update', '', told.rev
  FROM told, counted;
