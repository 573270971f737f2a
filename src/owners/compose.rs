//! The records of a write: composed on the owner's current state, sealed, and adopted once the
//! bucket has acknowledged them.

use super::cache::OwnerEntry;
use super::draft::{Draft, Intent};
use super::known::Asked;
use super::{OpenedItem, Owners, OwnersError, Snapshot};
use crate::domain::{Timestamp, Version};
use crate::seal::{
    Body, Content, Format, Keyring, Links, NewContent, NewHidden, OwnerKeys, Part, Record,
    RecordName, RequestHash, SealError, SetCheck, Tail, UserId,
};
use crate::truth::{AppendError, NewRecord};
use std::collections::BTreeMap;
use std::sync::Arc;
use uuid::Uuid;

/// A sealed write. It may be sent more than once: its operation id shows that it is the same write.
pub(super) struct Sealed {
    /// The service's own id of the write.
    pub operation: Uuid,
    /// The records: the owner's key if this is the owner's first write, then the items. The items
    /// come last, whatever else a write has.
    pub records: Vec<NewRecord>,
}

impl Sealed {
    /// The size of the records, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.records.iter().map(|record| record.value.len()).sum()
    }

    /// Returns the records as the truth stores them if the last one has the version `last`. The
    /// versions of one write are consecutive.
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
    /// Seals the records of the draft. An owner's first write also has the owner's keys, in the
    /// same atomic batch.
    pub(super) fn seal_draft(
        &self,
        user: &UserId,
        snapshot: &Snapshot,
        intent: &Intent,
        draft: Draft,
    ) -> Result<Sealed, OwnersError> {
        let keyring = &self.0.keyring;
        let mut records = Vec::with_capacity(draft.contents.len() + 1);
        let format = self.format_for(snapshot);
        let base = Base {
            snapshot,
            operation: Uuid::now_v7(),
            format,
            before: snapshot.set().check(keyring, format),
        };

        let fresh;
        let keys = match snapshot.keys() {
            Some(keys) => keys,
            None => {
                fresh = keyring.new_owner_keys();
                records.push(base.key_record(keyring, &fresh, user));
                &fresh
            }
        };

        let request = intent
            .request
            .as_ref()
            .map(|(id, body)| keys.request_hashes(id, body));
        #[cfg(feature = "next")]
        records.extend(base.hint_record(keys, request));

        let Draft { contents, refused } = draft;
        let of = u16::try_from(contents.len()).map_err(|_| SealError::Malformed)?;
        let others = u16::try_from(records.len()).map_err(|_| SealError::Malformed)?;
        for (content, followed_by) in contents.into_iter().zip((0..of).rev()) {
            // Without a request id nobody can repeat the request, so its refusals are not needed.
            let keeps_refusals = followed_by == 0 && request.is_some();
            let refused = if keeps_refusals {
                refused.clone()
            } else {
                BTreeMap::new()
            };
            let part = Part {
                records: of.checked_add(others),
                of,
                followed_by,
                refused,
            };
            records.push(self.seal_item(&base, keys, request, part, content)?);
        }

        Ok(Sealed {
            operation: base.operation,
            records,
        })
    }

    /// The format of the next write on this snapshot: the one that the bucket permits. If the owner
    /// has a record of the newer format, another worker has seen the permission already.
    pub fn format_for(&self, snapshot: &Snapshot) -> Format {
        let newest = snapshot.set().newest_format();
        self.0.bucket.format().max(newest)
    }

    /// Seals the record of one item.
    fn seal_item(
        &self,
        base: &Base<'_>,
        keys: &OwnerKeys,
        request: Option<(RequestHash, RequestHash)>,
        part: Part,
        new: NewContent,
    ) -> Result<NewRecord, OwnersError> {
        let snapshot = base.snapshot;
        let NewContent { content, hidden } = new;
        let key = keys.item(content.kind().as_str(), content.id().as_str());
        let name = RecordName::Item(key);
        let opened = snapshot.item_of(key)?;
        let current = opened.as_ref().map(|item| &item.record);
        let deleted = matches!(content, Content::Deleted { .. });

        let current_body = opened.as_ref().map(|item| &item.body);
        let body = self.next_body(base.operation, current_body, part, content);
        let kept = match (&hidden, current) {
            (NewHidden::Kept, Some(record)) => Body::open_tail(keys, snapshot.owner(), record)?,
            _ => None,
        };
        let links = base.links(current, request, deleted);
        let plain = body.encode(links.format, &tail(&hidden, kept.as_deref()))?;
        let value = keys.seal(snapshot.owner(), name, &links, plain);
        Ok(NewRecord {
            name,
            value: value.into(),
        })
    }

    /// The body of an item's next record.
    pub(super) fn next_body(
        &self,
        operation: Uuid,
        current: Option<&Body>,
        part: Part,
        content: Content,
    ) -> Body {
        // A change or a deletion keeps the beginning of the item's life. An item that was deleted,
        // or never was, begins with this record.
        let life = current.filter(|body| matches!(body.content, Content::Living(_)));

        Body {
            operation,
            shard: self.0.shard.clone(),
            born: life.map(|body| body.born).unwrap_or_default(),
            born_request: life.and_then(|body| body.born_request),
            part,
            content,
        }
    }

    /// Sends the write, which lands only if the owner is still at the snapshot's version.
    pub(super) async fn send(
        &self,
        snapshot: &Snapshot,
        sealed: &Sealed,
        deadline: tokio::time::Instant,
    ) -> Result<Version, AppendError> {
        let owner = snapshot.owner();
        let version = snapshot.version();

        self.0
            .bucket
            .append(owner, version, &sealed.records, deadline)
            .await
    }

    /// Keeps the acknowledged write in memory, so that the next request need not fetch it. Returns
    /// the written items. What is kept is known to be the newest of the moment when it was sent:
    /// another write may have followed before its acknowledgement came.
    pub(super) fn adopt(
        &self,
        entry: &Arc<OwnerEntry>,
        snapshot: &Snapshot,
        sealed: &Sealed,
        last: Version,
        sent: Asked,
    ) -> Result<Vec<Arc<OpenedItem>>, OwnersError> {
        let records = sealed.stored(last)?;
        let owner = *snapshot.owner();
        let set = snapshot
            .set()
            .apply(&self.0.keyring, records.iter().cloned())
            .map_err(|broken| OwnersError::Broken { owner, broken })?;
        let next = snapshot.next(&self.0.keyring, set, Some(sent.at))?;
        next.note_known(sent, last.get());

        let items = records.iter().filter_map(|record| match record.name {
            RecordName::Item(key) => next.item_of(key).transpose(),
            _ => None,
        });
        let items = items.collect::<Result<_, _>>()?;
        self.keep(&owner, entry, next);
        Ok(items)
    }
}

