//! Housekeeping: small tasks of a worker that no request waits for, one after the other.

use crate::owners::Owners;
use crate::shard::{ShardError, VersionPosition};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::time::sleep;
use tracing::{debug, warn};

/// The pause between two rounds.
const ROUND_PAUSE: Duration = Duration::from_secs(2);
/// How long one round may look for old versions, about.
const OLD_VERSIONS_BUDGET: Duration = Duration::from_millis(500);
/// The shortest pause between two passes through all versions.
const OLD_VERSIONS_INTERVAL: Duration = Duration::from_secs(600);
/// The first pause after a failed search for old versions. It doubles each time, up to the pause
/// between two passes.
const RETRY_PAUSE: Duration = Duration::from_secs(10);
/// The pause after a task that reads much, in multiples of the time that the task took.
const REST_FACTOR: u32 = 20;
/// How often the versions of items that were written are counted.
const LONG_HISTORIES_INTERVAL: Duration = Duration::from_secs(10);

impl Owners {
    /// Stores the owners' last-seen times, counts the hosted owners, and deletes old versions.
    /// Never returns.
    pub async fn run_housekeeping(&self) {
        let mut count_due = Instant::now();
        let mut old_versions = OldVersions::new();
        let mut histories_trimmed = Instant::now();

        loop {
            if self.0.store.is_up() {
                self.check_postgres().await;
                self.flush_seen().await;
                if Instant::now() >= count_due {
                    count_due = self.count_hosted().await;
                }
                if let Ok(count) = self.0.store.lost_count().await {
                    self.0.lost.store(count, Ordering::Relaxed);
                }
                // Nothing of a lost history is deleted before an operator has accepted the loss.
                let deletes = self.projects() && !self.0.continuity.is_lost();
                if deletes && old_versions.is_due() {
                    self.delete_old_versions(&mut old_versions).await;
                }
                if deletes && histories_trimmed.elapsed() >= LONG_HISTORIES_INTERVAL {
                    histories_trimmed = Instant::now();
                    if let Err(error) = self.trim_histories().await {
                        warn!(%error, "cannot delete versions of items that have very many");
                    }
                }
            }

            sleep(ROUND_PAUSE).await;
        }
    }

    /// Finds out whether Postgres only reads, also while nobody writes. The breaker of writes then
    /// reports it.
    async fn check_postgres(&self) {
        if self.0.store.stores_rows()
            && let Err(error) = self.0.store.check_writable().await
        {
            warn!(%error, "cannot store rows");
        }
    }

    /// Counts the hosted owners. Returns when to count again: the more owners there are, the longer a
    /// count takes.
    async fn count_hosted(&self) -> Instant {
        let begun = Instant::now();
        if let Ok(count) = self.0.store.hosted_count().await {
            self.0.hosted.store(count, Ordering::Relaxed);
        }

        Instant::now() + begun.elapsed() * REST_FACTOR
    }

    /// Goes on with the pass through all versions, and deletes those that are kept no longer.
    async fn delete_old_versions(&self, pass: &mut OldVersions) {
        let days = i32::try_from(self.0.settings.retention.versions_d).unwrap_or(i32::MAX);
        let begun = Instant::now();

        while pass.is_due() && begun.elapsed() < OLD_VERSIONS_BUDGET {
            let step = Instant::now();
            match self.0.store.end_versions(days, &pass.position).await {
                Ok(ended) => {
                    if ended.deleted > 0 {
                        debug!(deleted = ended.deleted, "deleted old versions");
                    }
                    pass.advance(ended.next, step.elapsed());
                }
                Err(error) => pass.fail(&error),
            }
        }
    }

    /// The number of owners whose copy on this shard has records that the bucket lacks, as of the
    /// last count.
    pub fn lost(&self) -> u64 {
        self.0.lost.load(Ordering::Relaxed)
    }

    /// The number of owners that this shard hosts, as of the last count; `None` before the first.
    pub fn hosted(&self) -> Option<u64> {
        Some(self.0.hosted.load(Ordering::Relaxed)).filter(|count| *count != u64::MAX)
    }
}

/// A pass through all versions of the shard, in steps.
struct OldVersions {
    /// Where the next step begins.
    position: VersionPosition,
    /// The next step is not before this moment.
    due: Instant,
    /// How long the steps of this pass took.
    worked: Duration,
    /// The pause after the next failure.
    retry_pause: Duration,
}

impl OldVersions {
    fn new() -> Self {
        Self {
            position: VersionPosition::default(),
            due: Instant::now(),
            worked: Duration::ZERO,
            retry_pause: RETRY_PAUSE,
        }
    }

    fn is_due(&self) -> bool {
        Instant::now() >= self.due
    }

    /// Notes a step that took that long, and where the next one begins. After the last step the pass
    /// rests, the longer the more work it was.
    fn advance(&mut self, next: Option<VersionPosition>, took: Duration) {
        self.retry_pause = RETRY_PAUSE;
        self.worked += took;
        if next.is_none() {
            self.due = Instant::now() + OLD_VERSIONS_INTERVAL.max(self.worked * REST_FACTOR);
            self.worked = Duration::ZERO;
        }
        self.position = next.unwrap_or_default();
    }

    /// Notes a failed step, which is tried again after a pause.
    fn fail(&mut self, error: &ShardError) {
        let pause = self.retry_pause;
        warn!(%error, pause_s = pause.as_secs(), "cannot delete old versions, will retry");
        self.due = Instant::now() + pause;
        self.retry_pause = OLD_VERSIONS_INTERVAL.min(pause * 2);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_search_for_old_versions_waits_longer_each_time() {
        let mut pass = OldVersions::new();

        let pauses: Vec<u64> = (0..8)
            .map(|_| {
                let pause = pass.retry_pause.as_secs();
                pass.fail(&ShardError::TimedOut);
                assert!(!pass.is_due(), "it waits");
                pause
            })
            .collect();

        assert_eq!(pauses, [10, 20, 40, 80, 160, 320, 600, 600]);
        pass.advance(None, Duration::ZERO);
        assert_eq!(pass.retry_pause, RETRY_PAUSE, "it works again");
    }

    #[test]
    fn a_pass_that_was_much_work_rests_longer() {
        let rest = |worked| {
            let mut pass = OldVersions::new();
            pass.advance(None, worked);
            pass.due.saturating_duration_since(Instant::now())
        };

        let short = rest(Duration::from_secs(1));
        let long = rest(Duration::from_secs(60));

        assert!(short <= OLD_VERSIONS_INTERVAL, "{short:?}");
        assert!(long > OLD_VERSIONS_INTERVAL, "{long:?}");
    }
}
