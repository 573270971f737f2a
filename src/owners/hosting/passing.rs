//! What a worker learns from the bucket's new records, which pass by: the worker that projects stores
//! them, and the others read them for this. Without it, a write for an owner for whom another worker
//! wrote last would lose its first race. Nothing relies on it.

use crate::owners::{Owners, Snapshot};
use crate::seal::{OwnerKey, Record};
use crate::truth::{Entry, TruthError};
use std::collections::HashMap;
use std::time::Duration;
use tokio::task::consume_budget;
use tokio::time::sleep;
use tracing::debug;

/// The most records read at once.
const BATCH_RECORDS_MAX: usize = 500;
/// The pause after the bucket could not be followed.
const RETRY_PAUSE: Duration = Duration::from_secs(2);

impl Owners {
    /// Follows the bucket's new records while this worker does not project, if the settings say so. Never
    /// returns.
    pub async fn follow_newest(&self) {
        if !self.0.settings.read.follow {
            return std::future::pending().await;
        }

        let poll_interval = Duration::from_millis(self.0.settings.projection.poll_ms);
        loop {
            sleep(poll_interval).await;
            // What is older is in Postgres.
            let from = self.0.cursor.sequence();
            if self.projects() || from == 0 {
                continue;
            }

            if let Err(error) = self.learn_from(from).await {
                debug!(%error, "cannot follow the bucket yet, will retry");
                sleep(RETRY_PAUSE).await;
            }
        }
    }

    /// Learns the records after that sequence, until this worker projects.
    async fn learn_from(&self, sequence: u64) -> Result<(), TruthError> {
        let mut follower = self.0.bucket.follow(sequence).await?;
        loop {
            let batch = follower.next_batch(BATCH_RECORDS_MAX).await?;
            if self.projects() {
                return Ok(());
            }

            let records = batch.into_iter().filter_map(|Entry { record, .. }| record);
            self.learn(&records.collect::<Vec<_>>()).await;
        }
    }

    /// Adds those of the bucket's newest records to the sets in memory that follow what is there. The
    /// order of the records is that of their versions.
    pub(super) async fn learn(&self, records: &[(OwnerKey, Record)]) {
        if self.0.continuity.is_lost() {
            return;
        }

        let mut by_owner: HashMap<&OwnerKey, Vec<&Record>> = HashMap::new();
        for (owner, record) in records {
            by_owner.entry(owner).or_default().push(record);
        }
        for (owner, records) in by_owner {
            self.learn_of(owner, &records);
            consume_budget().await;
        }
    }

    fn learn_of(&self, owner: &OwnerKey, records: &[&Record]) {
        let Some(entry) = self.0.cache.peek(owner).map(|weighed| weighed.entry) else {
            return;
        };
        // A write that is under way knows what it has written.
        let Ok(_write_lock) = entry.writing.try_lock() else {
            return;
        };

        if let Some(held) = entry.held()
            && let Some(newer) = self.following(&held, records)
        {
            self.keep(owner, &entry, newer);
        }
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
