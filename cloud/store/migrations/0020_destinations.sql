-- Other systems that fixes are sent to, how far each has come, and what is on its way (cloud.store.destinations).
CREATE TABLE destinations (
  pk bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  id text NOT NULL UNIQUE,
  name text NOT NULL UNIQUE,
  kind text NOT NULL, url text NOT NULL,
  provider text NOT NULL,                 -- EarthRanger's provider, Movebank's feed
  token text NOT NULL,                    -- sealed with the home's key
  species text[], animals text[],         -- NULL: all; animals by id
  precision text NOT NULL,                -- 'exact' or 'reduced', as a viewer sees
  is_enabled boolean NOT NULL, interval_s integer NOT NULL,
  created_by text NOT NULL, created_ms bigint NOT NULL,
  -- How far it has come: first over all fixes by id (walked; NULL: done), then along the change log, whose last line
  -- looked at is position; reached is the last fix looked at of the line after it.
  walked uuid DEFAULT '00000000-0000-0000-0000-000000000000',
  position bigint NOT NULL, reached uuid,
  sent bigint NOT NULL DEFAULT 0, sent_ms bigint,
  failures integer NOT NULL DEFAULT 0, error_code text, error text, failed_ms bigint,
  due_ms bigint NOT NULL, job_id text
);
-- Of each fix what became of it there: taken (frozen or sent) once and for ever, or why it is held back.
CREATE TABLE destination_fixes (
  destination_pk bigint NOT NULL REFERENCES destinations (pk) ON DELETE CASCADE,
  fix_id uuid NOT NULL,
  state smallint NOT NULL,                -- 0 taken, 1 excluded by a rule, 2 nobody's, 3 too young, 4 never shown
  due_ms bigint,                          -- when one that is too young is old enough
  PRIMARY KEY (destination_pk, fix_id)
);
CREATE INDEX destination_fixes_held ON destination_fixes (destination_pk, due_ms) WHERE state <> 0;
-- Batches as they are sent, to the byte, however often. A refused one waits for a person.
CREATE TABLE destination_batches (
  destination_pk bigint NOT NULL REFERENCES destinations (pk) ON DELETE CASCADE,
  n bigint GENERATED ALWAYS AS IDENTITY,
  observations text[] NOT NULL,
  is_refused boolean NOT NULL DEFAULT false,
  PRIMARY KEY (destination_pk, n)
);
