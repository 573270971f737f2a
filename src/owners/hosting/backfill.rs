//! Backfill: storing the older versions of a hosted owner, in the background.
//!
//! Hosting stores current records only, which is enough to answer requests. Backfill then stores
//! what else the bucket keeps of each item, key by key, among the superseded versions
//! (`item_version`) and nowhere else. If a worker stops before it is done, a later load of the
//! owner starts it again.

use crate::domain::Version;
use crate::owners::{Owners, OwnersError};
use crate::seal::{OwnerKey, Record};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::Semaphore;
use tracing::{debug, warn};

/// The most owners whose versions a worker fetches at the same time.
const CONCURRENT_OWNERS_MAX: usize = 2;
/// The most owners that wait for their turn. Other owners are left to a later load.
const WAITING_OWNERS_MAX: usize = 1_000;
/// The approximate number of versions that are stored at once.
const BATCH_VERSIONS: usize = 500;

/// The limits on backfill in one worker.
pub(in crate::owners) struct Backfill {
    permits: Arc<Semaphore>,
    /// How many owners wait for a permit.
    waiting: AtomicUsize,
}

impl Default for Backfill {
    fn default() -> Self {
        Self {
            permits: Arc::new(Semaphore::new(CONCURRENT_OWNERS_MAX)),
            waiting: AtomicUsize::new(0),
        }
    }
}

impl Owners {
    /// Starts to fetch the older versions of a hosted owner in the background, if any are missing.
    pub(in crate::owners) fn backfill_soon(&self, owner: &OwnerKey) {
        let waiting = &self.0.backfill.waiting;
        if waiting.fetch_add(1, Ordering::AcqRel) >= WAITING_OWNERS_MAX {
            waiting.fetch_sub(1, Ordering::AcqRel);
            return;
        }

        let this = self.clone();
        let owner = *owner;
        tokio::spawn(async move {
            // The semaphore is never closed, so this does not fail.
            let _permit = this.0.backfill.permits.acquire().await;
            this.0.backfill.waiting.fetch_sub(1, Ordering::AcqRel);

            match this.backfill(&owner).await {
                Ok(complete) => debug!(%owner, complete, "stored the owner's older versions"),
                Err(error) => warn!(%owner, %error, "cannot store the owner's older versions yet"),
            }
        });
    }

    /// Stores every version that the bucket keeps of the owner's items, then marks the owner's
    /// history as complete.
    ///
    /// Returns whether the history is complete. It is not marked if the copy was reset or the
    /// owner was un-hosted in the meantime.
    pub async fn backfill(&self, owner: &OwnerKey) -> Result<bool, OwnersError> {
        let Some(life) = self.0.store.lacks_history(owner).await? else {
            return Ok(true);
        };

        let mut versions: Vec<(OwnerKey, Record)> = Vec::new();
        for current in self.fetch_complete(owner).await?.snapshot.set().records() {
            if current.envelope.item_prev.is_none() {
                continue;
            }
            let kept = self
                .0
                .bucket
                .history(owner, &current.name, Version::NONE, current.version)
                .await?;
            versions.extend(kept.into_iter().map(|record| (*owner, record)));
            if versions.len() >= BATCH_VERSIONS {
                self.0.store.add_versions(&versions).await?;
                versions.clear();
            }
        }

        self.0.store.add_versions(&versions).await?;
        Ok(self.0.store.complete_history(owner, life).await?)
    }
}
