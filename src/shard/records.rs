//! Records as rows: what the projection, hosting and the backfill of old versions store.

use super::error::ShardError;
use super::store::to_sql;
use crate::seal::{OwnerKey, Record, RecordName};
use sqlx::Transaction;
use sqlx::postgres::Postgres;

/// The most bytes of records that are stored at a time, about. Work that may be split into several
/// transactions holds its locks for no more than that.
const PART_BYTES_MAX: usize = 2 << 20;

/// Splits `things` into parts. The records of a part have at most [`PART_BYTES_MAX`] together,
/// unless the part has only one.
pub(super) fn parts<T>(things: &[T], record: impl Fn(&T) -> &Record) -> impl Iterator<Item = &[T]> {
    let mut bytes = 0;

    things.chunk_by(move |before, next| {
        bytes += record(before).value.len();
        let fits = bytes + record(next).value.len() <= PART_BYTES_MAX;
        if !fits {
            bytes = 0;
        }
        fits
    })
}

/// A batch of records as columns, the form that `unnest` takes.
#[derive(Default)]
struct Columns {
    owners: Vec<Vec<u8>>,
    items: Vec<Vec<u8>>,
    versions: Vec<i64>,
    sealed: Vec<Vec<u8>>,
    deleted: Vec<bool>,
    updated_ms: Vec<i64>,
    request_ids: Vec<Option<Vec<u8>>>,
    requests: Vec<Option<Vec<u8>>>,
    /// The owners that may now have deletions up to their floor among their rows.
    floored: Vec<Vec<u8>>,
}

/// Stores records of hosted owners: their rows and the owners' versions, in the caller's
/// transaction.
pub(super) async fn upsert_records<'r>(
    transaction: &mut Transaction<'_, Postgres>,
    records: impl Iterator<Item = (OwnerKey, &'r Record)>,
) -> Result<(), ShardError> {
    let mut columns = Columns::default();

    for (owner, record) in records {
        match record.name {
            RecordName::Key => store_key(transaction, &owner, record).await?,
            RecordName::Floor => {
                store_floor(transaction, &owner, record).await?;
                columns.floored.push(owner.as_bytes().to_vec());
            }
            RecordName::Item(item) => columns.push(&owner, item.as_bytes(), record),
            RecordName::Unknown(_) => store_other(transaction, &owner, record).await?,
        }
    }

    store_items(transaction, &columns, true).await?;
    delete_ended_deletions(transaction, &columns.floored).await
}

/// Stores items' records in `item_version`, and nowhere else.
pub(super) async fn upsert_versions<'r>(
    transaction: &mut Transaction<'_, Postgres>,
    records: impl Iterator<Item = (OwnerKey, &'r Record)>,
) -> Result<(), ShardError> {
    let mut columns = Columns::default();

    for (owner, record) in records {
        if let RecordName::Item(item) = record.name {
            columns.push(&owner, item.as_bytes(), record);
        }
    }

    store_items(transaction, &columns, false).await
}

impl Columns {
    fn push(&mut self, owner: &OwnerKey, item: &[u8; 16], record: &Record) {
        self.owners.push(owner.as_bytes().to_vec());
        self.items.push(item.to_vec());
        self.versions.push(to_sql(record.version.get()));
        self.sealed.push(record.value.to_vec());
        self.deleted.push(record.envelope.deleted);
        self.updated_ms.push(record.at.millis());

        let (id, request) = record.envelope.request.unzip();
        self.request_ids
            .push(id.map(|hash| hash.as_bytes().to_vec()));
        self.requests
            .push(request.map(|hash| hash.as_bytes().to_vec()));

        if record.envelope.deleted {
            self.floored.push(owner.as_bytes().to_vec());
        }
    }
}

async fn store_key(
    transaction: &mut Transaction<'_, Postgres>,
    owner: &OwnerKey,
    record: &Record,
) -> Result<(), ShardError> {
    sqlx::query!(
        "
        update owner
        set wrapped_key = $2, key_version = $3, version = greatest(version, $3)
        where owner_key = $1 and coalesce(key_version, 0) < $3
        ",
        owner.as_bytes(),
        &record.value[..],
        to_sql(record.version.get()),
    )
    .execute(&mut **transaction)
    .await?;

    Ok(())
}

