//! The check that the set of an owner's records is complete.
//!
//! Every record names the state that it is based on: `prev`, `item_prev`, and `before`. `before`
//! vouches for the digest of the owner's set at `prev`, which is the XOR of a keyed 128-bit hash of
//! each (name, version) in it. So the newest write vouches for all other records, whatever history
//! the bucket keeps, and every reader of the set detects a record that was lost, forged or rolled
//! back. Records that this version does not know count as well. The same digest compares two
//! copies.
//!
//! A floor ends the deletions up to its version: they no longer belong to the set, whether the
//! bucket still has them or not. A floor's `before` vouches for the set without them, so the set
//! can be checked after they are purged.

use super::digest::{Digest, SetCheck};
use super::{Format, Keyring, OwnerKey, Record, RecordName};
use crate::domain::Version;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// Why a set of records is not the complete state of one owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// The newest write is based on another set than this: a record is missing, forged or rolled
    /// back.
    #[error("the newest write is based on another set of records")]
    Digest,
    /// There are records of other writes above the version that the newest write is based on.
    #[error("another write is newer than the version that the newest write is based on")]
    Fork,
    /// The newest write is based on an older version than the one that the reader already had.
    #[error("the newest write is based on an older version than one already seen")]
    RolledBack,
    /// Records of the newest write are missing, or another write is based on the same state.
    #[error("the newest write is incomplete, or another write is based on the same state")]
    Torn,
    /// The copy is older than the floor: it may still have items that were deleted since, and whose
    /// deletions are forgotten.
    #[error("the copy is older than deletions that are already forgotten")]
    BelowFloor,
}

/// One owner's current records, checked to be complete: the content of a snapshot.
#[derive(Clone)]
pub struct OwnerSet {
    owner: OwnerKey,
    /// Sets of one version share them: most reads find nothing newer.
    records: Arc<BTreeMap<RecordName, Record>>,
    version: Version,
    floor: Version,
    digest: Digest,
}

impl OwnerSet {
    /// Returns the set of an owner without records.
    pub fn empty(owner: OwnerKey) -> Self {
        Self {
            owner,
            records: Arc::default(),
            version: Version::NONE,
            floor: Version::NONE,
            digest: Digest::EMPTY,
        }
    }

    /// The owner of the records.
    pub fn owner(&self) -> &OwnerKey {
        &self.owner
    }

    /// The highest version of any record; none if there is no record.
    pub fn version(&self) -> Version {
        self.version
    }

    /// The version up to which deletions are forgotten; none if no deletion is forgotten.
    pub fn floor(&self) -> Version {
        self.floor
    }

    /// Returns the `before` of the next write in that format.
    pub fn check(&self, keyring: &Keyring, format: Format) -> SetCheck {
        keyring.set_check(format, &self.owner, self.version, self.digest)
    }

    /// Returns the `before` of a floor at that version: it vouches for this set without the
    /// deletions up to there.
    pub fn check_above(&self, keyring: &Keyring, format: Format, floor: Version) -> SetCheck {
        let digest = self.digest_above(keyring, floor);
        keyring.set_check(format, &self.owner, self.version, digest)
    }

    /// Returns the `before` of a write that is based on the version `prev` and on that digest.
    pub(super) fn check_as_of(
        &self,
        keyring: &Keyring,
        format: Format,
        prev: Version,
        digest: Digest,
    ) -> SetCheck {
        keyring.set_check(format, &self.owner, prev, digest)
    }

    /// Returns the digest of this set without its deletions up to `floor`.
    pub(super) fn digest_above(&self, keyring: &Keyring, floor: Version) -> Digest {
        let forgotten = self
            .records
            .values()
            .filter(|record| record.is_deletion() && record.version <= floor);

        forgotten.fold(self.digest, |digest, record| {
            digest ^ self.digest_term(keyring, record.name, record.version)
        })
    }

    /// The newest format of any record; the first one if there is no record.
    pub fn newest_format(&self) -> Format {
        let formats = self.records.values().map(|record| record.envelope.format);
        formats.max().unwrap_or(Format::One)
    }

    /// The digest of the complete set, which compares two copies.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The record with this name.
    pub fn get(&self, name: &RecordName) -> Option<&Record> {
        self.records.get(name)
    }

