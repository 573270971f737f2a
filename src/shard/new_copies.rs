//! Hosting several owners at once, of whom the shard has nothing yet. The steps are those of hosting
//! one owner; an owner who does not fit is left out, and is hosted alone.

use super::owner_copy::OwnerCopy;
use super::records::{parts, upsert_records};
use super::store::{HOSTING_LOCK, ShardError, Store, to_sql};
use super::unhost::keys;
use crate::seal::{OwnerKey, Record, RecordName};
use sqlx::Transaction;
use sqlx::postgres::Postgres;
use std::collections::HashSet;

impl Store {
    /// The first step of hosting for those of the owners that have no row here: inserts their rows, as
    /// [`begin_hosting`](Self::begin_hosting) does. Returns these owners.
    pub async fn begin_hosting_several(
        &self,
        owners: &[OwnerKey],
        bucket: &str,
    ) -> Result<Vec<OwnerKey>, ShardError> {
        self.in_background(async {
            let mut transaction = self.background_pool().begin().await?;
            sqlx::query!("select pg_advisory_xact_lock_shared($1)", HOSTING_LOCK)
                .execute(&mut *transaction)
                .await?;

            let begun = sqlx::query_scalar!(
                "
                insert into owner (owner_key, begun_at_sequence)
                select o, sequence from unnest($1::bytea[]) as batch (o), cursor where bucket = $2
                order by o
                on conflict do nothing
                returning owner_key
                ",
                &keys(owners),
                bucket,
            )
            .fetch_all(&mut *transaction)
            .await?;
            transaction.commit().await?;

            Ok(owner_keys(&begun))
        })
        .await
    }

    /// The second step of hosting: the owners are served from here with exactly these records. Leaves
    /// out the owners of whom something is here already, and returns the others.
    pub async fn complete_hosting_several(
        &self,
        copies: &[OwnerCopy<'_>],
    ) -> Result<HashSet<OwnerKey>, ShardError> {
        self.in_background(async {
            let mut transaction = self.background_pool().begin().await?;
            let empty = lock_empty(&mut transaction, copies).await?;
            let is_known = |record: &Record| !matches!(record.name, RecordName::Unknown(_));
            let copies: Vec<_> = copies
                .iter()
                .filter(|copy| empty.contains(&copy.owner) && copy.records.iter().all(is_known))
                .collect();

            let items: Vec<_> = copies
                .iter()
                .flat_map(|copy| copy.items().map(|(_, record)| (copy.owner, record)))
                .collect();
            for part in parts(&items, |(_, record)| record) {
                upsert_records(&mut transaction, part.iter().copied()).await?;
            }
            mark_complete(&mut transaction, &copies).await?;
            transaction.commit().await?;

            Ok(copies.iter().map(|copy| copy.owner).collect())
        })
        .await
    }
}

/// Locks the rows of those owners of whom nothing else is here, neither from hosting nor from the
/// projection, and whose row was inserted before their copy was read.
async fn lock_empty(
    transaction: &mut Transaction<'_, Postgres>,
    copies: &[OwnerCopy<'_>],
) -> Result<HashSet<OwnerKey>, ShardError> {
    let owners: Vec<_> = copies.iter().map(|copy| copy.owner).collect();
    let up_to = copies.iter().map(|copy| copy.up_to).min();

    let locked = sqlx::query_scalar!(
        "
        select owner_key from owner
        where owner_key = any($1) and complete_to is null and begun_at_sequence <= $2 and version = 0
        order by owner_key for no key update
        ",
        &keys(&owners),
        to_sql(up_to.unwrap_or_default()),
    )
    .fetch_all(&mut **transaction)
    .await?;

    Ok(owner_keys(&locked).into_iter().collect())
}

async fn mark_complete(
    transaction: &mut Transaction<'_, Postgres>,
    copies: &[&OwnerCopy<'_>],
) -> Result<(), ShardError> {
    let owners: Vec<_> = copies.iter().map(|copy| copy.owner).collect();
    let rows: Vec<_> = copies.iter().map(|copy| copy.row()).collect();
    let versions: Vec<_> = rows.iter().map(|row| row.version).collect();
    let wrapped: Vec<_> = rows.iter().map(|row| row.key.clone()).collect();
    let key_versions: Vec<_> = rows.iter().map(|row| row.key_version).collect();
    let floors: Vec<_> = rows.iter().map(|row| row.floor).collect();
    let sealed_floors: Vec<_> = rows.iter().map(|row| row.sealed_floor.clone()).collect();
    let floor_versions: Vec<_> = rows.iter().map(|row| row.floor_version).collect();
    let complete_to: Vec<_> = rows.iter().map(|row| row.complete_to).collect();
    let histories: Vec<_> = rows.iter().map(|row| row.history_complete).collect();

    sqlx::query!(
        "
        update owner
        set version = v, wrapped_key = k, key_version = kv, floor = f, sealed_floor = sf, floor_version = fv,
            complete_to = c, history_complete = h, doubted_version = null, lost_at = null
        from unnest($1::bytea[], $2::bigint[], $3::bytea[], $4::bigint[], $5::bigint[], $6::bytea[], $7::bigint[],
                    $8::bigint[], $9::boolean[]) as batch (o, v, k, kv, f, sf, fv, c, h)
        where owner_key = o
        ",
        &keys(&owners),
        &versions,
        &wrapped as &[Option<Vec<u8>>],
        &key_versions as &[Option<i64>],
        &floors,
        &sealed_floors as &[Option<Vec<u8>>],
        &floor_versions as &[Option<i64>],
        &complete_to,
        &histories,
    )
    .execute(&mut **transaction)
    .await?;

    Ok(())
}

fn owner_keys(keys: &[Vec<u8>]) -> Vec<OwnerKey> {
    keys.iter()
        .filter_map(|key| OwnerKey::from_slice(key))
        .collect()
}
