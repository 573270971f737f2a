//! Finding a request that was done before.

use super::owner::record;
use super::store::{ShardFault, Store, from_sql};
use crate::seal::{ItemKey, OwnerKey, Record, RecordName, RequestMark};

/// What this shard knows of a request id.
pub enum Earlier {
    /// The record that the request wrote.
    Found(Box<Record>),
    /// It has not been done up to this stream sequence, as far as this shard knows every version of the owner's items.
    NotUpTo(u64),
    /// This shard does not know enough of the owner's history to say.
    Unknown,
}

impl Store {
    /// The record that a request with this id wrote, if it is here.
    pub async fn earlier_request(
        &self,
        owner: &OwnerKey,
        request_id: &RequestMark,
        bucket: &str,
    ) -> Result<Earlier, ShardFault> {
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
            let Some(row) = row else { return Ok(Earlier::Unknown) };
            if let (Some(item), Some(version), Some(sealed)) = (row.item_key, row.version, row.sealed) {
                let name = RecordName::Item(ItemKey::from_slice(&item).ok_or(ShardFault::Unreadable)?);
                let found = record(name, version, row.updated_at_ms.unwrap_or_default(), sealed)?;
                return Ok(Earlier::Found(Box::new(found)));
            }
            Ok(if row.known { Earlier::NotUpTo(from_sql(row.cursor)) } else { Earlier::Unknown })
        })
        .await
    }
}
