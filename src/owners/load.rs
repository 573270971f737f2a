//! Loading an owner's snapshot: from memory; the first time from Postgres if the shard hosts the
//! owner, otherwise from the truth while the owner is hosted.

use super::cache::OwnerEntry;
use super::fetch::Refresh;
use super::hosting::HostingReason;
use super::{Owners, OwnersError, Snapshot, allows_stale_copy};
use crate::requester::CallError;
use crate::seal::{OwnerKey, OwnerSet};
use crate::shard::{HostedOwner, ShardError};
use crate::truth::TruthError;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};
use tracing::{error, warn};

/// How long a request that names no deadline waits for the memory to load an owner.
const MEMORY_WAIT_MAX: Duration = Duration::from_secs(2);

impl Owners {
    /// Returns the snapshot in memory, or loads it. Waits for the memory to load it at most until
    /// the caller's `deadline`.
    ///
    /// The truth confirms a snapshot that is loaded, if the truth is available. So an answer is
    /// never older than one that this worker gave before it evicted the owner from memory.
    pub(super) async fn load(
        &self,
        owner: &OwnerKey,
        entry: &Arc<OwnerEntry>,
        deadline: Instant,
    ) -> Result<Arc<Snapshot>, OwnersError> {
        self.load_with_deadline(owner, entry, deadline, None).await
    }

    /// Returns the snapshot that this worker has in memory, if it has one.
    pub fn in_memory(&self, owner: &OwnerKey) -> Option<Arc<Snapshot>> {
        self.entry(owner).held()
    }

    /// Returns the snapshot that this worker has in memory, or loads it.
    pub async fn held(&self, owner: &OwnerKey) -> Result<Arc<Snapshot>, OwnersError> {
        let deadline = Instant::now() + MEMORY_WAIT_MAX;
        self.load(owner, &self.entry(owner), deadline).await
    }

    /// Does the same as [`load`](Self::load), but returns the copy from Postgres if the truth has not
    /// confirmed it by `truth_deadline`.
    pub(super) async fn load_with_deadline(
        &self,
        owner: &OwnerKey,
        entry: &Arc<OwnerEntry>,
        deadline: Instant,
        truth_deadline: Option<Instant>,
    ) -> Result<Arc<Snapshot>, OwnersError> {
        self.note_seen(owner, entry);

        if let Some(held) = entry.held() {
            if self.0.continuity.is_lost() && !entry.compared.load(Ordering::Acquire) {
                return self.compare_with_postgres(owner, entry, held).await;
            }
            // Only a read has a copy to fall back on, and so a deadline for the truth.
            self.host_in_background(owner, entry, &held, truth_deadline.is_none());
            return Ok(held);
        }

        let _one_load = entry.loading.lock().await;
        if let Some(held) = entry.held() {
            return Ok(held);
        }

        if !self.0.memory.has_room() {
            // A part of the cache may hold more than its own since many of its owners were in use.
            self.0.cache.set_capacity(self.0.settings.read.cache_bytes);
        }
        let memory = self.0.memory.for_load(deadline).await;
        let share = memory.ok_or(OwnersError::NoMemory)?;
        let epoch = self.unhost_epoch();
        let accepted = self.0.continuity.accepted();
        // In a box, because it takes many times as much as the rest of a request, and few need it.
        let loading = Box::pin(self.load_from_store(owner, entry, truth_deadline));
        let (snapshot, hosted) = loading.await?;
        entry.take_share(share);
        if hosted {
            self.mark_hosted(entry, epoch);
        }
        Ok(self.keep_loaded(owner, entry, snapshot, accepted))
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

        match self.newer_in_postgres(owner, entry, &held).await {
            Ok(newer) => {
                entry.compared.store(true, Ordering::Release);
                Ok(newer.unwrap_or(held))
            }
            Err(error) => {
                warn!(
                    %owner, %error,
                    "cannot check in Postgres whether this owner's history is lost"
                );
                Ok(held)
            }
        }
    }

