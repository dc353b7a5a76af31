-- Long work that somebody asked for. What people see of it is here; whose turn it is lies in the tables of procrastinate.
-- Columns that hold JSON are text: they are handed on, never searched.
CREATE TABLE jobs (
  seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  id text NOT NULL UNIQUE,
  kind text NOT NULL,
  owner text NOT NULL,                    -- the id of a user
  parameters text NOT NULL,               -- JSON
  key text,                               -- how the owner calls this wish: the same again is the same job
  state text NOT NULL CHECK (state IN ('queued', 'running', 'succeeded', 'failed', 'cancelled')),
  percent double precision NOT NULL DEFAULT 0,
  message text NOT NULL DEFAULT '',
  best text,                              -- JSON
  told bigint NOT NULL DEFAULT 0,         -- the number of the event that the progress stands for
  events bigint NOT NULL DEFAULT 0,       -- the number of the newest event
  lines integer NOT NULL DEFAULT 0,       -- how many lines its log has
  attempts integer NOT NULL DEFAULT 0,    -- how often it was begun; a writer must name the newest
  failures integer NOT NULL DEFAULT 0,
  is_cancel_asked boolean NOT NULL DEFAULT false,
  kept text,                              -- JSON: what the next attempt goes on from
  result text,                            -- JSON
  error_code text, error text,
  queue_id bigint,                        -- of procrastinate_jobs
  made_ms bigint NOT NULL, due_ms bigint, started_ms bigint, ended_ms bigint,
  UNIQUE (owner, kind, key)
);
CREATE INDEX jobs_by_owner ON jobs (owner, seq);
CREATE INDEX jobs_alive ON jobs (seq) WHERE state IN ('queued', 'running');

-- Changes of state and lines of the log, numbered by jobs.events. Progress is not kept here: only the newest counts.
CREATE TABLE job_events (
  job_seq bigint NOT NULL REFERENCES jobs (seq) ON DELETE CASCADE,
  n bigint NOT NULL,
  at_ms bigint NOT NULL,
  name text NOT NULL,                     -- 'state' or 'log'
  text text NOT NULL,
  PRIMARY KEY (job_seq, n)
);

-- What a job made, for its owner to fetch: here, because those who answer requests and those who work share no disk.
CREATE TABLE job_files (
  job_seq bigint PRIMARY KEY REFERENCES jobs (seq) ON DELETE CASCADE,
  attempt integer NOT NULL,
  name text NOT NULL, media_type text NOT NULL,
  bytes bigint NOT NULL, sha256 bytea NOT NULL,
  seen_as text NOT NULL,                  -- how precise it is: who sees less by now does not get it
  expires_ms bigint NOT NULL
);
CREATE INDEX job_files_by_expiry ON job_files (expires_ms);
CREATE TABLE job_parts (
  job_seq bigint NOT NULL REFERENCES jobs (seq) ON DELETE CASCADE,
  attempt integer NOT NULL,
  n integer NOT NULL,
  body bytea NOT NULL,                    -- zstd
  PRIMARY KEY (job_seq, attempt, n)
);
