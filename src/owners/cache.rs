//! The owners that a worker holds in memory. An entry has the owner's snapshot, and the locks for
//! loading, writing and hosting. The counts of an owner's requests are kept apart.

use super::admission::{Cost, Denied, Pace, Traffic};
use super::memory::{Memory, Share};
use super::{Owners, Snapshot};
use crate::seal::OwnerKey;
use quick_cache::sync::Cache;
use quick_cache::{DefaultHashBuilder, Lifecycle, OptionsBuilder, UnitWeighter, Weighter};
use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::OwnedSemaphorePermit;

/// What a worker holds of one owner.
#[derive(Default)]
pub(super) struct OwnerEntry {
    held: Mutex<Option<Arc<Snapshot>>>,
    /// The share of the memory that the snapshot has.
    share: Mutex<Option<Share>>,
    /// Held by the owner's one write that is under way in this worker. A second one would only lose
    /// the race.
    pub(super) writing: tokio::sync::Mutex<()>,
    /// Held while the first snapshot is loaded.
    pub(super) loading: tokio::sync::Mutex<()>,
    /// Held while the truth is asked for what is newer than the snapshot.
    pub(super) refreshing: tokio::sync::Mutex<()>,
    /// Held while the owner is hosted in this shard's Postgres.
    pub(super) hosting: Arc<tokio::sync::Mutex<HostingBackoff>>,
    /// Whether the snapshot was compared with Postgres after the truth lost history.
    pub(super) compared: AtomicBool,
    /// The projection's cursor when the snapshot was last compared with Postgres because the truth was
    /// unavailable.
    pub(super) compared_at: AtomicU64,
    /// Whether this shard's Postgres hosts the owner, as far as this worker knows.
    pub(super) hosted: AtomicBool,
    /// Whether the copy in this shard's Postgres turned out to be damaged.
    pub(super) damaged: AtomicBool,
    /// Whether the truth lacked something of the snapshot when the two were last compared.
    pub(super) lost: AtomicBool,
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

    /// Takes over the share of the memory in which the snapshot was loaded.
    pub(super) fn take_share(&self, share: Share) {
        *self.share.lock().unwrap_or_else(PoisonError::into_inner) = Some(share);
    }

    /// Makes the share what the snapshot needs now.
    fn resize_share(&self, memory: &Memory, bytes: u64) {
        let mut share = self.share.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(share) = share.as_mut() {
            memory.resize(share, bytes);
        }
    }

