//! The owners that a worker holds in memory: for each the snapshot at hand, the locks of those who load, write or host,
//! and the count of requests under way.

use super::admission::{Denied, Pace, Traffic};
use super::{Owners, Snapshot};
use crate::seal::OwnerKey;
use quick_cache::sync::Cache;
use quick_cache::{DefaultHashBuilder, Lifecycle, OptionsBuilder, Weighter};
use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What a worker holds of one owner.
#[derive(Default)]
pub(super) struct OwnerEntry {
    held: Mutex<Option<Arc<Snapshot>>>,
    pub(super) traffic: Traffic,
    /// Held by the one write of this owner that is under way here: the others would only lose the race.
    pub(super) writing: tokio::sync::Mutex<()>,
    /// Held while the first snapshot is fetched.
    pub(super) loading: tokio::sync::Mutex<()>,
    /// Held while the owner is brought to this shard's Postgres.
    pub(super) hosting: Arc<tokio::sync::Mutex<HostingBackoff>>,
    /// Whether what is held was compared with Postgres after the truth lost history.
    pub(super) compared: AtomicBool,
    /// Whether this shard's Postgres hosts the owner, as far as is known.
    pub(super) hosted: AtomicBool,
    /// Whether the copy in this shard's Postgres is known to be one that is not to be believed.
    pub(super) damaged: AtomicBool,
    /// When it was last noted that the owner is here, in seconds since the worker began; 0: never.
    pub(super) seen_s: AtomicU64,
}

impl OwnerEntry {
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
pub(super) struct WeighedEntry {
    pub(super) entry: Arc<OwnerEntry>,
    weight: u64,
}

impl WeighedEntry {
    pub(super) fn weighed(entry: &Arc<OwnerEntry>) -> Self {
        Self {
            entry: entry.clone(),
            weight: entry.held().map_or(0, |snapshot| snapshot.weight()),
        }
    }
}

/// What an entry weighs without its snapshot, in bytes, about.
const ENTRY_BYTES: u64 = 256;

/// Weighs an entry, in bytes of memory, about.
#[derive(Clone)]
pub(super) struct Weigher;

impl Weighter<OwnerKey, WeighedEntry> for Weigher {
    fn weight(&self, _: &OwnerKey, weighed: &WeighedEntry) -> u64 {
        ENTRY_BYTES + weighed.weight
    }
}

/// Keeps an owner in memory while any request of theirs is under way: else the next one would find another cell, with
/// another turn to write and another count of what is under way.
#[derive(Clone)]
pub(super) struct InUse;

impl Lifecycle<OwnerKey, WeighedEntry> for InUse {
    type RequestState = ();

    fn is_pinned(&self, _: &OwnerKey, weighed: &WeighedEntry) -> bool {
        Arc::strong_count(&weighed.entry) > 1
    }
}

/// All owners in memory, within the cache's weight, about.
pub(super) type OwnerCache = Cache<OwnerKey, WeighedEntry, Weigher, DefaultHashBuilder, InUse>;

/// What one owner weighs about, in bytes, for a first guess of how many there will be.
const TYPICAL_OWNER_BYTES: u64 = 8_192;

/// A cache of `bytes`, in as many parts as let an owner of `heaviest` bytes fit into one: what does not fit is not kept,
/// and would be read anew for each request.
pub(super) fn owner_cache(bytes: u64, heaviest: u64) -> OwnerCache {
    let fitting = (bytes / 10 * 9) / heaviest.max(1);
    let parts = usize::try_from(fitting.clamp(1, 64)).unwrap_or(1);
    let parts = 1 << parts.ilog2();
    let options = OptionsBuilder::new()
        .shards(parts)
        .estimated_items_capacity(
            usize::try_from(bytes / TYPICAL_OWNER_BYTES).unwrap_or(usize::MAX),
        )
        .weight_capacity(bytes)
        .build();
    match options {
        Ok(options) => Cache::with_options(options, Weigher, DefaultHashBuilder::default(), InUse),
        // Only a missing number is a fault, and there is none.
        Err(_) => Cache::with(0, bytes, Weigher, DefaultHashBuilder::default(), InUse),
    }
}

/// How long hosting is not tried again after its first failure. Each further failure doubles it.
const HOSTING_PAUSE_MIN: Duration = Duration::from_millis(250);
/// The longest pause between two attempts to host an owner.
const HOSTING_PAUSE_MAX: Duration = Duration::from_secs(30);

/// When hosting an owner may be tried again after it failed.
#[derive(Default)]
pub(super) struct HostingBackoff {
    failures: u32,
    not_before: Option<Instant>,
}

impl HostingBackoff {
    /// Whether hosting may be tried now.
    pub(super) fn is_over(&self) -> bool {
        self.not_before
            .is_none_or(|moment| Instant::now() >= moment)
    }

