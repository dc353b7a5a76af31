-- What is known of the newest fixes of a collar, so that those which only come after them are judged without reading any
-- (cloud.store.appending); NULL: nothing. Every batch writes it, so pages keep room to do it in place.
ALTER TABLE collars ADD COLUMN calm_end bytea;
ALTER TABLE collars SET (fillfactor = 50);
