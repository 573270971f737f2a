-- What one shard keeps of the truth: a versioned copy of the records of the owners it hosts.
--
-- Nothing here is ever written by a request: rows come from hosting and from the projection, both from records of the
-- bucket. So the whole of it can be thrown away and comes back. Nothing here is readable either: names are keyed
-- hashes, records are sealed.

-- The owners whom this shard hosts, from their first request here.
create table owner (
    owner_key        bytea       primary key,
    -- The highest version of any record of theirs that is stored here.
    version          bigint      not null default 0,
    -- Their key record as the bucket holds it, and its version; null until they have written anything.
    wrapped_key      bytea,
    key_version      bigint,
    -- The oldest version from which their deletions are still known.
    floor            bigint      not null default 0,
    -- The stream sequence up to which hosting brought their whole set; null while it is under way, and then nothing of
    -- theirs may be served from here, whatever rows there are.
    complete_to      bigint,
    -- Whether every version of every item of theirs that the bucket kept is in item_version.
    history_complete boolean     not null default false,
    hosted_at        timestamptz not null default now(),
    seen_at          timestamptz not null default now(),
    erased_at        timestamptz,
    constraint owner_key_is_16_bytes check (octet_length(owner_key) = 16),
    constraint a_key_has_a_version check ((wrapped_key is null) = (key_version is null)),
    constraint versions_are_not_negative check (version >= 0 and floor >= 0 and complete_to >= 0)
);

-- The current record of each item, deletions included.
create table item (
    owner_key  bytea       not null references owner on delete cascade,
    item_key   bytea       not null,
    version    bigint      not null,
    -- Envelope and ciphertext, as the bucket holds them.
    sealed     bytea       not null,
    deleted    boolean     not null,
    updated_at timestamptz not null,
    primary key (owner_key, item_key),
    constraint item_key_is_16_bytes check (octet_length(item_key) = 16),
    constraint version_is_positive check (version > 0)
);

-- "What of this owner changed after version v."
create index item_changes on item (owner_key, version);

-- Every version that passed by, for retention.versions_d: what an item was, and what a request was answered.
create table item_version (
    owner_key    bytea       not null references owner on delete cascade,
    item_key     bytea       not null,
    version      bigint      not null,
    sealed       bytea       not null,
    deleted      boolean     not null,
    updated_at   timestamptz not null,
    -- Keyed hashes of the caller's request id and of the request; null when the caller gave no id.
    request_id   bytea,
    request      bytea,
    primary key (owner_key, item_key, version),
    constraint a_request_has_both_marks check ((request_id is null) = (request is null))
);

-- "Has this request been done already?"
create index item_version_by_request on item_version (owner_key, request_id) where request_id is not null;

-- How far the projection has come, in which bucket. It moves in the transaction that writes the rows.
create table cursor (
    bucket   text   primary key,
    -- When the bucket was created: one that was deleted and made again counts its sequences anew.
    created  text   not null,
    sequence bigint not null,
    constraint sequence_is_not_negative check (sequence >= 0)
);
