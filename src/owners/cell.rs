//! One owner's place in memory: the snapshot at hand, and the turn of those who write.

use super::Snapshot;
use super::admission::Traffic;
use crate::seal::OwnerKey;
use quick_cache::Weighter;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, PoisonError};

/// What a worker holds of one owner.
#[derive(Default)]
pub(super) struct Cell {
    held: Mutex<Option<Arc<Snapshot>>>,
    pub(super) traffic: Traffic,
    /// Held by the one write of this owner that is under way here: the others would only lose the race.
    pub(super) writing: tokio::sync::Mutex<()>,
    /// Held while the first snapshot is fetched, and while the owner is brought to this shard's Postgres.
    pub(super) loading: tokio::sync::Mutex<()>,
    /// Whether what is held was compared with Postgres after the truth lost history.
    pub(super) compared: AtomicBool,
    /// Whether this shard's Postgres hosts the owner, as far as is known.
    pub(super) hosted: AtomicBool,
    /// When it was last noted that the owner is here, in seconds since the worker began; 0: never.
    pub(super) seen_s: AtomicU64,
}

impl Cell {
    /// The snapshot at hand.
    pub(super) fn held(&self) -> Option<Arc<Snapshot>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Keeps the snapshot, unless a newer one is there, and gives the one that is kept.
    pub(super) fn keep(&self, snapshot: Snapshot) -> Arc<Snapshot> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        match &*held {
            Some(newer) if newer.version() > snapshot.version() => newer.clone(),
            Some(same) if same.version() == snapshot.version() && same.checked_at() > snapshot.checked_at() => {
                same.clone()
            }
            _ => {
                let snapshot = Arc::new(snapshot);
                *held = Some(snapshot.clone());
                snapshot
            }
        }
    }

    /// Forgets what is at hand: it turned out not to be whole.
    pub(super) fn forget(&self) {
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// A cell in the cache, with the weight that it had when it was put there: a weight must not change under the cache.
#[derive(Clone, Default)]
pub(super) struct Slot {
    pub(super) cell: Arc<Cell>,
    weight: u64,
}

impl Slot {
    pub(super) fn weighed(cell: &Arc<Cell>) -> Self {
        Self { cell: cell.clone(), weight: cell.held().map_or(0, |snapshot| snapshot.weight()) }
    }
}

/// Weighs a slot, in bytes of memory, about.
#[derive(Clone)]
pub(super) struct Weigher;

impl Weighter<OwnerKey, Slot> for Weigher {
    fn weight(&self, _: &OwnerKey, slot: &Slot) -> u64 {
        256 + slot.weight
    }
}
