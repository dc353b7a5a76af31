-- Alerts go before records and decisions on fixes after the fixes, in channels of their own: what waits for the cloud is
-- found without a walk through the runs of fixes.
CREATE INDEX outbox_of_records ON outbox (oseq) WHERE entity <> 'fix';
CREATE INDEX outbox_of_decisions ON outbox (oseq) WHERE entity = 'fix' AND operation = 'flag';

-- What went over a link in each hour of measured time (edge/sync/profiles.py), for caps that no wrong clock gets around.
CREATE TABLE link_usage (
  profile TEXT NOT NULL, hour INTEGER NOT NULL, bytes INTEGER NOT NULL,
  PRIMARY KEY (profile, hour)
) WITHOUT ROWID;
