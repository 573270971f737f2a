//! The older versions of an owner who has come to this shard: they follow behind, where nobody waits for them.
//!
//! Hosting brings current records only, which is enough to answer. What else the bucket keeps of each item comes here,
//! key by key, into the versions that passed by and nowhere else. A worker that ends before it is done leaves it to a
//! later load of the owner.

use crate::domain::Version;
use crate::owners::{Owners, OwnersError};
use crate::seal::{OwnerKey, Record};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::Semaphore;
use tracing::{debug, warn};

/// Owners whose versions are fetched at a time.
const AT_A_TIME: usize = 2;
/// Owners who wait for it at most; others are left to a later load.
const WAITING: usize = 1_000;
/// Versions stored at a time, about.
const BATCH: usize = 500;

/// How much of it a worker does.
pub(in crate::owners) struct Backfill {
    permits: Arc<Semaphore>,
    waiting: AtomicUsize,
}

impl Default for Backfill {
    fn default() -> Self {
        Self {
            permits: Arc::new(Semaphore::new(AT_A_TIME)),
            waiting: AtomicUsize::new(0),
        }
    }
}

impl Owners {
    /// Fetches the older versions of a hosted owner soon, in the background, if any are lacking.
    pub(in crate::owners) fn backfill_soon(&self, owner: &OwnerKey) {
        let waiting = &self.0.backfill.waiting;
        if waiting.fetch_add(1, Ordering::AcqRel) >= WAITING {
            waiting.fetch_sub(1, Ordering::AcqRel);
            return;
        }
        let (this, owner) = (self.clone(), *owner);
        tokio::spawn(async move {
            // Never closed.
            let _permit = this.0.backfill.permits.acquire().await;
            this.0.backfill.waiting.fetch_sub(1, Ordering::AcqRel);
            match this.backfill(&owner).await {
                Ok(complete) => debug!(%owner, complete, "older versions"),
                Err(error) => warn!(%owner, %error, "older versions are not here yet"),
            }
        });
    }

    /// Fetches every version that the bucket keeps of the owner's items, and says that they are all here; not if the
    /// projection found a gap meanwhile, or the owner was un-hosted. Says whether it said so.
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
            if versions.len() >= BATCH {
                self.0.store.add_versions(&versions).await?;
                versions.clear();
            }
        }
        self.0.store.add_versions(&versions).await?;
        Ok(self.0.store.complete_history(owner, life).await?)
    }
}
