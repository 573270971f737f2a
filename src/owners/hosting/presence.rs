//! Whom this shard's Postgres hosts, as this worker believes; and who was here, for eviction.

use crate::owners::Owners;
use crate::owners::cache::OwnerEntry;
use crate::seal::OwnerKey;
use crate::shard::Unhosted;
use std::collections::HashSet;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tracing::warn;

/// How often it is written down that an owner is here, in seconds.
const AGAIN_S: u64 = 3_600;
/// Owners at most of whom that is still to be written down; of others it is when they ask again.
const MOST: usize = 50_000;
/// Written down in one statement.
const PAGE: usize = 1_000;

/// What a worker remembers of it.
#[derive(Default)]
pub(in crate::owners) struct Presence {
    /// Counts the notices of owners whose copy was taken away.
    notices: Mutex<u64>,
    /// Of whom it is to be written down that they were here.
    seen: Mutex<HashSet<OwnerKey>>,
}

/// How many notices had come before Postgres was asked.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::owners) struct UnhostEpoch(u64);

impl Owners {
    /// To be called before Postgres is asked whether it hosts an owner.
    pub(in crate::owners) fn unhost_epoch(&self) -> UnhostEpoch {
        UnhostEpoch(*lock(&self.0.presence.notices))
    }

    /// Believes that the owner is hosted, unless somebody's copy was taken away since Postgres was asked: then a later
    /// request asks again.
    pub(in crate::owners) fn mark_hosted(&self, entry: &OwnerEntry, asked: UnhostEpoch) {
        let notices = lock(&self.0.presence.notices);
        if *notices == asked.0 {
            entry.hosted.store(true, Ordering::Release);
        }
    }

    /// Believes it no longer.
    pub(in crate::owners) fn mark_unhosted(&self, whose: &Unhosted) {
        let mut notices = lock(&self.0.presence.notices);
        *notices += 1;
        let forget = |entry: &OwnerEntry| entry.hosted.store(false, Ordering::Release);
        match whose {
            Unhosted::Anyone => self
                .0
                .cache
                .iter()
                .for_each(|(_, slot)| forget(&slot.entry)),
            Unhosted::Those(owners) => {
                owners
                    .iter()
                    .filter_map(|owner| self.0.cache.peek(owner))
                    .for_each(|slot| forget(&slot.entry));
            }
        }
    }

    /// Notes that the owner is here. It costs no call to anybody: that is made later, for many together.
    pub(in crate::owners) fn note_seen(&self, owner: &OwnerKey, entry: &OwnerEntry) {
        let now = self.0.began.elapsed().as_secs() + 1;
        let last = entry.seen_s.load(Ordering::Relaxed);
        if last != 0 && now - last < AGAIN_S {
            return;
        }
        let mut seen = lock(&self.0.presence.seen);
        if seen.len() < MOST {
            entry.seen_s.store(now, Ordering::Relaxed);
            seen.insert(*owner);
        }
    }

    /// Writes down who was here.
    pub(in crate::owners) async fn flush_seen(&self) {
        let seen: Vec<OwnerKey> = lock(&self.0.presence.seen).drain().collect();
        for some in seen.chunks(PAGE) {
            if let Err(error) = self.0.store.note_seen(some).await {
                warn!(%error, "who was here is not written down yet");
                lock(&self.0.presence.seen).extend(some);
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
