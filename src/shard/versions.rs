//! The items' versions: what an item was before, and which request wrote it.

use super::error::ShardError;
use super::projector::lock_hosted_owners;
use super::records::{parts, upsert_versions};
use super::store::{Store, from_sql, to_sql};
use super::unhost::keys;
use crate::seal::{OwnerKey, Record, RecordName};
use std::collections::HashSet;

/// The most owners whose histories are marked as complete in one transaction.
const COMPLETED_OWNERS_MAX: i64 = 1_000;
/// How many versions one step of [`Store::end_versions`] looks at, if there are so many.
const STEP_VERSIONS_MAX: i64 = 5_000;

/// Identifies an owner's row until it is reset, or deleted and inserted again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    hosted_at_us: i64,
    begun_at: i64,
}

/// A place among all versions, in the order of owners and items. The default is the beginning.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VersionPosition {
    owner: Vec<u8>,
    item: Vec<u8>,
    version: i64,
}

/// What one step of [`Store::end_versions`] did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndedVersions {
    /// How many versions it deleted.
    pub deleted: u64,
    /// Where the next step begins; `None` if there are no more versions.
    pub next: Option<VersionPosition>,
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
    /// are skipped, and so are those that are there: most are, and no lock is needed to see it.
    ///
    /// This takes several transactions, because the projection may be waiting for the owners' rows.
    pub async fn add_versions(&self, records: &[(OwnerKey, Record)]) -> Result<(), ShardError> {
        for part in parts(records, |(_, record)| record) {
            let missing = self.missing_versions(part).await?;
            if !missing.is_empty() {
                self.add_part(&missing).await?;
            }
        }

        Ok(())
    }

    /// Returns those of the records that are not in `item_version` with these bytes.
    async fn missing_versions<'r>(
        &self,
        records: &'r [(OwnerKey, Record)],
    ) -> Result<Vec<(OwnerKey, &'r Record)>, ShardError> {
        let (mut owners, mut items) = (Vec::new(), Vec::new());
        let (mut versions, mut sealed) = (Vec::new(), Vec::new());
        for (owner, record) in records {
            if let RecordName::Item(item) = record.name {
                owners.push(owner.as_bytes().to_vec());
                items.push(item.as_bytes().to_vec());
                versions.push(to_sql(record.version.get()));
                sealed.push(record.value.to_vec());
            }
        }

        self.in_background(async {
            let missing = sqlx::query_scalar!(
                r#"
                select v as "version!"
                from unnest($1::bytea[], $2::bytea[], $3::bigint[], $4::bytea[]) as batch (o, i, v, s)
                where exists (select from owner where owner_key = o) and not exists (
                    select from item_version where owner_key = o and item_key = i and version = v and sealed = s
                )
                "#,
                &owners,
                &items,
                &versions,
                &sealed,
            )
            .fetch_all(&self.background_pool())
            .await?;

            // A version is a stream sequence, so no two records have the same.
            let missing: HashSet<i64> = missing.into_iter().collect();
            let records = records.iter().map(|(owner, record)| (*owner, record));
            Ok(records
                .filter(|(_, record)| missing.contains(&to_sql(record.version.get())))
                .collect())
        })
        .await
    }

    async fn add_part(&self, records: &[(OwnerKey, &Record)]) -> Result<(), ShardError> {
        self.in_background(async {
            let mut transaction = self.background_pool().begin().await?;
            let owners = records.iter().map(|(owner, _)| owner);
            let hosted = lock_hosted_owners(&mut transaction, owners).await?;

            let hosted_records = records
                .iter()
                .filter(|(owner, _)| hosted.contains_key(owner))
                .copied();
            upsert_versions(&mut transaction, hosted_records).await?;

            Ok(transaction.commit().await?)
        })
        .await
    }

    /// Marks the owner's history as complete. Returns `false`, and changes nothing, if the owner's
    /// row is no longer that of `life`. A reset begins another life.
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
    ///
    /// This takes many short transactions, because the projection may be waiting for the owners'
    /// rows.
    pub async fn complete_histories(&self, since_us: i64, up_to: u64) -> Result<u64, ShardError> {
        let mut completed = 0;
        let mut after = None;

        loop {
            let page = self
                .known_owners(after.as_ref(), COMPLETED_OWNERS_MAX)
                .await?;
            let Some(last) = page.last() else {
                return Ok(completed);
            };
            after = Some(*last);
            completed += self.complete_some(&page, since_us, up_to).await?;
        }
    }

    async fn complete_some(
        &self,
        owners: &[OwnerKey],
        since_us: i64,
        up_to: u64,
    ) -> Result<u64, ShardError> {
        self.in_background(async {
            let updated = sqlx::query!(
                "
                update owner set history_complete = true
                where owner_key in (
                    select owner_key from owner
                    where owner_key = any($3) and complete_to is not null and not history_complete
                      and begun_at_sequence <= $2
                      and (extract(epoch from hosted_at) * 1000000)::bigint <= $1
                    order by owner_key for no key update
                )
                ",
                since_us,
                to_sql(up_to),
                &keys(owners),
            )
            .execute(&self.background_pool())
            .await?;

            Ok(updated.rows_affected())
        })
        .await
    }

    /// Deletes what is older than `days` among the next versions after `position`, and never an
    /// item's current version. Spares owners whose copy is in doubt or has lost history: what is left
    /// of it stays until an operator decides.
    ///
    /// Most versions are current ones, however old, and no index tells them from the others. So this
    /// goes through the primary key in steps of bounded size. A step compares names and versions in
    /// two indexes, and reads only the rows that this shows to be superseded. The owners to spare are
    /// those of two more indexes, which are nearly always empty.
    pub async fn end_versions(
        &self,
        days: i32,
        position: &VersionPosition,
    ) -> Result<EndedVersions, ShardError> {
        self.in_background(async {
            let row = sqlx::query!(
                r#"
                with step as materialized (
                    select owner_key, item_key, version from item_version
                    where (owner_key, item_key, version) >= ($2, $3, $4)
                    order by owner_key, item_key, version limit $5
                ), superseded as materialized (
                    select owner_key, item_key, version from step s
                    where not exists (
                        select from item i where i.owner_key = s.owner_key and i.version = s.version
                    )
                ), deleted as (
                    delete from item_version where ctid = any(array(
                        select v.ctid from superseded s
                        join item_version v using (owner_key, item_key, version)
                        where v.updated_at < now() - make_interval(days => $1)
                          and not exists (
                              select from item i
                              where i.owner_key = v.owner_key and i.item_key = v.item_key and i.version = v.version
                          )
                          and not exists (
                              select from owner o where o.owner_key = v.owner_key and o.lost_at is not null
                          )
                          and not exists (
                              select from owner o
                              where o.owner_key = v.owner_key and o.doubted_version is not null and o.lost_at is null
                          )
                        for update of v skip locked
                    ))
                    returning 1
                ), last as (
                    select owner_key, item_key, version from step
                    order by owner_key desc, item_key desc, version desc limit 1
                )
                select (select count(*) from deleted) as "deleted!", (select count(*) from step) as "seen!",
                       (select owner_key from last) as owner_key, (select item_key from last) as item_key,
                       (select version from last) as version
                "#,
                days,
                &position.owner,
                &position.item,
                position.version,
                STEP_VERSIONS_MAX,
            )
            .fetch_one(&self.background_pool())
            .await?;

            let next = match (row.owner_key, row.item_key, row.version) {
                (Some(owner), Some(item), Some(version)) if row.seen >= STEP_VERSIONS_MAX => {
                    Some(VersionPosition { owner, item, version })
                }
                _ => None,
            };
            Ok(EndedVersions { deleted: from_sql(row.deleted), next })
        })
        .await
    }
}
