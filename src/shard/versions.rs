//! The versions that passed by: what an item was, and what a request was answered.

use super::projector::hosted_among;
use super::records::{parts, upsert_versions};
use super::store::{ShardError, Store, to_sql};
use crate::seal::{OwnerKey, Record};

/// An owner's row, told from one that was made later under the same name, or made anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    hosted_at_us: i64,
    begun_at: i64,
}

impl Store {
    /// The owner's present life here, if not every version that the bucket keeps of theirs is known here; `None` if it
    /// is, or they are not hosted.
    pub async fn lacks_history(&self, owner: &OwnerKey) -> Result<Option<Life>, ShardError> {
        self.within(async {
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
            Ok(row.map(|row| Life { hosted_at_us: row.hosted_at_us, begun_at: row.begun_at_sequence }))
        })
        .await
    }

    /// Adds records to the versions that passed by, and to nothing else. Those of owners who are not known here are
    /// skipped. Not in one transaction: the projection may be waiting for the owners' rows.
    pub async fn add_versions(&self, records: &[(OwnerKey, Record)]) -> Result<(), ShardError> {
        for part in parts(records, |(_, record)| record) {
            self.add_some_versions(part).await?;
        }
        Ok(())
    }

    async fn add_some_versions(&self, records: &[(OwnerKey, Record)]) -> Result<(), ShardError> {
        self.unhurried(async {
            let mut transaction = self.slow_pool().begin().await?;
            let known =
                hosted_among(&mut transaction, records.iter().map(|(owner, _)| owner)).await?;
            let ours = records
                .iter()
                .filter(|(owner, _)| known.contains_key(owner));
            upsert_versions(
                &mut transaction,
                ours.map(|(owner, record)| (*owner, record)),
            )
            .await?;
            Ok(transaction.commit().await?)
        })
        .await
    }

    /// Says that every version that the bucket keeps of the owner's items is known here; nothing if the owner's row is
    /// not that of `life` any more. A gap that the projection finds begins another.
    pub async fn complete_history(&self, owner: &OwnerKey, life: Life) -> Result<bool, ShardError> {
        self.within(async {
            let done = sqlx::query!(
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
            Ok(done.rows_affected() == 1)
        })
        .await
    }

    /// Now, by the clock that tells when owners came here, in microseconds.
    pub async fn clock(&self) -> Result<i64, ShardError> {
        self.unhurried(async {
            let now = sqlx::query_scalar!(
                r#"select (extract(epoch from now()) * 1000000)::bigint as "now!""#
            );
            Ok(now.fetch_one(&self.slow_pool()).await?)
        })
        .await
    }

    /// Says the same of all owners who are hosted, were known here at `since`, and have got all records from the stream
    /// sequence `up_to` on from the projection. Says of how many.
    pub async fn complete_histories(&self, since_us: i64, up_to: u64) -> Result<u64, ShardError> {
        self.unhurried(async {
            let done = sqlx::query!(
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
            .execute(&self.slow_pool())
            .await?;
            Ok(done.rows_affected())
        })
        .await
    }

    /// Deletes versions older than that many days, at most `most` of them, and never an item's current one. Says how
    /// many: fewer than `most` were the last.
    pub async fn end_versions(&self, days: i32, most: i64) -> Result<u64, ShardError> {
        self.unhurried(async {
            let ended = sqlx::query!(
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
                most,
            )
            .execute(&self.slow_pool())
            .await?;
            Ok(ended.rows_affected())
        })
        .await
    }
}
