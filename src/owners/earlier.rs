//! Whether a write was done before, under the same request id.

use super::write::Intent;
use super::{Owners, OwnersFault, Snapshot};
use crate::domain::Version;
use crate::seal::{Record, RecordName, RequestMark};
use crate::shard::Earlier;
use tracing::warn;

/// The most records of one key that a bucket can keep.
pub(super) const HISTORY: usize = 64;

impl Owners {
    /// The record that a write with this request id made: among the current ones, in this shard's Postgres, or, where
    /// this shard does not know every version, among the kept records of the item itself.
    pub(super) async fn earlier(
        &self,
        snapshot: &Snapshot,
        request_id: &RequestMark,
        intent: &Intent,
    ) -> Result<Option<Record>, OwnersFault> {
        let made_by = |record: &&Record| record.envelope.request.is_some_and(|(id, _)| id == *request_id);
        if let Some(current) = snapshot.set().records().find(made_by) {
            return Ok(Some(current.clone()));
        }
        if snapshot.keys().is_none() {
            return Ok(None);
        }
        let known_to = match self.0.store.earlier_request(snapshot.owner(), request_id, self.bucket_name()).await {
            Ok(Earlier::Found(record)) => return Ok(Some(*record)),
            Ok(Earlier::NotUpTo(sequence)) => Version::new(sequence).unwrap_or_default(),
            Ok(Earlier::Unknown) => Version::NONE,
            Err(fault) => {
                warn!(%fault, "Postgres cannot be asked for the request: looked for in the truth");
                Version::NONE
            }
        };
        let Some(item) = self.item_of(snapshot, request_id, intent)? else { return Ok(None) };
        if item.version <= known_to || item.envelope.item_prev.is_none() {
            return Ok(None);
        }
        let kept = self.0.bucket.history(snapshot.owner(), &item.name, known_to, HISTORY).await?;
        Ok(kept.iter().find(made_by).cloned())
    }

    /// The current record of the item that the request is about: the one it names, else the one whose life it began.
    fn item_of(
        &self,
        snapshot: &Snapshot,
        request_id: &RequestMark,
        intent: &Intent,
    ) -> Result<Option<Record>, OwnersFault> {
        let key = match (&intent.id, snapshot.keys()) {
            (Some(id), Some(keys)) => Some(keys.item(intent.kind.as_str(), id.as_str())),
            _ => {
                let begun = snapshot.items()?.iter().find(|item| item.body.born_request == Some(*request_id));
                begun.map(|item| item.key)
            }
        };
        Ok(key.and_then(|key| snapshot.set().get(&RecordName::Item(key)).cloned()))
    }
}
