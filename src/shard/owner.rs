//! Hosting: bringing an owner's whole set to this shard, and reading it from there.

use super::projector::{hosted_among, upsert_records};
use super::store::{HOSTING_LOCK, ShardFault, Store, from_sql, to_sql};
use crate::domain::{Timestamp, Version};
use crate::seal::{ItemKey, OwnerKey, Record, RecordName};

/// An owner as this shard has them, complete.
pub struct HostedOwner {
    /// Their current records, as of one moment.
    pub records: Vec<Record>,
    /// Whether every version that the bucket keeps of their items is known here too.
    pub history_complete: bool,
}

/// What the first step of hosting found.
pub struct Hosting {
    /// The projection's cursor when the owner's row was there: all that comes after it reaches the owner's rows.
    pub cursor: u64,
}

impl Store {
    /// The owner's current records, read in one statement, so that no half of a batch is seen. `None` unless the shard
    /// hosts them completely.
    pub async fn hosted_owner(&self, owner: &OwnerKey) -> Result<Option<HostedOwner>, ShardFault> {
        self.within(async {
            let rows = sqlx::query!(
                r#"
                select o.wrapped_key, o.key_version, o.sealed_floor, o.floor_version, o.history_complete,
                       i.item_key as "item_key?", i.version as "version?", i.sealed as "sealed?",
                       (extract(epoch from i.updated_at) * 1000)::bigint as updated_at_ms
                from owner o left join item i using (owner_key)
                where o.owner_key = $1 and o.complete_to is not null and o.erased_at is null
                "#,
                owner.as_bytes(),
            )
            .fetch_all(&self.pool())
            .await?;
            let Some(first) = rows.first() else { return Ok(None) };
            let mut records = Vec::with_capacity(rows.len() + 1);
            let history_complete = first.history_complete;
            if let (Some(value), Some(version)) = (&first.wrapped_key, first.key_version) {
                records.push(record(RecordName::Key, version, 0, value.clone())?);
            }
            if let (Some(value), Some(version)) = (&first.sealed_floor, first.floor_version) {
                records.push(record(RecordName::Floor, version, 0, value.clone())?);
            }
            for row in rows {
                if let (Some(item), Some(version), Some(sealed)) = (row.item_key, row.version, row.sealed) {
                    let name = RecordName::Item(ItemKey::from_slice(&item).ok_or(ShardFault::Unreadable)?);
                    records.push(record(name, version, row.updated_at_ms.unwrap_or_default(), sealed)?);
                }
            }
            Ok(Some(HostedOwner { records, history_complete }))
        })
        .await
    }

    /// The owners completely hosted here and their versions, in the order of their keys, from the one after `after` on.
    pub async fn hosted_versions(
        &self,
        after: Option<&OwnerKey>,
        most: i64,
    ) -> Result<Vec<(OwnerKey, Version)>, ShardFault> {
        self.within(async {
            let after: &[u8] = after.map_or(&[], |owner| owner.as_bytes());
            let rows = sqlx::query!(
                "
                select owner_key, version from owner
                where owner_key > $1 and complete_to is not null and erased_at is null
                order by owner_key limit $2
                ",
                after,
                most,
            )
            .fetch_all(&self.pool())
            .await?;
            let owners = rows
                .into_iter()
                .filter_map(|row| Some((OwnerKey::from_slice(&row.owner_key)?, Version::new(from_sql(row.version))?)));
            Ok(owners.collect())
        })
        .await
    }

    /// The first step of hosting: the owner's row, and the cursor, under a lock that keeps the projection from looking
    /// owners up in between. Fails before [`begin_cursor`](Self::begin_cursor).
    pub async fn begin_hosting(&self, owner: &OwnerKey, bucket: &str) -> Result<Hosting, ShardFault> {
        self.within(async {
            let mut transaction = self.pool().begin().await?;
            sqlx::query!("select pg_advisory_xact_lock_shared($1)", HOSTING_LOCK).execute(&mut *transaction).await?;
            sqlx::query!("insert into owner (owner_key) values ($1) on conflict do nothing", owner.as_bytes())
                .execute(&mut *transaction)
                .await?;
            let cursor = sqlx::query_scalar!("select sequence from cursor where bucket = $1", bucket)
                .fetch_one(&mut *transaction)
                .await?;
            transaction.commit().await?;
            Ok(Hosting { cursor: from_sql(cursor) })
        })
        .await
    }

    /// The second step: the owner's current records, complete up to the stream sequence `up_to`, in one transaction
    /// that also says so. Rows that the projection has made newer meanwhile stay.
    pub async fn complete_hosting(&self, owner: &OwnerKey, records: &[Record], up_to: u64) -> Result<(), ShardFault> {
        self.within(async {
            let history_complete = records.iter().all(|record| record.envelope.item_prev.is_none());
            let mut transaction = self.pool().begin().await?;
            hosted_among(&mut transaction, std::iter::once(owner)).await?;
            upsert_records(&mut transaction, records.iter().map(|record| (*owner, record))).await?;
            sqlx::query!(
                "update owner set complete_to = $2, history_complete = $3 where owner_key = $1 and complete_to is null",
                owner.as_bytes(),
                to_sql(up_to),
                history_complete,
            )
            .execute(&mut *transaction)
            .await?;
            transaction.commit().await?;
            Ok(())
        })
        .await
    }
}

pub(super) fn record(name: RecordName, version: i64, at_ms: i64, value: Vec<u8>) -> Result<Record, ShardFault> {
    let version = Version::new(from_sql(version)).ok_or(ShardFault::Unreadable)?;
    Record::parse(name, version, Timestamp::from_millis(at_ms), value.into()).map_err(|_| ShardFault::Unreadable)
}
