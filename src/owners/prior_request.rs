//! Recognising a repeated write by its request id, and finding again what the first one wrote and
//! refused.

use super::draft::{Intent, RecalledRefusal};
use super::{OpenedItem, Owners, OwnersError, Snapshot};
use crate::domain::Version;
use crate::requester::CallError;
use crate::seal::{ItemKey, Record, RecordName, RequestHash, SealError, StoredRefusal};
use crate::shard::{PriorRequest, Projected};
use crate::truth::TruthError;
use futures::future::join_all;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tracing::{debug, warn};

/// The most items whose kept records are fetched at the same time.
const CONCURRENT_LOOKUPS_MAX: usize = 16;
/// How often an earlier request is looked for while the projection catches up.
const SEARCHES_MAX: usize = 3;
/// How long the projection may take to catch up.
const PROJECTION_TIMEOUT: Duration = Duration::from_secs(2);

/// What the kept records of some items show of an earlier request.
enum KeptSearch {
    /// It made this record.
    Found(Box<Record>),
    /// It made none of those that are kept.
    NotThere {
        /// The newest version of one of the items that was searched for and is no longer kept; none
        /// if all are kept.
        missing_to: Version,
    },
}

impl Owners {
    /// Finds the record that an earlier write with this request id made.
    ///
    /// Searches the owner's current records, then this shard's Postgres. If Postgres does not know
    /// every version of the owner's items, searches the kept records of the items that the request
    /// is about too.
    ///
    /// `not_done_to` is a version of the owner up to which Postgres and the bucket together show that
    /// the request was not done; `None` before Postgres has answered. After a lost race, only what was
    /// written since is searched.
    pub(super) async fn find_prior_request(
        &self,
        snapshot: &Snapshot,
        request_id: &RequestHash,
        intent: &Intent,
        not_done_to: &mut Option<Version>,
    ) -> Result<Option<Record>, OwnersError> {
        let current = snapshot
            .set()
            .records()
            .find(|record| is_made_by(record, request_id));
        if let Some(found) = current {
            return Ok(Some(found.clone()));
        }
        if snapshot.keys().is_none() {
            return Ok(None);
        }

        for _ in 0..SEARCHES_MAX {
            if not_done_to.is_none() {
                let owner = snapshot.owner();
                let bucket = self.bucket_name();
                match self
                    .0
                    .store
                    .earlier_request(owner, request_id, bucket)
                    .await
                {
                    PriorRequest::Found(record) => return Ok(Some(*record)),
                    PriorRequest::NotUpTo(sequence) => *not_done_to = Version::new(sequence),
                    PriorRequest::Unknown => {
                        debug!("Postgres does not tell whether the request was done before");
                    }
                }
            }

            let after = not_done_to.unwrap_or_default();
            let search = self
                .find_in_kept_records(snapshot, request_id, intent, after)
                .await?;
            let missing_to = match search {
                KeptSearch::Found(record) => return Ok(Some(*record)),
                KeptSearch::NotThere { missing_to } => missing_to,
            };
            if not_done_to.is_none() || missing_to.is_none() {
                *not_done_to = not_done_to.map(|to| to.max(snapshot.version()));
                return Ok(None);
            }
            // The bucket no longer keeps all records of an item since then. The projection will have
            // stored them.
            *not_done_to = None;
            let projected = self.0.cursor.wait_for(missing_to.get(), PROJECTION_TIMEOUT);
            if projected.await == Projected::Pending {
                break;
            }
        }

        // The request may have been done: doing it now would do it twice.
        warn!("the projection is behind: cannot tell whether a request was done before");
        Err(TruthError::from(CallError::TimedOut).into())
    }

    /// Finds the record that a write with this request id made after the version `after`, among the
    /// records that the bucket keeps of the items that the request is about.
    async fn find_in_kept_records(
        &self,
        snapshot: &Snapshot,
        request_id: &RequestHash,
        intent: &Intent,
        after: Version,
    ) -> Result<KeptSearch, OwnersError> {
        // Only an item that was written twice since then has records that the snapshot lacks.
        let has_superseded = |record: &&Record| record.envelope.item_prev > after;
        let items = self.items_of(snapshot, request_id, intent)?;
        let items: Vec<&Record> = items.into_iter().filter(has_superseded).collect();

        let mut missing_to = Version::NONE;
        for chunk in items.chunks(CONCURRENT_LOOKUPS_MAX) {
            let mut lookups = Vec::with_capacity(chunk.len());
            for Record { name, version, .. } in chunk {
                lookups.push(
                    self.0
                        .bucket
                        .history(snapshot.owner(), name, after, *version),
                );
            }

            for kept in join_all(lookups).await {
                let kept = kept?;
                if let Some(found) = kept.iter().find(|record| is_made_by(record, request_id)) {
                    return Ok(KeptSearch::Found(Box::new(found.clone())));
                }
                // The bucket keeps no more of the item between `after` and these.
                let oldest = kept.first().map(|record| record.envelope.item_prev);
                missing_to =
                    missing_to.max(oldest.filter(|oldest| *oldest > after).unwrap_or_default());
            }
        }

        Ok(KeptSearch::NotThere { missing_to })
    }

