//! What this shard has of an owner, for operators.

use super::error::ShardError;
use super::store::{Store, from_sql};
use crate::domain::{Timestamp, Version};
use crate::seal::OwnerKey;

/// An owner's row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnerState {
    /// The version of the copy.
    pub version: Version,
    /// Whether the copy is complete. Otherwise hosting is under way.
    pub is_complete: bool,
    /// When hosting began.
    pub hosted_at: Timestamp,
    /// When the owner last sent a request to this shard, to about two hours.
    pub seen_at: Timestamp,
    /// When the owner was erased, if that is so.
    pub erased_at: Option<Timestamp>,
}

impl Store {
    /// Returns what this shard has of the owner; `None` if it does not host the owner.
    pub async fn owner_state(&self, owner: &OwnerKey) -> Result<Option<OwnerState>, ShardError> {
        self.in_background(async {
            let row = sqlx::query!(
                r#"
                select version, complete_to is not null as "is_complete!",
                       (extract(epoch from hosted_at) * 1000)::bigint as "hosted_at_ms!",
                       (extract(epoch from seen_at) * 1000)::bigint as "seen_at_ms!",
                       (extract(epoch from erased_at) * 1000)::bigint as erased_at_ms
                from owner where owner_key = $1
                "#,
                owner.as_bytes(),
            )
            .fetch_optional(&self.background_pool())
            .await?;

            Ok(row.map(|row| OwnerState {
                version: Version::new(from_sql(row.version)).unwrap_or_default(),
                is_complete: row.is_complete,
                hosted_at: Timestamp::from_millis(row.hosted_at_ms),
                seen_at: Timestamp::from_millis(row.seen_at_ms),
                erased_at: row.erased_at_ms.map(Timestamp::from_millis),
            }))
        })
        .await
    }
}
