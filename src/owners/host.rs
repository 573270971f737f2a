//! An owner's first snapshot on this worker: from Postgres where the shard hosts them, else by hosting them now.

use super::cell::{Cell, Slot};
use super::{Owners, OwnersFault, Snapshot, is_away};
use crate::domain::Version;
use crate::seal::{OwnerKey, OwnerSet, Record};
use crate::shard::ShardFault;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Instant;
use tracing::{debug, error, warn};

impl Owners {
    pub(super) fn cell(&self, owner: &OwnerKey) -> Arc<Cell> {
        let made = self.0.cells.get_or_insert_with(owner, || Ok::<_, Infallible>(Slot::default()));
        match made {
            Ok(slot) => slot.cell,
            Err(never) => match never {},
        }
    }

    /// Keeps a snapshot, and tells the cache its new weight.
    pub(super) fn keep(&self, owner: &OwnerKey, cell: &Arc<Cell>, snapshot: Snapshot) -> Arc<Snapshot> {
        let kept = cell.keep(snapshot);
        self.0.cells.insert(*owner, Slot::weighed(cell));
        kept
    }

    /// The snapshot at hand. The first one of a worker is confirmed by the truth, where that can be reached: so an
    /// answer is never older than one that this worker gave before it forgot the owner.
    pub(super) async fn at_hand(&self, owner: &OwnerKey, cell: &Arc<Cell>) -> Result<Arc<Snapshot>, OwnersFault> {
        if let Some(held) = cell.held() {
            return Ok(held);
        }
        let _one_load = cell.loading.lock().await;
        if let Some(held) = cell.held() {
            return Ok(held);
        }
        let snapshot = self.load(owner).await?;
        Ok(self.keep(owner, cell, snapshot))
    }

    async fn load(&self, owner: &OwnerKey) -> Result<Snapshot, OwnersFault> {
        match self.0.store.hosted_owner(owner).await {
            Ok(Some(hosted)) => self.load_hosted(owner, hosted.records).await,
            Ok(None) => self.host(owner).await,
            Err(fault) => {
                warn!(%fault, "Postgres cannot be read: the owner is taken from the truth");
                self.fetch_whole(owner).await.map(|(snapshot, _)| snapshot)
            }
        }
    }

    async fn load_hosted(&self, owner: &OwnerKey, records: Vec<Record>) -> Result<Snapshot, OwnersFault> {
        let copy = match OwnerSet::empty(*owner).apply(&self.0.keyring, records) {
            Ok(set) => Snapshot::new(&self.0.keyring, set, None)?,
            Err(broken) => {
                error!(%owner, %broken, "this shard's Postgres does not hold the owner whole: taken from the truth");
                return self.fetch_whole(owner).await.map(|(snapshot, _)| snapshot);
            }
        };
        match self.newer(&copy, true).await {
            Ok(confirmed) => Ok(confirmed),
            Err(fault) if is_away(&fault) => Ok(copy),
            Err(fault) => Err(fault),
        }
    }

    /// Brings the owner's whole set here in one go, and answers from it; where Postgres is away, only answers.
    async fn host(&self, owner: &OwnerKey) -> Result<Snapshot, OwnersFault> {
        let begun = self.0.store.begin_hosting(owner, self.bucket_name()).await;
        let (snapshot, up_to) = self.fetch_whole(owner).await?;
        let records: Vec<Record> = snapshot.set().records().cloned().collect();
        let hosted = match begun {
            // A set that does not reach the cursor could lack what the projection had passed before the owner's row was
            // there. A barrier is always beyond it, unless the bucket went back.
            Ok(Some(hosting)) if up_to.get() >= hosting.cursor => {
                self.0.store.complete_hosting(owner, &records, up_to.get()).await
            }
            Ok(Some(_)) => Err(ShardFault::Unfit("the truth is behind this shard's projection".into())),
            Ok(None) => Err(ShardFault::Unfit("the projection has not begun".into())),
            Err(fault) => Err(fault),
        };
        match hosted {
            Ok(()) => debug!(%owner, records = records.len(), "hosted"),
            Err(fault) => warn!(%owner, %fault, "not hosted yet: answered from the truth"),
        }
        Ok(snapshot)
    }

    /// The owner's whole set from the truth, confirmed, and the stream sequence up to which it is complete.
    pub(super) async fn fetch_whole(&self, owner: &OwnerKey) -> Result<(Snapshot, Version), OwnersFault> {
        let checked_at = Instant::now();
        let delta = self.0.bucket.since_confirmed(owner, Version::NONE).await?;
        let set = OwnerSet::empty(*owner)
            .apply(&self.0.keyring, delta.records)
            .map_err(|broken| OwnersFault::Broken { owner: *owner, broken })?;
        let snapshot = Snapshot::new(&self.0.keyring, set, Some(checked_at))?;
        Ok((snapshot, delta.up_to.unwrap_or_default()))
    }
}
