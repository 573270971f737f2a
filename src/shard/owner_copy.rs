//! Storing an owner's complete set: the last step of hosting, and the replacement of a bad copy.
//!
//! Hosting stores most of the set ahead, in small transactions, while no request is served from it.
//! The last transaction is short even for a heavy owner, because the projection may be waiting for
//! the owner's row.

use super::error::ShardError;
use super::records::{parts, store_other, upsert_records};
use super::shared_calls::OwnerCopy;
use super::store::{Store, from_sql, to_sql};
use crate::seal::{OwnerKey, Record, RecordName};
use sqlx::Transaction;
use sqlx::postgres::Postgres;
use std::collections::HashMap;
use std::time::Instant;
use tokio::time::sleep;

/// The result of storing an owner's complete set.
///
/// Except for `Now`, the last transaction has changed nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostingOutcome {
    /// The shard hosts the owner now, with these records.
    Now,
    /// The shard hosted the owner already: another worker was faster.
    Already,
    /// The owner's row is gone, or was inserted or reset since, beyond what these records reach.
    NotBegun,
    /// The projection has stored something newer than these records.
    Overtaken,
    /// Rows that were stored ahead are no longer there.
    Incomplete,
}

/// The rows that the set replaces.
#[derive(Clone, Copy, PartialEq, Eq)]
enum CopyTarget {
    /// Rows that are not complete: no request is served from them.
    Incomplete,
    /// A copy. Requests are served from it until it is replaced.
    Complete,
}

impl Store {
    /// The second step of hosting: the owner is served from here with exactly these records, or is
    /// not served from here at all.
    ///
    /// Rows that the projection has stored come from the truth and are not stored again. If one of
    /// them is newer than these records, the records are not enough.
    pub async fn complete_hosting(&self, copy: &OwnerCopy) -> Result<HostingOutcome, ShardError> {
        let stored = self.stored_versions(&copy.owner).await?;
        let missing = missing_records(copy, &stored);
        let mut parts: Vec<&[&Record]> = parts(&missing, |record| record).collect();
        let last = parts.pop().unwrap_or_default();

        for part in parts {
            let began = Instant::now();
            if !self.store_ahead(&copy.owner, part, copy.up_to).await? {
                break;
            }
            // Gives other users of the row and of Postgres as much time as this transaction took.
            sleep(began.elapsed()).await;
        }

        self.write_copy(copy, last, CopyTarget::Incomplete).await
    }

    /// Stores some records of an owner that is not hosted yet, and whose row was inserted at
    /// `up_to` or before. No request is served from them. Returns whether there is such a row.
    pub async fn store_ahead(
        &self,
        owner: &OwnerKey,
        records: &[&Record],
        up_to: u64,
    ) -> Result<bool, ShardError> {
        self.in_background(async {
            let mut transaction = self.background_pool().begin().await?;
            let begun = sqlx::query!(
                "
                select begun_at_sequence from owner
                where owner_key = $1 and complete_to is null and begun_at_sequence <= $2 for no key update
                ",
                owner.as_bytes(),
                to_sql(up_to),
            )
            .fetch_optional(&mut *transaction)
            .await?;
            if begun.is_none() {
                return Ok(false);
            }

            let records = records.iter().map(|record| (*owner, *record));
            upsert_records(&mut transaction, records).await?;
            transaction.commit().await?;

            Ok(true)
        })
        .await
    }

    /// Replaces the copy that is here with the set, in one transaction. `differing` are the records
    /// of the set that have no row, or a row that differs.
    pub async fn replace_copy(
        &self,
        copy: &OwnerCopy,
        differing: &[&Record],
    ) -> Result<HostingOutcome, ShardError> {
        self.write_copy(copy, differing, CopyTarget::Complete).await
    }

    /// The versions of the owner's item rows by item key, whether or not the owner is hosted.
    async fn stored_versions(&self, owner: &OwnerKey) -> Result<HashMap<Vec<u8>, u64>, ShardError> {
        self.in_background(async {
            let rows = sqlx::query!(
                "select item_key, version from item where owner_key = $1",
                owner.as_bytes()
            )
            .fetch_all(&self.background_pool())
            .await?;

            Ok(rows
                .into_iter()
                .map(|row| (row.item_key, from_sql(row.version)))
                .collect())
        })
        .await
    }

