//! Reading the copy of an owner that is here.

use super::error::ShardError;
use super::store::{Store, from_sql};
use crate::domain::{Timestamp, Version};
use crate::seal::{ItemKey, OwnerKey, Record, RecordName};
use sqlx::postgres::PgConnection;

/// This shard's complete copy of an owner.
pub struct HostedOwner {
    /// The owner's current records, as of one moment.
    pub records: Vec<Record>,
    /// Whether every version that the bucket keeps of the owner's items is stored here too.
    pub history_complete: bool,
    /// Whether the projection leaves the copy as it is, because the bucket has gone on from another
    /// state.
    pub is_in_doubt: bool,
}

impl Store {
    /// Returns the owner's current records; `None` unless the shard hosts the owner completely. One
    /// statement reads them, so that a batch is seen completely or not at all.
    pub async fn hosted_owner(&self, owner: &OwnerKey) -> Result<Option<HostedOwner>, ShardError> {
        self.within_call_limit(async {
            read_owner(&mut *self.pool().acquire().await?, owner).await
        })
        .await
    }

    /// Returns how many owners the shard hosts completely. This reads all rows of `owner`.
    pub async fn hosted_count(&self) -> Result<u64, ShardError> {
        self.in_background(async {
            let count = sqlx::query_scalar!(
                r#"select count(*) as "count!" from owner where complete_to is not null and erased_at is null"#,
            )
            .fetch_one(&self.background_pool())
            .await?;

            Ok(from_sql(count))
        })
        .await
    }

    /// Returns the owners that the shard hosts completely, and their versions, in the order of
    /// their keys: those after `after`, at most `limit`.
    pub async fn hosted_versions(
        &self,
        after: Option<&OwnerKey>,
        limit: i64,
    ) -> Result<Vec<(OwnerKey, Version)>, ShardError> {
        self.within_call_limit(async {
            let after: &[u8] = after.map_or(&[], |owner| owner.as_bytes());
            let rows = sqlx::query!(
                "
                select owner_key, version from owner
                where owner_key > $1 and complete_to is not null and erased_at is null
                order by owner_key limit $2
                ",
                after,
                limit,
            )
            .fetch_all(&self.pool())
            .await?;

            let owners = rows.into_iter().filter_map(|row| {
                Some((
                    OwnerKey::from_slice(&row.owner_key)?,
                    Version::new(from_sql(row.version))?,
                ))
            });
            Ok(owners.collect())
        })
        .await
    }
}

async fn read_owner(
    connection: &mut PgConnection,
    owner: &OwnerKey,
) -> Result<Option<HostedOwner>, ShardError> {
    let rows = sqlx::query!(
        r#"
        select o.wrapped_key, o.key_version, o.sealed_floor, o.floor_version, o.history_complete,
               coalesce(o.doubted_version = o.version, false) as "is_in_doubt!",
               others.names as "names!", others.versions as "versions!", others.sealed as "others!",
               i.item_key as "item_key?", i.version as "version?", i.sealed as "sealed?",
               (extract(epoch from i.updated_at) * 1000)::bigint as updated_at_ms
        from owner o
        cross join lateral (
            select coalesce(array_agg(r.name order by r.name), '{}') as names,
                   coalesce(array_agg(r.version order by r.name), '{}') as versions,
                   coalesce(array_agg(r.sealed order by r.name), '{}') as sealed
            from other_record r where r.owner_key = o.owner_key
        ) others
        left join item i using (owner_key)
        where o.owner_key = $1 and o.complete_to is not null and o.erased_at is null
        "#,
        owner.as_bytes(),
    )
    .fetch_all(connection)
    .await?;

    let Some(first) = rows.first() else {
        return Ok(None);
    };
    let history_complete = first.history_complete;
    let is_in_doubt = first.is_in_doubt;

    let mut records = Vec::with_capacity(rows.len() + 1);
    if let (Some(value), Some(version)) = (&first.wrapped_key, first.key_version) {
        records.push(parse_record(RecordName::Key, version, 0, value.clone())?);
    }
    if let (Some(value), Some(version)) = (&first.sealed_floor, first.floor_version) {
        records.push(parse_record(RecordName::Floor, version, 0, value.clone())?);
    }

    for (name, (version, sealed)) in
        std::iter::zip(&first.names, std::iter::zip(&first.versions, &first.others))
    {
        let name = RecordName::parse(name).ok_or(ShardError::Unreadable)?;
        records.push(parse_record(name, *version, 0, sealed.clone())?);
    }

    for row in rows {
        if let (Some(item), Some(version), Some(sealed)) = (row.item_key, row.version, row.sealed) {
            records.push(parse_item_record(
                &item,
                version,
                row.updated_at_ms,
                sealed,
            )?);
        }
    }

    Ok(Some(HostedOwner {
        records,
        history_complete,
        is_in_doubt,
    }))
}

/// Reads the record of an item from the columns of its row.
pub(super) fn parse_item_record(
    item: &[u8],
    version: i64,
    at_ms: Option<i64>,
    sealed: Vec<u8>,
) -> Result<Record, ShardError> {
    let item = ItemKey::from_slice(item).ok_or(ShardError::Unreadable)?;

    parse_record(
        RecordName::Item(item),
        version,
        at_ms.unwrap_or_default(),
        sealed,
    )
}

pub(super) fn parse_record(
    name: RecordName,
    version: i64,
    at_ms: i64,
    value: Vec<u8>,
) -> Result<Record, ShardError> {
    let version = Version::new(from_sql(version)).ok_or(ShardError::Unreadable)?;

    Record::parse(name, version, Timestamp::from_millis(at_ms), value.into())
        .map_err(|_| ShardError::Unreadable)
}
