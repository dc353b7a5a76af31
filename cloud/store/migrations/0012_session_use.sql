-- When a session was used last, by both clocks (shared.accounts.moments): what nobody uses ends.
ALTER TABLE sessions ADD COLUMN used TEXT;
