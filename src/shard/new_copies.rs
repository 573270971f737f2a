//! Hosting several owners in one transaction. An operator's tool names them, or their first requests come
//! at the same time. The transaction skips an owner who has rows in this shard already. The caller hosts
//! that owner alone.

use super::error::ShardError;
use super::records::{parts, upsert_records};
use super::shared_calls::{Hosting, OwnerCopy, Shared};
use super::store::{HOSTING_LOCK, Store, from_sql, to_sql};
use super::unhost::keys;
use crate::seal::{OwnerKey, Record, RecordName};
use sqlx::Transaction;
use sqlx::postgres::Postgres;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use tokio::time::timeout;

/// The most bytes of records of an owner whose hosting is completed together with others'.
const TOGETHER_BYTES_MAX: usize = 64 << 10;

impl Store {
    /// The first step of hosting: inserts the owner's row with the projection's cursor, under a
    /// lock that keeps the projection from looking owners up in between. An existing row stays as
    /// it is. Owners whose hosting begins at the same time share a transaction.
    ///
    /// # Errors
    ///
    /// Fails if [`begin_cursor`](Self::begin_cursor) was not called before.
    pub async fn begin_hosting(
        &self,
        owner: &OwnerKey,
        bucket: &str,
    ) -> Result<Hosting, ShardError> {
        if self.writing.is_open() {
            return Err(ShardError::ReadOnly);
        }

        let (store, bucket) = (self.clone(), bucket.to_owned());
        let begun = self.calls.beginnings.ask(*owner, move |owners| {
            let (store, bucket) = (store.clone(), bucket.clone());
            async move { store.begin_together(&owners, &bucket).await }
        });
        // The wait for others is a part of the call.
        match timeout(self.call_limit(), begun).await {
            Ok(Some(begun)) => begun.map_err(ShardError::Together),
            Ok(None) | Err(_) => Err(ShardError::TimedOut),
        }
    }

    async fn begin_together(&self, owners: &[OwnerKey], bucket: &str) -> Vec<Shared<Hosting>> {
        let begun = self.within_call_limit(async {
            let mut transaction = self.pool().begin().await?;
            insert_owners(&mut transaction, owners, bucket).await?;
            let rows = sqlx::query!(
                "select owner_key, begun_at_sequence from owner where owner_key = any($1)",
                &keys(owners),
            )
            .fetch_all(&mut *transaction)
            .await?;
            transaction.commit().await?;

            let begun = rows.into_iter().filter_map(|row| {
                let begun_at = from_sql(row.begun_at_sequence);
                Some((OwnerKey::from_slice(&row.owner_key)?, Hosting { begun_at }))
            });
            Ok(begun.collect::<HashMap<_, _>>())
        });

        match begun.await {
            Ok(begun) => {
                let missing = Arc::new(ShardError::Postgres(sqlx::Error::RowNotFound));
                let begun = |owner| begun.get(owner).copied().ok_or_else(|| missing.clone());
                owners.iter().map(begun).collect()
            }
            Err(error) => vec![Err(Arc::new(error)); owners.len()],
        }
    }

    /// The first step of hosting for those of the owners that have no row here. Returns these owners.
    pub async fn begin_hosting_several(
        &self,
        owners: &[OwnerKey],
        bucket: &str,
    ) -> Result<Vec<OwnerKey>, ShardError> {
        self.in_background(async {
            let mut transaction = self.background_pool().begin().await?;
            let begun = insert_owners(&mut transaction, owners, bucket).await?;
            transaction.commit().await?;

            Ok(begun)
        })
        .await
    }

    /// The second step of hosting, in one transaction with other owners'. It is for small sets, and for
    /// owners who have no records in this shard yet. Returns whether the shard hosts the owner now. If
    /// not, the caller has to [complete it alone](Self::complete_hosting).
    pub async fn complete_hosting_together(&self, copy: OwnerCopy) -> Result<bool, ShardError> {
        let bytes = copy.records.iter().map(|record| record.value.len());
        if bytes.sum::<usize>() > TOGETHER_BYTES_MAX {
            return Ok(false);
        }

        let store = self.clone();
        let completed = self.calls.completions.ask(copy, move |copies| {
            let store = store.clone();
            async move { store.complete_together(&copies).await }
        });
        let completed = completed.await.unwrap_or(Ok(false));
        completed.map_err(ShardError::Together)
    }

    async fn complete_together(&self, copies: &[OwnerCopy]) -> Vec<Shared<bool>> {
        match self.complete_hosting_several(copies).await {
            Ok(hosted) => {
                let is_hosted = |copy: &OwnerCopy| Ok(hosted.contains(&copy.owner));
                copies.iter().map(is_hosted).collect()
            }
            // One owner may be the reason. Each is done alone, unless that is what has failed.
            Err(_) if copies.len() > 1 => copies.iter().map(|_| Ok(false)).collect(),
            Err(error) => vec![Err(Arc::new(error))],
        }
    }

    /// The second step of hosting: the owners are served from here with exactly these records. Leaves
    /// out the owners of whom something is here already, and returns the others.
    pub async fn complete_hosting_several(
        &self,
        copies: &[OwnerCopy],
    ) -> Result<HashSet<OwnerKey>, ShardError> {
        self.in_background(async {
            let mut transaction = self.background_pool().begin().await?;
            let empty = lock_empty(&mut transaction, copies).await?;
            let is_known = |record: &Record| !matches!(record.name, RecordName::Unknown(_));
            let mut once = HashSet::new();
            let copies: Vec<_> = copies
                .iter()
                .filter(|copy| empty.contains(&copy.owner) && copy.records.iter().all(is_known))
                .filter(|copy| once.insert(copy.owner))
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

/// Inserts the rows of those of the owners that have none, with the projection's cursor, under the lock
/// of hosting. Returns these owners.
async fn insert_owners(
    transaction: &mut Transaction<'_, Postgres>,
    owners: &[OwnerKey],
    bucket: &str,
) -> Result<Vec<OwnerKey>, ShardError> {
    sqlx::query!("select pg_advisory_xact_lock_shared($1)", HOSTING_LOCK)
        .execute(&mut **transaction)
        .await?;
    let inserted = sqlx::query_scalar!(
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
    .fetch_all(&mut **transaction)
    .await?;

    Ok(owner_keys(&inserted))
}

/// Locks the rows of those owners of whom nothing else is here, neither from hosting nor from the
/// projection, and whose row was inserted before their copy was read. Leaves out rows that
/// another transaction has locked: it may take long, and the other owners would wait for it.
async fn lock_empty(
    transaction: &mut Transaction<'_, Postgres>,
    copies: &[OwnerCopy],
) -> Result<HashSet<OwnerKey>, ShardError> {
    let owners: Vec<_> = copies.iter().map(|copy| copy.owner).collect();
    let up_to = copies.iter().map(|copy| copy.up_to).min();

    let locked = sqlx::query_scalar!(
        "
        select owner_key from owner
        where owner_key = any($1) and complete_to is null and begun_at_sequence <= $2 and version = 0
        order by owner_key for no key update skip locked
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
    copies: &[&OwnerCopy],
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
