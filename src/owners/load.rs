//! An owner's first snapshot on this worker: from Postgres where the shard hosts them, else from the truth while they are
//! brought here.

use super::cell::{Cell, Slot};
use super::host::{Bring, Fetched};
use super::read::Renewed;
use super::{Owners, OwnersFault, Snapshot, a_copy_stands_in};
use crate::domain::Version;
use crate::exchange::CallFault;
use crate::seal::{Broken, OwnerKey, OwnerSet, Record};
use crate::shard::ShardFault;
use crate::truth::TruthFault;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::time::timeout_at;
use tracing::{error, warn};

/// Between one look at a write that is not whole yet and the next.
const TORN_PAUSE: Duration = Duration::from_millis(5);

impl Owners {
    pub(super) fn cell(&self, owner: &OwnerKey) -> Arc<Cell> {
        let made = self
            .0
            .cells
            .get_or_insert_with(owner, || Ok::<_, Infallible>(Slot::default()));
        match made {
            Ok(slot) => slot.cell,
            Err(never) => match never {},
        }
    }

    /// Keeps a snapshot, and tells the cache its new weight.
    pub(super) fn keep(
        &self,
        owner: &OwnerKey,
        cell: &Arc<Cell>,
        snapshot: impl Into<Arc<Snapshot>>,
    ) -> Arc<Snapshot> {
        let kept = cell.keep(snapshot.into());
        self.0.cells.insert(*owner, Slot::weighed(cell));
        kept
    }

    /// The snapshot at hand. The first one of a worker is confirmed by the truth, where that can be reached: so an
    /// answer is never older than one that this worker gave before it forgot the owner.
    pub(super) async fn at_hand(
        &self,
        owner: &OwnerKey,
        cell: &Arc<Cell>,
    ) -> Result<Arc<Snapshot>, OwnersFault> {
        self.at_hand_by(owner, cell, None).await
    }

    /// As [`at_hand`](Self::at_hand); what this shard's Postgres has stands in for a truth that has not confirmed it by
    /// `until`.
    pub(super) async fn at_hand_by(
        &self,
        owner: &OwnerKey,
        cell: &Arc<Cell>,
        until: Option<tokio::time::Instant>,
    ) -> Result<Arc<Snapshot>, OwnersFault> {
        self.note_seen(owner, cell);
        if let Some(held) = cell.held() {
            if self.0.history.is_lost() && !cell.compared.load(Ordering::Acquire) {
                return self.compare_with_postgres(owner, cell, held).await;
            }
            self.host_if_not(owner, cell, &held);
            return Ok(held);
        }
        let _one_load = cell.loading.lock().await;
        if let Some(held) = cell.held() {
            return Ok(held);
        }
        let asked = self.noticed();
        let (snapshot, hosted) = self.load(owner, cell, until).await?;
        if hosted {
            self.believe_hosted(cell, asked);
        }
        Ok(self.keep(owner, cell, snapshot))
    }

    /// The newer of what is held and what this shard's Postgres has. A copy that is older than the truth's loss fits the
    /// truth, and would hide what was acknowledged since.
    async fn compare_with_postgres(
        &self,
        owner: &OwnerKey,
        cell: &Arc<Cell>,
        held: Arc<Snapshot>,
    ) -> Result<Arc<Snapshot>, OwnersFault> {
        let _one_load = cell.loading.lock().await;
        if cell.compared.load(Ordering::Acquire) {
            return Ok(cell.held().unwrap_or(held));
        }
        let hosted = match self.0.store.hosted_owner(owner).await {
            Ok(hosted) => hosted,
            Err(fault) => {
                warn!(%owner, %fault, "Postgres cannot tell whether this owner's history is lost");
                return Ok(held);
            }
        };
        cell.compared.store(true, Ordering::Release);
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
        Ok(copy.map_or(held, |copy| self.keep(owner, cell, copy)))
    }

    /// The owner from Postgres, hosted now if they are not yet, or from the truth; and whether the shard hosts them.
    async fn load(
        &self,
        owner: &OwnerKey,
        cell: &Arc<Cell>,
        until: Option<tokio::time::Instant>,
    ) -> Result<(Arc<Snapshot>, bool), OwnersFault> {
        match self.0.store.hosted_owner(owner).await {
            Ok(Some(hosted)) => {
                if !hosted.history_complete {
                    self.backfill_soon(owner);
                }
                self.load_hosted(owner, cell, hosted.records, until).await
            }
            Ok(None) => self.bring(owner, cell, Bring::Hosting).await,
            Err(ShardFault::Unreadable) => {
                error!(%owner, "this shard's Postgres holds what is no record: the owner is brought anew");
                self.bring(owner, cell, Bring::Anew).await
            }
            Err(fault) => {
                warn!(%fault, "Postgres cannot be read: the owner is taken from the truth");
                Ok((self.fetch_whole(owner).await?.snapshot, false))
            }
        }
    }

    async fn load_hosted(
        &self,
        owner: &OwnerKey,
        cell: &Arc<Cell>,
        records: Vec<Record>,
        until: Option<tokio::time::Instant>,
    ) -> Result<(Arc<Snapshot>, bool), OwnersFault> {
        let broken = |broken| OwnersFault::Broken {
            owner: *owner,
            broken,
        };
        let set = OwnerSet::empty(*owner)
            .apply(&self.0.keyring, records)
            .map_err(broken);
        let copy = match set.and_then(|set| Snapshot::new(&self.0.keyring, set, None)) {
            Ok(copy) => copy,
            Err(OwnersFault::Broken { broken, .. }) => {
                error!(%owner, %broken, "this shard's Postgres does not hold the owner whole: brought anew");
                return self.bring(owner, cell, Bring::Anew).await;
            }
            Err(fault) => return Err(fault),
        };
        let renewed = self.renewed(&copy, true);
        let renewed = match until {
            Some(until) => timeout_at(until, renewed).await,
            None => Ok(renewed.await),
        };
        match renewed.unwrap_or(Err(TruthFault::from(CallFault::TimedOut).into())) {
            Ok(Renewed::Grown(confirmed)) => Ok((confirmed, true)),
            // Whole, and not the truth's.
            Ok(Renewed::Replaced(_)) => self.bring(owner, cell, Bring::Anew).await,
            Err(fault) if a_copy_stands_in(&fault) => Ok((copy.into(), true)),
            Err(fault) => Err(fault),
        }
    }

    /// The owner's whole set from the truth, confirmed. A replica may have come to the middle of a write just now; it is
    /// asked again.
    pub(super) async fn fetch_whole(&self, owner: &OwnerKey) -> Result<Fetched, OwnersFault> {
        let end = self.0.bucket.deadline();
        loop {
            match self.fetch_once(owner).await {
                Err(OwnersFault::Broken {
                    broken: Broken::Torn,
                    ..
                }) if tokio::time::Instant::now() < end => {
                    tokio::time::sleep(TORN_PAUSE).await;
                }
                fetched => return fetched,
            }
        }
    }

    async fn fetch_once(&self, owner: &OwnerKey) -> Result<Fetched, OwnersFault> {
        let checked_at = Instant::now();
        let delta = self.0.bucket.since_confirmed(owner, Version::NONE).await?;
        let set = OwnerSet::empty(*owner)
            .apply(&self.0.keyring, delta.records)
            .map_err(|broken| OwnersFault::Broken {
                owner: *owner,
                broken,
            })?;
        let snapshot = Arc::new(Snapshot::new(&self.0.keyring, set, Some(checked_at))?);
        Ok(Fetched {
            snapshot,
            up_to: delta.up_to.unwrap_or_default(),
        })
    }
}
