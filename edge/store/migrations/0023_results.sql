-- What models said and the cloud has not heard: written by triggers in the transaction that writes it, whoever does.
-- Of an animal its steps from since_ms on, and what else was said of it; since_ms beyond every step: that alone.
CREATE TABLE unsent_results (animal_pk INTEGER PRIMARY KEY, since_ms INTEGER NOT NULL);
CREATE TRIGGER unsent_step_new AFTER INSERT ON steps BEGIN
  INSERT INTO unsent_results VALUES (NEW.animal_pk, NEW.ended_ms)
    ON CONFLICT (animal_pk) DO UPDATE SET since_ms = min(since_ms, excluded.since_ms);
END;
CREATE TRIGGER unsent_step_gone AFTER DELETE ON steps BEGIN
  INSERT INTO unsent_results VALUES (OLD.animal_pk, OLD.ended_ms)
    ON CONFLICT (animal_pk) DO UPDATE SET since_ms = min(since_ms, excluded.since_ms);
END;
CREATE TRIGGER unsent_computed_new AFTER INSERT ON computed BEGIN
  INSERT INTO unsent_results VALUES (NEW.animal_pk, 4611686018427387904) ON CONFLICT (animal_pk) DO NOTHING;
END;
CREATE TRIGGER unsent_computed_now AFTER UPDATE ON computed BEGIN
  INSERT INTO unsent_results VALUES (NEW.animal_pk, 4611686018427387904) ON CONFLICT (animal_pk) DO NOTHING;
END;
CREATE TRIGGER unsent_computed_gone AFTER DELETE ON computed BEGIN
  INSERT INTO unsent_results VALUES (OLD.animal_pk, 4611686018427387904) ON CONFLICT (animal_pk) DO NOTHING;
END;
CREATE TRIGGER unsent_advice_new AFTER INSERT ON advice BEGIN
  INSERT INTO unsent_results VALUES (NEW.animal_pk, 4611686018427387904) ON CONFLICT (animal_pk) DO NOTHING;
END;
CREATE TRIGGER unsent_advice_now AFTER UPDATE ON advice WHEN NEW.said IS NOT OLD.said OR NEW.missing IS NOT OLD.missing
  BEGIN
  INSERT INTO unsent_results VALUES (NEW.animal_pk, 4611686018427387904) ON CONFLICT (animal_pk) DO NOTHING;
END;
INSERT INTO unsent_results SELECT animal_pk, 4611686018427387904 FROM computed;
INSERT INTO unsent_results SELECT animal_pk, min(ended_ms) FROM steps GROUP BY animal_pk HAVING true
  ON CONFLICT (animal_pk) DO UPDATE SET since_ms = excluded.since_ms;

-- Where an animal near a zone may be, as it was foretold from its fix of then.
CREATE TABLE forecasts (animal_pk INTEGER PRIMARY KEY, recorded_ms INTEGER NOT NULL, said TEXT NOT NULL);
CREATE TRIGGER unsent_forecast_new AFTER INSERT ON forecasts BEGIN
  INSERT INTO unsent_results VALUES (NEW.animal_pk, 4611686018427387904) ON CONFLICT (animal_pk) DO NOTHING;
END;

-- Tiles of maps that changed since the cloud had them, and how far the map reached that it had.
CREATE TABLE unsent_tiles (
  animal_pk INTEGER NOT NULL, row INTEGER NOT NULL, "column" INTEGER NOT NULL,
  PRIMARY KEY (animal_pk, row, "column")
) WITHOUT ROWID;
CREATE TRIGGER unsent_tile_new AFTER INSERT ON utilisation_tiles BEGIN
  INSERT OR IGNORE INTO unsent_tiles VALUES (NEW.animal_pk, NEW.row, NEW."column");
END;
CREATE TRIGGER unsent_tile_gone AFTER DELETE ON utilisation_tiles BEGIN
  INSERT OR IGNORE INTO unsent_tiles VALUES (OLD.animal_pk, OLD.row, OLD."column");
END;
INSERT INTO unsent_tiles SELECT animal_pk, row, "column" FROM utilisation_tiles;
CREATE TABLE sent_maps (animal_pk INTEGER PRIMARY KEY, through_ms INTEGER NOT NULL);
