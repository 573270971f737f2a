//! An owner's rows exactly as they are stored, for a comparison with the truth.

use super::error::ShardError;
use super::store::{Store, from_sql, to_sql};
use super::unhost::keys;
use crate::domain::{Timestamp, Version};
use crate::seal::{ItemKey, OwnerKey, Record, RecordName};
use std::collections::HashMap;

/// An owner who has a row here, and where the owner's key lies in the bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnerPlace {
    /// The owner.
    pub owner: OwnerKey,
    /// The version of the owner's key; 0 if the key is missing here.
    pub key_version: u64,
}

/// All of an owner's rows, as of one moment.
pub struct OwnerRows {
    /// The owner's version in the owner's row.
    pub version: u64,
    /// Whether the projection leaves the copy as it is, because the bucket has gone on from another
    /// state.
    pub is_in_doubt: bool,
    /// The version and the value of the owner's key record.
    pub key: Option<(u64, Vec<u8>)>,
    /// The version and the value of the owner's floor record.
    pub floor: Option<(u64, Vec<u8>)>,
    /// The names, versions and values of records that this version does not know.
    pub others: Vec<(RecordName, u64, Vec<u8>)>,
    /// The owner's items.
    pub items: Vec<ItemRow>,
}

/// An item's row.
pub struct ItemRow {
    /// The item's key.
    pub item: ItemKey,
    /// Its version.
    pub version: u64,
    /// Envelope and ciphertext.
    pub sealed: Vec<u8>,
    /// Whether the item is marked as deleted.
    pub deleted: bool,
    /// When the bucket stored the record.
    pub at: Timestamp,
    /// Whether `item_version` has the same version with the same bytes.
    pub is_kept_as_version: bool,
}

impl OwnerRows {
    /// Returns the rows as records; `None` if one of them is no valid record.
    pub fn records(&self) -> Option<Vec<Record>> {
        let record = |name, version, at, value: &[u8]| {
            Record::parse(name, Version::new(version)?, at, value.to_vec().into()).ok()
        };

        let mut records = Vec::with_capacity(self.items.len() + 1);
        for (name, row) in [
            (RecordName::Key, &self.key),
            (RecordName::Floor, &self.floor),
        ] {
            if let Some((version, value)) = row {
                records.push(record(name, *version, Timestamp::MIN, value)?);
            }
        }

        for (name, version, value) in &self.others {
            records.push(record(*name, *version, Timestamp::MIN, value)?);
        }

        for row in &self.items {
            let name = RecordName::Item(row.item);
            records.push(record(name, row.version, row.at, &row.sealed)?);
        }

        Some(records)
    }
}

impl ItemRow {
    /// Returns whether the row holds that record.
    pub fn matches(&self, record: &Record) -> bool {
        self.version == record.version.get()
            && self.sealed == record.value
            && self.deleted == record.envelope.deleted
            && self.at == record.at
    }
}

impl Store {
    /// Returns the owner's rows, read in one statement; `None` unless the shard hosts the owner
    /// completely.
    pub async fn find_rows(&self, owner: &OwnerKey) -> Result<Option<OwnerRows>, ShardError> {
        Ok(self.find_rows_of(&[*owner]).await?.remove(owner))
    }

