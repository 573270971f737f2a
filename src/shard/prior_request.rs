//! Finding what was written before: a version, an item's versions, the record of a request.

use super::owner::parse_record;
use super::store::{ShardError, Store, from_sql, to_sql};
use crate::domain::Version;
use crate::seal::{ItemKey, OwnerKey, Record, RecordName, RequestHash};

/// What this shard knows about a request id.
pub enum PriorRequest {
    /// The record that the request wrote.
    Found(Box<Record>),
    /// No record up to this stream sequence came from the request: the shard has every version of
    /// the owner's items that the bucket keeps.
    NotUpTo(u64),
    /// This shard does not have enough of the owner's history to tell.
    Unknown,
}

impl Store {
    /// Returns the owner's item record of that version, if it is here.
    pub async fn record_at(
        &self,
        owner: &OwnerKey,
        version: Version,
    ) -> Result<Option<Record>, ShardError> {
        self.within_call_limit(async {
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
            let item = ItemKey::from_slice(&row.item_key).ok_or(ShardError::Unreadable)?;
            let at_ms = row.updated_at_ms.unwrap_or_default();

            parse_record(RecordName::Item(item), to_sql(version.get()), at_ms, row.sealed).map(Some)
        })
        .await
    }

    /// Returns the owner's item records of these versions, those that are here.
    pub async fn records_between(
        &self,
        owner: &OwnerKey,
        first: Version,
        last: Version,
    ) -> Result<Vec<Record>, ShardError> {
        self.within_call_limit(async {
            let rows = sqlx::query!(
                r#"
                select item_key, version, sealed, (extract(epoch from updated_at) * 1000)::bigint as updated_at_ms
                from item_version where owner_key = $1 and version between $2 and $3
                "#,
                owner.as_bytes(),
                to_sql(first.get()),
                to_sql(last.get()),
            )
            .fetch_all(&self.pool())
            .await?;

            rows.into_iter()
                .map(|row| {
                    let item = ItemKey::from_slice(&row.item_key).ok_or(ShardError::Unreadable)?;
                    let at_ms = row.updated_at_ms.unwrap_or_default();
                    parse_record(RecordName::Item(item), row.version, at_ms, row.sealed)
                })
                .collect()
        })
        .await
    }

    /// Returns the records of one item that are older than `before`, newest first, at most `limit`.
    pub async fn item_versions(
        &self,
        owner: &OwnerKey,
        item: &ItemKey,
        before: Version,
        limit: usize,
    ) -> Result<Vec<Record>, ShardError> {
        self.within_call_limit(async {
            let rows = sqlx::query!(
                r#"
                select version, sealed, (extract(epoch from updated_at) * 1000)::bigint as updated_at_ms
                from item_version where owner_key = $1 and item_key = $2 and version < $3
                order by version desc limit $4
                "#,
                owner.as_bytes(),
                item.as_bytes(),
                to_sql(before.get()),
                to_sql(limit as u64),
            )
            .fetch_all(&self.pool())
            .await?;

            let name = RecordName::Item(*item);
            rows.into_iter()
                .map(|row| {
                    let at_ms = row.updated_at_ms.unwrap_or_default();
                    parse_record(name, row.version, at_ms, row.sealed)
                })
                .collect()
        })
        .await
    }

    /// Returns the oldest record of one item that is kept here. Its time is not read.
    pub async fn first_version(
        &self,
        owner: &OwnerKey,
        item: &ItemKey,
    ) -> Result<Option<Record>, ShardError> {
        self.within_call_limit(async {
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

            row.map(|row| parse_record(RecordName::Item(*item), row.version, 0, row.sealed))
                .transpose()
        })
        .await
    }

    /// Returns the newest record that a request with this id wrote, if it is here.
    pub async fn earlier_request(
        &self,
        owner: &OwnerKey,
        request_id: &RequestHash,
        bucket: &str,
    ) -> Result<PriorRequest, ShardError> {
        self.within_call_limit(async {
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
            if let (Some(item), Some(version), Some(sealed)) =
                (row.item_key, row.version, row.sealed)
            {
                let item = ItemKey::from_slice(&item).ok_or(ShardError::Unreadable)?;
                let name = RecordName::Item(item);
                let at_ms = row.updated_at_ms.unwrap_or_default();
                let record = parse_record(name, version, at_ms, sealed)?;
                return Ok(PriorRequest::Found(Box::new(record)));
            }

            Ok(if row.known {
                PriorRequest::NotUpTo(from_sql(row.cursor))
            } else {
                PriorRequest::Unknown
            })
        })
        .await
    }
}
