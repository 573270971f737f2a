//! Finding what was written before: a version, and an item's versions.

use super::error::ShardError;
use super::owner::{parse_item_record, parse_record};
use super::store::{Store, to_sql};
use crate::domain::Version;
use crate::seal::{ItemKey, OwnerKey, Record, RecordName};

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
            let version = to_sql(version.get());
            parse_item_record(&row.item_key, version, row.updated_at_ms, row.sealed).map(Some)
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
                .map(|row| parse_item_record(&row.item_key, row.version, row.updated_at_ms, row.sealed))
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
}