    /// All records, in the order of their names.
    pub fn records(&self) -> impl Iterator<Item = &Record> {
        self.records.values()
    }

    /// Returns the records of the newest write, in the order of their versions.
    ///
    /// The newest write vouches for all other records. Whether these are all of its own records can
    /// only be checked by opening them.
    pub fn newest_write(&self) -> Vec<&Record> {
        let newest = self.records.values().max_by_key(|record| record.version);
        let prev = newest
            .map(|record| record.envelope.prev)
            .unwrap_or_default();

        let mut write: Vec<&Record> = self
            .records
            .values()
            .filter(|record| record.version > prev)
            .collect();
        write.sort_unstable_by_key(|record| record.version);
        write
    }

    /// Returns this set with newer records applied.
    ///
    /// Ignores records that are not newer than the one of the same name, so a replay is harmless.
    ///
    /// # Errors
    ///
    /// Fails if the resulting set is not complete.
    pub fn apply(
        &self,
        keyring: &Keyring,
        newer: impl IntoIterator<Item = Record>,
    ) -> Result<Self, Broken> {
        let mut next = self.clone();
        for record in newer {
            next.put(keyring, record);
        }
        next.forget_deletions(keyring);

        if !self.version.is_none() && self.version < next.floor {
            return Err(Broken::BelowFloor);
        }
        if next.version > self.version {
            next.check_newest_write(keyring, self.version)?;
        }

        Ok(next)
    }

    /// Adds the record, unchecked, if it is newer than the one of the same name.
    pub(super) fn put(&mut self, keyring: &Keyring, record: Record) {
        let old_version = self.records.get(&record.name).map(|old| old.version);
        if old_version.is_some_and(|old| old >= record.version) {
            return;
        }

        self.digest = self.digest
            ^ self.digest_term(keyring, record.name, old_version.unwrap_or_default())
            ^ self.digest_term(keyring, record.name, record.version);
        self.version = self.version.max(record.version);
        self.floor = self.floor.max(record.floor().unwrap_or_default());
        Arc::make_mut(&mut self.records).insert(record.name, record);
    }

    /// Removes the deletions up to the floor.
    pub(super) fn forget_deletions(&mut self, keyring: &Keyring) {
        let floor = self.floor;
        let is_forgotten = |record: &Record| record.is_deletion() && record.version <= floor;
        if !self.records.values().any(is_forgotten) {
            return;
        }

        self.digest = self.digest_above(keyring, floor);
        Arc::make_mut(&mut self.records).retain(|_, record| !is_forgotten(record));
    }

    /// Returns the contribution of one record to the digest; empty if `version` is none.
    fn digest_term(&self, keyring: &Keyring, name: RecordName, version: Version) -> Digest {
        if version.is_none() {
            return Digest::EMPTY;
        }

        Digest(keyring.digest_term(&self.owner, &name.to_string(), version.get()))
    }

    /// Removes the newest write from the digest, and compares the rest with the write's `before`.
    /// `seen` is the version that the reader already had.
    fn check_newest_write(&self, keyring: &Keyring, seen: Version) -> Result<(), Broken> {
        let Some(newest) = self.records.values().max_by_key(|record| record.version) else {
            return Ok(());
        };
        let prev = newest.envelope.prev;
        let before = newest.envelope.before;
        let format = newest.envelope.format;
        if prev < seen {
            return Err(Broken::RolledBack);
        }

        let mut digest = self.digest;
        let mut first = newest.version;
        let mut members = 0;
        for record in self.records.values().filter(|record| record.version > prev) {
            if record.envelope.prev != prev || record.envelope.before != before {
                return Err(Broken::Fork);
            }

            first = first.min(record.version);
            members += 1;
            digest = digest
                ^ self.digest_term(keyring, record.name, record.version)
                ^ self.digest_term(keyring, record.name, record.envelope.item_prev);
        }

        // The records of one batch have consecutive sequences. A gap means that a record is
        // missing, or that two writes are based on the same state.
        if newest.version.get() - first.get() + 1 != members {
            return Err(Broken::Fork);
        }

        if keyring.set_check(format, &self.owner, prev, digest) == before {
            Ok(())
        } else {
            Err(Broken::Digest)
        }
    }
}

impl fmt::Debug for OwnerSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "OwnerSet({} records at {})",
            self.records.len(),
            self.version
        )
    }
}

