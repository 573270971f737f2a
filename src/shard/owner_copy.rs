//! Storing an owner's whole set: what hosting ends with, and what takes the place of a copy that is not right.
//!
//! Most of it goes ahead, in small transactions, while nobody is served from it. The last transaction is short however
//! heavy the owner is, for the projection may be waiting for the owner's row.

use super::records::{parts, upsert_records};
use super::store::{ShardError, Store, from_sql, to_sql};
use crate::seal::{OwnerKey, Record, RecordName};
use sqlx::Transaction;
use sqlx::postgres::Postgres;
use std::collections::HashMap;
use std::time::Instant;
use tokio::time::sleep;

/// An owner's whole set, as the truth has it.
pub struct OwnerCopy<'r> {
    /// Whose.
    pub owner: OwnerKey,
    /// The bucket's name.
    pub bucket: &'r str,
    /// Their current records.
    pub records: Vec<Record>,
    /// The stream sequence up to which that is complete.
    pub up_to: u64,
}

/// What became of storing an owner's whole set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostingOutcome {
    /// The shard hosts the owner now, with these records.
    Now,
    /// It did so already: another worker was faster.
    Already,
    /// The owner's row is gone, or was made anew since, beyond what these records reach.
    NotBegun,
    /// The projection has brought what is newer than these records.
    Overtaken,
    /// Rows that had gone ahead are not there any more.
    NotWhole,
}

/// In whose place the set comes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum CopyTarget {
    /// Nobody is served from the owner's rows.
    Nothing,
    /// They are, until they are replaced.
    ACopy,
}

impl Store {
    /// The second step of hosting: the owner is served from here, with exactly these records, or nobody is. Rows that the
    /// projection has brought are the truth's, and are not brought twice; if any is newer than these records, they are
    /// not enough.
    pub async fn complete_hosting(
        &self,
        whole: &OwnerCopy<'_>,
    ) -> Result<HostingOutcome, ShardError> {
        let lacking = lacking(whole, &self.versions_here(&whole.owner).await?);
        let mut parts: Vec<&[&Record]> = parts(&lacking, |record| record).collect();
        let last = parts.pop().unwrap_or_default();
        for part in parts {
            let began = Instant::now();
            if !self.store_ahead(&whole.owner, part, whole.up_to).await? {
                break;
            }
            // The others have their turn.
            sleep(began.elapsed()).await;
        }
        self.put_whole(whole, last, CopyTarget::Nothing).await
    }

    /// Stores some records of an owner who is not hosted yet, whose row was made at `up_to` or before. Nobody is served from
    /// them. Says whether there is such a row.
    pub async fn store_ahead(
        &self,
        owner: &OwnerKey,
        records: &[&Record],
        up_to: u64,
    ) -> Result<bool, ShardError> {
        self.unhurried(async {
            let mut transaction = self.slow_pool().begin().await?;
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
            upsert_records(&mut transaction, records.iter().map(|record| (*owner, *record))).await?;
            transaction.commit().await?;
            Ok(true)
        })
        .await
    }

    /// Puts the set in the place of the copy that is here, in one transaction. `differing` are those of its records that
    /// have no row, or another one.
    pub async fn replace_copy(
        &self,
        whole: &OwnerCopy<'_>,
        differing: &[&Record],
    ) -> Result<HostingOutcome, ShardError> {
        self.put_whole(whole, differing, CopyTarget::ACopy).await
    }

    /// The versions of the owner's rows, whoever is served from them.
    async fn versions_here(&self, owner: &OwnerKey) -> Result<HashMap<Vec<u8>, u64>, ShardError> {
        self.unhurried(async {
            let rows = sqlx::query!(
                "select item_key, version from item where owner_key = $1",
                owner.as_bytes()
            )
            .fetch_all(&self.slow_pool())
            .await?;
            Ok(rows
                .into_iter()
                .map(|row| (row.item_key, from_sql(row.version)))
                .collect())
        })
        .await
    }