    /// Removes every row that is not in the set, stores `records` of the set in the place of
    /// theirs, and marks the owner as complete; or changes nothing.
    async fn write_copy(
        &self,
        copy: &OwnerCopy,
        records: &[&Record],
        target: CopyTarget,
    ) -> Result<HostingOutcome, ShardError> {
        self.in_background(async {
            let mut transaction = self.background_pool().begin().await?;
            let row = sqlx::query!(
                r#"
                select begun_at_sequence, complete_to is not null as "complete!",
                       coalesce(doubted_version = version, false) as "in_doubt!"
                from owner where owner_key = $1 for no key update
                "#,
                copy.owner.as_bytes(),
            )
            .fetch_optional(&mut *transaction)
            .await?;

            match row {
                Some(row) if row.complete && target == CopyTarget::Incomplete => {
                    return Ok(HostingOutcome::Already);
                }
                Some(row)
                    if row.complete == (target == CopyTarget::Complete)
                        && !(row.complete && row.in_doubt)
                        && from_sql(row.begun_at_sequence) <= copy.up_to => {}
                _ => return Ok(HostingOutcome::NotBegun),
            }
            if is_overtaken(&mut transaction, copy).await? {
                return Ok(HostingOutcome::Overtaken);
            }

            delete_other_rows(&mut transaction, copy, records).await?;
            for part in parts(records, |record| record) {
                let part = part.iter().map(|record| (copy.owner, *record));
                upsert_records(&mut transaction, part).await?;
            }
            replace_others(&mut transaction, copy).await?;
            if !mark_complete(&mut transaction, copy).await? {
                return Ok(HostingOutcome::Incomplete);
            }
            transaction.commit().await?;

            Ok(HostingOutcome::Now)
        })
        .await
    }
}

/// What the row of an owner has of a complete copy.
pub(super) struct CompleteRow {
    pub(super) version: i64,
    pub(super) key: Option<Vec<u8>>,
    pub(super) key_version: Option<i64>,
    pub(super) floor: i64,
    pub(super) sealed_floor: Option<Vec<u8>>,
    pub(super) floor_version: Option<i64>,
    pub(super) complete_to: i64,
    pub(super) history_complete: bool,
}

impl OwnerCopy {
    /// What the owner's row has once the copy is complete.
    pub(super) fn row(&self) -> CompleteRow {
        let find = |name| self.records.iter().find(|record| record.name == name);
        let value = |record: Option<&Record>| record.map(|record| record.value.to_vec());
        let version = |record: Option<&Record>| record.map(|record| to_sql(record.version.get()));

        let key = find(RecordName::Key);
        let floor = find(RecordName::Floor);
        let versions = self.records.iter().map(|record| record.version.get());

        CompleteRow {
            version: to_sql(versions.max().unwrap_or_default()),
            key: value(key),
            key_version: version(key),
            floor: to_sql(floor.and_then(Record::floor).unwrap_or_default().get()),
            sealed_floor: value(floor),
            floor_version: version(floor),
            complete_to: to_sql(self.up_to),
            history_complete: self.has_all_versions(),
        }
    }

    /// Whether it has every version that there ever was of the owner's items: each is the first one.
    pub fn has_all_versions(&self) -> bool {
        let is_first = |record: &Record| record.envelope.item_prev.is_none();
        self.records.iter().all(is_first)
    }

    /// The items' records that have a row. A deletion up to the owner's floor has none.
    pub(super) fn items(&self) -> impl Iterator<Item = (&[u8; 16], &Record)> {
        let floor = self
            .records
            .iter()
            .filter_map(Record::floor)
            .max()
            .unwrap_or_default();

        let kept = self
            .records
            .iter()
            .filter(move |record| !record.envelope.deleted || record.version > floor);

        kept.filter_map(|record| match &record.name {
            RecordName::Item(item) => Some((item.as_bytes(), record)),
            RecordName::Key | RecordName::Floor | RecordName::Unknown(_) => None,
        })
    }
}

