-- The epoch of the last batch of each station; when an earlier one wrote again, which a card does that runs twice.
ALTER TABLE stations ADD COLUMN last_epoch text;
ALTER TABLE stations ADD COLUMN doubled_ms bigint;
