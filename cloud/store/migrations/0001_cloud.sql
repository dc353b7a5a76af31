-- The cloud's database. Instants are bigint milliseconds since 1970, positions 1e-7 degree, as at the station, so that
-- what is compared is equal to the bit; the views at the end are for people who write SQL.
CREATE EXTENSION IF NOT EXISTS postgis;

CREATE TABLE facts (name text PRIMARY KEY, value text NOT NULL);
-- Cursors are of one life of this database: after a restore there is another epoch, and stations begin anew.
INSERT INTO facts VALUES ('cloud_epoch', left(replace(gen_random_uuid()::text, '-', ''), 16));

-- Every transaction that changes something takes its numbers here as its last step: numbers in the order of commits.
CREATE TABLE counters (name text PRIMARY KEY, value bigint NOT NULL);
INSERT INTO counters VALUES ('change', 0), ('fixes', 0);

CREATE TABLE changes (
  seq bigint PRIMARY KEY,
  entity text NOT NULL,
  row_id text NOT NULL,                   -- of a record; of fixes their collar's
  kind text NOT NULL,
  first_ms bigint, last_ms bigint,        -- of fixes: the raw times between which they lie
  origin text NOT NULL                    -- who brought it: a station, or '' for this home itself
);
CREATE INDEX changes_of_records ON changes (seq) WHERE entity <> 'fix';

CREATE TABLE animals (
  pk bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  id text NOT NULL UNIQUE,
  name text NOT NULL, species text NOT NULL,
  status text NOT NULL, health_status text NOT NULL, gender text NOT NULL,
  age double precision, weight double precision, notes text, created_by text,
  rev bigint NOT NULL, cloud_rev bigint NOT NULL, marks jsonb NOT NULL, author text,
  created_ms bigint NOT NULL, updated_ms bigint NOT NULL, deleted_ms bigint
);
CREATE INDEX animals_active ON animals (name) WHERE status = 'active' AND deleted_ms IS NULL;

CREATE TABLE collars (
  pk bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  id text NOT NULL UNIQUE,
  stands_for_animal_pk bigint REFERENCES animals (pk),  -- positions a person entered without a collar hang on such a row
  model text, fix_interval_s bigint, notes text,
  last_heard_ms bigint, battery_mv bigint, battery_pct double precision, firmware text,
  first_fix_ms bigint, last_fix_ms bigint,    -- no fix of it lies outside these corrected times
  has_rolled boolean NOT NULL DEFAULT false,  -- some fix's corrected time is not its raw one: months tell nothing then
  rev bigint NOT NULL, cloud_rev bigint NOT NULL, marks jsonb NOT NULL, author text,
  created_ms bigint NOT NULL, updated_ms bigint NOT NULL, deleted_ms bigint
);

CREATE TABLE collar_aliases (
  alias text PRIMARY KEY,
  collar_pk bigint NOT NULL REFERENCES collars (pk)
);
CREATE INDEX collar_aliases_by_collar ON collar_aliases (collar_pk);

CREATE TABLE deployments (
  pk bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  id text NOT NULL UNIQUE,
  collar_pk bigint NOT NULL REFERENCES collars (pk),
  animal_pk bigint NOT NULL REFERENCES animals (pk),
  started_ms bigint NOT NULL, ended_ms bigint,
  notes text,
  rev bigint NOT NULL, cloud_rev bigint NOT NULL, marks jsonb NOT NULL, author text,
  created_ms bigint NOT NULL, updated_ms bigint NOT NULL, deleted_ms bigint
);
CREATE INDEX deployments_by_collar ON deployments (collar_pk, started_ms);
CREATE INDEX deployments_by_animal ON deployments (animal_pk, started_ms);

