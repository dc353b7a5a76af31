-- How far the fixes are taken that the cloud took itself, over the internet: a number of its changes, and where a page
-- ended among the fixes of one change, the id of the last one. In the life of the cloud that enrolment.cloud_epoch names.
ALTER TABLE enrolment ADD COLUMN heard_cursor INTEGER NOT NULL DEFAULT 0;
ALTER TABLE enrolment ADD COLUMN heard_after TEXT;

-- Rows that came so, which a cloud that was restored from a backup may lack. They were never sent, so they are in no batch.
CREATE TABLE heard_above (
  first_pk INTEGER PRIMARY KEY, last_pk INTEGER NOT NULL,
  taken_ms INTEGER NOT NULL
);
