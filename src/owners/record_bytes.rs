//! The sealed size of an item's record, known before the record is sealed.

use super::compose::tail;
use super::{Owners, OwnersError, Snapshot};
use crate::seal::{Body, NewContent, NewHidden, Part, record_bytes};
use uuid::Uuid;

/// What a write makes of the size of an item's record, in bytes. What a batch keeps in it does not
/// count: marks and refusals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecordBytes {
    /// The bytes of the current record; 0 if there is none.
    pub current: usize,
    /// The bytes of the record that takes its place.
    pub next: usize,
}

impl Owners {
    /// The size of an item's record before and after a write of this content.
    ///
    /// # Errors
    /// The item's current record cannot be opened.
    pub fn record_bytes(
        &self,
        snapshot: &Snapshot,
        new: &NewContent,
    ) -> Result<RecordBytes, OwnersError> {
        let NewContent { content, hidden } = new;
        let current = match snapshot.keys() {
            Some(keys) => {
                let key = keys.item(content.kind().as_str(), content.id().as_str());
                snapshot.item_of(key)?.map(|item| (keys, item))
            }
            None => None,
        };

        let kept = match (hidden, &current) {
            (NewHidden::Kept, Some((keys, item))) => {
                Body::open_tail(keys, snapshot.owner(), &item.record)?
            }
            _ => None,
        };
        let body = current.as_ref().map(|(_, item)| &item.body);
        // An id of the full length: a small one would take fewer bytes.
        let next = self.next_body(Uuid::max(), body, Part::WHOLE, content.clone());
        let tail = tail(hidden, kept.as_deref());
        let next = record_bytes(&next, self.format_for(snapshot), &tail)?;

        let kept_by_batch = body.map_or(0, |body| body.part.stored_bytes());
        let current = current
            .as_ref()
            .map_or(0, |(_, item)| item.record.value.len());
        Ok(RecordBytes {
            current: current.saturating_sub(kept_by_batch),
            next,
        })
    }
}
