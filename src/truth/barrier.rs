//! The barrier: a publish whose sequence is newer than all that was acknowledged before it was asked for.
//!
//! A read that reaches the barrier's sequence has seen everything acknowledged before; asking the stream's leader does
//! not prove that, since one that was paused answers with old data until it notices. One publish serves all who wait.

use super::append::publish_plain;
use super::bucket::{BarrierAck, Bucket, TruthError};
use crate::requester::CallError;
use std::sync::atomic::Ordering;

impl Bucket {
    /// A stream sequence that is newer than everything acknowledged before this call. Nobody waits for one, or for
    /// somebody else's, while no write is taken.
    pub async fn publish_barrier(&self) -> Result<u64, TruthError> {
        tokio::select! {
            biased;
            () = self.writing.broken() => Err(CallError::KnownUnavailable.into()),
            acked = self.publish_or_share() => acked,
        }
    }

    async fn publish_or_share(&self) -> Result<u64, TruthError> {
        let barrier = &self.barrier;
        let begun_before = barrier.begun.load(Ordering::SeqCst);
        let mut last = barrier.last.lock().await;
        if last.number > begun_before {
            return Ok(last.sequence); // begun after we asked, so it serves us too
        }
        let number = barrier.begun.fetch_add(1, Ordering::SeqCst) + 1;
        let sequence = publish_plain(self, barrier.subject.clone()).await?;
        *last = BarrierAck { number, sequence };
        Ok(sequence)
    }
}
