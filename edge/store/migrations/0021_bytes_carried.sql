-- What a session carried, as bodies travelled (shared.sync.log); sessions before this were not counted.
ALTER TABLE sync_log ADD COLUMN bytes_up BIGINT NOT NULL DEFAULT 0;
ALTER TABLE sync_log ADD COLUMN bytes_down BIGINT NOT NULL DEFAULT 0;
