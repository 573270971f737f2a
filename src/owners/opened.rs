//! The opened items of an owner. They are opened once for each version, and of a newer version only
//! what has changed is opened again.

use crate::domain::{Item, Version};
use crate::seal::{Body, Content, ItemKey, OwnerSet, Record, RecordName, SealError};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// A set is heavy if more bytes of it have to be opened. A smaller one is opened where it is used:
/// that takes less than half a millisecond, and the way to another thread and back is not free.
const INLINE_BYTES_MAX: usize = 64 << 10;

/// The approximate memory of an opened item, in addition to its bytes and its metadata and tags.
pub const OPENED_ITEM_BYTES: u64 = 640;
/// The approximate memory of one text of an item's metadata or tags, in addition to its bytes.
pub const OPENED_TEXT_BYTES: u64 = 64;

/// An item's record, opened, except for what replies hide.
pub struct OpenedItem {
    /// The key of the item's records.
    pub key: ItemKey,
    /// The record's version, which is the item's.
    pub version: Version,
    /// The content of the record.
    pub body: Body,
    /// The record, from which what replies hide is opened when it is used.
    pub(super) record: Record,
}

impl OpenedItem {
    /// The approximate memory of the item, in bytes.
    fn weight(&self) -> u64 {
        let texts = match self.living() {
            Some(item) => 2 * item.meta.iter().count() + item.tags.iter().count(),
            None => 0,
        };

        self.record.value.len() as u64 + OPENED_ITEM_BYTES + texts as u64 * OPENED_TEXT_BYTES
    }

    /// The item, unless it is deleted.
    pub fn living(&self) -> Option<&Item> {
        match &self.body.content {
            Content::Living(item) => Some(item),
            Content::Deleted { .. } => None,
        }
    }

    /// The version before this one; [`Version::NONE`] if this is the first.
    pub fn previous(&self) -> Version {
        self.record.envelope.item_prev
    }

    /// Returns whether this was opened from that very record: not from an equal one, whose seal
    /// nobody has verified.
    fn is_of(&self, record: &Record) -> bool {
        let (own, other) = (&self.record.value, &record.value);

        self.record.name == record.name
            && self.version == record.version
            && own.len() == other.len()
            && own.as_ptr() == other.as_ptr()
    }
}

/// The opened items of one version. All snapshots of the version share them.
pub(super) struct OpenedItems {
    /// What was opened for earlier versions and is still current, in the order of the names.
    known: Vec<Arc<OpenedItem>>,
    known_weight: u64,
    /// The bytes of the records that are not among them.
    unknown_bytes: usize,
    single: Mutex<Single>,
    /// All items in the order of the names, from their first use on.
    all: OnceLock<Result<AllItems, SealError>>,
    /// Held while a heavy set is opened.
    opening: Arc<tokio::sync::Mutex<()>>,
}

/// The items that were opened one at a time since, before all were.
#[derive(Default)]
struct Single {
    items: BTreeMap<RecordName, Arc<OpenedItem>>,
    weight: u64,
}

impl Single {
    fn find(&self, record: &Record) -> Option<&Arc<OpenedItem>> {
        let item = self.items.get(&record.name);
        item.filter(|item| item.is_of(record))
    }

    fn insert(&mut self, item: &Arc<OpenedItem>) {
        self.weight += item.weight();
        let before = self.items.insert(item.record.name, item.clone());
        self.weight -= before.map_or(0, |item| item.weight());
    }
}

struct AllItems {
    items: Vec<Arc<OpenedItem>>,
    weight: u64,
}

impl OpenedItems {
    /// The items of a set of which nothing was opened yet.
    pub fn none_of(set: &OwnerSet) -> Self {
        Self::with_known(Vec::new(), set)
    }

    /// The items of the set that follows the one that these are of.
    pub fn following(&self, set: &OwnerSet) -> Self {
        let mut opened = InOrder(self.opened());
        let single = self.single();
        let still_current = item_records(set).filter_map(|record| {
            let found = opened.find(record);
            found.or_else(|| single.find(record)).cloned()
        });

        Self::with_known(still_current.collect(), set)
    }