#[cfg(test)]
mod tests {
    use super::super::keyring::test_keyring;
    use super::super::{ItemKey, Links, OwnerKeys};
    use super::*;
    use crate::domain::Timestamp;
    use proptest::prelude::*;

    const OWNER: OwnerKey = OwnerKey::from_bytes([7; 16]);

    fn item(n: u8) -> RecordName {
        RecordName::Item(ItemKey::from_bytes([n; 16]))
    }

    /// The format of a write at that sequence: the tests mix both.
    fn format(at: u64) -> Format {
        if at.is_multiple_of(2) {
            Format::One
        } else {
            Format::Two
        }
    }

    fn links(set: &OwnerSet, name: &RecordName, format: Format, before: SetCheck) -> Links {
        let item_prev = set.get(name).map(|r| r.version).unwrap_or_default();

        Links {
            format,
            prev: set.version(),
            item_prev,
            before,
            request: None,
            deleted: false,
        }
    }

    fn record(name: RecordName, at: u64, value: Vec<u8>) -> Record {
        let version = Version::new(at).expect("in range");
        Record::parse(name, version, Timestamp::from_millis(0), value.into()).expect("well formed")
    }

    /// One write of some items (a batch if there are several) based on `set`, at the sequences
    /// after `at`.
    fn write(
        keyring: &Keyring,
        keys: &OwnerKeys,
        set: &OwnerSet,
        at: u64,
        items: &[u8],
    ) -> Vec<Record> {
        let versions = at + 1..;
        let format = format(at);

        items
            .iter()
            .zip(versions)
            .map(|(n, at)| {
                let links = links(set, &item(*n), format, set.check(keyring, format));
                record(item(*n), at, keys.seal(&OWNER, item(*n), &links, vec![*n]))
            })
            .collect()
    }

    /// The states after each of several writes, each of one to three distinct items, with sequences
    /// of other owners between them.
    fn states_after(writes: &[Vec<u8>]) -> (Keyring, Vec<OwnerSet>) {
        let keyring = test_keyring();
        let keys = keyring.new_owner_keys();
        let mut states = vec![OwnerSet::empty(OWNER)];
        let mut at = 0;

        for items in writes {
            let set = states.last().expect("never empty");
            let records = write(&keyring, &keys, set, at, items);
            at += items.len() as u64 + 2;
            let next = set.apply(&keyring, records).expect("based on this set");
            states.push(next);
        }

        (keyring, states)
    }

    fn writes() -> impl Strategy<Value = Vec<Vec<u8>>> {
        let one_write =
            proptest::collection::btree_set(0u8..6, 1..4).prop_map(|set| set.into_iter().collect());
        proptest::collection::vec(one_write, 2..12)
    }

    proptest! {
        #[test]
        fn any_later_state_can_be_reached_from_any_earlier_one(
            writes in writes(),
            from in any::<prop::sample::Index>(),
        ) {
            let (keyring, states) = states_after(&writes);
            let last = states.last().expect("never empty");
            let from = from.get(&states);
            let newer: Vec<_> = last
                .records()
                .filter(|r| r.version > from.version())
                .cloned()
                .collect();

            let reached = from.apply(&keyring, newer).expect("nothing is missing");
            let replayed = reached
                .apply(&keyring, states[1].records().cloned())
                .expect("older records change nothing");

            prop_assert_eq!(reached.digest(), last.digest());
            prop_assert_eq!(reached.version(), last.version());
            prop_assert_eq!(replayed.digest(), last.digest());
        }

        #[test]
        fn a_missing_record_is_detected(
            writes in writes(),
            lost in any::<prop::sample::Index>(),
        ) {
            let (keyring, states) = states_after(&writes);
            let last = states.last().expect("never empty");
            let all: Vec<_> = last.records().cloned().collect();
            let lost = lost.get(&all).clone();
            let rest: Vec<_> = all.into_iter().filter(|r| r.name != lost.name).collect();
            let newest_prev = rest.iter().max_by_key(|r| r.version).map(|r| r.envelope.prev);
            // No later write vouches for the newest one, so only older records are lost here.
            prop_assume!(newest_prev.is_some_and(|prev| lost.version <= prev));

            let applied = OwnerSet::empty(OWNER).apply(&keyring, rest);

            prop_assert_eq!(applied.expect_err("lost"), Broken::Digest);
        }

        #[test]
        fn a_record_rolled_back_is_detected(writes in writes()) {
            let (keyring, states) = states_after(&writes);
            let last = states.last().expect("never empty");
            let newest_prev = last
                .records()
                .map(|r| (r.version, r.envelope.prev))
                .max()
                .expect("at least one record")
                .1;
            let older_states = &states[..states.len() - 1];

            for older in older_states.iter().flat_map(OwnerSet::records) {
                let current = last.get(&older.name).expect("never deleted");
                if current.version == older.version || current.version > newest_prev {
                    continue;
                }

                let mixed: Vec<_> = last
                    .records()
                    .map(|r| if r.name == older.name { older } else { r })
                    .cloned()
                    .collect();

                prop_assert!(OwnerSet::empty(OWNER).apply(&keyring, mixed).is_err());
            }
        }
    }

