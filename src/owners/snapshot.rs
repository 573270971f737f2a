//! A snapshot: an owner's current records, checked to be complete, and opened when they are needed.

use super::OwnersError;
use super::known::{Asked, Known, LatestKnown};
use super::opened::{OpenedItem, OpenedItems};
use crate::domain::{Codes, Data, Hidden, ItemId, KindName, Otp, Version};
use crate::seal::{
    Body, Broken, ItemKey, Keyring, OwnerKey, OwnerKeys, OwnerSet, Record, RecordName, SealError,
};
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::Mutex;

/// The approximate memory of a sealed record in a snapshot, in addition to its bytes.
pub const SNAPSHOT_RECORD_BYTES: u64 = 320;

/// One owner's records as of one version. Never changes: a newer state is a new snapshot.
pub struct Snapshot {
    set: OwnerSet,
    keys: Option<OwnerKeys>,
    /// When the truth last confirmed this copy; `None` if it has not.
    checked_at: Option<Instant>,
    /// The opened items, from their first use on. All snapshots of one version share them, because
    /// opening is most of the work of a read.
    items: Arc<OpenedItems>,
    /// The bytes of the records, and how many there are.
    size: (u64, u64),
    /// The bytes of the newest record.
    newest_bytes: usize,
    /// Up to where the bucket is known to have this version of the owner, and nothing newer.
    known: LatestKnown,
}

impl Snapshot {
    /// Creates a snapshot of the set.
    ///
    /// # Errors
    ///
    /// [`OwnersError::Broken`] if part of the newest write is missing; [`OwnersError::Seal`] if the
    /// owner's key cannot be unwrapped or the floor's seal is wrong.
    pub(crate) fn new(
        keyring: &Keyring,
        set: OwnerSet,
        checked_at: Option<Instant>,
    ) -> Result<Self, OwnersError> {
        let keys = match set.get(&RecordName::Key) {
            None => None,
            Some(record) => Some(OwnerKeys::unwrap_record(keyring, set.owner(), record)?),
        };

        Self::with_keys(set, keys, checked_at)
    }

    /// Creates a snapshot of all records of an owner.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new); and [`OwnersError::Broken`] if the records are not complete.
    pub(crate) fn of_records(
        keyring: &Keyring,
        owner: OwnerKey,
        records: impl IntoIterator<Item = Record>,
        checked_at: Option<Instant>,
    ) -> Result<Self, OwnersError> {
        let set = OwnerSet::empty(owner)
            .apply(keyring, records)
            .map_err(|broken| OwnersError::Broken { owner, broken })?;

        Self::new(keyring, set, checked_at)
    }

    /// Verifies the floor's seal before trusting it; items are verified when they are opened.
    fn with_keys(
        set: OwnerSet,
        keys: Option<OwnerKeys>,
        checked_at: Option<Instant>,
    ) -> Result<Self, OwnersError> {
        if !set.newest_write_is_whole(keys.as_ref()) {
            return Err(OwnersError::Broken {
                owner: *set.owner(),
                broken: Broken::Torn,
            });
        }
        if let Some(record) = set.get(&RecordName::Floor) {
            let keys = keys.as_ref().ok_or(SealError::ForeignKey)?;
            keys.check_floor(set.owner(), record)?;
        }

        let sizes = set.records().map(|record| record.value.len() as u64);
        let newest = set.records().max_by_key(|record| record.version);
        Ok(Self {
            newest_bytes: newest.map_or(0, |record| record.value.len()),
            items: Arc::new(OpenedItems::none_of(&set)),
            size: sizes.fold((0, 0), |(bytes, count), one| (bytes + one, count + 1)),
            set,
            keys,
            checked_at,
            known: LatestKnown::default(),
        })
    }

    /// Creates the snapshot that follows this one, with the newer set. The owner's keys never
    /// change, and what was opened and has not changed stays open.
    pub(super) fn next(
        &self,
        keyring: &Keyring,
        set: OwnerSet,
        checked_at: Option<Instant>,
    ) -> Result<Self, OwnersError> {
        match &self.keys {
            Some(keys) if set.version() == self.version() => Ok(Self {
                set,
                keys: Some(keys.clone()),
                checked_at,
                items: self.items.clone(),
                size: self.size,
                newest_bytes: self.newest_bytes,
                known: self.known.clone(),
            }),
            Some(keys) => {
                let items = Arc::new(self.items.following(&set));
                let next = Self::with_keys(set, Some(keys.clone()), checked_at)?;
                Ok(Self { items, ..next })
            }
            None => Self::new(keyring, set, checked_at),
        }
    }

    /// The records.
    pub(crate) fn set(&self) -> &OwnerSet {
        &self.set
    }

    /// The bytes of the newest record; 0 for an owner without records.
    pub(super) fn newest_bytes(&self) -> usize {
        self.newest_bytes
    }

    /// When the truth last confirmed this copy; `None` if it has not.
    pub(super) fn checked_at(&self) -> Option<Instant> {
        self.checked_at
    }

    /// Up to where the bucket is known to have this version of the owner, and nothing newer; `None` while
    /// that is not known.
    pub(super) fn known(&self) -> Option<Known> {
        self.known.get()
    }

    /// Records that the bucket, when it was asked, had this version of the owner, and nothing newer up to
    /// that sequence.
    pub(super) fn note_known(&self, asked: Asked, to: u64) {
        self.known.note(Known { asked, to });
    }

    /// The owner.
    pub fn owner(&self) -> &OwnerKey {
        self.set.owner()
    }

    /// The owner's version; [`Version::NONE`] for an owner without records.
    pub fn version(&self) -> Version {
        self.set.version()
    }

