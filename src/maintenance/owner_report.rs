//! What the bucket and this shard have of one owner: numbers and times, and nothing that the owner
//! wrote.

use super::Operator;
use crate::domain::{Timestamp, Version};
use crate::owners::{OwnersError, Snapshot};
use crate::seal::OwnerKey;
use crate::shard::OwnerState;

/// What the bucket and this shard have of one owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnerReport {
    /// What the bucket has; `None` if it has no record of the owner.
    pub bucket: Option<OwnerRecords>,
    /// What this shard's Postgres has; `None` if the shard does not host the owner.
    pub copy: Option<OwnerState>,
}

/// What the bucket has of one owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnerRecords {
    /// The owner's version.
    pub version: Version,
    /// When the record of this version was written.
    pub written_at: Timestamp,
    /// The version up to which deletions are forgotten.
    pub floor: Version,
    /// The items that are not deleted.
    pub items: usize,
    /// The items, deleted ones included.
    pub keys: usize,
    /// The bytes of the items' sealed records, deleted ones included.
    pub bytes: usize,
}

impl Operator {
    /// Returns what the bucket and this shard have of the owner.
    ///
    /// # Errors
    ///
    /// The owner's records in the bucket are not complete, or one of the servers is unavailable.
    pub async fn report_owner(&self, owner: &OwnerKey) -> Result<OwnerReport, OwnersError> {
        let fetched = self.owners.fetch_complete(owner).await?;
        let copy = self.store.owner_state(owner).await?;

        Ok(OwnerReport {
            bucket: summarise(&fetched.snapshot),
            copy,
        })
    }
}

fn summarise(snapshot: &Snapshot) -> Option<OwnerRecords> {
    let newest = snapshot
        .set()
        .records()
        .max_by_key(|record| record.version)?;
    let (items, keys) = snapshot.counts();

    Some(OwnerRecords {
        version: snapshot.version(),
        written_at: newest.at,
        floor: snapshot.floor(),
        items,
        keys,
        bytes: snapshot.item_bytes(),
    })
}
