-- Phones that enrolled, by the key that each made itself, and the one-time codes by which they do; as in the other home.
CREATE TABLE phones (
  id TEXT PRIMARY KEY,
  user_id TEXT NOT NULL, name TEXT NOT NULL, public_key TEXT NOT NULL,
  counter BIGINT NOT NULL,                -- the number of its last login by key
  enrolled_ms BIGINT NOT NULL, used_ms BIGINT NOT NULL, revoked_ms BIGINT
);
CREATE INDEX phones_by_user ON phones (user_id);
CREATE TABLE phone_codes (
  hash TEXT PRIMARY KEY,                  -- of the code; the code itself is shown once and kept nowhere
  user_id TEXT NOT NULL, made_by TEXT NOT NULL,
  made TEXT NOT NULL, made_ms BIGINT NOT NULL,  -- by both clocks, and for people
  phone_id TEXT                           -- the phone that took it
);
