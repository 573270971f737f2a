//! What a worker does beside its requests: small things, one after the other, none of which anybody waits for.

use crate::owners::Owners;
use crate::shard::ShardError;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::time::sleep;
use tracing::{debug, warn};

/// Between one round and the next.
const ROUND: Duration = Duration::from_secs(2);
/// How often old versions are looked for, where the last look left none.
const OLD_VERSIONS: Duration = Duration::from_secs(600);
/// Old versions deleted in one transaction.
const CHUNK: i64 = 1_000;

impl Owners {
    /// Writes down who was here, counts whom the shard hosts, and ends old versions; never ends.
    pub async fn run_housekeeping(&self) {
        let mut looked: Option<Instant> = None;
        loop {
            if self.0.store.is_up() {
                self.flush_seen().await;
                if let Ok(count) = self.0.store.hosted_count().await {
                    self.0.hosted.store(count, Ordering::Relaxed);
                }
                if self.projects() && looked.is_none_or(|looked| looked.elapsed() >= OLD_VERSIONS) {
                    match self.delete_old_versions().await {
                        Ok(more) => looked = (!more).then(Instant::now),
                        Err(error) => warn!(%error, "old versions are still there"),
                    }
                }
            }
            sleep(ROUND).await;
        }
    }

    /// Deletes some versions that are older than they are kept. Says whether there may be more.
    async fn delete_old_versions(&self) -> Result<bool, ShardError> {
        let days = i32::try_from(self.0.settings.retention.versions_d).unwrap_or(i32::MAX);
        let ended = self.0.store.end_versions(days, CHUNK).await?;
        if ended > 0 {
            debug!(ended, "old versions");
        }
        Ok(ended >= CHUNK as u64)
    }

    /// Owners whom this shard hosts, as counted a moment ago; none while Postgres has not been asked yet.
    pub fn hosted(&self) -> Option<u64> {
        Some(self.0.hosted.load(Ordering::Relaxed)).filter(|count| *count != u64::MAX)
    }
}
