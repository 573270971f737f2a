//! Whether a write was done before, under the same request id.

use super::draft::{Intent, RecalledRefusal};
use super::{OpenedItem, Owners, OwnersError, Snapshot};
use crate::domain::Version;
use crate::seal::{ItemKey, Record, RecordName, RequestHash, SealError, StoredRefusal};
use crate::shard::PriorRequest;
use futures::future::join_all;
use std::collections::BTreeMap;
use tracing::{debug, warn};

/// How many items are looked through at a time.
const AT_ONCE: usize = 16;

impl Owners {
    /// The record that a write with this request id made: among the current ones, in this shard's Postgres, or, where
    /// this shard does not know every version, among the kept records of the item itself.
    pub(super) async fn find_prior_request(
        &self,
        snapshot: &Snapshot,
        request_id: &RequestHash,
        intent: &Intent,
    ) -> Result<Option<Record>, OwnersError> {
        let made_by = |record: &&Record| {
            record
                .envelope
                .request
                .is_some_and(|(id, _)| id == *request_id)
        };
        if let Some(current) = snapshot.set().records().find(made_by) {
            return Ok(Some(current.clone()));
        }
        if snapshot.keys().is_none() {
            return Ok(None);
        }
        let known_to = match self
            .0
            .store
            .earlier_request(snapshot.owner(), request_id, self.bucket_name())
            .await
        {
            Ok(PriorRequest::Found(record)) => return Ok(Some(*record)),
            Ok(PriorRequest::NotUpTo(sequence)) => Version::new(sequence).unwrap_or_default(),
            Ok(PriorRequest::Unknown) => Version::NONE,
            Err(error) => {
                warn!(%error, "Postgres cannot be asked for the request: looked for in the truth");
                Version::NONE
            }
        };
        let written_over =
            |record: &&Record| record.version > known_to && !record.envelope.item_prev.is_none();
        let items = self.items_of(snapshot, request_id, intent)?;
        let items: Vec<&Record> = items.into_iter().filter(written_over).collect();
        for some in items.chunks(AT_ONCE) {
            let mut looked_up = Vec::with_capacity(some.len());
            for Record { name, version, .. } in some {
                looked_up.push(
                    self.0
                        .bucket
                        .history(snapshot.owner(), name, known_to, *version),
                );
            }
            for kept in join_all(looked_up).await {
                if let Some(found) = kept?.iter().find(made_by) {
                    return Ok(Some(found.clone()));
                }
            }
        }
        Ok(None)
    }

    /// The current records of the items that the request is about: those it names, and those whose life it began.
    fn items_of<'s>(
        &self,
        snapshot: &'s Snapshot,
        request_id: &RequestHash,
        intent: &Intent,
    ) -> Result<Vec<&'s Record>, OwnersError> {
        let Some(keys) = snapshot.keys() else {
            return Ok(Vec::new());
        };
        let named = intent
            .items
            .iter()
            .filter_map(|(kind, id)| Some(keys.item(kind.as_str(), id.as_ref()?.as_str())));
        let mut items: Vec<ItemKey> = named.collect();
        if intent.items.iter().any(|(_, id)| id.is_none()) {
            let begun = snapshot
                .items()?
                .iter()
                .filter(|item| item.body.born_request == Some(*request_id));
            items.extend(begun.map(|item| item.key));
        }
        Ok(items
            .into_iter()
            .filter_map(|key| snapshot.set().get(&RecordName::Item(key)))
            .collect())
    }

    /// All items of the write to which this record belongs, and what it refused; `None` where not all of it is kept.
    pub(super) async fn complete_write(
        &self,
        snapshot: &Snapshot,
        record: &Record,
    ) -> Result<Option<(Vec<OpenedItem>, BTreeMap<u16, StoredRefusal>)>, OwnersError> {
        let found = snapshot.open(record)?;
        let part = &found.body.part;
        if part.of == 1 {
            let refused = part.refused.clone();
            return Ok(Some((vec![found], refused)));
        }
        let last = record.version.get() + u64::from(part.followed_by);
        let mut items = Vec::with_capacity(usize::from(part.of));
        for version in last + 1 - u64::from(part.of)..=last {
            let version = Version::new(version).ok_or(SealError::Malformed)?;
            match self.record_at(snapshot, version).await? {
                Some(record) => items.push(snapshot.open(&record)?),
                None => return Ok(None),
            }
        }
        let refused = items
            .last()
            .map(|item| item.body.part.refused.clone())
            .unwrap_or_default();
        Ok(Some((items, refused)))
    }

    /// What was refused beside a write, with the items that it showed: they are kept under their versions, and not again
    /// with each refusal.
    pub(super) async fn recall_refusals(
        &self,
        snapshot: &Snapshot,
        refused: BTreeMap<u16, StoredRefusal>,
    ) -> Result<BTreeMap<u16, RecalledRefusal>, OwnersError> {
        let mut all = BTreeMap::new();
        for (at, StoredRefusal { json, shown }) in refused {
            let record = if shown.is_none() {
                None
            } else {
                self.record_at(snapshot, shown).await?
            };
            let shown = record.map(|record| snapshot.open(&record)).transpose()?;
            all.insert(at, RecalledRefusal { json, shown });
        }
        Ok(all)
    }

    /// The owner's record of that version: from the current ones, this shard's Postgres, or the truth; `None` where it
    /// is kept nowhere.
    pub(super) async fn record_at(
        &self,
        snapshot: &Snapshot,
        version: Version,
    ) -> Result<Option<Record>, OwnersError> {
        if let Some(current) = snapshot
            .set()
            .records()
            .find(|record| record.version == version)
        {
            return Ok(Some(current.clone()));
        }
        match self.0.store.record_at(snapshot.owner(), version).await {
            Ok(Some(record)) => return Ok(Some(record)),
            Ok(None) => {}
            Err(error) => {
                debug!(%error, "Postgres cannot be asked for a record: looked for in the truth")
            }
        }
        Ok(self.0.bucket.record_at(snapshot.owner(), version).await?)
    }
}