CREATE TABLE observations (
  pk bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  id text NOT NULL UNIQUE,
  animal_id text,                         -- by id: an observation may come before its animal does
  observation_type text NOT NULL, description text NOT NULL,
  recorded_ms bigint NOT NULL, lon_e7 bigint, lat_e7 bigint,
  photo_url text, observer text, local_id text,
  rev bigint NOT NULL, cloud_rev bigint NOT NULL, marks jsonb NOT NULL, author text,
  created_ms bigint NOT NULL, updated_ms bigint NOT NULL, deleted_ms bigint
);
CREATE INDEX observations_by_time ON observations (recorded_ms);
CREATE INDEX observations_by_animal ON observations (animal_id, recorded_ms);

CREATE TABLE zones (
  pk bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  id text NOT NULL UNIQUE,
  name text NOT NULL, zone_type text NOT NULL, risk_level text NOT NULL,
  geometry text NOT NULL,                 -- GeoJSON, checked before it comes here
  buffer_m double precision NOT NULL, description text NOT NULL, is_active boolean NOT NULL,
  rev bigint NOT NULL, cloud_rev bigint NOT NULL, marks jsonb NOT NULL, author text,
  created_ms bigint NOT NULL, updated_ms bigint NOT NULL, deleted_ms bigint
);

CREATE TABLE alerts (
  pk bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  id text NOT NULL UNIQUE,
  animal_id text, zone_id text,           -- by id: an alert never waits for its animal
  alert_type text NOT NULL, severity text NOT NULL, status text NOT NULL, title text NOT NULL, message text NOT NULL,
  lon_e7 bigint, lat_e7 bigint, detected_ms bigint NOT NULL, note text,
  acknowledged_ms bigint, acknowledged_by text, resolved_ms bigint, is_late boolean NOT NULL,
  rev bigint NOT NULL, cloud_rev bigint NOT NULL, marks jsonb NOT NULL, author text,
  created_ms bigint NOT NULL, updated_ms bigint NOT NULL, deleted_ms bigint
);
CREATE INDEX alerts_by_time ON alerts (detected_ms);
CREATE INDEX alerts_by_animal ON alerts (animal_id, detected_ms);

-- A fix's id begins with 48 bits of raw device time, so the month's partition follows from the id alone, and the bare id
-- is the key. Months get their partition when their first fix comes; what no clock could mean goes to the two ends.
-- No foreign keys: the writer resolves collars and animals, which are never removed, so a check a row would prove nothing.
CREATE TABLE fixes (
  id uuid NOT NULL,
  collar_pk bigint NOT NULL,
  animal_pk bigint,
  recorded_ms bigint NOT NULL,            -- corrected
  raw_ms bigint NOT NULL,                 -- as the device said
  received_ms bigint NOT NULL,            -- the earliest copy, by a station's clock
  sure_received_ms bigint,                -- the earliest copy that came while that clock was sure
  network_ms bigint,
  lon_e7 bigint, lat_e7 bigint,           -- NULL: the receiver failed, an event without geometry
  flags integer NOT NULL,
  source text NOT NULL,
  alt_m double precision, speed_mps double precision, heading_deg double precision,
  hdop double precision, pdop double precision, sats bigint, h_acc_m double precision, seq bigint,
  battery_mv bigint, battery_pct double precision, temperature_c double precision,
  rssi_dbm double precision, snr_db double precision,
  is_clock_unset smallint NOT NULL DEFAULT 0,
  said_animal_pk bigint,                  -- whom the sender named; counts where no deployment does
  link text, local_id text, activity_type text, notes text,
  geom geometry(Point, 4326) GENERATED ALWAYS AS (
    CASE WHEN lon_e7 BETWEEN -1800000000 AND 1800000000 AND lat_e7 BETWEEN -900000000 AND 900000000
      THEN ST_SetSRID(ST_MakePoint(lon_e7 / 1e7::float8, lat_e7 / 1e7::float8), 4326) END
  ) STORED,
  -- the order of ids is that of corrected times, but for a few
  is_in_order boolean GENERATED ALWAYS AS (recorded_ms = raw_ms AND raw_ms >= 0) STORED,
  PRIMARY KEY (id)
) PARTITION BY RANGE (id);
CREATE INDEX fixes_by_collar ON fixes (collar_pk, recorded_ms, id);
CREATE INDEX fixes_by_animal ON fixes (animal_pk, recorded_ms) WHERE animal_pk IS NOT NULL;
CREATE INDEX fixes_by_time ON fixes USING brin (recorded_ms);
CREATE INDEX fixes_out_of_order ON fixes (recorded_ms, id) WHERE NOT is_in_order;
CREATE INDEX fixes_by_place ON fixes USING gist (geom);
CREATE TABLE fixes_before_2000 PARTITION OF fixes
  FOR VALUES FROM (MINVALUE) TO ('00dc6acf-ac00-0000-0000-000000000000');
