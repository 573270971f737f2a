//! The items' versions: what an item was before, and which request wrote it.

use super::projector::lock_hosted_owners;
use super::records::{parts, upsert_versions};
use super::store::{ShardError, Store, to_sql};
use crate::seal::{OwnerKey, Record};

/// Identifies an owner's row until it is reset, or deleted and inserted again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    hosted_at_us: i64,
    begun_at: i64,
}

impl Store {
    /// Returns the life of the owner's row if the owner's history is not complete here; `None` if
    /// it is complete, or the owner is not hosted.
    ///
    /// The history is complete if every version that the bucket keeps of the owner's items is here.
    pub async fn lacks_history(&self, owner: &OwnerKey) -> Result<Option<Life>, ShardError> {
        self.within_call_limit(async {
            let row = sqlx::query!(
                r#"
                select (extract(epoch from hosted_at) * 1000000)::bigint as "hosted_at_us!", begun_at_sequence
                from owner
                where owner_key = $1 and complete_to is not null and erased_at is null and not history_complete
                "#,
                owner.as_bytes(),
            )
            .fetch_optional(&self.pool())
            .await?;

            Ok(row.map(|row| Life {
                hosted_at_us: row.hosted_at_us,
                begun_at: row.begun_at_sequence,
            }))
        })
        .await
    }

    /// Stores records in `item_version`, and nowhere else. Records of owners that have no row here
    /// are skipped.
    ///
    /// This takes several transactions, because the projection may be waiting for the owners' rows.
    pub async fn add_versions(&self, records: &[(OwnerKey, Record)]) -> Result<(), ShardError> {
        for part in parts(records, |(_, record)| record) {
            self.add_part(part).await?;
        }

        Ok(())
    }

    async fn add_part(&self, records: &[(OwnerKey, Record)]) -> Result<(), ShardError> {
        self.in_background(async {
            let mut transaction = self.background_pool().begin().await?;
            let owners = records.iter().map(|(owner, _)| owner);
            let hosted = lock_hosted_owners(&mut transaction, owners).await?;

            let hosted_records = records
                .iter()
                .filter(|(owner, _)| hosted.contains_key(owner))
                .map(|(owner, record)| (*owner, record));
            upsert_versions(&mut transaction, hosted_records).await?;

            Ok(transaction.commit().await?)
        })
        .await
    }

    /// Marks the owner's history as complete. Returns `false`, and changes nothing, if the owner's
    /// row is no longer that of `life`. A gap that the projection finds begins another life.
    pub async fn complete_history(&self, owner: &OwnerKey, life: Life) -> Result<bool, ShardError> {
        self.within_call_limit(async {
            let updated = sqlx::query!(
                "
                update owner set history_complete = true
                where owner_key = $1 and complete_to is not null and begun_at_sequence = $2
                  and (extract(epoch from hosted_at) * 1000000)::bigint = $3
                ",
                owner.as_bytes(),
                life.begun_at,
                life.hosted_at_us,
            )
            .execute(&self.pool())
            .await?;

            Ok(updated.rows_affected() == 1)
        })
        .await
    }

    /// Returns Postgres' time in microseconds since the Unix epoch. The owners' `hosted_at` is of
    /// the same clock.
    pub async fn clock(&self) -> Result<i64, ShardError> {
        self.in_background(async {
            let now = sqlx::query_scalar!(
                r#"select (extract(epoch from now()) * 1000000)::bigint as "now!""#
            );

            Ok(now.fetch_one(&self.background_pool()).await?)
        })
        .await
    }

    /// Marks the history as complete of all hosted owners that had their row at `since_us`, and
    /// that get every record after the stream sequence `up_to` from the projection. Returns how
    /// many they are.
    pub async fn complete_histories(&self, since_us: i64, up_to: u64) -> Result<u64, ShardError> {
        self.in_background(async {
            let updated = sqlx::query!(
                "
                update owner set history_complete = true
                where owner_key in (
                    select owner_key from owner
                    where complete_to is not null and not history_complete and begun_at_sequence <= $2
                      and (extract(epoch from hosted_at) * 1000000)::bigint <= $1
                    order by owner_key for no key update
                )
                ",
                since_us,
                to_sql(up_to),
            )
            .execute(&self.background_pool())
            .await?;

            Ok(updated.rows_affected())
        })
        .await
    }

    /// Deletes versions older than `days`, at most `limit`, and never an item's current one.
    /// Returns how many. If they are fewer than `limit`, they were the last.
    pub async fn end_versions(&self, days: i32, limit: i64) -> Result<u64, ShardError> {
        self.in_background(async {
            let deleted = sqlx::query!(
                "
                delete from item_version where ctid = any(array(
                    select v.ctid from item_version v
                    where v.updated_at < now() - make_interval(days => $1)
                      and not exists (
                          select from item i
                          where i.owner_key = v.owner_key and i.item_key = v.item_key and i.version = v.version
                      )
                    limit $2 for update skip locked
                ))
                ",
                days,
                limit,
            )
            .execute(&self.background_pool())
            .await?;

            Ok(deleted.rows_affected())
        })
        .await
    }
}