    /// Doubles the pause.
    pub(super) fn failed(&mut self) {
        let pause = HOSTING_PAUSE_MIN
            .saturating_mul(1 << self.failures.min(16))
            .min(HOSTING_PAUSE_MAX);
        self.failures += 1;
        self.not_before = Some(Instant::now() + pause);
    }
}

/// A request of the owner under way, until it is dropped.
pub struct Admission(Arc<OwnerEntry>);

impl Drop for Admission {
    fn drop(&mut self) {
        self.0.traffic.leave();
    }
}

impl Owners {
    /// The owner's entry; a new one if the cache has none.
    pub(super) fn entry(&self, owner: &OwnerKey) -> Arc<OwnerEntry> {
        let made = self
            .0
            .cache
            .get_or_insert_with(owner, || Ok::<_, Infallible>(WeighedEntry::default()));
        match made {
            Ok(weighed) => weighed.entry,
            Err(never) => match never {},
        }
    }

    /// Keeps a snapshot, and tells the cache its new weight.
    pub(super) fn keep(
        &self,
        owner: &OwnerKey,
        entry: &Arc<OwnerEntry>,
        snapshot: impl Into<Arc<Snapshot>>,
    ) -> Arc<Snapshot> {
        let kept = entry.keep(snapshot.into());
        self.0.cache.insert(*owner, WeighedEntry::weighed(entry));
        kept
    }

    /// Takes a request of the owner, or says why not. It costs no call to anybody.
    pub fn admit(&self, owner: &OwnerKey, pace: &Pace) -> Result<Admission, Denied> {
        let entry = self.entry(owner);
        entry.traffic.enter(pace, self.0.began)?;
        Ok(Admission(entry))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(byte: u8) -> OwnerKey {
        OwnerKey::from_bytes([byte; 16])
    }

    fn slot(weight: u64) -> WeighedEntry {
        WeighedEntry {
            entry: Arc::default(),
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
            let cache = owner_cache(bytes, heaviest);
            let least = heaviest.min(bytes);
            assert!(
                cache.shard_capacity() >= least,
                "{bytes} {heaviest}: {}",
                cache.shard_capacity()
            );
        }
        let cache = owner_cache(1 << 20, 900_000);
        cache.insert(owner(1), slot(900_000));
        assert!(cache.peek(&owner(1)).is_some());
    }

    #[test]
    fn an_owner_in_use_stays_however_heavy_and_however_many_come() {
        let cache = owner_cache(10_000, 1_000);
        let held = slot(50_000);
        let entry = held.entry.clone();
        cache.insert(owner(0), held);
        for other in 1..=200 {
            cache.insert(owner(other), slot(1_000));
        }
        let found = cache.peek(&owner(0)).expect("in use");
        assert!(Arc::ptr_eq(&found.entry, &entry));
        drop((found, entry));
        for other in 1..=200 {
            cache.insert(owner(other), slot(1_000));
        }
        assert!(
            cache.peek(&owner(0)).is_none() && cache.weight() <= 20_000,
            "and goes when nobody uses it"
        );
    }
}
