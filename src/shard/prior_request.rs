//! Finding what was before: a version, an item's versions, a request that was done.

use super::owner::record;
use super::store::{ShardError, Store, from_sql, to_sql};
use crate::domain::Version;
use crate::seal::{ItemKey, OwnerKey, Record, RecordName, RequestHash};

/// What this shard knows of a request id.
pub enum PriorRequest {
    /// The record that the request wrote.
    Found(Box<Record>),
    /// It has not been done up to this stream sequence, as far as this shard knows every version of the owner's items.
    NotUpTo(u64),
    /// This shard does not know enough of the owner's history to say.
    Unknown,
}

impl Store {
    /// The owner's item record of that version, if it is here.
    pub async fn record_at(
        &self,
        owner: &OwnerKey,
        version: Version,
    ) -> Result<Option<Record>, ShardError> {
        self.within(async {
            let row = sqlx::query!(
                r#"
                select item_key, sealed, (extract(epoch from updated_at) * 1000)::bigint as updated_at_ms
                from item_version where owner_key = $1 and version = $2
                "#,
                owner.as_bytes(),
                to_sql(version.get()),
            )
            .fetch_optional(&self.pool())
            .await?;
            let Some(row) = row else { return Ok(None) };
            let name = RecordName::Item(ItemKey::from_slice(&row.item_key).ok_or(ShardError::Unreadable)?);
            record(name, to_sql(version.get()), row.updated_at_ms.unwrap_or_default(), row.sealed).map(Some)
        })
        .await
    }

    /// The newest records of one item that are older than `before`, newest first, at most `most` of them.
    pub async fn item_versions(
        &self,
        owner: &OwnerKey,
        item: &ItemKey,
        before: Version,
        most: usize,
    ) -> Result<Vec<Record>, ShardError> {
        self.within(async {
            let rows = sqlx::query!(
                r#"
                select version, sealed, (extract(epoch from updated_at) * 1000)::bigint as updated_at_ms
                from item_version where owner_key = $1 and item_key = $2 and version < $3
                order by version desc limit $4
                "#,
                owner.as_bytes(),
                item.as_bytes(),
                to_sql(before.get()),
                to_sql(most as u64),
            )
            .fetch_all(&self.pool())
            .await?;
            let name = RecordName::Item(*item);
            rows.into_iter()
                .map(|row| record(name, row.version, row.updated_at_ms.unwrap_or_default(), row.sealed))
                .collect()
        })
        .await
    }

    /// The oldest record of one item that is kept here.
    pub async fn first_version(
        &self,
        owner: &OwnerKey,
        item: &ItemKey,
    ) -> Result<Option<Record>, ShardError> {
        self.within(async {
            let row = sqlx::query!(
                "
                select version, sealed from item_version where owner_key = $1 and item_key = $2
                order by version limit 1
                ",
                owner.as_bytes(),
                item.as_bytes(),
            )
            .fetch_optional(&self.pool())
            .await?;
            row.map(|row| record(RecordName::Item(*item), row.version, 0, row.sealed))
                .transpose()
        })
        .await
    }

    /// The record that a request with this id wrote, if it is here.
    pub async fn earlier_request(
        &self,
        owner: &OwnerKey,
        request_id: &RequestHash,
        bucket: &str,
    ) -> Result<PriorRequest, ShardError> {
        self.within(async {
            let row = sqlx::query!(
                r#"
                select o.history_complete and o.complete_to is not null as "known!", c.sequence as "cursor!",
                       v.item_key as "item_key?", v.version as "version?", v.sealed as "sealed?",
                       (extract(epoch from v.updated_at) * 1000)::bigint as updated_at_ms
                from owner o
                join cursor c on c.bucket = $3
                left join item_version v on v.owner_key = o.owner_key and v.request_id = $2
                where o.owner_key = $1
                order by v.version desc nulls last
                limit 1
                "#,
                owner.as_bytes(),
                request_id.as_bytes(),
                bucket,
            )
            .fetch_optional(&self.pool())
            .await?;
            let Some(row) = row else { return Ok(PriorRequest::Unknown) };
            if let (Some(item), Some(version), Some(sealed)) = (row.item_key, row.version, row.sealed) {
                let name = RecordName::Item(ItemKey::from_slice(&item).ok_or(ShardError::Unreadable)?);
                let found = record(name, version, row.updated_at_ms.unwrap_or_default(), sealed)?;
                return Ok(PriorRequest::Found(Box::new(found)));
            }
            Ok(if row.known { PriorRequest::NotUpTo(from_sql(row.cursor)) } else { PriorRequest::Unknown })
        })
        .await
    }
}
