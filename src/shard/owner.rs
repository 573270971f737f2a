//! Reading the copy of an owner that is here.

use super::error::ShardError;
use super::shared_calls::{HostedOwner, ReadCopy, ReadFailure};
use super::store::{Store, from_sql};
use super::unhost::keys;
use crate::domain::{Timestamp, Version};
use crate::seal::{ItemKey, OwnerKey, Record, RecordName};
use sqlx::postgres::PgConnection;
use std::sync::Arc;
use tokio::time::timeout;

impl Store {
    /// Returns the owner's current records; `None` unless the shard hosts the owner completely. One
    /// statement reads them, so that a batch is seen completely or not at all. Owners who are read at
    /// the same time share a statement.
    pub async fn hosted_owner(&self, owner: &OwnerKey) -> Result<Option<HostedOwner>, ShardError> {
        if !self.is_up() {
            return Err(ShardError::KnownUnavailable);
        }

        let store = self.clone();
        let read = self.calls.copies.ask(*owner, move |owners| {
            let store = store.clone();
            async move { store.read_together(&owners).await }
        });
        // The wait for others is a part of the call.
        match timeout(self.call_limit(), read).await {
            // The others may be heavy, and this one not.
            Ok(Some(Err(ReadFailure { error, others }))) if others && error.ran_out_of_time() => {
                let read = self.read_copies(std::slice::from_ref(owner)).await?;
                read.into_iter().next().map_or(Ok(None), parse_owner)
            }
            Ok(Some(Err(ReadFailure { error, .. }))) => Err(ShardError::Together(error)),
            Ok(Some(Ok(copy))) => copy,
            Ok(None) | Err(_) => Err(ShardError::TimedOut),
        }
    }

    async fn read_together(&self, owners: &[OwnerKey]) -> Vec<ReadCopy> {
        match self.read_copies(owners).await {
            Ok(copies) => copies
                .into_iter()
                .map(|rows| Ok(parse_owner(rows)))
                .collect(),
            Err(error) => {
                let error = Arc::new(error);
                let failed = |_| {
                    Err(ReadFailure {
                        error: error.clone(),
                        others: owners.len() > 1,
                    })
                };
                owners.iter().map(failed).collect()
            }
        }
    }

    /// Returns the rows of each owner, in the order of the owners.
    async fn read_copies(&self, owners: &[OwnerKey]) -> Result<Vec<Vec<CopyRow>>, ShardError> {
        self.within_call_limit(async {
            read_owners(&mut *self.pool().acquire().await?, owners).await
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

/// A row of an owner's copy: an item, and what all rows of the owner have in common.
struct CopyRow {
    /// The place of the owner among those who were asked for, from 1.
    place: i64,
    wrapped_key: Option<Vec<u8>>,
    key_version: Option<i64>,
    sealed_floor: Option<Vec<u8>>,
    floor_version: Option<i64>,
    history_complete: bool,
    is_in_doubt: bool,
    names: Vec<String>,
    versions: Vec<i64>,
    others: Vec<Vec<u8>>,
    item_key: Option<Vec<u8>>,
    version: Option<i64>,
    sealed: Option<Vec<u8>>,
    updated_at_ms: Option<i64>,
}

/// Returns the rows of each owner, in the order of the owners. An owner whom the shard does not host
/// completely has none.
async fn read_owners(
    connection: &mut PgConnection,
    owners: &[OwnerKey],
) -> Result<Vec<Vec<CopyRow>>, ShardError> {
    // The limit, and the offset, keep the owners one by one, each looked up in the indexes: Postgres
    // plans the statement once, and does not know then how many owners and items there will be.
    let rows = sqlx::query_as!(
        CopyRow,
        r#"
        select asked.place as "place!", o.wrapped_key, o.key_version, o.sealed_floor,
               o.floor_version, o.history_complete as "history_complete!",
               o.is_in_doubt as "is_in_doubt!",
               others.names as "names!", others.versions as "versions!", others.sealed as "others!",
               i.item_key as "item_key?", i.version as "version?", i.sealed as "sealed?",
               (extract(epoch from i.updated_at) * 1000)::bigint as updated_at_ms
        from unnest($1::bytea[]) with ordinality as asked (owner_key, place)
        cross join lateral (
            select owner_key, wrapped_key, key_version, sealed_floor, floor_version,
                   history_complete, coalesce(doubted_version = version, false) as is_in_doubt
            from owner
            where owner_key = asked.owner_key and complete_to is not null and erased_at is null
            limit 1
        ) o
        cross join lateral (
            select coalesce(array_agg(r.name order by r.name), '{}') as names,
                   coalesce(array_agg(r.version order by r.name), '{}') as versions,
                   coalesce(array_agg(r.sealed order by r.name), '{}') as sealed
            from other_record r where r.owner_key = o.owner_key
        ) others
        left join lateral (
            select item_key, version, sealed, updated_at
            from item where owner_key = o.owner_key offset 0
        ) i on true
        "#,
        &keys(owners),
    )
    .fetch_all(connection)
    .await?;

    let mut copies: Vec<_> = owners.iter().map(|_| Vec::new()).collect();
    for row in rows {
        let index = from_sql(row.place - 1) as usize;
        copies
            .get_mut(index)
            .ok_or(ShardError::Unreadable)?
            .push(row);
    }
    Ok(copies)
}

/// Reads the copy from its rows; `None` if there are none.
fn parse_owner(rows: Vec<CopyRow>) -> Result<Option<HostedOwner>, ShardError> {
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
