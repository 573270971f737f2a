-- When the record at the cursor was stored in the bucket. A bucket that was restored from an older backup and has grown
-- since may have passed the cursor: then another record stands there, with another time.
alter table cursor add column recorded_at timestamptz;
