-- Hosting that is never half, eviction, and the end of old versions.
--
-- The projection's cursor when the owner's row was made, or made anew: all that comes after it reaches the owner's rows.
-- So a set of records completes them only if it reaches this sequence, whoever has begun meanwhile.
alter table owner add column begun_at_sequence bigint not null default 0;
alter table owner add constraint begun_at_is_not_negative check (begun_at_sequence >= 0);
-- "Who has not been seen since."
create index owner_by_seen on owner (seen_at);

-- How often an operator has accepted that the bucket lost history: a worker that still knows the one before must not
-- write down once more that it is lost.
alter table cursor add column accepted bigint not null default 0;

-- "Which versions are old enough to go." Rows come about in the order of their times, so a small index will do.
create index item_version_by_age on item_version using brin (updated_at);
