-- What quality rules allow of one collar beside its species: JSON, NULL where nothing is its own.
ALTER TABLE collars ADD COLUMN limits TEXT;
