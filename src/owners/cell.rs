//! One owner's place in memory: the snapshot at hand, and the turn of those who write.

use super::Snapshot;
use super::admission::Traffic;
use super::host::Turn;
use crate::seal::OwnerKey;
use quick_cache::sync::Cache;
use quick_cache::{DefaultHashBuilder, Lifecycle, OptionsBuilder, Weighter};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, PoisonError};

/// What a worker holds of one owner.
#[derive(Default)]
pub(super) struct Cell {
    held: Mutex<Option<Arc<Snapshot>>>,
    pub(super) traffic: Traffic,
    /// Held by the one write of this owner that is under way here: the others would only lose the race.
    pub(super) writing: tokio::sync::Mutex<()>,
    /// Held while the first snapshot is fetched.
    pub(super) loading: tokio::sync::Mutex<()>,
    /// Held while the owner is brought to this shard's Postgres.
    pub(super) hosting: Arc<tokio::sync::Mutex<Turn>>,
    /// Whether what is held was compared with Postgres after the truth lost history.
    pub(super) compared: AtomicBool,
    /// Whether this shard's Postgres hosts the owner, as far as is known.
    pub(super) hosted: AtomicBool,
    /// Whether the copy in this shard's Postgres is known to be one that is not to be believed.
    pub(super) damaged: AtomicBool,
    /// When it was last noted that the owner is here, in seconds since the worker began; 0: never.
    pub(super) seen_s: AtomicU64,
}

impl Cell {
    /// The snapshot at hand.
    pub(super) fn held(&self) -> Option<Arc<Snapshot>> {
        self.held
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Keeps the snapshot, unless a newer one is there, and gives the one that is kept.
    pub(super) fn keep(&self, snapshot: Arc<Snapshot>) -> Arc<Snapshot> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        match &*held {
            Some(newer) if newer.version() > snapshot.version() => newer.clone(),
            Some(same)
                if same.version() == snapshot.version()
                    && same.checked_at() > snapshot.checked_at() =>
            {
                same.clone()
            }
            _ => {
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
        Self {
            cell: cell.clone(),
            weight: cell.held().map_or(0, |snapshot| snapshot.weight()),
        }
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

/// Keeps an owner in memory while any request of theirs is under way: else the next one would find another cell, with
/// another turn to write and another count of what is under way.
#[derive(Clone)]
pub(super) struct InUse;

impl Lifecycle<OwnerKey, Slot> for InUse {
    type RequestState = ();

    fn is_pinned(&self, _: &OwnerKey, slot: &Slot) -> bool {
        Arc::strong_count(&slot.cell) > 1
    }
}

/// All owners in memory, within the cache's weight, about.
pub(super) type Cells = Cache<OwnerKey, Slot, Weigher, DefaultHashBuilder, InUse>;

/// What one owner weighs about, in bytes, for a first guess of how many there will be.
const TYPICAL: u64 = 8_192;

/// A cache of `bytes`, in as many parts as let an owner of `heaviest` bytes fit into one: what does not fit is not kept,
/// and would be read anew for each request.
pub(super) fn cells(bytes: u64, heaviest: u64) -> Cells {
    let fitting = (bytes / 10 * 9) / heaviest.max(1);
    let parts = usize::try_from(fitting.clamp(1, 64)).unwrap_or(1);
    let parts = 1 << parts.ilog2();
    let options = OptionsBuilder::new()
        .shards(parts)
        .estimated_items_capacity(usize::try_from(bytes / TYPICAL).unwrap_or(usize::MAX))
        .weight_capacity(bytes)
        .build();
    match options {
        Ok(options) => Cache::with_options(options, Weigher, DefaultHashBuilder::default(), InUse),
        // Only a missing number is a fault, and there is none.
        Err(_) => Cache::with(0, bytes, Weigher, DefaultHashBuilder::default(), InUse),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(byte: u8) -> OwnerKey {
        OwnerKey::from_bytes([byte; 16])
    }

    fn slot(weight: u64) -> Slot {
        Slot {
            cell: Arc::default(),
            weight,
        }
    }

    #[test]
    fn the_heaviest_owner_fits_into_one_part() {
        for (bytes, heaviest) in [
            (256 << 20, 128 << 20),
            (256 << 20, 1 << 20),
            (1 << 20, 900_000),
            (4_096, 1 << 30),
        ] {
            let cells = cells(bytes, heaviest);
            let least = heaviest.min(bytes);
            assert!(
                cells.shard_capacity() >= least,
                "{bytes} {heaviest}: {}",
                cells.shard_capacity()
            );
        }
        let cells = cells(1 << 20, 900_000);
        cells.insert(owner(1), slot(900_000));
        assert!(cells.peek(&owner(1)).is_some());
    }

    #[test]
    fn an_owner_in_use_stays_however_heavy_and_however_many_come() {
        let cells = cells(10_000, 1_000);
        let held = slot(50_000);
        let cell = held.cell.clone();
        cells.insert(owner(0), held);
        for other in 1..=200 {
            cells.insert(owner(other), slot(1_000));
        }
        let found = cells.peek(&owner(0)).expect("in use");
        assert!(Arc::ptr_eq(&found.cell, &cell));
        drop((found, cell));
        for other in 1..=200 {
            cells.insert(owner(other), slot(1_000));
        }
        assert!(
            cells.peek(&owner(0)).is_none() && cells.weight() <= 20_000,
            "and goes when nobody uses it"
        );
    }
}