async fn store_floor(
    transaction: &mut Transaction<'_, Postgres>,
    owner: &OwnerKey,
    record: &Record,
) -> Result<(), ShardError> {
    sqlx::query!(
        "
        update owner
        set floor = $2, sealed_floor = $3, floor_version = $4, version = greatest(version, $4)
        where owner_key = $1 and coalesce(floor_version, 0) < $4
        ",
        owner.as_bytes(),
        to_sql(record.floor().unwrap_or_default().get()),
        &record.value[..],
        to_sql(record.version.get()),
    )
    .execute(&mut **transaction)
    .await?;

    Ok(())
}

/// Stores a record of a name that this version does not know.
pub(super) async fn store_other(
    transaction: &mut Transaction<'_, Postgres>,
    owner: &OwnerKey,
    record: &Record,
) -> Result<(), ShardError> {
    let version = to_sql(record.version.get());
    sqlx::query!(
        "
        insert into other_record (owner_key, name, version, sealed, updated_at)
        values ($1, $2, $3, $4, to_timestamp($5::bigint / 1000.0))
        on conflict (owner_key, name) do update
        set version = excluded.version, sealed = excluded.sealed, updated_at = excluded.updated_at
        where other_record.version < excluded.version
        ",
        owner.as_bytes(),
        record.name.to_string(),
        version,
        &record.value[..],
        record.at.millis(),
    )
    .execute(&mut **transaction)
    .await?;

    sqlx::query!(
        "update owner set version = greatest(version, $2) where owner_key = $1",
        owner.as_bytes(),
        version,
    )
    .execute(&mut **transaction)
    .await?;

    Ok(())
}

/// Deletes the rows of deletions up to the owners' floors.
async fn delete_ended_deletions(
    transaction: &mut Transaction<'_, Postgres>,
    owners: &[Vec<u8>],
) -> Result<(), ShardError> {
    if owners.is_empty() {
        return Ok(());
    }

    sqlx::query!(
        "
        delete from item using owner
        where item.owner_key = any($1) and owner.owner_key = item.owner_key and item.deleted
          and item.version <= owner.floor
        ",
        owners,
    )
    .execute(&mut **transaction)
    .await?;

    Ok(())
}

/// Stores all versions, and, if the records belong into the copies, the newest record of each item and
/// the owners' versions. A version never changes, so a stored one that differs was altered here and is
/// overwritten.
///
/// It is one statement, because each is a round trip while the projection holds its locks.
async fn store_items(
    transaction: &mut Transaction<'_, Postgres>,
    columns: &Columns,
    are_of_copies: bool,
) -> Result<(), ShardError> {
    if columns.owners.is_empty() {
        return Ok(());
    }

    sqlx::query!(
        "
        with batch as materialized (
            select o, i, v, s, d, to_timestamp(t / 1000.0) as at, ri, r
            from unnest($1::bytea[], $2::bytea[], $3::bigint[], $4::bytea[], $5::boolean[], $6::bigint[], $7::bytea[],
                        $8::bytea[]) as batch (o, i, v, s, d, t, ri, r)
        ), versions as (
            insert into item_version (owner_key, item_key, version, sealed, deleted, updated_at, request_id, request)
            select o, i, v, s, d, at, ri, r from batch
            on conflict (owner_key, item_key, version) do update
            set sealed = excluded.sealed, deleted = excluded.deleted, updated_at = excluded.updated_at,
                request_id = excluded.request_id, request = excluded.request
            where item_version.sealed <> excluded.sealed
        ), items as (
            insert into item (owner_key, item_key, version, sealed, deleted, updated_at)
            select distinct on (o, i) o, i, v, s, d, at from batch where $9 order by o, i, v desc
            on conflict (owner_key, item_key) do update
            set version = excluded.version, sealed = excluded.sealed, deleted = excluded.deleted,
                updated_at = excluded.updated_at
            where item.version < excluded.version
        )
        update owner
        set version = greatest(owner.version, newest.version)
        from (select o, max(v) as version from batch group by o) as newest
        where owner.owner_key = newest.o and $9
        ",
        &columns.owners,
        &columns.items,
        &columns.versions,
        &columns.sealed,
        &columns.deleted,
        &columns.updated_ms,
        &columns.request_ids as &[Option<Vec<u8>>],
        &columns.requests as &[Option<Vec<u8>>],
        are_of_copies,
    )
    .execute(&mut **transaction)
    .await?;

    Ok(())
}