CREATE TABLE fixes_from_2050 PARTITION OF fixes
  FOR VALUES FROM ('024bce5c-f000-0000-0000-000000000000') TO (MAXVALUE);

-- Stations, and the one-time codes by which they come to be known.
CREATE TABLE stations (
  id text PRIMARY KEY,
  name text NOT NULL,
  public_key bytea NOT NULL,
  enrolled_ms bigint NOT NULL, last_seen_ms bigint, retired_ms bigint,
  cursor bigint NOT NULL DEFAULT 0        -- how far it said to have come in the changes
);
-- The collars that a station has brought fixes of: it may read those again.
CREATE TABLE station_collars (
  station_id text NOT NULL REFERENCES stations (id), collar_pk bigint NOT NULL REFERENCES collars (pk),
  PRIMARY KEY (station_id, collar_pk)
);
CREATE TABLE enrolment_codes (
  hash bytea PRIMARY KEY,                 -- of the code; the code itself is shown once and kept nowhere
  station_id text NOT NULL, name text NOT NULL,
  made_ms bigint NOT NULL, expires_ms bigint NOT NULL, used_ms bigint
);

-- The head of each stream of batches, the receipt of each batch with the very answer that was given, and each operation
-- that was ever taken: a repeat, also over another stream, is answered and not applied.
CREATE TABLE streams (
  station_id text NOT NULL REFERENCES stations (id), epoch text NOT NULL, channel text NOT NULL,
  n bigint NOT NULL, hash bytea NOT NULL,
  PRIMARY KEY (station_id, epoch, channel)
);
CREATE TABLE receipts (
  station_id text NOT NULL, epoch text NOT NULL, channel text NOT NULL, n bigint NOT NULL,
  hash bytea NOT NULL, answer bytea NOT NULL, received_ms bigint NOT NULL,
  PRIMARY KEY (station_id, epoch, channel, n)
);
CREATE TABLE applied_operations (id text PRIMARY KEY, outcome text NOT NULL);
CREATE TABLE quarantine (
  pk bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  station_id text NOT NULL, epoch text NOT NULL, channel text NOT NULL, n bigint NOT NULL,
  code text NOT NULL, detail text NOT NULL, body bytea NOT NULL, received_ms bigint NOT NULL
);
CREATE TABLE lost_edits (
  pk bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  operation_id text NOT NULL, entity text NOT NULL, row_id text NOT NULL,
  origin text NOT NULL, author text, columns jsonb NOT NULL, kept jsonb NOT NULL, received_ms bigint NOT NULL
);

CREATE VIEW tracking AS
  SELECT f.id, c.id AS collar_id, a.id AS animal_id, a.name AS animal, a.species,
    to_timestamp(f.recorded_ms / 1000.0) AS recorded_at, to_timestamp(f.received_ms / 1000.0) AS received_at,
    f.lon_e7 / 1e7 AS lon_deg, f.lat_e7 / 1e7 AS lat_deg, f.speed_mps, f.battery_mv, f.flags, f.geom
  FROM fixes f JOIN collars c ON c.pk = f.collar_pk LEFT JOIN animals a ON a.pk = f.animal_pk;