    fn with_known(known: Vec<Arc<OpenedItem>>, set: &OwnerSet) -> Self {
        let bytes = |record: &Record| record.value.len();
        let known_bytes: usize = known.iter().map(|item| bytes(&item.record)).sum();
        let all_bytes: usize = item_records(set).map(bytes).sum();

        Self {
            known_weight: known.iter().map(|item| item.weight()).sum(),
            known,
            unknown_bytes: all_bytes.saturating_sub(known_bytes),
            single: Mutex::default(),
            all: OnceLock::new(),
            opening: Arc::default(),
        }
    }

    /// What was opened so far.
    fn opened(&self) -> &[Arc<OpenedItem>] {
        match self.all.get() {
            Some(Ok(all)) => &all.items,
            _ => &self.known,
        }
    }

    fn single(&self) -> MutexGuard<'_, Single> {
        self.single.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the item of that record. Opens it, unless that was done before.
    pub fn one(
        &self,
        record: &Record,
        open: impl FnOnce(&Record) -> Result<OpenedItem, SealError>,
    ) -> Result<Arc<OpenedItem>, SealError> {
        let opened = self.opened();
        let at = opened.binary_search_by_key(&record.name, |item| item.record.name);
        if let Some(item) = at.ok().map(|at| &opened[at])
            && item.is_of(record)
        {
            return Ok(item.clone());
        }

        if let Some(item) = self.single().find(record) {
            return Ok(item.clone());
        }
        let item = Arc::new(open(record)?);
        let mut single = self.single();
        if self.all.get().is_none() {
            single.insert(&item);
        }
        Ok(item)
    }

    /// Returns all items. Opens those that are not known, unless that was done before or is under
    /// way: then this waits for it.
    pub fn all(
        &self,
        set: &OwnerSet,
        open: impl Fn(&Record) -> Result<OpenedItem, SealError>,
    ) -> Result<&[Arc<OpenedItem>], SealError> {
        let opened = self.all.get_or_init(|| {
            let mut known = InOrder(&self.known);
            // From now on they are among all.
            let single = std::mem::take(&mut *self.single());
            let item = |record| match known.find(record).or_else(|| single.find(record)) {
                Some(item) => Ok(item.clone()),
                None => open(record).map(Arc::new),
            };
            let items: Vec<_> = item_records(set).map(item).collect::<Result<_, _>>()?;
            let weight = items.iter().map(|item| item.weight()).sum();
            Ok(AllItems { items, weight })
        });

        // Some may have been opened by themselves meanwhile.
        *self.single() = Single::default();
        match opened {
            Ok(all) => Ok(&all.items),
            Err(error) => Err(*error),
        }
    }

    /// The approximate memory of the items, in bytes, as far as they are known. Of what was not
    /// opened yet, the bytes count.
    pub fn weight(&self) -> u64 {
        match self.all.get() {
            Some(Ok(all)) => all.weight,
            _ => self.known_weight + self.unknown_bytes as u64 + self.single().weight,
        }
    }

    /// Whether opening the items would hold up a thread that answers requests.
    pub fn are_heavy(&self) -> bool {
        self.unknown_bytes > INLINE_BYTES_MAX && self.all.get().is_none()
    }

    /// The lock of the one request that opens a heavy set.
    pub fn opening(&self) -> Arc<tokio::sync::Mutex<()>> {
        self.opening.clone()
    }
}

/// The records of a set's items, in the order of their names.
fn item_records(set: &OwnerSet) -> impl Iterator<Item = &Record> {
    set.records()
        .filter(|record| matches!(record.name, RecordName::Item(_)))
}

/// Opened items in the order of their names, in which records are looked up in that order.
struct InOrder<'o>(&'o [Arc<OpenedItem>]);

impl<'o> InOrder<'o> {
    fn find(&mut self, record: &Record) -> Option<&'o Arc<OpenedItem>> {
        while let [item, rest @ ..] = self.0
            && item.record.name <= record.name
        {
            self.0 = rest;
            if item.is_of(record) {
                return Some(item);
            }
        }

        None
    }
}

#[cfg(test)]
#[path = "opened_tests.rs"]
mod tests;
