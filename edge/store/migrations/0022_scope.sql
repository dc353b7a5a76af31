-- Records that left this station's scope: tombstones here, living in the cloud, which is never told that they are deleted.
CREATE TABLE left_scope (
  entity TEXT NOT NULL, row_id TEXT NOT NULL,
  PRIMARY KEY (entity, row_id)
) WITHOUT ROWID;