    /// The version up to which the owner's deletions are forgotten; [`Version::NONE`] if none is
    /// forgotten.
    pub fn floor(&self) -> Version {
        self.set.floor()
    }

    /// The owner's keys; `None` before the owner's first write.
    pub fn keys(&self) -> Option<&OwnerKeys> {
        self.keys.as_ref()
    }

    /// Returns the item of that kind and id, living or deleted; `None` if the set has no record of
    /// it.
    pub fn item(&self, kind: &KindName, id: &ItemId) -> Result<Option<Arc<OpenedItem>>, SealError> {
        match &self.keys {
            Some(keys) => self.item_of(keys.item(kind.as_str(), id.as_str())),
            None => Ok(None),
        }
    }

    /// Returns the item with that key, living or deleted; `None` if the set has no record of it.
    pub(super) fn item_of(&self, key: ItemKey) -> Result<Option<Arc<OpenedItem>>, SealError> {
        let Some(record) = self.set.get(&RecordName::Item(key)) else {
            return Ok(None);
        };

        self.items.one(record, |record| self.open(record)).map(Some)
    }

    /// Opens what replies hide of one of this owner's items; `None` if it hides nothing.
    ///
    /// The result is not kept in memory.
    pub fn hidden(&self, item: &OpenedItem) -> Result<Option<Hidden>, SealError> {
        let keys = self.keys.as_ref().ok_or(SealError::ForeignKey)?;
        Body::open_hidden(keys, self.owner(), &item.record)
    }

    /// Opens the secret of an item; `None` if it is no living one-time-password item.
    pub fn otp(&self, item: &OpenedItem) -> Result<Option<Otp>, SealError> {
        let Some(Data::Otp(facts)) = item.living().and_then(|item| item.data.as_ref()) else {
            return Ok(None);
        };

        match self.hidden(item)? {
            Some(Hidden::Otp(hidden)) => Ok(Some(Otp::new(facts.clone(), hidden))),
            _ => Err(SealError::Malformed),
        }
    }

    /// Opens the codes of an item; `None` if it is no living list of codes.
    pub fn codes(&self, item: &OpenedItem) -> Result<Option<Codes>, SealError> {
        let Some(Data::Codes(_)) = item.living().and_then(|item| item.data.as_ref()) else {
            return Ok(None);
        };

        match self.hidden(item)? {
            Some(Hidden::Codes(codes)) => Ok(Some(codes)),
            _ => Err(SealError::Malformed),
        }
    }

    /// Returns all items, deletions included, in no particular order.
    ///
    /// Opens them, if that was not done before. A request that uses them opens a set that may be
    /// heavy with [`Owners::open`](super::Owners::open) first.
    pub fn items(&self) -> Result<impl Iterator<Item = &Arc<OpenedItem>>, SealError> {
        let items = self.items.all(&self.set, |record| self.open(record))?;
        Ok(items.iter())
    }

    /// Whether opening the items would hold up a thread that answers requests.
    pub(super) fn is_heavy_to_open(&self) -> bool {
        self.items.are_heavy()
    }

    /// The lock of the one request that opens the items of a heavy set.
    pub(super) fn opening(&self) -> Arc<Mutex<()>> {
        self.items.opening()
    }

    /// Counts the items: those that live, and all item keys, those of kept deletions included.
    pub fn counts(&self) -> (usize, usize) {
        let items = self
            .set
            .records()
            .filter(|record| matches!(record.name, RecordName::Item(_)));
        items.fold((0, 0), |(live, all), record| {
            (live + usize::from(record.is_live_item()), all + 1)
        })
    }

    /// The bytes of the sealed records of all items, deletions included, with what batches keep
    /// in them.
    pub fn item_bytes(&self) -> usize {
        let items = self
            .set
            .records()
            .filter(|record| matches!(record.name, RecordName::Item(_)));
        items.map(|record| record.value.len()).sum()
    }

    /// The bytes of what batches keep with the items: marks and refusals.
    ///
    /// # Errors
    /// An item cannot be opened.
    pub fn batch_bytes(&self) -> Result<usize, SealError> {
        let items = self.items()?;
        Ok(items.map(|item| item.body.part.stored_bytes()).sum())
    }

    /// Returns whether the truth's `records`, from this snapshot's version on, have this snapshot's
    /// newest record or a newer one. A newer one is checked when it is applied.
    pub(super) fn is_confirmed_by(&self, records: &[Record]) -> bool {
        let is_ours = |record: &Record| {
            self.set
                .get(&record.name)
                .is_some_and(|ours| ours.value == record.value)
        };

        let version = self.version();
        version.is_none()
            || records
                .iter()
                .any(|r| r.version > version || r.version == version && is_ours(r))
    }

    /// The approximate memory of the snapshot, in bytes.
    pub(super) fn weight(&self) -> u64 {
        let (bytes, records) = self.size;
        bytes + (records + 1) * SNAPSHOT_RECORD_BYTES + self.items.weight()
    }

    /// Opens one of this owner's item records.
    pub(super) fn open(&self, record: &Record) -> Result<OpenedItem, SealError> {
        let (Some(keys), RecordName::Item(key)) = (&self.keys, record.name) else {
            return Err(SealError::Malformed);
        };

        Ok(OpenedItem {
            key,
            version: record.version,
            body: Body::open(keys, self.set.owner(), record)?,
            record: record.clone(),
        })
    }

    /// Opens the items among these records of this owner.
    pub(super) fn open_items(&self, records: &[Record]) -> Result<Vec<Arc<OpenedItem>>, SealError> {
        records
            .iter()
            .filter(|record| matches!(record.name, RecordName::Item(_)))
            .map(|record| self.open(record).map(Arc::new))
            .collect()
    }
}
