-- From where on an owner's deletions are still known here: the floor's record as the bucket holds it. owner.floor is the
-- version that it names; deletions up to it have no row in item.
alter table owner add column sealed_floor bytea, add column floor_version bigint,
    add constraint a_floor_has_a_version check ((sealed_floor is null) = (floor_version is null));
