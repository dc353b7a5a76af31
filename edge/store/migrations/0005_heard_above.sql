-- How far the fixes are taken that the cloud took itself, over the internet: a number of its changes, and where a page
-- ended among the fixes of one change, the id of the last one. In the life of the cloud that enrolment.cloud_epoch names.
ALTER TABLE enrolment ADD COLUMN heard_cursor INTEGER NOT NULL DEFAULT 0;
ALTER TABLE enrolment ADD COLUMN heard_after TEXT;