    /// Takes away every row that is not of the set, or is among those to be `put`, stores these, and says that the set is
    /// complete; or does nothing.
    async fn put_whole(
        &self,
        whole: &OwnerCopy<'_>,
        put: &[&Record],
        over: CopyTarget,
    ) -> Result<HostingOutcome, ShardError> {
        self.unhurried(async {
            let mut transaction = self.slow_pool().begin().await?;
            let row = sqlx::query!(
                r#"
                select begun_at_sequence, complete_to is not null as "complete!"
                from owner where owner_key = $1 for no key update
                "#,
                whole.owner.as_bytes(),
            )
            .fetch_optional(&mut *transaction)
            .await?;
            match row {
                Some(row) if row.complete && over == CopyTarget::Nothing => {
                    return Ok(HostingOutcome::Already);
                }
                Some(row)
                    if row.complete == (over == CopyTarget::ACopy)
                        && from_sql(row.begun_at_sequence) <= whole.up_to => {}
                _ => return Ok(HostingOutcome::NotBegun),
            }
            if is_overtaken(&mut transaction, whole).await? {
                return Ok(HostingOutcome::Overtaken);
            }
            delete_others(&mut transaction, whole, put).await?;
            for part in parts(put, |record| record) {
                upsert_records(
                    &mut transaction,
                    part.iter().map(|record| (whole.owner, *record)),
                )
                .await?;
            }
            if !say_complete(&mut transaction, whole).await? {
                return Ok(HostingOutcome::NotWhole);
            }
            transaction.commit().await?;
            Ok(HostingOutcome::Now)
        })
        .await
    }
}

impl OwnerCopy<'_> {
    /// The records that have a row of their own; a deletion that the owner's floor ends has none.
    fn items(&self) -> impl Iterator<Item = (&[u8; 16], &Record)> {
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
            RecordName::Key | RecordName::Floor => None,
        })
    }
}

/// The records of the set that have no row of their version here.
fn lacking<'w>(whole: &'w OwnerCopy<'_>, here: &HashMap<Vec<u8>, u64>) -> Vec<&'w Record> {
    let is_here =
        |item: &[u8; 16], record: &Record| here.get(&item[..]) == Some(&record.version.get());
    whole
        .items()
        .filter(|(item, record)| !is_here(item, record))
        .map(|(_, record)| record)
        .collect()
}

/// Whether the projection, as far as it has come, has brought what is newer than the set. What is newer than that was
/// never brought by anybody.
async fn is_overtaken(
    transaction: &mut Transaction<'_, Postgres>,
    whole: &OwnerCopy<'_>,
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
                    select from item i where i.owner_key = $1 and i.version > $3 and i.version <= c.sequence
                )
            )
        ) as "newer!"
        "#,
        whole.owner.as_bytes(),
        whole.bucket,
        to_sql(whole.up_to),
    )
    .fetch_one(&mut **transaction)
    .await?;
    Ok(newer)
}

/// Takes the rows away that are not of the set, and those in whose place others are put.
async fn delete_others(
    transaction: &mut Transaction<'_, Postgres>,
    whole: &OwnerCopy<'_>,
    put: &[&Record],
) -> Result<(), ShardError> {
    let stay = whole
        .items()
        .filter(|(_, record)| put.iter().all(|other| other.name != record.name));
    let (items, versions): (Vec<_>, Vec<_>) = stay
        .map(|(item, record)| (item.to_vec(), to_sql(record.version.get())))
        .unzip();
    sqlx::query!(
        "
        delete from item where owner_key = $1 and not exists (
            select from unnest($2::bytea[], $3::bigint[]) as stay (i, v) where i = item_key and v = version
        )
        ",
        whole.owner.as_bytes(),
        &items,
        &versions,
    )
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

/// Says in the owner's row that the set is here, if it is. Says whether it is.
async fn say_complete(
    transaction: &mut Transaction<'_, Postgres>,
    whole: &OwnerCopy<'_>,
) -> Result<bool, ShardError> {
    let of_name = |name| whole.records.iter().find(|record| record.name == name);
    let value = |record: Option<&Record>| record.map(|record| record.value.to_vec());
    let version = |record: Option<&Record>| record.map(|record| to_sql(record.version.get()));
    let (key, floor) = (of_name(RecordName::Key), of_name(RecordName::Floor));
    let newest = whole
        .records
        .iter()
        .map(|record| record.version.get())
        .max()
        .unwrap_or_default();
    let done = sqlx::query!(
        "
        update owner
        set version = $2, wrapped_key = $3, key_version = $4, floor = $5, sealed_floor = $6, floor_version = $7,
            complete_to = $8, history_complete = $9
        where owner_key = $1 and (select count(*) from item where item.owner_key = $1) = $10
        ",
        whole.owner.as_bytes(),
        to_sql(newest),
        value(key),
        version(key),
        to_sql(floor.and_then(Record::floor).unwrap_or_default().get()),
        value(floor),
        version(floor),
        to_sql(whole.up_to),
        whole.records.iter().all(|record| record.envelope.item_prev.is_none()),
        to_sql(whole.items().count() as u64),
    )
    .execute(&mut **transaction)
    .await?;
    Ok(done.rows_affected() == 1)
}
