//! Items that are written very often: this shard's Postgres keeps only the newest versions of each.

use crate::owners::Owners;
use crate::seal::{ItemKey, OwnerKey, Record, RecordName};
use crate::shard::ShardError;
use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tracing::debug;

/// The most items that are remembered. One beyond that is remembered when it is written again.
const ITEMS_MAX: usize = 50_000;
/// The most items looked at in one statement.
const STATEMENT_ITEMS_MAX: usize = 1_000;
/// The most versions deleted in one statement.
const DELETED_VERSIONS_MAX: u64 = 1_000;

/// The items that the projection has written since they were looked at, so that nothing else has to
/// be.
#[derive(Default)]
pub(in crate::owners) struct LongHistories(Mutex<HashSet<(OwnerKey, ItemKey)>>);

impl LongHistories {
    fn written(&self) -> MutexGuard<'_, HashSet<(OwnerKey, ItemKey)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Owners {
    /// Remembers the items of these records that had a version before.
    pub(super) fn note_written(&self, records: &[(OwnerKey, Record)]) {
        let mut written = self.0.long_histories.written();
        for (owner, record) in records {
            if let RecordName::Item(item) = record.name
                && !record.envelope.item_prev.is_none()
                && written.len() < ITEMS_MAX
            {
                written.insert((*owner, item));
            }
        }
    }

    /// Deletes the versions beyond `retention.item_versions` of each item that was written. What
    /// fails is tried again when the item is written again.
    pub(super) async fn trim_histories(&self) -> Result<(), ShardError> {
        let kept = i64::from(self.0.settings.retention.item_versions);
        let written: Vec<_> = self.0.long_histories.written().drain().collect();
        for items in written.chunks(STATEMENT_ITEMS_MAX) {
            loop {
                let limit = DELETED_VERSIONS_MAX as i64;
                let deleted = self.0.store.trim_histories(items, kept, limit).await?;
                if deleted > 0 {
                    debug!(deleted, "deleted versions of items that have very many");
                }
                if deleted < DELETED_VERSIONS_MAX {
                    break;
                }
            }
        }

        Ok(())
    }
}
