//! The evidence of a repair: what the bucket stores of an owner, and the complete copies of shards.

use crate::domain::Version;
use crate::seal::{Body, Keyring, OwnerKey, OwnerKeys, OwnerSet, Record, RecordName, SealError};
use crate::truth::StoredMessage;
use std::collections::{BTreeMap, HashSet};

/// What the bucket stores under one name.
pub(super) struct StoredName {
    /// The newest version that was written, as far as anybody can tell: a repetition of an older
    /// record was not.
    pub known: Version,
    /// The record of the current message, if it can be read and opened and is no repetition.
    pub genuine: Option<Record>,
    /// The newest genuine record that is kept; an older one, if the current one is not genuine.
    pub best: Option<Record>,
    /// A record that opens, although it is a repetition of an older one, if nothing better is there.
    pub repeated: Option<Record>,
    /// The record of the current message, if it can be read. It may not open.
    pub record: Option<Record>,
}

/// All that is known of an owner.
pub(super) struct Evidence {
    pub owner: OwnerKey,
    pub keys: OwnerKeys,
    /// What the bucket stores, by name.
    pub stored: BTreeMap<RecordName, StoredName>,
    /// The owner's version in the bucket, as its compare-and-set counts it.
    pub bucket_version: Version,
    /// The shards' complete copies.
    pub copies: Vec<OwnerSet>,
}

/// Why nothing can be put together from the evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoRepair {
    /// No key of the owner can be unwrapped.
    #[error("no key record of the owner can be opened, in the bucket or in a copy")]
    NoKey,
    /// The owner began again with nothing, while a shard kept the copy from before.
    #[error(
        "the bucket has another key of the owner than a copy: the owner began again with nothing"
    )]
    TwoKeys,
    /// There are messages under keys that no record has.
    #[error(
        "the bucket has {0} of this owner's messages under keys that no record has; an administrator has to purge them"
    )]
    ForeignKeys(usize),
    /// There are messages that nobody can open, and no copy has the record.
    #[error(
        "the bucket has {0} records that cannot be opened and that no copy has; an administrator has to purge them"
    )]
    Unopenable(usize),
    /// Records of a newer release are missing, and this one cannot write them.
    #[error("{0} records of a newer release are missing; use that release")]
    NewerRelease(usize),
}

impl Evidence {
    /// Looks at what the bucket stores and at the complete copies.
    pub fn of(
        keyring: &Keyring,
        owner: OwnerKey,
        messages: &[StoredMessage],
        copies: Vec<OwnerSet>,
    ) -> Result<Self, NoRepair> {
        let foreign = messages.iter().filter(|message| message.name.is_none());
        match foreign.count() {
            0 => {}
            count => return Err(NoRepair::ForeignKeys(count)),
        }

        let keys = find_keys(keyring, &owner, messages, &copies)?;
        let mut by_name: BTreeMap<RecordName, Vec<&StoredMessage>> = BTreeMap::new();
        for message in messages {
            if let Some(name) = message.name {
                by_name.entry(name).or_default().push(message);
            }
        }

        let reader = Reader {
            order: WriteOrder::of(messages),
            copies: &copies,
            opens: |record: &Record| opens(keyring, &owner, &keys, record).is_ok(),
        };
        let stored = by_name
            .into_iter()
            .map(|(name, messages)| (name, reader.read(&messages)))
            .collect();
        Ok(Self {
            owner,
            keys,
            stored,
            bucket_version: newest_of(messages),
            copies,
        })
    }
}

/// Returns the owner's version, as the messages show it.
pub(super) fn newest_of(messages: &[StoredMessage]) -> Version {
    let versions = messages.iter().map(|message| message.version);
    versions.max().unwrap_or_default()
}

/// Returns the owner's keys. A record of another key than a copy's is the beginning of another life.
fn find_keys(
    keyring: &Keyring,
    owner: &OwnerKey,
    messages: &[StoredMessage],
    copies: &[OwnerSet],
) -> Result<OwnerKeys, NoRepair> {
    let in_bucket = messages.iter().filter_map(StoredMessage::record);
    let in_copies = copies.iter().filter_map(|copy| copy.get(&RecordName::Key));
    let opened = in_bucket
        .filter(|record| record.name == RecordName::Key)
        .chain(in_copies.cloned())
        .filter_map(|record| OwnerKeys::unwrap_record(keyring, owner, &record).ok());

    let mut found: Option<OwnerKeys> = None;
    for keys in opened {
        // The name of an item is a hash with the key.
        let is_other = |found: &OwnerKeys| found.item("", "") != keys.item("", "");
        if found.as_ref().is_some_and(is_other) {
            return Err(NoRepair::TwoKeys);
        }
        found = Some(keys);
    }
    found.ok_or(NoRepair::NoKey)
}

/// Opens a record, as far as this version can.
fn opens(
    keyring: &Keyring,
    owner: &OwnerKey,
    keys: &OwnerKeys,
    record: &Record,
) -> Result<(), SealError> {
    match record.name {
        RecordName::Key => OwnerKeys::unwrap_record(keyring, owner, record).map(drop),
        RecordName::Floor => keys.check_floor(owner, record),
        RecordName::Item(_) => Body::open(keys, owner, record).map(drop),
        RecordName::Unknown(_) => Ok(()),
    }
}

/// The versions of all messages of an owner, and on which version each is based.
///
/// The compare-and-set of a write lets no other message be between the write and the version that it
/// is based on. So a record that was published again at a later version shows, although it opens:
/// the seal does not have the version.
struct WriteOrder(Vec<(Version, Option<Version>)>);

impl WriteOrder {
    fn of(messages: &[StoredMessage]) -> Self {
        let based_on = |message: &StoredMessage| {
            let record = message.record();
            (message.version, record.map(|record| record.envelope.prev))
        };

        Self(messages.iter().map(based_on).collect())
    }

    /// Returns whether no other write is between the record and the version that it is based on.
    fn permits(&self, record: &Record) -> bool {
        let prev = record.envelope.prev;

        self.0.iter().all(|(version, based_on)| {
            *version <= prev || *version >= record.version || *based_on == Some(prev)
        })
    }
}

/// Reads the messages of an owner.
struct Reader<'r, O> {
    order: WriteOrder,
    copies: &'r [OwnerSet],
    opens: O,
}

impl<O: Fn(&Record) -> bool> Reader<'_, O> {
    /// Reads the messages of one name, oldest first. A repetition of an older record does not count.
    fn read(&self, messages: &[&StoredMessage]) -> StoredName {
        let mut seen = HashSet::new();
        let mut best: Option<Record> = None;
        let mut repeated = None;
        let mut known = Version::NONE;
        for message in messages {
            let is_new = seen.insert(message.value.clone());
            match message.record().filter(&self.opens) {
                None if is_new => known = message.version,
                None => {}
                Some(record) if is_new && self.is_genuine(&record) => {
                    known = message.version;
                    best = Some(record);
                }
                Some(record) => repeated = Some(record),
            }
        }

        let last = messages.last();
        let current = last.map(|message| message.version).unwrap_or_default();
        StoredName {
            known,
            genuine: best.clone().filter(|record| record.version == current),
            repeated: repeated.filter(|_| best.is_none()),
            best,
            record: last.and_then(|message| message.record()),
        }
    }

    /// Returns whether the record was written at its version, and not published again there.
    fn is_genuine(&self, record: &Record) -> bool {
        let mut held = self.copies.iter().filter_map(|copy| copy.get(&record.name));

        self.order.permits(record)
            && !held.any(|held| held.version < record.version && held.value == record.value)
    }
}
