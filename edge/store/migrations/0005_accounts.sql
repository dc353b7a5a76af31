-- Accounts: the same tables in both homes, because shared.accounts speaks to both in the same words.
CREATE TABLE users (
  id TEXT PRIMARY KEY,
  email TEXT NOT NULL UNIQUE, name TEXT NOT NULL, role TEXT NOT NULL, phone TEXT, organization TEXT,
  stations TEXT NOT NULL,                 -- ids in a JSON array; "*" is all
  is_active BIGINT NOT NULL, is_email_verified BIGINT NOT NULL, is_phone_verified BIGINT NOT NULL,
  password_hash TEXT,                     -- Argon2id
  totp_sealed TEXT, totp_pending TEXT, totp_step BIGINT NOT NULL,  -- the last step that a code was taken of
  recovery TEXT NOT NULL,                 -- hashes of what is left, in a JSON array
  origin TEXT NOT NULL, is_handed BIGINT NOT NULL, revoked_ms BIGINT,
  created_ms BIGINT NOT NULL, updated_ms BIGINT NOT NULL, last_login_ms BIGINT
);
CREATE TABLE sessions (
  id TEXT PRIMARY KEY,
  user_id TEXT NOT NULL, device_id TEXT,
  factor TEXT,                            -- when a second factor was shown last, by both clocks
  begun_ms BIGINT NOT NULL, born_ms BIGINT,  -- born_ms: the first use on a sure clock
  used_ms BIGINT NOT NULL, revoked_ms BIGINT
);
CREATE INDEX sessions_by_user ON sessions (user_id);
CREATE TABLE refresh_tokens (hash TEXT PRIMARY KEY, session_id TEXT NOT NULL, is_current BIGINT NOT NULL);
CREATE INDEX refresh_tokens_by_session ON refresh_tokens (session_id);
CREATE TABLE challenges (
  id TEXT PRIMARY KEY,
  email TEXT NOT NULL, purpose TEXT NOT NULL, kind TEXT NOT NULL, code_hash TEXT, tries BIGINT NOT NULL,
  made TEXT NOT NULL, address TEXT NOT NULL, body TEXT NOT NULL,
  UNIQUE (email, purpose)
);
CREATE TABLE attempts (n BIGINT PRIMARY KEY, what TEXT NOT NULL, at TEXT NOT NULL);
CREATE INDEX attempts_by_what ON attempts (what);
CREATE TABLE api_keys (
  id TEXT PRIMARY KEY,
  name TEXT NOT NULL, role TEXT NOT NULL, scopes TEXT NOT NULL, stations TEXT NOT NULL, made_by TEXT NOT NULL,
  created_ms BIGINT NOT NULL, expires_ms BIGINT NOT NULL, revoked_ms BIGINT,
  hash TEXT NOT NULL, former_hash TEXT, former_until_ms BIGINT
);
-- Each line carries the hash of the one before.
CREATE TABLE audit (
  seq BIGINT PRIMARY KEY,
  at_ms BIGINT NOT NULL, actor TEXT NOT NULL, action TEXT NOT NULL, detail TEXT NOT NULL,
  prev_hash TEXT NOT NULL, hash TEXT NOT NULL
);
