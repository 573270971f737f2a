//! The barrier: a publish whose sequence is newer than everything acknowledged before the call.
//!
//! A read that reaches the barrier's sequence has seen everything acknowledged before. A question
//! to the stream's leader would not prove that: a leader that was paused answers with old data
//! until it notices. One publish serves all callers that wait for one.

use super::append::publish_barrier_of;
use super::bucket::Bucket;
use super::error::TruthError;
use crate::requester::CallError;

impl Bucket {
    /// Returns a stream sequence that is newer than everything acknowledged before this call.
    ///
    /// Fails at once while the bucket is known not to accept writes. That also holds for a caller
    /// that waits for the publish of another.
    pub async fn publish_barrier(&self) -> Result<u64, TruthError> {
        tokio::select! {
            biased;
            () = self.writing.broken() => Err(CallError::KnownUnavailable.into()),
            result = self.publish_or_share() => result,
        }
    }

    /// If the bucket is full, finds out whether there is room again: publishes a barrier as long as
    /// what was refused.
    pub async fn look_for_room(&self) {
        if let Some(bytes) = self.full.probe_bytes() {
            // Its answer is recorded like that of every publish.
            let _ = publish_barrier_of(self, bytes).await;
        }
    }

    /// Returns whether the bucket refuses a record of that size because it is full: publishes a barrier
    /// as long.
    pub async fn refuses(&self, bytes: usize) -> bool {
        matches!(publish_barrier_of(self, bytes).await, Err(TruthError::Full))
    }

    async fn publish_or_share(&self) -> Result<u64, TruthError> {
        self.barrier.shared.get(publish_barrier_of(self, 0)).await
    }
}