    /// Returns the rows of those of the owners that the shard hosts completely, all read in one
    /// statement.
    pub async fn find_rows_of(
        &self,
        owners: &[OwnerKey],
    ) -> Result<HashMap<OwnerKey, OwnerRows>, ShardError> {
        self.in_background(async {
            let rows = sqlx::query!(
                r#"
                select o.owner_key, o.version as owner_version, coalesce(o.doubted_version = o.version, false) as "is_in_doubt!",
                       o.wrapped_key, o.key_version, o.sealed_floor, o.floor_version,
                       others.names as "names!", others.versions as "versions!", others.sealed as "others!",
                       i.item_key as "item_key?", i.version as "version?", i.sealed as "sealed?",
                       i.deleted as "deleted?", (extract(epoch from i.updated_at) * 1000)::bigint as updated_at_ms,
                       exists(
                           select from item_version v
                           where v.owner_key = i.owner_key and v.item_key = i.item_key and v.version = i.version
                             and v.sealed = i.sealed
                       ) as "is_kept!"
                from owner o
                cross join lateral (
                    select coalesce(array_agg(r.name order by r.name), '{}') as names,
                           coalesce(array_agg(r.version order by r.name), '{}') as versions,
                           coalesce(array_agg(r.sealed order by r.name), '{}') as sealed
                    from other_record r where r.owner_key = o.owner_key
                ) others
                left join item i using (owner_key)
                where o.owner_key = any($1) and o.complete_to is not null and o.erased_at is null
                "#,
                &keys(owners),
            )
            .fetch_all(&self.background_pool())
            .await?;

            let mut found = HashMap::new();
            for row in rows {
                let Some(owner) = OwnerKey::from_slice(&row.owner_key) else { continue };
                let owner_rows = found.entry(owner).or_insert_with(|| {
                    let values = std::iter::zip(row.versions, row.others);
                    let others = std::iter::zip(row.names, values).filter_map(|(name, (version, value))| {
                        Some((RecordName::parse(&name)?, from_sql(version), value))
                    });

                    OwnerRows {
                        version: from_sql(row.owner_version),
                        is_in_doubt: row.is_in_doubt,
                        key: row.key_version.map(from_sql).zip(row.wrapped_key),
                        floor: row.floor_version.map(from_sql).zip(row.sealed_floor),
                        others: others.collect(),
                        items: Vec::new(),
                    }
                });

                let item = || {
                    Some(ItemRow {
                        item: ItemKey::from_slice(&row.item_key?)?,
                        version: from_sql(row.version?),
                        sealed: row.sealed?,
                        deleted: row.deleted?,
                        at: Timestamp::from_millis(row.updated_at_ms?),
                        is_kept_as_version: row.is_kept,
                    })
                };
                owner_rows.items.extend(item());
            }

            Ok(found)
        })
        .await
    }

    /// Returns the owners that have a row here, hosted or not, in the order of their keys: those
    /// after `after`, at most `limit`.
    pub async fn known_owners(
        &self,
        after: Option<&OwnerKey>,
        limit: i64,
    ) -> Result<Vec<OwnerKey>, ShardError> {
        self.in_background(async {
            let after: &[u8] = after.map_or(&[], |owner| owner.as_bytes());
            let rows = sqlx::query_scalar!(
                "select owner_key from owner where owner_key > $1 order by owner_key limit $2",
                after,
                limit,
            )
            .fetch_all(&self.background_pool())
            .await?;

            Ok(rows
                .iter()
                .filter_map(|key| OwnerKey::from_slice(key))
                .collect())
        })
        .await
    }

    /// Returns the owners that have a row here, hosted or not, in the order in which their keys lie in the
    /// bucket: those whose key has the version `from` or a later one, and of that version only those after
    /// `after`; at most `limit`. An owner whose key is replaced meanwhile moves to a later place.
    pub async fn owners_in_order(
        &self,
        from: u64,
        after: Option<&OwnerKey>,
        limit: i64,
    ) -> Result<Vec<OwnerPlace>, ShardError> {
        self.in_background(async {
            let after: &[u8] = after.map_or(&[], |owner| owner.as_bytes());
            let rows = sqlx::query!(
                r#"
                select owner_key, coalesce(key_version, 0) as "key_version!" from owner
                where (coalesce(key_version, 0), owner_key) > ($1, $2)
                order by coalesce(key_version, 0), owner_key limit $3
                "#,
                to_sql(from),
                after,
                limit,
            )
            .fetch_all(&self.background_pool())
            .await?;

            let place = |key: &[u8], version| {
                Some(OwnerPlace {
                    owner: OwnerKey::from_slice(key)?,
                    key_version: from_sql(version),
                })
            };
            Ok(rows
                .iter()
                .filter_map(|row| place(&row.owner_key, row.key_version))
                .collect())
        })
        .await
    }

    /// Returns how many owners have a row here, hosted or not.
    pub async fn known_count(&self) -> Result<u64, ShardError> {
        self.in_background(async {
            let count = sqlx::query_scalar!(r#"select count(*) as "count!" from owner"#)
                .fetch_one(&self.background_pool())
                .await?;

            Ok(from_sql(count))
        })
        .await
    }

    /// Returns those of the owners that have a row here, hosted or not.
    pub async fn known_among(&self, owners: &[OwnerKey]) -> Result<Vec<OwnerKey>, ShardError> {
        self.in_background(async {
            let rows = sqlx::query_scalar!(
                "select owner_key from owner where owner_key = any($1)",
                &keys(owners)
            )
            .fetch_all(&self.background_pool())
            .await?;

            Ok(rows
                .iter()
                .filter_map(|key| OwnerKey::from_slice(key))
                .collect())
        })
        .await
    }
}
