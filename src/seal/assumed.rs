//! A set of an owner's records that no write vouches for: what `repair` puts together from several
//! sources, and writes on.
//!
//! It is a type of its own, so that nothing serves it: only [`OwnerSet::apply`] returns a set that
//! was checked.

use super::{Broken, Format, Keyring, OwnerKey, OwnerSet, Record, RecordName, SetCheck};
use crate::domain::Version;

/// One owner's records as they should be, unchecked.
#[derive(Clone, Debug)]
pub struct AssumedSet {
    set: OwnerSet,
    /// The version that the next write is based on: no lower than that of any record.
    version: Version,
}

impl AssumedSet {
    /// Returns the set of these records, as of their newest version or of `version`, whichever is
    /// later. Of one name the newest record counts.
    pub fn of(
        keyring: &Keyring,
        owner: OwnerKey,
        records: impl IntoIterator<Item = Record>,
        version: Version,
    ) -> Self {
        let mut set = OwnerSet::empty(owner);
        for record in records {
            set.put(keyring, record);
        }
        set.forget_deletions(keyring);

        Self {
            version: set.version().max(version),
            set,
        }
    }

    /// Returns this set with one more record, which is newer than all of it.
    #[must_use]
    pub fn with(&self, keyring: &Keyring, record: Record) -> Self {
        let mut set = self.set.clone();
        set.put(keyring, record);
        set.forget_deletions(keyring);

        Self {
            version: set.version(),
            set,
        }
    }

    /// The owner.
    pub fn owner(&self) -> &OwnerKey {
        self.set.owner()
    }

    /// The version that the next write is based on.
    pub fn version(&self) -> Version {
        self.version
    }

    /// The version up to which deletions are forgotten.
    pub fn floor(&self) -> Version {
        self.set.floor()
    }

    /// The newest format of any record.
    pub fn newest_format(&self) -> Format {
        self.set.newest_format()
    }

    /// The record with this name.
    pub fn get(&self, name: &RecordName) -> Option<&Record> {
        self.set.get(name)
    }

    /// All records, in the order of their names.
    pub fn records(&self) -> impl Iterator<Item = &Record> {
        self.set.records()
    }

    /// Returns the `before` of a write on this set. `floor` is that of the write, if it has one.
    pub fn check(&self, keyring: &Keyring, format: Format, floor: Option<Version>) -> SetCheck {
        let floor = floor.unwrap_or_default();

        self.set.check_as_of(
            keyring,
            format,
            self.version,
            self.set.digest_above(keyring, floor),
        )
    }

    /// Checks that the newest write of the set vouches for all the rest, and returns the set then.
    ///
    /// # Errors
    ///
    /// As [`OwnerSet::apply`].
    pub fn vouched_for(&self, keyring: &Keyring) -> Result<OwnerSet, Broken> {
        OwnerSet::empty(*self.owner()).apply(keyring, self.records().cloned())
    }
}