    /// The deletion of an item, at the sequence `at`.
    fn deletion(keyring: &Keyring, keys: &OwnerKeys, set: &OwnerSet, at: u64, n: u8) -> Record {
        let format = format(at);
        let links = Links {
            deleted: true,
            ..links(set, &item(n), format, set.check(keyring, format))
        };

        record(item(n), at, keys.seal(&OWNER, item(n), &links, vec![n]))
    }

    fn floor(keyring: &Keyring, keys: &OwnerKeys, set: &OwnerSet, at: u64, floor: u64) -> Record {
        let floor = Version::new(floor).expect("in range");
        let format = format(at);
        let before = set.check_above(keyring, format, floor);
        let links = links(set, &RecordName::Floor, format, before);

        record(
            RecordName::Floor,
            at,
            keys.seal_floor(&OWNER, &links, floor),
        )
    }

    /// An owner with three items, of which 1 and 2 were deleted at the sequences 20 and 30, and a
    /// floor at 20, written at 40.
    struct Floored {
        keyring: Keyring,
        keys: OwnerKeys,
        set: OwnerSet,
        /// The bucket's records before it purges the deletion of item 1.
        records: Vec<Record>,
    }

    impl Floored {
        fn new() -> Self {
            let (keyring, states) = states_after(&[vec![1], vec![2], vec![3]]);
            let keys = keyring.new_owner_keys();
            let apply = |set: &OwnerSet, record: Record| {
                set.apply(&keyring, [record]).expect("based on this set")
            };

            let one_deleted = apply(&states[3], deletion(&keyring, &keys, &states[3], 20, 1));
            let two_deleted = apply(&one_deleted, deletion(&keyring, &keys, &one_deleted, 30, 2));
            let floor = floor(&keyring, &keys, &two_deleted, 40, 20);
            let set = apply(&two_deleted, floor.clone());
            let records = two_deleted.records().chain([&floor]).cloned().collect();

            Self {
                keyring,
                keys,
                set,
                records,
            }
        }

        /// The bucket's records, with or without the deletion of item 1.
        fn records(&self, purged: bool) -> Vec<Record> {
            self.records
                .iter()
                .filter(|r| !purged || r.name != item(1))
                .cloned()
                .collect()
        }
    }

    #[test]
    fn a_floor_ends_only_the_deletions_up_to_its_version() {
        let Floored {
            keyring, keys, set, ..
        } = Floored::new();

        assert_eq!(set.floor().get(), 20);
        assert_eq!(set.version().get(), 40);
        assert!(set.get(&item(1)).is_none());
        assert!(set.get(&item(2)).is_some());

        let higher = floor(&keyring, &keys, &set, 60, 30);
        let higher = set.apply(&keyring, [higher]).expect("based on this set");

        assert_eq!(higher.floor().get(), 30);
        assert!(higher.get(&item(2)).is_none());
    }

    #[test]
    fn a_set_is_the_same_before_and_after_the_purge() {
        let floored = Floored::new();

        for purged in [false, true] {
            let set = OwnerSet::empty(OWNER)
                .apply(&floored.keyring, floored.records(purged))
                .expect("complete");

            assert_eq!(set.digest(), floored.set.digest(), "purged: {purged}");
            assert_eq!(set.floor().get(), 20, "purged: {purged}");
        }
    }

