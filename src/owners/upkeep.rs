//! What a worker does beside its requests: small things, one after the other, none of which anybody waits for.

use super::Owners;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::sleep;

/// Between one round and the next.
const ROUND: Duration = Duration::from_secs(2);

impl Owners {
    /// Writes down who was here, and counts whom the shard hosts; never ends.
    pub async fn keep_house(&self) {
        loop {
            if self.0.store.is_up() {
                self.write_down_seen().await;
                if let Ok(count) = self.0.store.hosted_count().await {
                    self.0.hosted.store(count, Ordering::Relaxed);
                }
            }
            sleep(ROUND).await;
        }
    }

    /// Owners whom this shard hosts, as counted a moment ago; none while Postgres has not been asked yet.
    pub fn hosted(&self) -> Option<u64> {
        Some(self.0.hosted.load(Ordering::Relaxed)).filter(|count| *count != u64::MAX)
    }
}
