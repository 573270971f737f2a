//! The records of a write: composed upon a known state, and sealed.

use super::cache::OwnerEntry;
use super::draft::{Draft, Intent};
use super::{OpenedItem, Owners, OwnersError, Snapshot};
use crate::domain::{ItemId, Kind, Timestamp, Version};
use crate::seal::{
    Body, Content, Links, OwnerKeys, Part, Record, RecordName, RequestHash, SealError, UserId,
};
use crate::truth::NewRecord;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;
use uuid::Uuid;

/// A write that can be sent, and sent again: it is the same one, for it has one operation id.
pub(super) struct Sealed {
    /// The service's own name of the write.
    pub operation: Uuid,
    /// The records: the owner's key where it is their first write, then the items'.
    pub records: Vec<NewRecord>,
}

impl Sealed {
    /// The records as the truth has them, where the last of them has that version: theirs follow one another.
    pub(super) fn stored(&self, last: Version) -> Result<Vec<Record>, SealError> {
        let first = (last.get() + 1).saturating_sub(self.records.len() as u64);
        let record = |(version, record): (u64, &NewRecord)| {
            let version = Version::new(version).ok_or(SealError::Malformed)?;
            Record::parse(record.name, version, Timestamp::now(), record.value.clone())
        };
        (first..).zip(&self.records).map(record).collect()
    }
}

impl Owners {
    /// The records of the change, sealed: an owner's first write brings their keys along, in the same atomic batch as all
    /// that the change is about.
    pub(super) fn seal_draft(
        &self,
        user: &UserId,
        snapshot: &Snapshot,
        intent: &Intent,
        draft: Draft,
    ) -> Result<Sealed, OwnersError> {
        let (owner, keyring) = (snapshot.owner(), &self.0.keyring);
        let mut records = Vec::with_capacity(draft.contents.len() + 1);
        let fresh;
        let keys = match snapshot.keys() {
            Some(keys) => keys,
            None => {
                fresh = keyring.new_owner_keys();
                let links = links(snapshot, None, None, false);
                let value = fresh.wrap(keyring, owner, user, &links).into();
                records.push(NewRecord {
                    name: RecordName::Key,
                    value,
                });
                &fresh
            }
        };
        let request = intent
            .request
            .as_ref()
            .map(|(id, body)| keys.request_hashes(id, body));
        let operation = Uuid::now_v7();
        let Draft { contents, refused } = draft;
        let mut left = u16::try_from(contents.len()).map_err(|_| SealError::Malformed)?;
        let of = left;
        for content in contents {
            left -= 1;
            let (kind, id) = subject_of(&content);
            let name = RecordName::Item(keys.item(kind.as_str(), id.as_str()));
            let deleted = matches!(content, Content::Deleted { .. });
            // Nobody can ask again for what has no id.
            let keeps = left == 0 && request.is_some();
            let refused = if keeps {
                refused.clone()
            } else {
                BTreeMap::new()
            };
            let part = Part {
                of,
                followed_by: left,
                refused,
            };
            let body = self.body(snapshot, keys, &name, content, (operation, part))?;
            let links = links(snapshot, snapshot.set().get(&name), request, deleted);
            records.push(NewRecord {
                name,
                value: keys.seal(owner, name, &links, body.encode()).into(),
            });
        }
        Ok(Sealed { operation, records })
    }

    /// Takes over what was just written, so that the next request needs not fetch it, and gives the items.
    pub(super) fn adopt(
        &self,
        entry: &Arc<OwnerEntry>,
        snapshot: &Snapshot,
        sealed: &Sealed,
        last: Version,
    ) -> Result<Vec<OpenedItem>, OwnersError> {
        let records = sealed.stored(last)?;
        let owner = *snapshot.owner();
        let set = snapshot
            .set()
            .apply(&self.0.keyring, records.iter().cloned());
        let set = set.map_err(|broken| OwnersError::Broken { owner, broken })?;
        let next = snapshot.next(&self.0.keyring, set, Some(Instant::now()))?;
        let items = next.open_items(&records)?;
        self.keep(&owner, entry, next);
        Ok(items)
    }

    fn body(
        &self,
        snapshot: &Snapshot,
        keys: &OwnerKeys,
        name: &RecordName,
        content: Content,
        (operation, part): (Uuid, Part),
    ) -> Result<Body, OwnersError> {
        let current = match snapshot.set().get(name) {
            Some(record) => Some(Body::open(keys, snapshot.owner(), record)?),
            None => None,
        };
        // A life that goes on, or ends, keeps its beginning; a new one begins with its own record.
        let life = current.filter(|body| matches!(body.content, Content::Living(_)));
        Ok(Body {
            operation,
            shard: self.0.shard.clone(),
            born: life.as_ref().map(|body| body.born).unwrap_or_default(),
            born_request: life.and_then(|body| body.born_request),
            part,
            content,
        })
    }
}

fn links(
    snapshot: &Snapshot,
    current: Option<&Record>,
    request: Option<(RequestHash, RequestHash)>,
    deleted: bool,
) -> Links {
    Links {
        prev: snapshot.version(),
        item_prev: current.map(|record| record.version).unwrap_or_default(),
        before: snapshot.set().digest(),
        request,
        deleted,
    }
}

fn subject_of(content: &Content) -> (Kind, &ItemId) {
    match content {
        Content::Living(item) => (item.kind, &item.id),
        Content::Deleted { kind, id, .. } => (*kind, id),
    }
}
