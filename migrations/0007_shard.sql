-- The database knows whose it is. `init` writes the shard's id once; workers and commands of another shard refuse to use
-- the database. Their rows would look right: an owner's records are the same on every shard.
create table shard (
    -- There is one row, or none before the first `init` of a release with this table.
    only_row boolean primary key default true,
    -- The setting shard.id of the workers that use this database.
    id       text    not null,
    constraint there_is_one_row check (only_row),
    constraint id_is_short check (length(id) between 1 and 32)
);
