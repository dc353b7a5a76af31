-- What the positions became that devices upload, 64 bytes a row: ``key`` is of the device and its local id, ``said`` of
-- the bytes that came (cloud.store.phones works both out alike). Nobody looks for them by anything else.
CREATE TABLE phone_fixes (
  key uuid PRIMARY KEY,
  fix_id uuid NOT NULL,
  said bigint NOT NULL
);
INSERT INTO phone_fixes
  SELECT substring(encode(sha256(convert_to(device || chr(31) || local_id, 'UTF8')), 'hex') FOR 32)::uuid,
    server_id::uuid, ('x' || left(coalesce(hash, '0'), 16))::bit(64)::bigint
  FROM phone_ids WHERE tbl = 'tracking' AND device <> '';
DELETE FROM phone_ids WHERE tbl = 'tracking' AND device <> '';

-- Only ids that are unique everywhere are looked for by their row and have a number.
DROP INDEX phone_ids_by_row;
DROP INDEX phone_ids_by_change;
CREATE INDEX phone_ids_by_row ON phone_ids (tbl, server_id) WHERE device = '';
CREATE INDEX phone_ids_by_change ON phone_ids (tbl, seq) WHERE device = '';
