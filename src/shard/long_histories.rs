//! Items with more versions than are kept.

use super::error::ShardError;
use super::store::Store;
use crate::seal::{ItemKey, OwnerKey};

impl Store {
    /// Deletes versions of these items beyond the newest `kept` of each, at most `limit`. Returns how
    /// many. It reads no other item, and spares owners whose copy is in doubt or has lost history.
    pub async fn trim_histories(
        &self,
        items: &[(OwnerKey, ItemKey)],
        kept: i64,
        limit: i64,
    ) -> Result<u64, ShardError> {
        let bytes = |key: &[u8]| key.to_vec();
        let owners: Vec<_> = items.iter().map(|(o, _)| bytes(o.as_bytes())).collect();
        let keys: Vec<_> = items.iter().map(|(_, i)| bytes(i.as_bytes())).collect();

        self.in_background(async {
            // First, once for each item, the newest version that is too many. As a part of the join,
            // Postgres may look it up once for each version.
            let deleted = sqlx::query!(
                "
                with beyond as materialized (
                    select o, i, (
                        select version from item_version
                        where owner_key = o and item_key = i
                        order by version desc offset $3 limit 1
                    ) as version
                    from unnest($1::bytea[], $2::bytea[]) as written (o, i)
                )
                delete from item_version where ctid = any(array(
                    select v.ctid
                    from beyond
                    join item_version v on v.owner_key = o and v.item_key = i and v.version <= beyond.version
                    where not exists (select from owner w where w.owner_key = o and w.lost_at is not null)
                      and not exists (
                          select from owner w
                          where w.owner_key = o and w.doubted_version is not null and w.lost_at is null
                      )
                    limit $4 for update of v skip locked
                ))
                ",
                &owners,
                &keys,
                kept.max(1),
                limit,
            )
            .execute(&self.background_pool())
            .await?;

            Ok(deleted.rows_affected())
        })
        .await
    }
}
