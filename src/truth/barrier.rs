//! The barrier: a publish whose sequence is newer than all that was acknowledged before it was asked for.
//!
//! A read that reaches the barrier's sequence has seen everything acknowledged before; asking the stream's leader does
//! not prove that, since one that was paused answers with old data until it notices. One publish serves all who wait.

use super::append::publish_plain;
use super::bucket::{Bucket, TruthFault};
use crate::exchange::CallFault;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::Mutex;

/// The state that callers share.
pub(super) struct Barrier {
    /// The barrier's key: one for a shard, so that restarts do not litter the bucket. Workers may share it, since each
    /// only needs a sequence that is newer than its own question.
    pub(super) subject: String,
    begun: AtomicU64,
    last: Mutex<Rung>,
}

#[derive(Clone, Copy, Default)]
struct Rung {
    number: u64,
    sequence: u64,
}

impl Barrier {
    pub(super) fn new(subject: String) -> Self {
        Self {
            subject,
            begun: AtomicU64::new(0),
            last: Mutex::default(),
        }
    }
}

impl Bucket {
    /// A stream sequence that is newer than everything acknowledged before this call. Nobody waits for one, or for
    /// somebody else's, while no write is taken.
    pub async fn ring_barrier(&self) -> Result<u64, TruthFault> {
        tokio::select! {
            biased;
            () = self.writing.broken() => Err(CallFault::KnownAway.into()),
            rung = self.ring() => rung,
        }
    }

    async fn ring(&self) -> Result<u64, TruthFault> {
        let barrier = &self.barrier;
        let begun_before = barrier.begun.load(Ordering::SeqCst);
        let mut last = barrier.last.lock().await;
        if last.number > begun_before {
            return Ok(last.sequence); // begun after we asked, so it serves us too
        }
        let number = barrier.begun.fetch_add(1, Ordering::SeqCst) + 1;
        let sequence = publish_plain(self, barrier.subject.clone()).await?;
        *last = Rung { number, sequence };
        Ok(sequence)
    }
}
