-- Several versions of the service side by side, and the name of the bucket's history.
--
-- Records of a kind that this version does not know, which are neither items nor a key nor a floor. A newer version of
-- the service wrote them. They belong to the owner's set, which is only complete with them.
create table other_record (
    owner_key  bytea       not null references owner on delete cascade,
    -- The second part of the record's key in the bucket.
    name       text        not null,
    version    bigint      not null,
    -- Envelope and ciphertext, as the bucket holds them.
    sealed     bytea       not null,
    updated_at timestamptz not null,
    primary key (owner_key, name),
    constraint name_is_short check (length(name) between 1 and 16),
    constraint version_is_positive check (version > 0)
);

-- The name of the bucket's history, as this shard last followed it. The first shard that accepts a loss gives the
-- history another name.
alter table cursor add column epoch text;

-- "What did this write write": the records of one write have consecutive versions, and may be many.
create index item_version_by_version on item_version (owner_key, version);
