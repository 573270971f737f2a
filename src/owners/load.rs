//! Loading an owner's snapshot: from memory; the first time from Postgres if the shard hosts the
//! owner, otherwise from the truth while the owner is hosted.

use super::cache::OwnerEntry;
use super::fetch::Refresh;
use super::hosting::HostingReason;
use super::{Owners, OwnersError, Snapshot, allows_stale_copy};
use crate::requester::CallError;
use crate::seal::{OwnerKey, OwnerSet, Record};
use crate::shard::ShardError;
use crate::truth::TruthError;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::time::{Instant, timeout_at};
use tracing::{error, warn};

impl Owners {
    /// Returns the snapshot in memory, or loads it.
    ///
    /// The truth confirms a snapshot that is loaded, if the truth is available. So an answer is
    /// never older than one that this worker gave before it evicted the owner from memory.
    pub(super) async fn load(
        &self,
        owner: &OwnerKey,
        entry: &Arc<OwnerEntry>,
    ) -> Result<Arc<Snapshot>, OwnersError> {
        self.load_with_deadline(owner, entry, None).await
    }

    /// Returns the snapshot that this worker has in memory, if it has one.
    pub fn in_memory(&self, owner: &OwnerKey) -> Option<Arc<Snapshot>> {
        self.entry(owner).held()
    }

    /// Returns the snapshot that this worker has in memory, or loads it.
    pub async fn held(&self, owner: &OwnerKey) -> Result<Arc<Snapshot>, OwnersError> {
        self.load(owner, &self.entry(owner)).await
    }

    /// Loads as [`load`](Self::load) does, but returns the copy from Postgres if the truth has not
    /// confirmed it by `truth_deadline`.
    pub(super) async fn load_with_deadline(
        &self,
        owner: &OwnerKey,
        entry: &Arc<OwnerEntry>,
        truth_deadline: Option<Instant>,
    ) -> Result<Arc<Snapshot>, OwnersError> {
        self.note_seen(owner, entry);

        if let Some(held) = entry.held() {
            if self.0.continuity.is_lost() && !entry.compared.load(Ordering::Acquire) {
                return self.compare_with_postgres(owner, entry, held).await;
            }
            self.host_in_background(owner, entry, &held);
            return Ok(held);
        }

        let _one_load = entry.loading.lock().await;
        if let Some(held) = entry.held() {
            return Ok(held);
        }

        let epoch = self.unhost_epoch();
        let (snapshot, hosted) = self.load_from_store(owner, entry, truth_deadline).await?;
        if hosted {
            self.mark_hosted(entry, epoch);
        }
        Ok(self.keep(owner, entry, snapshot))
    }

    /// Returns `held` or the copy in this shard's Postgres, whichever is newer.
    ///
    /// Once the bucket has lost history, a snapshot from before the lost part still fits the truth.
    /// Only the newer copy shows that acknowledged records are missing.
    async fn compare_with_postgres(
        &self,
        owner: &OwnerKey,
        entry: &Arc<OwnerEntry>,
        held: Arc<Snapshot>,
    ) -> Result<Arc<Snapshot>, OwnersError> {
        let _one_load = entry.loading.lock().await;
        if entry.compared.load(Ordering::Acquire) {
            return Ok(entry.held().unwrap_or(held));
        }

        let hosted = match self.0.store.hosted_owner(owner).await {
            Ok(hosted) => hosted,
            Err(error) => {
                warn!(
                    %owner, %error,
                    "cannot check in Postgres whether this owner's history is lost"
                );
                return Ok(held);
            }
        };
        entry.compared.store(true, Ordering::Release);

        let Some(hosted) = hosted else {
            return Ok(held);
        };
        let Ok(set) = OwnerSet::empty(*owner).apply(&self.0.keyring, hosted.records) else {
            return Ok(held);
        };
        if set.version() <= held.version() {
            return Ok(held);
        }

        let copy = Snapshot::new(&self.0.keyring, set, None);
        Ok(copy.map_or(held, |copy| self.keep(owner, entry, copy)))
    }

    /// Loads the owner from Postgres, or from the truth. Hosts an owner that the shard does not
    /// host yet. Returns the snapshot, and whether the shard hosts the owner now.
    async fn load_from_store(
        &self,
        owner: &OwnerKey,
        entry: &Arc<OwnerEntry>,
        truth_deadline: Option<Instant>,
    ) -> Result<(Arc<Snapshot>, bool), OwnersError> {
        match self.0.store.hosted_owner(owner).await {
            Ok(Some(hosted)) => {
                if !hosted.history_complete {
                    self.backfill_soon(owner);
                }
                self.load_hosted(owner, entry, hosted.records, truth_deadline)
                    .await
            }
            Ok(None) => {
                self.host_because(owner, entry, HostingReason::NotHosted)
                    .await
            }
            Err(ShardError::Unreadable) => {
                error!(
                    %owner,
                    "Postgres holds an unreadable record of this owner: replacing the copy"
                );
                self.host_because(owner, entry, HostingReason::Damaged)
                    .await
            }
            Err(error) => {
                warn!(%error, "cannot read Postgres: the owner is served from the truth");
                Ok((self.fetch_complete(owner).await?.snapshot, false))
            }
        }
    }

    /// Checks the records from Postgres and lets the truth confirm them. Replaces the copy if it is
    /// damaged. Returns the snapshot, and whether the shard hosts the owner now.
    async fn load_hosted(
        &self,
        owner: &OwnerKey,
        entry: &Arc<OwnerEntry>,
        records: Vec<Record>,
        truth_deadline: Option<Instant>,
    ) -> Result<(Arc<Snapshot>, bool), OwnersError> {
        let copy = match Snapshot::of_records(&self.0.keyring, *owner, records, None) {
            Ok(copy) => copy,
            Err(OwnersError::Broken { broken, .. }) => {
                error!(
                    %owner, error = %broken,
                    "the copy of this owner in Postgres is not complete: replacing it"
                );
                return self
                    .host_because(owner, entry, HostingReason::Damaged)
                    .await;
            }
            Err(error) => return Err(error),
        };

        let refresh = self.fetch_refresh(&copy, true);
        let refresh = match truth_deadline {
            Some(truth_deadline) => timeout_at(truth_deadline, refresh).await,
            None => Ok(refresh.await),
        };
        match refresh.unwrap_or(Err(TruthError::from(CallError::TimedOut).into())) {
            Ok(Refresh::Extended(confirmed)) => Ok((confirmed, true)),
            // The copy is complete, but does not fit the truth.
            Ok(Refresh::Replaced(_)) => {
                self.host_because(owner, entry, HostingReason::Damaged)
                    .await
            }
            Err(error) if allows_stale_copy(&error) => Ok((copy.into(), true)),
            Err(error) => Err(error),
        }
    }
}