    #[test]
    fn a_write_after_a_floor_is_accepted_before_and_after_the_purge() {
        let floored = Floored::new();

        // Item 1 was deleted, and comes back.
        for (purged, n) in [(false, 1), (false, 3), (true, 1), (true, 3)] {
            let next = write(&floored.keyring, &floored.keys, &floored.set, 50, &[n]);
            let all = floored.records(purged).into_iter().chain(next);
            let set = OwnerSet::empty(OWNER)
                .apply(&floored.keyring, all)
                .expect("complete");

            assert_eq!(set.version().get(), 51, "purged: {purged}, item {n}");
        }
    }

    #[test]
    fn a_copy_that_is_older_than_the_floor_is_detected() {
        let (keyring, states) = states_after(&[vec![1], vec![2]]);
        let keys = keyring.new_owner_keys();
        let old = &states[2];
        let one_deleted = old
            .apply(&keyring, [deletion(&keyring, &keys, old, 20, 1)])
            .expect("based on this set");
        let recent = one_deleted
            .apply(&keyring, write(&keyring, &keys, &one_deleted, 29, &[3]))
            .expect("based on this set");
        let floor = floor(&keyring, &keys, &recent, 40, 20);
        // The deletion was purged, so the records after the old copy do not show it.
        let newer: Vec<Record> = recent
            .records()
            .filter(|r| r.version > old.version() && r.name != item(1))
            .chain([&floor])
            .cloned()
            .collect();

        let from_old = old.apply(&keyring, newer);
        let from_recent = recent.apply(&keyring, [floor]);

        assert_eq!(
            from_old.expect_err("item 1 would live on"),
            Broken::BelowFloor
        );
        assert!(from_recent.is_ok());
    }

    #[test]
    fn half_a_batch_is_detected_by_the_next_write() {
        let (keyring, states) = states_after(&[vec![1], vec![2, 3, 4]]);
        let keys = keyring.new_owner_keys();
        let last = states.last().expect("never empty");
        let half: Vec<_> = last
            .records()
            .filter(|r| r.name != item(4))
            .cloned()
            .collect();
        let next = write(&keyring, &keys, last, 40, &[1]);

        let alone = OwnerSet::empty(OWNER).apply(&keyring, half.clone());
        let with_next = OwnerSet::empty(OWNER).apply(&keyring, half.into_iter().chain(next));

        assert!(alone.is_ok(), "`before` is the digest before the batch");
        assert_eq!(with_next.expect_err("lost"), Broken::Digest);
    }

    #[test]
    fn a_write_based_on_an_older_version_is_detected() {
        let (keyring, states) = states_after(&[vec![1], vec![2]]);
        let keys = keyring.new_owner_keys();
        let fork = write(&keyring, &keys, &states[1], 9, &[3]);

        let applied = states[2].apply(&keyring, fork);

        assert_eq!(
            applied.expect_err("based on an older version"),
            Broken::RolledBack
        );
    }

    #[test]
    fn two_writes_based_on_one_state_are_a_fork() {
        let (keyring, states) = states_after(&[vec![1], vec![2]]);
        let keys = keyring.new_owner_keys();

        for base in [0, 1] {
            let fork = write(&keyring, &keys, &states[base], 9, &[3]);
            let both = states[base + 1].records().cloned().chain(fork);

            let applied = OwnerSet::empty(OWNER).apply(&keyring, both);

            assert_eq!(applied.expect_err("fork"), Broken::Fork, "base: {base}");
        }
    }

    #[test]
    fn a_write_that_ignores_a_newer_one_is_a_fork() {
        let (keyring, states) = states_after(&[vec![1], vec![2]]);
        let keys = keyring.new_owner_keys();
        let fork = write(&keyring, &keys, &states[0], 9, &[3]);
        let all = states[2].records().cloned().chain(fork);

        let applied = OwnerSet::empty(OWNER).apply(&keyring, all);

        assert_eq!(applied.expect_err("fork"), Broken::Fork);
    }

    #[test]
    fn the_debug_forms_show_nothing_of_the_content() {
        let (_, states) = states_after(&[vec![1]]);
        let record = states[1].records().next().expect("one");

        assert_eq!(format!("{:?}", states[1]), "OwnerSet(1 records at 1)");
        assert!(format!("{record:?}").starts_with("Record("));
        assert_eq!(format!("{:?}", Digest::from_bytes([0; 16])), "0".repeat(32));
        assert_eq!(states[1].owner(), &OWNER);
    }
}