/// The records of the set that have no row of their version here.
fn missing_records<'c>(copy: &'c OwnerCopy, stored: &HashMap<Vec<u8>, u64>) -> Vec<&'c Record> {
    let is_stored =
        |item: &[u8; 16], record: &Record| stored.get(&item[..]) == Some(&record.version.get());

    copy.items()
        .filter(|(item, record)| !is_stored(item, record))
        .map(|(_, record)| record)
        .collect()
}

/// Returns whether a row is newer than the set, and not newer than the projection's cursor. A row
/// that is newer than the cursor was not stored by the projection, and does not count.
async fn is_overtaken(
    transaction: &mut Transaction<'_, Postgres>,
    copy: &OwnerCopy,
) -> Result<bool, ShardError> {
    let newer = sqlx::query_scalar!(
        r#"
        select exists(
            select from owner o join cursor c on c.bucket = $2
            where o.owner_key = $1 and (
                o.version > $3 and o.version <= c.sequence
                or o.key_version > $3 and o.key_version <= c.sequence
                or o.floor_version > $3 and o.floor_version <= c.sequence
                or exists(
                    select from other_record r
                    where r.owner_key = $1 and r.version > $3 and r.version <= c.sequence
                )
                or exists(
                    select from item i where i.owner_key = $1 and i.version > $3 and i.version <= c.sequence
                )
            )
        ) as "newer!"
        "#,
        copy.owner.as_bytes(),
        copy.bucket,
        to_sql(copy.up_to),
    )
    .fetch_one(&mut **transaction)
    .await?;

    Ok(newer)
}

/// Deletes the rows that are not in the set, and those that `records` replace.
async fn delete_other_rows(
    transaction: &mut Transaction<'_, Postgres>,
    copy: &OwnerCopy,
    records: &[&Record],
) -> Result<(), ShardError> {
    let staying = copy
        .items()
        .filter(|(_, record)| records.iter().all(|other| other.name != record.name));
    let (items, versions): (Vec<_>, Vec<_>) = staying
        .map(|(item, record)| (item.to_vec(), to_sql(record.version.get())))
        .unzip();

    sqlx::query!(
        "
        delete from item where owner_key = $1 and not exists (
            select from unnest($2::bytea[], $3::bigint[]) as stay (i, v) where i = item_key and v = version
        )
        ",
        copy.owner.as_bytes(),
        &items,
        &versions,
    )
    .execute(&mut **transaction)
    .await?;

    Ok(())
}

/// Stores the records that this version does not know in the place of those that are here.
async fn replace_others(
    transaction: &mut Transaction<'_, Postgres>,
    copy: &OwnerCopy,
) -> Result<(), ShardError> {
    sqlx::query!(
        "delete from other_record where owner_key = $1",
        copy.owner.as_bytes()
    )
    .execute(&mut **transaction)
    .await?;

    for record in &copy.records {
        if let RecordName::Unknown(_) = record.name {
            store_other(transaction, &copy.owner, record).await?;
        }
    }
    Ok(())
}

/// Marks the owner as complete if all rows are present. Returns whether it did.
async fn mark_complete(
    transaction: &mut Transaction<'_, Postgres>,
    copy: &OwnerCopy,
) -> Result<bool, ShardError> {
    let row = copy.row();

    let updated = sqlx::query!(
        "
        update owner
        set version = $2, wrapped_key = $3, key_version = $4, floor = $5, sealed_floor = $6, floor_version = $7,
            complete_to = $8, history_complete = $9, doubted_version = null, lost_at = null
        where owner_key = $1 and (select count(*) from item where item.owner_key = $1) = $10
        ",
        copy.owner.as_bytes(),
        row.version,
        row.key,
        row.key_version,
        row.floor,
        row.sealed_floor,
        row.floor_version,
        row.complete_to,
        row.history_complete,
        to_sql(copy.items().count() as u64),
    )
    .execute(&mut **transaction)
    .await?;

    Ok(updated.rows_affected() == 1)
}
