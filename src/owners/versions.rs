//! The versions of an item that are still kept, from this shard's Postgres and from the truth.

use super::{OpenedItem, Owners, OwnersError, Snapshot};
use crate::domain::{ItemId, KindName, Version};
use crate::seal::{ItemKey, OwnerKey, Record, RecordName};
use std::collections::BTreeMap;
use tracing::debug;

/// Some of an item's kept versions.
pub struct KeptVersions {
    /// The versions, newest first.
    pub versions: Vec<OpenedItem>,
    /// Whether older versions are kept too.
    pub more: bool,
    /// Whether the first version is still kept.
    pub complete: bool,
}

impl Owners {
    /// Returns the item's newest versions below `before`, at most `limit`; `None` if the item never
    /// existed or is forgotten.
    pub async fn kept_versions(
        &self,
        snapshot: &Snapshot,
        kind: &KindName,
        id: &ItemId,
        before: Version,
        limit: usize,
    ) -> Result<Option<KeptVersions>, OwnersError> {
        let Some(item) = snapshot
            .keys()
            .map(|keys| keys.item(kind.as_str(), id.as_str()))
        else {
            return Ok(None);
        };
        let Some(current) = snapshot.set().get(&RecordName::Item(item)) else {
            return Ok(None);
        };

        let (in_truth, in_postgres) = self
            .versions_in_both(snapshot, &item, current, before, limit + 1)
            .await?;

        let is_first = |record: &Record| record.envelope.item_prev.is_none();
        let complete = is_first(current) || in_truth.first().is_some_and(is_first) || {
            let first = self.0.store.first_version(snapshot.owner(), &item).await;
            first.ok().flatten().is_some_and(|record| is_first(&record))
        };

        let all = in_truth
            .into_iter()
            .chain(in_postgres)
            .chain([current.clone()]);
        let all: BTreeMap<Version, Record> = all.map(|record| (record.version, record)).collect();
        // A version above the snapshot's belongs to a later state than the rest of the answer.
        let kept: Vec<Record> = all
            .into_values()
            .rev()
            .filter(|record| record.version < before && record.version <= snapshot.version())
            .collect();
        let versions = kept
            .iter()
            .take(limit)
            .map(|record| snapshot.open(record))
            .collect::<Result<_, _>>()?;

        Ok(Some(KeptVersions {
            versions,
            more: kept.len() > limit,
            complete,
        }))
    }

    /// Reads the item's versions from the truth, and those below `before` from this shard's
    /// Postgres. Each may have what the other no longer has. If one is unavailable, the other is
    /// enough.
    async fn versions_in_both(
        &self,
        snapshot: &Snapshot,
        item: &ItemKey,
        current: &Record,
        before: Version,
        limit: usize,
    ) -> Result<(Vec<Record>, Vec<Record>), OwnersError> {
        let in_truth = self
            .0
            .bucket
            .history(
                snapshot.owner(),
                &current.name,
                Version::NONE,
                current.version,
            )
            .await;
        let in_postgres = self
            .0
            .store
            .item_versions(snapshot.owner(), item, before, limit)
            .await;

        match (in_truth, in_postgres) {
            (Err(error), Err(_)) => Err(error.into()),
            (in_truth, in_postgres) => Ok((
                in_truth.unwrap_or_default(),
                in_postgres.unwrap_or_default(),
            )),
        }
    }

    /// Returns the item as it was at that version; `None` if the item has no such version, or it is
    /// no longer kept.
    pub async fn item_at(
        &self,
        owner: &OwnerKey,
        kind: &KindName,
        id: &ItemId,
        version: Version,
    ) -> Result<Option<OpenedItem>, OwnersError> {
        let entry = self.entry(owner);
        let mut snapshot = self.held(owner).await?;
        if version > snapshot.version() {
            snapshot = self.refresh(owner, &entry, &snapshot, true).await?;
        }

        // A version that the owner has not reached is not looked for.
        let found = if version > snapshot.version() {
            None
        } else {
            self.record_at(&snapshot, version).await?
        };
        let Some(record) = found else {
            debug!(%owner, "the requested version is not kept");
            return Ok(None);
        };

        let wanted = snapshot
            .keys()
            .map(|keys| RecordName::Item(keys.item(kind.as_str(), id.as_str())));
        if wanted == Some(record.name) {
            Ok(Some(snapshot.open(&record)?))
        } else {
            Ok(None)
        }
    }
}
