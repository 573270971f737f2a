//! Housekeeping: small tasks of a worker that no request waits for, one after the other.

use crate::owners::Owners;
use crate::shard::ShardError;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::time::sleep;
use tracing::{debug, warn};

/// The pause between two rounds.
const ROUND_PAUSE: Duration = Duration::from_secs(2);
/// How long to wait until the next deletion of old versions, once none are left.
const OLD_VERSIONS_INTERVAL: Duration = Duration::from_secs(600);
/// The most old versions deleted in one transaction.
const DELETED_VERSIONS_MAX: i64 = 1_000;

impl Owners {
    /// Stores the owners' last-seen times, counts the hosted owners, and deletes old versions.
    /// Never returns.
    pub async fn run_housekeeping(&self) {
        // When no old versions were left.
        let mut versions_done: Option<Instant> = None;
        loop {
            if self.0.store.is_up() {
                self.flush_seen().await;
                if let Ok(count) = self.0.store.hosted_count().await {
                    self.0.hosted.store(count, Ordering::Relaxed);
                }
                let is_due = versions_done.is_none_or(|at| at.elapsed() >= OLD_VERSIONS_INTERVAL);
                if self.projects() && is_due {
                    match self.delete_old_versions().await {
                        Ok(more) => versions_done = (!more).then(Instant::now),
                        Err(error) => warn!(%error, "cannot delete old versions, will retry"),
                    }
                }
            }

            sleep(ROUND_PAUSE).await;
        }
    }

    /// Deletes some of the versions that are kept no longer. Returns whether there may be more.
    async fn delete_old_versions(&self) -> Result<bool, ShardError> {
        let days = i32::try_from(self.0.settings.retention.versions_d).unwrap_or(i32::MAX);
        let deleted = self
            .0
            .store
            .end_versions(days, DELETED_VERSIONS_MAX)
            .await?;

        if deleted > 0 {
            debug!(deleted, "deleted old versions");
        }
        Ok(deleted >= DELETED_VERSIONS_MAX as u64)
    }

    /// The number of owners that this shard hosts, as of the last count; `None` before the first.
    pub fn hosted(&self) -> Option<u64> {
        Some(self.0.hosted.load(Ordering::Relaxed)).filter(|count| *count != u64::MAX)
    }
}
