-- How this shard notices that the bucket is no longer the one it followed, and remembers it.
--
-- The anchor is the newest record that was stored, a barrier aside: where it stood and when the bucket took it. A bucket
-- that was restored from an older backup, and has grown past the cursor since, has another record there.
alter table cursor add column anchor_sequence bigint, add column anchor_at timestamptz;
-- Why the projection stands still, once it was noticed; null while the history is whole. A worker that starts later may
-- find nothing any more that tells it.
alter table cursor add column lost text;
