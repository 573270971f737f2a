//! An owner's whole current set, checked to be whole, opened when looked at.

use super::OwnersError;
use crate::domain::{Item, ItemId, Kind, Version};
use crate::seal::{
    Body, Broken, Content, ItemKey, Keyring, OwnerKey, OwnerKeys, OwnerSet, Record, RecordName,
    SealError,
};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

/// One owner's records as of one version. Never changes: a newer state is a new snapshot.
pub struct Snapshot {
    set: OwnerSet,
    keys: Option<OwnerKeys>,
    /// When the truth last confirmed that nothing newer is known; `None` for a copy it has not been asked about.
    checked_at: Option<Instant>,
    /// Opened when first looked at; shared by all snapshots of one version, since opening is most of the work of a read.
    items: Arc<OnceLock<Vec<OpenedItem>>>,
}

/// An item's record, opened.
pub struct OpenedItem {
    /// Under which name it is kept.
    pub key: ItemKey,
    /// The record's version: the item's.
    pub version: Version,
    /// What the record says.
    pub body: Body,
}

impl OpenedItem {
    /// The item, unless it is deleted.
    pub fn living(&self) -> Option<&Item> {
        match &self.body.content {
            Content::Living(item) => Some(item),
            Content::Deleted { .. } => None,
        }
    }
}

impl Snapshot {
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

    /// What a floor says is believed only as it was sealed; of all else that is so when it is opened.
    fn with_keys(
        set: OwnerSet,
        keys: Option<OwnerKeys>,
        checked_at: Option<Instant>,
    ) -> Result<Self, OwnersError> {
        if !newest_is_whole(&set, keys.as_ref()) {
            return Err(OwnersError::Broken {
                owner: *set.owner(),
                broken: Broken::Torn,
            });
        }
        if let Some(record) = set.get(&RecordName::Floor) {
            let keys = keys.as_ref().ok_or(SealError::ForeignKey)?;
            keys.check_floor(set.owner(), record)?;
        }
        Ok(Self {
            set,
            keys,
            checked_at,
            items: Arc::default(),
        })
    }

    /// This snapshot with newer records; the keys stay those of the owner's first record.
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
            }),
            Some(keys) => Self::with_keys(set, Some(keys.clone()), checked_at),
            None => Self::new(keyring, set, checked_at),
        }
    }

    pub(crate) fn set(&self) -> &OwnerSet {
        &self.set
    }

    pub(super) fn checked_at(&self) -> Option<Instant> {
        self.checked_at
    }

    /// Whose it is.
    pub fn owner(&self) -> &OwnerKey {
        self.set.owner()
    }

    /// The owner's version; none when they have no record.
    pub fn version(&self) -> Version {
        self.set.version()
    }

    /// The version up to which the owner's deletions are forgotten; none while all are known.
    pub fn floor(&self) -> Version {
        self.set.floor()
    }

    /// The owner's keys, once they have written anything.
    pub fn keys(&self) -> Option<&OwnerKeys> {
        self.keys.as_ref()
    }

    /// The item of that kind and id, living or deleted; `None` if it never was.
    pub fn item(&self, kind: Kind, id: &ItemId) -> Result<Option<OpenedItem>, SealError> {
        let Some(keys) = &self.keys else {
            return Ok(None);
        };
        let key = keys.item(kind.as_str(), id.as_str());
        self.set
            .get(&RecordName::Item(key))
            .map(|record| self.open(record))
            .transpose()
    }

    /// All items, deletions included, in no order.
    pub fn items(&self) -> Result<&[OpenedItem], SealError> {
        if let Some(items) = self.items.get() {
            return Ok(items);
        }
        let mut items = Vec::new();
        if self.keys.is_some() {
            for record in self.set.records() {
                if matches!(record.name, RecordName::Item(_)) {
                    items.push(self.open(record)?);
                }
            }
        }
        Ok(self.items.get_or_init(|| items))
    }

    /// How many items live, and how many item keys there are, those of kept deletions included.
    pub fn counts(&self) -> (usize, usize) {
        let items = self
            .set
            .records()
            .filter(|record| matches!(record.name, RecordName::Item(_)));
        items.fold((0, 0), |(live, all), record| {
            (live + usize::from(record.is_live_item()), all + 1)
        })
    }

    /// Whether its newest record is among these of the truth, from its version on; or a newer one, which has a check of
    /// its own.
    pub(super) fn is_in(&self, records: &[Record]) -> bool {
        let ours = |record: &Record| {
            self.set
                .get(&record.name)
                .is_some_and(|ours| ours.value == record.value)
        };
        let version = self.version();
        version.is_none()
            || records
                .iter()
                .any(|r| r.version > version || r.version == version && ours(r))
    }

    /// The memory it takes, in bytes, about.
    pub(super) fn weight(&self) -> u64 {
        const RECORD: u64 = 320;
        self.set
            .records()
            .map(|record| record.value.len() as u64 * 2 + RECORD)
            .sum::<u64>()
            + RECORD
    }

    /// The item of one of this owner's records, opened.
    pub(super) fn open(&self, record: &Record) -> Result<OpenedItem, SealError> {
        let (Some(keys), RecordName::Item(key)) = (&self.keys, record.name) else {
            return Err(SealError::Malformed);
        };
        Ok(OpenedItem {
            key,
            version: record.version,
            body: Body::open(keys, self.set.owner(), record)?,
        })
    }

    /// The items among these records of this owner, opened.
    pub(super) fn open_items(&self, records: &[Record]) -> Result<Vec<OpenedItem>, SealError> {
        records
            .iter()
            .filter(|record| matches!(record.name, RecordName::Item(_)))
            .map(|record| self.open(record))
            .collect()
    }
}

/// Whether all of the newest write is there, and no other upon the same state: how many items it has is sealed in each.
/// One that cannot be opened tells nothing here, and fails whoever looks at it.
fn newest_is_whole(set: &OwnerSet, keys: Option<&OwnerKeys>) -> bool {
    let mut items = set.newest_write();
    items.retain(|record| matches!(record.name, RecordName::Item(_)));
    let Some(last) = items.last() else {
        return true;
    };
    // An owner's first write brings their key along.
    let Some(keys) = keys else { return false };
    match Body::open(keys, set.owner(), last) {
        Ok(Body { part, .. }) => part.followed_by == 0 && usize::from(part.of) == items.len(),
        Err(_) => true,
    }
}
