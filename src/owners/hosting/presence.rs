//! What a worker remembers of its owners between calls to Postgres: which owners the shard hosts,
//! and which owners sent requests, so that eviction spares them.

use crate::owners::Owners;
use crate::owners::cache::OwnerEntry;
use crate::seal::OwnerKey;
use crate::shard::Unhosted;
use std::collections::HashSet;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tracing::warn;

/// How often an owner is queued for a `seen_at` update.
const SEEN_INTERVAL_S: u64 = 3_600;
/// The most owners queued for a `seen_at` update. Beyond that, an owner is queued on a later
/// request.
const SEEN_QUEUE_OWNERS_MAX: usize = 50_000;
/// The most owners updated in one statement.
const STATEMENT_OWNERS_MAX: usize = 1_000;

/// What a worker remembers of its owners' presence.
#[derive(Default)]
pub(in crate::owners) struct Presence {
    /// Counts the notices that owners lost their copy in Postgres.
    notices: Mutex<u64>,
    /// The owners queued for a `seen_at` update.
    seen: Mutex<HashSet<OwnerKey>>,
}

/// The number of notices that had come when Postgres was asked.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::owners) struct UnhostEpoch(u64);

impl Owners {
    /// Returns the epoch for [`mark_hosted`](Self::mark_hosted). Call this before asking Postgres
    /// whether it hosts an owner.
    pub(in crate::owners) fn unhost_epoch(&self) -> UnhostEpoch {
        UnhostEpoch(*lock(&self.0.presence.notices))
    }

    /// Remembers that the shard hosts the owner, unless any owner lost its copy since `epoch`. In
    /// that case a later request asks Postgres again.
    pub(in crate::owners) fn mark_hosted(&self, entry: &OwnerEntry, epoch: UnhostEpoch) {
        let notices = lock(&self.0.presence.notices);
        if *notices == epoch.0 {
            entry.hosted.store(true, Ordering::Release);
        }
    }

    /// Forgets that the shard hosts these owners.
    pub(in crate::owners) fn mark_unhosted(&self, unhosted: &Unhosted) {
        let mut notices = lock(&self.0.presence.notices);
        *notices += 1;

        let forget = |entry: &OwnerEntry| entry.hosted.store(false, Ordering::Release);
        match unhosted {
            Unhosted::Anyone => self
                .0
                .cache
                .iter()
                .for_each(|(_, weighed)| forget(&weighed.entry)),
            Unhosted::Those(owners) => {
                owners
                    .iter()
                    .filter_map(|owner| self.0.cache.peek(owner))
                    .for_each(|weighed| forget(&weighed.entry));
            }
        }
    }

    /// Queues the owner for a `seen_at` update, at most once an hour. Makes no call to Postgres.
    pub(in crate::owners) fn note_seen(&self, owner: &OwnerKey, entry: &OwnerEntry) {
        let now = self.0.began.elapsed().as_secs() + 1;
        let last = entry.seen_s.load(Ordering::Relaxed);
        if last != 0 && now - last < SEEN_INTERVAL_S {
            return;
        }

        let mut seen = lock(&self.0.presence.seen);
        if seen.len() < SEEN_QUEUE_OWNERS_MAX {
            entry.seen_s.store(now, Ordering::Relaxed);
            seen.insert(*owner);
        }
    }

    /// Updates `seen_at` of the queued owners in Postgres. What fails is queued again.
    pub(in crate::owners) async fn flush_seen(&self) {
        let seen: Vec<OwnerKey> = lock(&self.0.presence.seen).drain().collect();
        for owners in seen.chunks(STATEMENT_OWNERS_MAX) {
            if let Err(error) = self.0.store.note_seen(owners).await {
                warn!(%error, "cannot store last-seen times, will retry");
                lock(&self.0.presence.seen).extend(owners);
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
