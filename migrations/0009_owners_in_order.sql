-- All owners can be read in the order in which their keys lie in the bucket. Neighbours' records lie close together there,
-- so that the server reads few of its files for a group of them.
--
-- "Which owners follow that one, in the order of the bucket." An owner without a key comes first.
create index owner_by_key_version on owner (coalesce(key_version, 0), owner_key);
