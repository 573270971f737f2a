//! The scan of the bucket with which a round of maintenance begins: which owners have deletions. It
//! can be interrupted, and goes on where it stood.

use crate::domain::{Timestamp, Version};
use crate::owners::OwnersError;
use crate::seal::{OwnerKey, Record, RecordName};
use crate::truth::Bucket;
use std::collections::HashMap;
use tracing::info;

/// What a scan of the bucket finds of one owner.
#[derive(Default)]
pub(super) struct OwnerStats {
    /// How many records of items the bucket keeps: at least as many as the owner has keys.
    pub records: usize,
    pub floor: Version,
    /// The items that are deleted, and since when.
    deletions: HashMap<RecordName, (Version, Timestamp)>,
}

/// A scan of all records that the bucket keeps, or the part of it that is done.
#[derive(Default)]
pub(super) struct Scan {
    owners: HashMap<OwnerKey, OwnerStats>,
    /// The version of the last record that it has seen; none if it has seen none.
    reached: Version,
}

impl Scan {
    /// Goes on to the end of the bucket. What was seen is kept if this fails, so that the next call
    /// goes on there.
    pub(super) async fn complete(&mut self, bucket: &Bucket) -> Result<(), OwnersError> {
        if !self.reached.is_none() {
            let version = self.reached.get();
            info!(version, "going on with an interrupted scan");
        }

        let mut records = bucket.list_records(self.reached).await?;
        while let Some((owner, record)) = records.next().await? {
            self.reached = record.version;
            self.owners.entry(owner).or_default().note(&record);
        }

        Ok(())
    }

    /// How many owners it has found.
    pub(super) fn owners(&self) -> u64 {
        self.owners.len() as u64
    }

    /// Ends the scan, and returns what it found. The next one begins at the beginning.
    pub(super) fn take(&mut self) -> HashMap<OwnerKey, OwnerStats> {
        std::mem::take(self).owners
    }
}

impl OwnerStats {
    /// Notes a record, which is newer than those before.
    fn note(&mut self, record: &Record) {
        self.records += usize::from(matches!(record.name, RecordName::Item(_)));
        self.floor = self.floor.max(record.floor().unwrap_or_default());

        if record.is_deletion() {
            self.deletions
                .insert(record.name, (record.version, record.at));
        } else {
            self.deletions.remove(&record.name);
        }
    }

    /// Takes the deletions that the owner's floor covers, in the order of their versions.
    pub(super) fn take_covered(&mut self) -> Vec<(RecordName, Version)> {
        let floor = self.floor;
        let mut covered: Vec<_> = self
            .deletions
            .extract_if(|_, (version, _)| *version <= floor)
            .map(|(name, (version, _))| (name, version))
            .collect();
        covered.sort_unstable_by_key(|(_, version)| *version);

        covered
    }

    /// When the oldest of the other deletions was made.
    pub(super) fn oldest_deletion(&self) -> Option<Timestamp> {
        self.deletions
            .values()
            .min_by_key(|(version, _)| *version)
            .map(|(_, at)| *at)
    }
}