/// What follows the head of an item's next record. `kept` is what its current one has there.
pub(super) fn tail<'t>(hidden: &'t NewHidden, kept: Option<&'t Vec<u8>>) -> Tail<'t> {
    match (hidden, kept) {
        (NewHidden::New(hidden), _) => Tail::Hidden(hidden),
        (NewHidden::Kept, Some(bytes)) => Tail::Kept(bytes),
        (NewHidden::Kept | NewHidden::None, _) => Tail::Shown,
    }
}

/// What the records of one write share.
struct Base<'s> {
    snapshot: &'s Snapshot,
    operation: Uuid,
    format: Format,
    before: SetCheck,
}

impl Base<'_> {
    /// Returns the record of an owner's new keys.
    fn key_record(&self, keyring: &Keyring, keys: &OwnerKeys, user: &UserId) -> NewRecord {
        let links = self.links(None, None, false);
        let value = keys.wrap(keyring, self.snapshot.owner(), user, &links);

        NewRecord {
            name: RecordName::Key,
            value: value.into(),
        }
    }

    /// Returns the record that the made-up next release adds to each write, if this process plays
    /// it. Only format 2 has records of other names.
    #[cfg(feature = "next")]
    fn hint_record(
        &self,
        keys: &OwnerKeys,
        request: Option<(RequestHash, RequestHash)>,
    ) -> Option<NewRecord> {
        use crate::domain::next;

        if !next::is_active() || self.format == Format::One {
            return None;
        }

        let name = RecordName::parse(next::RECORD_NAME)?;
        let current = self.snapshot.set().get(&name);
        let links = self.links(current, request, false);
        let value = keys.seal_hint(self.snapshot.owner(), name, &links);
        Some(NewRecord {
            name,
            value: value.into(),
        })
    }

    /// What a new record has of the state that it is based on.
    fn links(
        &self,
        current: Option<&Record>,
        request: Option<(RequestHash, RequestHash)>,
        deleted: bool,
    ) -> Links {
        Links {
            format: self.format,
            prev: self.snapshot.version(),
            item_prev: current.map(|record| record.version).unwrap_or_default(),
            before: self.before,
            request,
            deleted,
        }
    }
}