    /// Drops the snapshot, because it does not fit the truth.
    pub(super) fn forget(&self) {
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Drops the snapshot, and what is known of the copy in Postgres.
    fn forget_all(&self) {
        self.forget();
        for known in [&self.compared, &self.hosted, &self.damaged, &self.lost] {
            known.store(false, Ordering::Release);
        }
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
/// request would get another entry, with another write lock, or another count of requests.
#[derive(Clone)]
pub(super) struct InUse;

impl Lifecycle<OwnerKey, WeighedEntry> for InUse {
    type RequestState = ();

    fn is_pinned(&self, _: &OwnerKey, weighed: &WeighedEntry) -> bool {
        Arc::strong_count(&weighed.entry) > 1
    }
}

impl Lifecycle<OwnerKey, Arc<Traffic>> for InUse {
    type RequestState = ();

    fn is_pinned(&self, _: &OwnerKey, traffic: &Arc<Traffic>) -> bool {
        Arc::strong_count(traffic) > 1
    }
}

/// The counts of the requests of the owners who sent some lately. They are not part of an owner's
/// entry: that one may be evicted at any time, and the owner would have a full burst again.
pub(super) type TrafficCache =
    Cache<OwnerKey, Arc<Traffic>, UnitWeighter, DefaultHashBuilder, InUse>;

/// So many owners' counts are kept, which takes at most some 10 MiB. With the default rate an owner has the
/// full burst again four seconds after the last request, unless that was a costly one.
const TRAFFIC_OWNERS: usize = 1 << 15;

/// Creates an empty cache of the counts of owners' requests.
pub(super) fn traffic_cache() -> TrafficCache {
    let weight = TRAFFIC_OWNERS as u64;
    let hasher = DefaultHashBuilder::default();

    Cache::with(TRAFFIC_OWNERS, weight, UnitWeighter, hasher, InUse)
}

/// All owners in memory, within about the cache's weight.
pub(super) type OwnerCache = Cache<OwnerKey, WeighedEntry, Weigher, DefaultHashBuilder, InUse>;

/// The memory of a typical owner, from which the cache estimates how many owners it will hold.
const TYPICAL_OWNER_BYTES: u64 = 8_192;

/// So many of the heaviest owners fit into each part of the cache, if all of it is large enough. With
/// fewer, two or three of them that fall to one part would evict each other with each request.
const HEAVIEST_OF_A_PART: u64 = 4;

/// Creates a cache of `bytes`, in as many parts as possible such that several owners of `heaviest` bytes
/// fit into each part. An owner that does not fit is not cached, and would be loaded again for
/// each request.
pub(super) fn owner_cache(bytes: u64, heaviest: u64) -> OwnerCache {
    let fitting = (bytes / 10 * 9) / heaviest.saturating_mul(HEAVIEST_OF_A_PART).max(1);
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

/// Returns what the cache has of the owner, a new entry if it has nothing.
fn entry_of<V, W>(cache: &Cache<OwnerKey, V, W, DefaultHashBuilder, InUse>, owner: &OwnerKey) -> V
where
    V: Clone + Default,
    W: Weighter<OwnerKey, V> + Clone,
    InUse: Lifecycle<OwnerKey, V>,
{
    match cache.get_or_insert_with(owner, || Ok::<_, Infallible>(V::default())) {
        Ok(entry) => entry,
        Err(never) => match never {},
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
    /// How many outages had ended at the last failure.
    ended_outages: u64,
}

impl HostingBackoff {
    /// Returns whether hosting may be tried now: the pause has ended, or an outage has, which may
    /// have been the reason for the failure.
    pub(super) fn is_over(&self, ended_outages: u64) -> bool {
        ended_outages != self.ended_outages
            || self
                .not_before
                .is_none_or(|moment| Instant::now() >= moment)
    }

    /// Starts a pause, twice as long as the one before; the shortest one after an outage.
    pub(super) fn failed(&mut self, ended_outages: u64) {
        if ended_outages != self.ended_outages {
            self.ended_outages = ended_outages;
            self.failures = 0;
        }
        let pause = HOSTING_PAUSE_MIN
            .saturating_mul(1 << self.failures.min(16))
            .min(HOSTING_PAUSE_MAX);
        self.failures += 1;
        self.not_before = Some(Instant::now() + pause);
    }
}

/// One of the owner's requests, which counts as under way until this is dropped.
pub struct Admission {
    traffic: Arc<Traffic>,
    /// Keeps the owner in memory.
    _entry: Arc<OwnerEntry>,
    /// Given back when the admission is dropped.
    turn: Option<OwnedSemaphorePermit>,
}

impl Admission {
    /// Waits until few enough of the owner's reads or writes are worked on: fewer while the worker
    /// is busy. This one is worked on until the admission is dropped.
    pub async fn wait_for_turn(
        &mut self,
        is_write: bool,
        is_busy: bool,
        deadline: tokio::time::Instant,
    ) {
        let left = deadline.saturating_duration_since(tokio::time::Instant::now());
        self.turn = self.traffic.turn(is_write, is_busy, left).await;
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.traffic.leave();
    }
}

/// What an admitted request may still cost its owner.
#[derive(Clone)]
pub struct Account {
    traffic: Arc<Traffic>,
    pace: Pace,
    began: Instant,
}

impl Account {
    /// Takes a cost that was not known when the request was admitted from the owner's rate.
    pub fn charge(&self, cost: Cost) {
        self.traffic.charge(&self.pace, cost, self.began);
    }

    /// Checks that the replies to the owner's other requests have not used more than the burst
    /// since this one was admitted.
    pub fn check(&self) -> Result<(), Denied> {
        self.traffic.overdrawn(&self.pace, self.began)
    }
}

impl Owners {
    /// Returns the owner's entry, a new one if the cache has none.
    pub(super) fn entry(&self, owner: &OwnerKey) -> Arc<OwnerEntry> {
        entry_of(&self.0.cache, owner).entry
    }

    /// Keeps the snapshot in memory, unless the entry has a newer one, and updates the entry's
    /// weight and its share of the memory. Returns the one that is kept.
    pub(super) fn keep(
        &self,
        owner: &OwnerKey,
        entry: &Arc<OwnerEntry>,
        snapshot: impl Into<Arc<Snapshot>>,
    ) -> Arc<Snapshot> {
        let (kept, weighed) = self.keep_in(entry, snapshot.into());
        self.0.cache.insert(*owner, weighed);
        kept
    }

    fn keep_in(
        &self,
        entry: &Arc<OwnerEntry>,
        snapshot: Arc<Snapshot>,
    ) -> (Arc<Snapshot>, WeighedEntry) {
        let kept = entry.keep(snapshot);
        let weighed = WeighedEntry::weighed(entry);
        entry.resize_share(&self.0.memory, weighed.weight);

        (kept, weighed)
    }

    /// Keeps a snapshot that no request asked for, as [`keep_loaded`](Self::keep_loaded) does. That is no
    /// reason to have the owner in memory for longer.
    pub(super) fn keep_learned(
        &self,
        owner: &OwnerKey,
        entry: &Arc<OwnerEntry>,
        snapshot: Snapshot,
        accepted: u64,
    ) -> Arc<Snapshot> {
        let (kept, weighed) = self.keep_in(entry, snapshot.into());
        // If the owner was evicted meanwhile, there is nothing to replace.
        let _ = self.0.cache.replace(*owner, weighed, true);
        self.forget_given_up(entry, accepted);
        kept
    }

    /// Keeps a snapshot that was loaded from Postgres, as [`keep`](Self::keep) does, and returns it.
    /// Drops it if an operator has accepted a loss since there were `accepted` of them.
    pub(super) fn keep_loaded(
        &self,
        owner: &OwnerKey,
        entry: &Arc<OwnerEntry>,
        snapshot: impl Into<Arc<Snapshot>>,
        accepted: u64,
    ) -> Arc<Snapshot> {
        let kept = self.keep(owner, entry, snapshot);
        self.forget_given_up(entry, accepted);
        kept
    }

    /// Drops the snapshot if an operator has accepted a loss since there were `accepted` of them: it may
    /// be what the operator gave up.
    fn forget_given_up(&self, entry: &OwnerEntry, accepted: u64) {
        if self.0.continuity.accepted() != accepted {
            entry.forget();
        }
    }

    /// Drops everything that is in memory of the owners, except their locks and counts.
    pub(super) fn forget_owners(&self) {
        for (_, weighed) in self.0.cache.iter() {
            weighed.entry.forget_all();
        }
    }

    /// Admits one of the owner's requests, or returns why not. Makes no call to any server.
    pub fn admit(
        &self,
        owner: &OwnerKey,
        pace: Pace,
        cost: Cost,
    ) -> Result<(Admission, Account), Denied> {
        let traffic = entry_of(&self.0.traffic, owner);
        let began = self.0.began;
        traffic.enter(&pace, cost, began)?;

        let account = Account {
            traffic: traffic.clone(),
            pace,
            began,
        };
        Ok((
            Admission {
                traffic,
                _entry: self.entry(owner),
                turn: None,
            },
            account,
        ))
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

            let least = bytes.min(heaviest * HEAVIEST_OF_A_PART);
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
    fn the_end_of_an_outage_ends_the_pauses_that_it_caused() {
        let mut backoff = HostingBackoff::default();
        for _ in 0..8 {
            backoff.failed(1);
        }
        assert!(!backoff.is_over(1));

        assert!(backoff.is_over(2), "an outage has ended");
        backoff.failed(2);
        assert!(!backoff.is_over(2));
        assert_eq!(backoff.failures, 1, "the shortest pause");
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
