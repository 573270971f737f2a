//! The memory for owners' sets, in the cache and beyond it.
//!
//! A set takes a share before it is loaded, while nobody knows its size: that of the heaviest owner,
//! or as much as lets many sets be loaded at once. Then it keeps what it needs until nobody uses it
//! and the cache has evicted it.

use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

/// The memory is shared out in pieces of so many bytes.
const PIECE_BYTES: u64 = 256;
/// So many sets can be loaded at the same time at least, whatever the heaviest owner takes.
const LOADS_MIN: u64 = 32;
/// The part of a caller's time that is reserved for the refusal.
const REFUSAL_RESERVE: Duration = Duration::from_millis(20);

/// What is left of a worker's memory for sets.
pub(super) struct Memory {
    pieces: Arc<Semaphore>,
    /// What a set takes while it is loaded.
    load_bytes: u64,
}

/// A set's share of the memory, which it gives back when it is dropped.
pub(super) struct Share(OwnedSemaphorePermit);

impl Memory {
    /// The memory of a cache of `cache_bytes`, and of `in_use_bytes` beyond it for sets that are
    /// loaded or in use. The heaviest owner takes `heaviest_bytes`.
    pub fn new(cache_bytes: u64, in_use_bytes: u64, heaviest_bytes: u64) -> Self {
        let all = pieces(cache_bytes.saturating_add(in_use_bytes)) as usize;

        Self {
            pieces: Arc::new(Semaphore::new(all.min(Semaphore::MAX_PERMITS))),
            load_bytes: heaviest_bytes.min(in_use_bytes / LOADS_MIN),
        }
    }

    /// Returns whether a set can be loaded now.
    pub fn has_room(&self) -> bool {
        self.pieces.available_permits() >= pieces(self.load_bytes) as usize
    }

    /// Takes the share of a set that is about to be loaded. Waits for it at most until a little
    /// before the caller's `deadline`; `None` if it is not free by then.
    pub async fn for_load(&self, deadline: Instant) -> Option<Share> {
        let share = self
            .pieces
            .clone()
            .acquire_many_owned(pieces(self.load_bytes));

        match timeout_at(deadline - REFUSAL_RESERVE, share).await {
            Ok(Ok(share)) => Some(Share(share)),
            Ok(Err(_)) | Err(_) => None,
        }
    }

    /// Takes a share of so many bytes, if it is free now.
    pub fn try_take(&self, bytes: u64) -> Option<Share> {
        let share = self.pieces.clone().try_acquire_many_owned(pieces(bytes));
        share.ok().map(Share)
    }

    /// Makes the share one of so many bytes. One that has to grow while nothing is free stays as it
    /// is: what makes a set larger is one write, and the next request tries again.
    pub fn resize(&self, share: &mut Share, bytes: u64) {
        let (held, needed) = (share.0.num_permits(), pieces(bytes) as usize);

        if held > needed {
            drop(share.0.split(held - needed));
        } else if held < needed
            && let Some(Share(more)) = self.try_take((needed - held) as u64 * PIECE_BYTES)
        {
            share.0.merge(more);
        }
    }
}

fn pieces(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(PIECE_BYTES)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(memory: &Memory) -> u64 {
        ALL - memory.pieces.available_permits() as u64 * PIECE_BYTES
    }

    const ALL: u64 = LOADS_MIN * 1_024;

    fn soon() -> Instant {
        Instant::now() + REFUSAL_RESERVE * 2
    }

    #[tokio::test]
    async fn a_load_waits_until_another_set_needs_less() {
        let memory = Memory::new(0, ALL, 1_024);
        let mut shares = Vec::new();
        for _ in 0..LOADS_MIN {
            shares.push(memory.for_load(soon()).await.expect("room"));
        }
        assert_eq!(taken(&memory), ALL);
        assert!(memory.for_load(soon()).await.is_none(), "all is taken");

        for share in &mut shares {
            memory.resize(share, 600);
        }
        assert_eq!(taken(&memory), LOADS_MIN * 768);

        let late = memory.for_load(soon()).await.expect("room for one");
        drop((late, shares));
        assert_eq!(taken(&memory), 0);
    }

    #[test]
    fn a_set_grows_only_into_what_is_free() {
        let memory = Memory::new(0, ALL, 1_024);
        let mut first = memory.try_take(1_024).expect("room");
        let second = memory.try_take(2_048).expect("room");

        memory.resize(&mut first, ALL);
        assert_eq!(taken(&memory), 3_072, "too much: it stays");
        drop(second);
        memory.resize(&mut first, ALL);

        assert_eq!(taken(&memory), ALL);
        assert!(memory.try_take(1).is_none());
    }
}
