-- A copy that has what the bucket lacks is kept until an operator decides.
--
-- The version of the copy when a record came that is not based on it. While this is the copy's version, the projection
-- stores none of the owner's records on top of the copy. A release without this column resets such a copy, and the
-- version then is another one.
alter table owner add column doubted_version bigint;
-- When a comparison with the bucket showed that the bucket lacks what the copy has; null while that is not known.
alter table owner add column lost_at timestamptz;
alter table owner add constraint a_lost_copy_is_doubted check (lost_at is null or doubted_version is not null);
-- "Whose copy has to be compared with the bucket."
create index owner_by_doubt on owner (owner_key) where doubted_version is not null and lost_at is null;
-- "Whose copy has what the bucket lacks."
create index owner_by_lost on owner (owner_key) where lost_at is not null;
