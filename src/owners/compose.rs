//! The records of a write: composed upon a known state, and sealed.

use super::write::{Draft, Intent};
use super::{Owners, OwnersFault, Snapshot};
use crate::domain::{ItemId, Kind};
use crate::seal::{Body, Content, Links, OwnerKeys, Record, RecordName, RequestMark, UserId};
use crate::truth::NewRecord;
use uuid::Uuid;

/// A write that can be sent, and sent again: it is the same one, for it has one operation id.
pub(super) struct Sealed {
    /// The service's own name of the write.
    pub operation: Uuid,
    /// The name of the item's record.
    pub item: RecordName,
    /// The records, the item's last.
    pub records: Vec<NewRecord>,
}

impl Owners {
    /// The records of the change, sealed: an owner's first write brings their keys along in the same atomic batch.
    pub(super) fn sealed(
        &self,
        user: &UserId,
        snapshot: &Snapshot,
        intent: &Intent,
        draft: Draft,
    ) -> Result<Sealed, OwnersFault> {
        let (owner, keyring) = (snapshot.owner(), &self.0.keyring);
        let mut records = Vec::with_capacity(2);
        let fresh;
        let keys = match snapshot.keys() {
            Some(keys) => keys,
            None => {
                fresh = keyring.new_owner_keys();
                let links = links(snapshot, None, None, false);
                let value = fresh.wrap(keyring, owner, user, &links).into();
                records.push(NewRecord { name: RecordName::Key, value });
                &fresh
            }
        };
        let request = intent.request.as_ref().map(|(id, body)| keys.request_marks(id, body));
        let body = self.body(snapshot, keys, draft)?;
        let (kind, id) = subject_of(&body.content);
        let item = RecordName::Item(keys.item(kind.as_str(), id.as_str()));
        let deleted = matches!(body.content, Content::Deleted { .. });
        let links = links(snapshot, snapshot.set().get(&item), request, deleted);
        records.push(NewRecord { name: item, value: keys.seal(owner, item, &links, body.encode()).into() });
        Ok(Sealed { operation: body.operation, item, records })
    }

    fn body(&self, snapshot: &Snapshot, keys: &OwnerKeys, draft: Draft) -> Result<Body, OwnersFault> {
        let (kind, id) = subject_of(&draft.content);
        let name = RecordName::Item(keys.item(kind.as_str(), id.as_str()));
        let current = match snapshot.set().get(&name) {
            Some(record) => Some(Body::open(keys, snapshot.owner(), record)?),
            None => None,
        };
        // A life that goes on, or ends, keeps its beginning; a new one begins with its own record.
        let life = current.filter(|body| matches!(body.content, Content::Living(_)));
        Ok(Body {
            operation: Uuid::now_v7(),
            shard: self.0.shard.clone(),
            born: life.as_ref().map(|body| body.born).unwrap_or_default(),
            born_request: life.and_then(|body| body.born_request),
            content: draft.content,
        })
    }
}

fn links(
    snapshot: &Snapshot,
    current: Option<&Record>,
    request: Option<(RequestMark, RequestMark)>,
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
