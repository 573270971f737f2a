//! An item as it was: its kept versions, from this shard's Postgres and from the truth.

use super::{OpenedItem, Owners, OwnersError, Snapshot};
use crate::domain::{ItemId, Kind, Version};
use crate::seal::{OwnerKey, Record, RecordName};
use std::collections::BTreeMap;
use tracing::debug;

/// An item's kept versions, or some of them.
pub struct KeptVersions {
    /// Newest first.
    pub versions: Vec<OpenedItem>,
    /// Whether there are older ones.
    pub more: bool,
    /// Whether the first version is still kept.
    pub complete: bool,
}

impl Owners {
    /// The item's versions before `before`, at most `most` of the newest; `None` if it never was, or is forgotten.
    pub async fn kept_versions(
        &self,
        snapshot: &Snapshot,
        kind: Kind,
        id: &ItemId,
        before: Version,
        most: usize,
    ) -> Result<Option<KeptVersions>, OwnersError> {
        let Some(item) = snapshot
            .keys()
            .map(|keys| keys.item(kind.as_str(), id.as_str()))
        else {
            return Ok(None);
        };
        let name = RecordName::Item(item);
        let Some(current) = snapshot.set().get(&name) else {
            return Ok(None);
        };
        // Each has what the other may no longer have; either is enough where the other is away.
        let in_truth = self
            .0
            .bucket
            .history(snapshot.owner(), &name, Version::NONE, current.version)
            .await;
        let here = self
            .0
            .store
            .item_versions(snapshot.owner(), &item, before, most + 1)
            .await;
        let (in_truth, here) = match (in_truth, here) {
            (Err(error), Err(_)) => return Err(error.into()),
            (in_truth, here) => (in_truth.unwrap_or_default(), here.unwrap_or_default()),
        };
        let is_first = |record: &Record| record.envelope.item_prev.is_none();
        let complete = is_first(current) || in_truth.first().is_some_and(is_first) || {
            let first_here = self.0.store.first_version(snapshot.owner(), &item).await;
            first_here
                .ok()
                .flatten()
                .is_some_and(|record| is_first(&record))
        };
        let all = in_truth.into_iter().chain(here).chain([current.clone()]);
        let all: BTreeMap<Version, Record> = all.map(|record| (record.version, record)).collect();
        // A version above the snapshot's is of a later state than the rest of the answer.
        let known = all
            .into_values()
            .rev()
            .filter(|record| record.version < before && record.version <= snapshot.version());
        let known: Vec<Record> = known.collect();
        let versions = known
            .iter()
            .take(most)
            .map(|record| snapshot.open(record))
            .collect::<Result<_, _>>()?;
        Ok(Some(KeptVersions {
            versions,
            more: known.len() > most,
            complete,
        }))
    }

    /// The item as it was at that version; `None` if it had no such version, or that is no longer kept.
    pub async fn item_at(
        &self,
        owner: &OwnerKey,
        kind: Kind,
        id: &ItemId,
        version: Version,
    ) -> Result<Option<OpenedItem>, OwnersError> {
        let entry = self.entry(owner);
        let mut snapshot = self.load(owner, &entry).await?;
        if version > snapshot.version() {
            snapshot = self.refresh(owner, &entry, &snapshot, true).await?;
        }
        // Nobody is asked for what never was.
        let found = if version > snapshot.version() {
            None
        } else {
            self.record_at(&snapshot, version).await?
        };
        let Some(record) = found else {
            debug!(%owner, "a version that is asked for is not kept");
            return Ok(None);
        };
        let wanted = snapshot
            .keys()
            .map(|keys| RecordName::Item(keys.item(kind.as_str(), id.as_str())));
        let is_it = wanted == Some(record.name);
        if is_it {
            Ok(Some(snapshot.open(&record)?))
        } else {
            Ok(None)
        }
    }
}
