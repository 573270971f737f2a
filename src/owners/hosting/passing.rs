//! What the worker that projects learns from the records that pass by. Without it, a write for an owner
//! for whom another worker wrote last would lose its first race.

use crate::owners::{Owners, Snapshot};
use crate::seal::{OwnerKey, Record};
use std::collections::HashMap;
use tokio::task::consume_budget;

impl Owners {
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