    /// Returns `held`, or the copy in this shard's Postgres if that is newer and was read by
    /// `deadline`: another worker may have projected something before the truth became unavailable.
    ///
    /// While the projection stands still, Postgres is asked once for each owner.
    pub(super) async fn newest_copy(
        &self,
        owner: &OwnerKey,
        entry: &Arc<OwnerEntry>,
        held: Arc<Snapshot>,
        deadline: Instant,
    ) -> Arc<Snapshot> {
        let newer = entry.held().filter(|kept| kept.version() > held.version());
        let held = newer.unwrap_or(held);
        let projected = self.0.cursor.sequence();
        let is_newest = |held: &Snapshot| {
            held.version().get() >= projected
                || entry.compared_at.load(Ordering::Acquire) == projected
        };
        if is_newest(&held) {
            return held;
        }

        let compare = async {
            let _one_load = entry.loading.lock().await;
            let held = entry.held().unwrap_or_else(|| held.clone());
            if is_newest(&held) {
                return Ok(held);
            }
            let newer = self.newer_in_postgres(owner, entry, &held).await?;
            entry.compared_at.store(projected, Ordering::Release);
            Ok::<_, ShardError>(newer.unwrap_or(held))
        };
        match timeout_at(deadline, compare).await {
            Ok(Ok(newest)) => newest,
            // Nobody can tell whether there is anything newer.
            Ok(Err(_)) | Err(_) => held,
        }
    }

    /// Returns the complete copy in this shard's Postgres if it is newer than `held`, and keeps it in
    /// memory.
    async fn newer_in_postgres(
        &self,
        owner: &OwnerKey,
        entry: &Arc<OwnerEntry>,
        held: &Snapshot,
    ) -> Result<Option<Arc<Snapshot>>, ShardError> {
        let accepted = self.0.continuity.accepted();
        let Some(hosted) = self.0.store.hosted_owner(owner).await? else {
            return Ok(None);
        };
        let Ok(set) = OwnerSet::empty(*owner).apply(&self.0.keyring, hosted.records) else {
            return Ok(None);
        };
        if set.version() <= held.version() {
            return Ok(None);
        }

        let copy = Snapshot::new(&self.0.keyring, set, None).ok();
        Ok(copy.map(|copy| self.keep_loaded(owner, entry, copy, accepted)))
    }

    /// Loads the owner from Postgres, or from the truth. Hosts an owner that the shard does not
    /// host yet. Returns the snapshot, and whether the shard hosts the owner now.
    async fn load_from_store(
        &self,
        owner: &OwnerKey,
        entry: &Arc<OwnerEntry>,
        truth_deadline: Option<Instant>,
    ) -> Result<(Arc<Snapshot>, bool), OwnersError> {
        let for_write = truth_deadline.is_none();
        match self.0.store.hosted_owner(owner).await {
            Ok(Some(hosted)) => {
                if !hosted.history_complete {
                    self.backfill_soon(owner);
                }
                self.load_hosted(owner, entry, hosted, truth_deadline).await
            }
            Ok(None) => {
                self.host_because(owner, entry, HostingReason::NotHosted, for_write)
                    .await
            }
            Err(ShardError::Unreadable) => {
                error!(
                    %owner,
                    "Postgres holds an unreadable record of this owner: replacing the copy"
                );
                self.host_because(owner, entry, HostingReason::Damaged, for_write)
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
        hosted: HostedOwner,
        truth_deadline: Option<Instant>,
    ) -> Result<(Arc<Snapshot>, bool), OwnersError> {
        let for_write = truth_deadline.is_none();
        let HostedOwner {
            records,
            is_in_doubt,
            ..
        } = hosted;
        let copy = match Snapshot::of_records(&self.0.keyring, *owner, records, None) {
            Ok(copy) => copy,
            Err(OwnersError::Broken { broken, .. }) => {
                error!(
                    %owner, error = %broken,
                    "the copy of this owner in Postgres is not complete: replacing it"
                );
                return self
                    .host_because(owner, entry, HostingReason::Damaged, for_write)
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
            // The rows of a copy that was in doubt and fits lack what the projection has passed by. The
            // owner's next request hosts the owner again.
            Ok(Refresh::Extended(confirmed)) => Ok((confirmed, !is_in_doubt)),
            // The copy only missed something.
            Ok(Refresh::Replaced(_)) => {
                self.host_because(owner, entry, HostingReason::Damaged, for_write)
                    .await
            }
            Err(OwnersError::HistoryLost { .. }) => {
                self.mark_lost(owner, copy.version()).await;
                Ok((copy.into(), false))
            }
            Err(error) if allows_stale_copy(&error) => Ok((copy.into(), !is_in_doubt)),
            Err(error) => Err(error),
        }
    }
}
