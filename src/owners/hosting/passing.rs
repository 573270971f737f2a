//! What a worker learns from the bucket's new records as they pass by. The worker that projects stores
//! them, and the other workers read them for this alone. Otherwise a worker's write would lose its first
//! race whenever another worker had written last for the owner. Nothing relies on it.

use crate::owners::{Owners, OwnersError, Snapshot};
use crate::seal::{OwnerKey, Record};
use crate::truth::Entry;
use std::collections::HashMap;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::yield_now;
use tokio::time::{sleep, timeout};
use tracing::debug;

/// The most records read at once.
const BATCH_RECORDS_MAX: usize = 500;
/// How often a worker checks whether it has to follow the bucket, and how long it waits after that failed.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// After sets of so many records together were copied, other tasks get their turn.
const COPIED_RECORDS_MAX: usize = 200;

impl Owners {
    /// Follows the bucket's new records while this worker does not project, if the settings say so. Never
    /// returns. `reconnects` counts the connections made to NATS.
    pub async fn follow_newest(&self, mut reconnects: watch::Receiver<u64>) {
        if !self.0.settings.read.follow {
            return std::future::pending().await;
        }

        loop {
            sleep(CHECK_INTERVAL).await;
            if !self.has_to_follow() {
                continue;
            }

            reconnects.mark_unchanged();
            tokio::select! {
                followed = self.learn_newest() => if let Err(error) = followed {
                    debug!(%error, "cannot follow the bucket, will retry");
                },
                // The bucket may be another one.
                _ = reconnects.changed() => {}
            }
        }
    }

    fn has_to_follow(&self) -> bool {
        !self.projects() && !self.0.continuity.is_lost()
    }

    /// Learns the records that come from now on, until this worker projects.
    async fn learn_newest(&self) -> Result<(), OwnersError> {
        let now = self.check_continuity(None).await?;
        let mut follower = self.0.bucket.follow(now.sequence).await?;

        while self.has_to_follow() {
            let next = follower.next_batch(BATCH_RECORDS_MAX);
            let Ok(batch) = timeout(CHECK_INTERVAL, next).await else {
                continue;
            };
            let records = batch?.into_iter().filter_map(|Entry { record, .. }| record);
            self.learn(&records.collect::<Vec<_>>()).await;
        }
        Ok(())
    }

    /// Adds new records of the bucket to the sets in memory that they follow, if the settings say so. The
    /// order of the records is that of their versions.
    pub(super) async fn learn(&self, records: &[(OwnerKey, Record)]) {
        if !self.0.settings.read.follow {
            return;
        }

        let mut by_owner: HashMap<&OwnerKey, Vec<&Record>> = HashMap::new();
        for (owner, record) in records {
            by_owner.entry(owner).or_default().push(record);
        }
        let mut copied = 0;
        for (owner, records) in by_owner {
            copied += self.learn_of(owner, &records);
            if copied > COPIED_RECORDS_MAX {
                copied = 0;
                yield_now().await;
            }
        }
    }

    /// Returns how many records the set has that was copied; 0 for none.
    fn learn_of(&self, owner: &OwnerKey, records: &[&Record]) -> usize {
        let Some(entry) = self.0.cache.peek(owner).map(|weighed| weighed.entry) else {
            return 0;
        };
        // A write that is under way knows what it has written.
        let Ok(_write_lock) = entry.writing.try_lock() else {
            return 0;
        };
        let accepted = self.0.continuity.accepted();
        if self.0.continuity.is_lost() {
            return 0;
        }

        let followed = entry.held().and_then(|held| self.following(&held, records));
        followed.map_or(0, |newer| {
            self.keep_learned(owner, &entry, newer, accepted)
                .set()
                .records()
                .count()
        })
    }

    /// Returns the copy with the newest of the records, if they follow it without a gap. It is as
    /// current as the copy was.
    fn following(&self, held: &Snapshot, records: &[&Record]) -> Option<Snapshot> {
        let newer = records
            .iter()
            .filter(|record| record.version > held.version());
        let newer: Vec<Record> = newer.map(|record| (*record).clone()).collect();
        if newer.first()?.envelope.prev != held.version() {
            return None;
        }

        let keyring = &self.0.keyring;
        let set = held.set().apply(keyring, newer).ok()?;
        held.next(keyring, set, held.checked_at()).ok()
    }
}