    /// Returns the current records of the items that the request is about: those that it names, and
    /// those that it created; all if it may write any.
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
        if intent.any_item {
            items.extend(snapshot.items()?.map(|item| item.key));
        }
        if intent.items.iter().any(|(_, id)| id.is_none()) {
            let created = snapshot
                .items()?
                .filter(|item| item.body.born_request == Some(*request_id));
            items.extend(created.map(|item| item.key));
        }

        Ok(items
            .into_iter()
            .filter_map(|key| snapshot.set().get(&RecordName::Item(key)))
            .collect())
    }

    /// Returns all items of the write to which this record belongs, and the refusals that are
    /// stored with it; `None` if a part of the write is no longer kept.
    pub(super) async fn complete_write(
        &self,
        snapshot: &Snapshot,
        record: &Record,
    ) -> Result<Option<(Vec<Arc<OpenedItem>>, BTreeMap<u16, StoredRefusal>)>, OwnersError> {
        let found = snapshot.open(record)?;
        let part = &found.body.part;
        if part.of == 1 {
            let refused = part.refused.clone();
            return Ok(Some((vec![Arc::new(found)], refused)));
        }

        let version = |number| Version::new(number).ok_or(SealError::Malformed);
        let last = record.version.get() + u64::from(part.followed_by);
        let first = (last + 1).saturating_sub(part.of.into());
        let mut kept = self
            .records_between(snapshot, version(first)?, version(last)?)
            .await;

        let mut items = Vec::with_capacity(usize::from(part.of));
        for number in first..=last {
            let version = version(number)?;
            let record = match kept.remove(&version) {
                Some(record) => Some(record),
                None => self.0.bucket.record_at(snapshot.owner(), version).await?,
            };
            match record {
                Some(record) => items.push(Arc::new(snapshot.open(&record)?)),
                None => return Ok(None),
            }
        }

        let refused = items
            .last()
            .map(|item| item.body.part.refused.clone())
            .unwrap_or_default();
        Ok(Some((items, refused)))
    }

    /// Adds to the stored refusals of a write the items that they show. A stored refusal has only
    /// the version of its item; the item is read from there.
    pub(super) async fn recall_refusals(
        &self,
        snapshot: &Snapshot,
        refused: BTreeMap<u16, StoredRefusal>,
    ) -> Result<BTreeMap<u16, RecalledRefusal>, OwnersError> {
        let mut recalled = BTreeMap::new();
        for (at, StoredRefusal { json, shown }) in refused {
            let record = if shown.is_none() {
                None
            } else {
                self.record_at(snapshot, shown).await?
            };
            let shown = record.map(|record| snapshot.open(&record)).transpose()?;
            recalled.insert(at, RecalledRefusal { json, shown });
        }
        Ok(recalled)
    }

    /// Returns the owner's item records of these versions, as far as they are current or in this
    /// shard's Postgres.
    async fn records_between(
        &self,
        snapshot: &Snapshot,
        first: Version,
        last: Version,
    ) -> BTreeMap<Version, Record> {
        let in_postgres = self
            .0
            .store
            .records_between(snapshot.owner(), first, last)
            .await
            .unwrap_or_else(|error| {
                debug!(%error, "cannot read records from Postgres: asking the truth");
                Vec::new()
            });

        let current = snapshot
            .set()
            .records()
            .filter(|record| (first..=last).contains(&record.version));
        in_postgres
            .into_iter()
            .chain(current.cloned())
            .map(|record| (record.version, record))
            .collect()
    }

    /// Finds the owner's record of that version among the current records, in this shard's
    /// Postgres, or in the truth. Returns `None` if it is no longer kept.
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
                debug!(%error, "cannot read a record from Postgres: asking the truth")
            }
        }

        Ok(self.0.bucket.record_at(snapshot.owner(), version).await?)
    }
}

/// Returns whether the record is an item's, and a write with this request id made it.
///
/// A record that this version does not know may name the request too, and may still be there after
/// the items were changed again. It cannot be opened, so it does not lead to the write.
fn is_made_by(record: &Record, request_id: &RequestHash) -> bool {
    let is_item = matches!(record.name, RecordName::Item(_));

    is_item
        && record
            .envelope
            .request
            .is_some_and(|(id, _)| id == *request_id)
}
