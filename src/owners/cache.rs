//! The owners that a worker holds in memory. An entry has the owner's snapshot, the locks for
//! loading, writing and hosting, and the count of requests under way.

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
    /// Held by the owner's one write that is under way in this worker. A second one would only lose
    /// the race.
    pub(super) writing: tokio::sync::Mutex<()>,
    /// Held while the first snapshot is loaded.
    pub(super) loading: tokio::sync::Mutex<()>,
    /// Held while the owner is hosted in this shard's Postgres.
    pub(super) hosting: Arc<tokio::sync::Mutex<HostingBackoff>>,
    /// Whether the snapshot was compared with Postgres after the truth lost history.
    pub(super) compared: AtomicBool,
    /// Whether this shard's Postgres hosts the owner, as far as this worker knows.
    pub(super) hosted: AtomicBool,
    /// Whether the copy in this shard's Postgres turned out to be damaged.
    pub(super) damaged: AtomicBool,
    /// When the owner was last queued for a `seen_at` update, in seconds since the worker began; 0
    /// for never.
    pub(super) seen_s: AtomicU64,
}

impl OwnerEntry {
    /// The snapshot in memory.
    pub(super) fn held(&self) -> Option<Arc<Snapshot>> {
        self.held
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Keeps the snapshot, unless the entry has a newer one. Returns the one that is kept.
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

    /// Drops the snapshot, because it does not fit the truth.
    pub(super) fn forget(&self) {
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// An entry in the cache, with the weight that it had when it was inserted. The cache needs a
/// weight that does not change.
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

/// The approximate memory of an entry without its snapshot.
const ENTRY_BYTES: u64 = 256;

/// Weighs an entry by its approximate memory, in bytes.
#[derive(Clone)]
pub(super) struct Weigher;

impl Weighter<OwnerKey, WeighedEntry> for Weigher {
    fn weight(&self, _: &OwnerKey, weighed: &WeighedEntry) -> u64 {
        ENTRY_BYTES + weighed.weight
    }
}

/// Keeps an owner in memory while one of the owner's requests is under way. Otherwise the next
/// request would get another entry, with another write lock and another count of requests.
#[derive(Clone)]
pub(super) struct InUse;

impl Lifecycle<OwnerKey, WeighedEntry> for InUse {
    type RequestState = ();

    fn is_pinned(&self, _: &OwnerKey, weighed: &WeighedEntry) -> bool {
        Arc::strong_count(&weighed.entry) > 1
    }
}

/// All owners in memory, within about the cache's weight.
pub(super) type OwnerCache = Cache<OwnerKey, WeighedEntry, Weigher, DefaultHashBuilder, InUse>;

/// The memory of a typical owner, from which the cache estimates how many owners it will hold.
const TYPICAL_OWNER_BYTES: u64 = 8_192;

/// Creates a cache of `bytes`, in as many parts as possible such that an owner of `heaviest` bytes
/// fits into each part. An owner that does not fit is not cached, and would be loaded again for
/// each request.
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
        // The builder fails only if a number is missing, and none is.
        Err(_) => Cache::with(0, bytes, Weigher, DefaultHashBuilder::default(), InUse),
    }
}

/// How long hosting is not tried again after its first failure. Each further failure doubles the
/// pause.
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
    /// Returns whether hosting may be tried now.
    pub(super) fn is_over(&self) -> bool {
        self.not_before
            .is_none_or(|moment| Instant::now() >= moment)
    }

    /// Starts a pause, twice as long as the one before.
    pub(super) fn failed(&mut self) {
        let pause = HOSTING_PAUSE_MIN
            .saturating_mul(1 << self.failures.min(16))
            .min(HOSTING_PAUSE_MAX);
        self.failures += 1;
        self.not_before = Some(Instant::now() + pause);
    }
}

/// One of the owner's requests, which counts as under way until this is dropped.
pub struct Admission(Arc<OwnerEntry>);

impl Drop for Admission {
    fn drop(&mut self) {
        self.0.traffic.leave();
    }
}

impl Owners {
    /// Returns the owner's entry, a new one if the cache has none.
    pub(super) fn entry(&self, owner: &OwnerKey) -> Arc<OwnerEntry> {
        let inserted = self
            .0
            .cache
            .get_or_insert_with(owner, || Ok::<_, Infallible>(WeighedEntry::default()));

        match inserted {
            Ok(weighed) => weighed.entry,
            Err(never) => match never {},
        }
    }

    /// Keeps the snapshot in memory, unless the entry has a newer one, and updates the entry's
    /// weight. Returns the one that is kept.
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

    /// Admits one of the owner's requests, or returns why not. Makes no call to any server.
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

    fn weighed(weight: u64) -> WeighedEntry {
        WeighedEntry {
            entry: Arc::default(),
            weight,
        }
    }

    #[test]
    fn every_part_of_the_cache_holds_the_heaviest_owner() {
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
    }

    #[test]
    fn the_heaviest_owner_is_cached() {
        let cache = owner_cache(1 << 20, 900_000);

        cache.insert(owner(1), weighed(900_000));

        assert!(cache.peek(&owner(1)).is_some());
    }

    #[test]
    fn an_owner_is_evicted_only_while_no_request_uses_it() {
        let cache = owner_cache(10_000, 1_000);
        let heavy = weighed(50_000);
        let entry = heavy.entry.clone();
        cache.insert(owner(0), heavy);

        for other in 1..=200 {
            cache.insert(owner(other), weighed(1_000));
        }
        let found = cache.peek(&owner(0)).expect("in use");
        assert!(Arc::ptr_eq(&found.entry, &entry));

        drop((found, entry));
        for other in 1..=200 {
            cache.insert(owner(other), weighed(1_000));
        }
        assert!(cache.peek(&owner(0)).is_none(), "no request uses it");
        assert!(cache.weight() <= 20_000, "{}", cache.weight());
    }
}
