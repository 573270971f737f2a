//! An owner's first snapshot on this worker: from Postgres where the shard hosts them, else from the truth while they are
//! brought here.

use super::cache::OwnerEntry;
use super::fetch::Refresh;
use super::hosting::HostingReason;
use super::{Owners, OwnersError, Snapshot, a_copy_stands_in};
use crate::requester::CallError;
use crate::seal::{OwnerKey, OwnerSet, Record};
use crate::shard::ShardError;
use crate::truth::TruthError;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::time::{Instant, timeout_at};
use tracing::{error, warn};

impl Owners {
    /// The snapshot at hand. The first one of a worker is confirmed by the truth, where that can be reached: so an
    /// answer is never older than one that this worker gave before it forgot the owner.
    pub(super) async fn load(
        &self,
        owner: &OwnerKey,
        entry: &Arc<OwnerEntry>,
    ) -> Result<Arc<Snapshot>, OwnersError> {
        self.load_by(owner, entry, None).await
    }

    /// As [`load`](Self::load); what this shard's Postgres has stands in for a truth that has not confirmed it by
    /// `until`.
    pub(super) async fn load_by(
        &self,
        owner: &OwnerKey,
        entry: &Arc<OwnerEntry>,
        until: Option<Instant>,
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
        let asked = self.unhost_epoch();
        let (snapshot, hosted) = self.load_from_store(owner, entry, until).await?;
        if hosted {
            self.mark_hosted(entry, asked);
        }
        Ok(self.keep(owner, entry, snapshot))
    }

    /// The newer of what is held and what this shard's Postgres has. A copy that is older than the truth's loss fits the
    /// truth, and would hide what was acknowledged since.
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
                warn!(%owner, %error, "Postgres cannot tell whether this owner's history is lost");
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

    /// The owner from Postgres, hosted now if they are not yet, or from the truth; and whether the shard hosts them.
    async fn load_from_store(
        &self,
        owner: &OwnerKey,
        entry: &Arc<OwnerEntry>,
        until: Option<Instant>,
    ) -> Result<(Arc<Snapshot>, bool), OwnersError> {
        match self.0.store.hosted_owner(owner).await {
            Ok(Some(hosted)) => {
                if !hosted.history_complete {
                    self.backfill_soon(owner);
                }
                self.load_hosted(owner, entry, hosted.records, until).await
            }
            Ok(None) => {
                self.host_because(owner, entry, HostingReason::NotHosted)
                    .await
            }
            Err(ShardError::Unreadable) => {
                error!(%owner, "this shard's Postgres holds what is no record: the owner is brought anew");
                self.host_because(owner, entry, HostingReason::Damaged)
                    .await
            }
            Err(error) => {
                warn!(%error, "Postgres cannot be read: the owner is taken from the truth");
                Ok((self.fetch_complete(owner).await?.snapshot, false))
            }
        }
    }

    async fn load_hosted(
        &self,
        owner: &OwnerKey,
        entry: &Arc<OwnerEntry>,
        records: Vec<Record>,
        until: Option<Instant>,
    ) -> Result<(Arc<Snapshot>, bool), OwnersError> {
        let broken = |broken| OwnersError::Broken {
            owner: *owner,
            broken,
        };
        let set = OwnerSet::empty(*owner)
            .apply(&self.0.keyring, records)
            .map_err(broken);
        let copy = match set.and_then(|set| Snapshot::new(&self.0.keyring, set, None)) {
            Ok(copy) => copy,
            Err(OwnersError::Broken { broken, .. }) => {
                error!(%owner, %broken, "this shard's Postgres does not hold the owner whole: brought anew");
                return self
                    .host_because(owner, entry, HostingReason::Damaged)
                    .await;
            }
            Err(error) => return Err(error),
        };
        let refreshed_copy = self.refreshed_copy(&copy, true);
        let refreshed_copy = match until {
            Some(until) => timeout_at(until, refreshed_copy).await,
            None => Ok(refreshed_copy.await),
        };
        match refreshed_copy.unwrap_or(Err(TruthError::from(CallError::TimedOut).into())) {
            Ok(Refresh::Extended(confirmed)) => Ok((confirmed, true)),
            // Whole, and not the truth's.
            Ok(Refresh::Replaced(_)) => {
                self.host_because(owner, entry, HostingReason::Damaged)
                    .await
            }
            Err(error) if a_copy_stands_in(&error) => Ok((copy.into(), true)),
            Err(error) => Err(error),
        }
    }
}
