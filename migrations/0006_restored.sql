-- A restored bucket has another creation time. If it has all that the shard has seen, the projection follows it, and
-- remembers which bucket it followed before, and up to which sequence the restored one continues that. So the same
-- backup can be restored a second time.
alter table cursor add column continued text, add column continued_to bigint;
