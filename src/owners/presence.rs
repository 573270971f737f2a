//! Whom this shard's Postgres hosts, as this worker believes; and who was here, for eviction.

use super::Owners;
use super::cell::Cell;
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
pub(super) struct Presence {
    /// Counts the notices of owners whose copy was taken away.
    notices: Mutex<u64>,
    /// Of whom it is to be written down that they were here.
    seen: Mutex<HashSet<OwnerKey>>,
}

/// How many notices had come before Postgres was asked.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Noticed(u64);

impl Owners {
    /// To be called before Postgres is asked whether it hosts an owner.
    pub(super) fn noticed(&self) -> Noticed {
        Noticed(*lock(&self.0.presence.notices))
    }

    /// Believes that the owner is hosted, unless somebody's copy was taken away since Postgres was asked: then a later
    /// request asks again.
    pub(super) fn believe_hosted(&self, cell: &Cell, asked: Noticed) {
        let notices = lock(&self.0.presence.notices);
        if *notices == asked.0 {
            cell.hosted.store(true, Ordering::Release);
        }
    }

    /// Believes it no longer.
    pub(super) fn hear_unhosted(&self, whose: &Unhosted) {
        let mut notices = lock(&self.0.presence.notices);
        *notices += 1;
        let forget = |cell: &Cell| cell.hosted.store(false, Ordering::Release);
        match whose {
            Unhosted::Anyone => self.0.cells.iter().for_each(|(_, slot)| forget(&slot.cell)),
            Unhosted::Those(owners) => {
                owners
                    .iter()
                    .filter_map(|owner| self.0.cells.peek(owner))
                    .for_each(|slot| forget(&slot.cell));
            }
        }
    }

    /// Notes that the owner is here. It costs no call to anybody: that is made later, for many together.
    pub(super) fn note_seen(&self, owner: &OwnerKey, cell: &Cell) {
        let now = self.0.began.elapsed().as_secs() + 1;
        let last = cell.seen_s.load(Ordering::Relaxed);
        if last != 0 && now - last < AGAIN_S {
            return;
        }
        let mut seen = lock(&self.0.presence.seen);
        if seen.len() < MOST {
            cell.seen_s.store(now, Ordering::Relaxed);
            seen.insert(*owner);
        }
    }

    /// Writes down who was here.
    pub(super) async fn write_down_seen(&self) {
        let seen: Vec<OwnerKey> = lock(&self.0.presence.seen).drain().collect();
        for some in seen.chunks(PAGE) {
            if let Err(fault) = self.0.store.note_seen(some).await {
                warn!(%fault, "who was here is not written down yet");
                lock(&self.0.presence.seen).extend(some);
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
