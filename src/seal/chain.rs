//! Whether an owner's records are whole.
//!
//! Every record names the state that it was made upon: `prev`, `item_prev`, and `before`, the XOR of a keyed 128-bit
//! hash of each (name, version) in the owner's set at `prev`. So the newest write vouches for all the rest, whatever
//! history the bucket keeps, and a record that was lost, forged or rolled back is noticed by whoever reads the set.
//! The same digest compares two copies.
//!
//! A floor ends the deletions up to its version: they are no longer of the set, whether the bucket still has them or
//! not. What a floor names as `before` is the set without them, so it can be checked after they are gone.

use super::digest::Digest;
use super::{Keyring, OwnerKey, Record, RecordName};
use crate::domain::Version;
use std::collections::BTreeMap;
use std::fmt;

/// Why a set of records is not one owner's whole, unbroken state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// The newest write was made upon another set than this: a record is missing, forged or rolled back.
    #[error("the newest write was made upon another set of records")]
    Digest,
    /// Records newer than the one that the newest write names as its base.
    #[error("records stand between the newest write and the version it was made upon")]
    Fork,
    /// The newest write does not know of a version that was seen before.
    #[error("the newest write was made upon an older version than one already seen")]
    RolledBack,
    /// Not all records of the newest write are there, or those of another one upon the same state are too.
    #[error("the newest write is not there with all its records, and alone")]
    Torn,
    /// The copy is older than the floor: what was deleted since, and is forgotten, is still in it.
    #[error("the copy is older than deletions that are forgotten by now")]
    BelowFloor,
}

/// One owner's current records, checked to be whole: what a snapshot holds.
#[derive(Clone)]
pub struct OwnerSet {
    owner: OwnerKey,
    records: BTreeMap<RecordName, Record>,
    version: Version,
    floor: Version,
    digest: Digest,
}

impl OwnerSet {
    /// Of an owner who has no record yet.
    pub fn empty(owner: OwnerKey) -> Self {
        let (version, floor) = (Version::NONE, Version::NONE);
        Self {
            owner,
            records: BTreeMap::new(),
            version,
            floor,
            digest: Digest::EMPTY,
        }
    }

    /// Whose records these are.
    pub fn owner(&self) -> &OwnerKey {
        &self.owner
    }

    /// The highest version of any record; none when there is none.
    pub fn version(&self) -> Version {
        self.version
    }

    /// The version up to which deletions are forgotten; none while all are known.
    pub fn floor(&self) -> Version {
        self.floor
    }

    /// The digest of the set as it will be under a floor at that version: what the floor must name as `before`.
    pub fn digest_above(&self, keyring: &Keyring, floor: Version) -> Digest {
        let forgotten = self
            .records
            .values()
            .filter(|record| record.is_deletion() && record.version <= floor);
        forgotten.fold(self.digest, |digest, record| {
            digest ^ self.mark(keyring, record.name, record.version)
        })
    }

    /// The digest of the whole set: what the next write must name as `before`.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The record of that name.
    pub fn get(&self, name: &RecordName) -> Option<&Record> {
        self.records.get(name)
    }

    /// All records, in the order of their names.
    pub fn records(&self) -> impl Iterator<Item = &Record> {
        self.records.values()
    }

    /// The records of the newest write, in the order of their versions. It vouches for all others; whether these are all
    /// of it is known to who can open them.
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

    /// This set with newer records laid upon it; fails unless the result is whole.
    ///
    /// Records that are not newer than the one of the same name are passed over, so a replay is harmless.
    pub fn apply(
        &self,
        keyring: &Keyring,
        newer: impl IntoIterator<Item = Record>,
    ) -> Result<Self, Broken> {
        let mut next = self.clone();
        for record in newer {
            next.put(keyring, record);
        }
        next.forget(keyring);
        if !self.version.is_none() && self.version < next.floor {
            return Err(Broken::BelowFloor);
        }
        if next.version > self.version {
            next.check(keyring, self.version)?;
        }
        Ok(next)
    }

    fn put(&mut self, keyring: &Keyring, record: Record) {
        let old = self.records.get(&record.name).map(|old| old.version);
        if old.is_some_and(|old| old >= record.version) {
            return;
        }
        self.digest = self.digest
            ^ self.mark(keyring, record.name, old.unwrap_or_default())
            ^ self.mark(keyring, record.name, record.version);
        self.version = self.version.max(record.version);
        self.floor = self.floor.max(record.floor().unwrap_or_default());
        self.records.insert(record.name, record);
    }

    /// Takes out the deletions that the floor ends.
    fn forget(&mut self, keyring: &Keyring) {
        self.digest = self.digest_above(keyring, self.floor);
        let floor = self.floor;
        self.records
            .retain(|_, record| !record.is_deletion() || record.version > floor);
    }

    fn mark(&self, keyring: &Keyring, name: RecordName, version: Version) -> Digest {
        if version.is_none() {
            return Digest::EMPTY;
        }
        Digest(keyring.digest_term(&self.owner, &name.to_string(), version.get()))
    }

    /// Undoes the newest write, and compares what is left with what that write says it was made upon.
    fn check(&self, keyring: &Keyring, seen: Version) -> Result<(), Broken> {
        let Some(newest) = self.records.values().max_by_key(|record| record.version) else {
            return Ok(());
        };
        let (prev, before) = (newest.envelope.prev, newest.envelope.before);
        if prev < seen {
            return Err(Broken::RolledBack);
        }
        let mut digest = self.digest;
        let (mut first, mut members) = (newest.version, 0);
        for record in self.records.values().filter(|record| record.version > prev) {
            if record.envelope.prev != prev || record.envelope.before != before {
                return Err(Broken::Fork);
            }
            (first, members) = (first.min(record.version), members + 1);
            digest = digest
                ^ self.mark(keyring, record.name, record.version)
                ^ self.mark(keyring, record.name, record.envelope.item_prev);
        }
        // The members of one batch have consecutive sequences; two writes upon one state have not.
        if newest.version.get() - first.get() + 1 != members {
            return Err(Broken::Fork);
        }
        if digest == before {
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

    fn links(set: &OwnerSet, name: &RecordName, before: Digest) -> Links {
        let item_prev = set.get(name).map(|r| r.version).unwrap_or_default();
        Links {
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

    /// One write of some items (a batch when there are several) upon `set`, at the sequences after `at`.
    fn write(keys: &OwnerKeys, set: &OwnerSet, at: u64, items: &[u8]) -> Vec<Record> {
        let links = |n: u8| links(set, &item(n), set.digest());
        let versions = at + 1..;
        items
            .iter()
            .zip(versions)
            .map(|(n, at)| {
                record(
                    item(*n),
                    at,
                    keys.seal(&OWNER, item(*n), &links(*n), vec![*n]),
                )
            })
            .collect()
    }

    /// The states after each of several writes, each of one to three distinct items, with foreign sequences between.
    fn history(writes: &[Vec<u8>]) -> (Keyring, Vec<OwnerSet>) {
        let keyring = test_keyring();
        let keys = keyring.new_owner_keys();
        let mut states = vec![OwnerSet::empty(OWNER)];
        let mut at = 0;
        for items in writes {
            let set = states.last().expect("never empty");
            let records = write(&keys, set, at, items);
            at += items.len() as u64 + 2;
            let next = set.apply(&keyring, records).expect("made upon this set");
            states.push(next);
        }
        (keyring, states)
    }

    fn writes() -> impl Strategy<Value = Vec<Vec<u8>>> {
        let one =
            proptest::collection::btree_set(0u8..6, 1..4).prop_map(|set| set.into_iter().collect());
        proptest::collection::vec(one, 2..12)
    }

    proptest! {
        #[test]
        fn any_later_state_can_be_reached_from_any_earlier_one(writes in writes(), from in any::<prop::sample::Index>()) {
            let (keyring, states) = history(&writes);
            let last = states.last().expect("never empty");
            let from = from.get(&states);
            let newer: Vec<_> = last.records().filter(|r| r.version > from.version()).cloned().collect();
            let reached = from.apply(&keyring, newer).expect("nothing is missing");
            prop_assert_eq!(reached.digest(), last.digest());
            prop_assert_eq!(reached.version(), last.version());
            let replayed = reached.apply(&keyring, states[1].records().cloned()).expect("older records change nothing");
            prop_assert_eq!(replayed.digest(), last.digest());
        }

        #[test]
        fn a_missing_record_is_noticed(writes in writes(), lost in any::<prop::sample::Index>()) {
            let (keyring, states) = history(&writes);
            let last = states.last().expect("never empty");
            let all: Vec<_> = last.records().cloned().collect();
            let lost = lost.get(&all).clone();
            let rest = all.into_iter().filter(|r| r.name != lost.name).collect::<Vec<_>>();
            let newest_prev = rest.iter().max_by_key(|r| r.version).map(|r| r.envelope.prev);
            // The newest write itself can only be missed by who holds nothing newer; all older ones are vouched for.
            prop_assume!(newest_prev.is_some_and(|prev| lost.version <= prev));
            prop_assert_eq!(OwnerSet::empty(OWNER).apply(&keyring, rest).expect_err("lost"), Broken::Digest);
        }

        #[test]
        fn a_record_rolled_back_is_noticed(writes in writes()) {
            let (keyring, states) = history(&writes);
            let last = states.last().expect("never empty");
            for older in &states[..states.len() - 1] {
                for record in older.records() {
                    let current = last.get(&record.name).expect("never deleted");
                    let newest_prev = last.records().map(|r| (r.version, r.envelope.prev)).max().expect("some").1;
                    if current.version == record.version || current.version > newest_prev { continue }
                    let mixed = last.records().map(|r| if r.name == record.name { record.clone() } else { r.clone() });
                    prop_assert!(OwnerSet::empty(OWNER).apply(&keyring, mixed.collect::<Vec<_>>()).is_err());
                }
            }
        }
    }

    /// Another record, at the sequence `at`, of an item that is gone.
    fn deletion(keys: &OwnerKeys, set: &OwnerSet, at: u64, n: u8) -> Record {
        let links = Links {
            deleted: true,
            ..links(set, &item(n), set.digest())
        };
        record(item(n), at, keys.seal(&OWNER, item(n), &links, vec![n]))
    }

    fn floor(keyring: &Keyring, keys: &OwnerKeys, set: &OwnerSet, at: u64, floor: u64) -> Record {
        let floor = Version::new(floor).expect("in range");
        let links = links(set, &RecordName::Floor, set.digest_above(keyring, floor));
        record(
            RecordName::Floor,
            at,
            keys.seal_floor(&OWNER, &links, floor),
        )
    }

    #[test]
    fn under_a_floor_deletions_are_of_no_account_whether_they_are_there_or_not() {
        let (keyring, states) = history(&[vec![1], vec![2], vec![3]]);
        let keys = keyring.new_owner_keys();
        let apply = |set: &OwnerSet, record: Record| {
            set.apply(&keyring, [record]).expect("made upon this set")
        };
        let one_less = apply(&states[3], deletion(&keys, &states[3], 20, 1));
        let two_less = apply(&one_less, deletion(&keys, &one_less, 30, 2));
        let floored = apply(&two_less, floor(&keyring, &keys, &two_less, 40, 20));
        assert_eq!((floored.floor().get(), floored.version().get()), (20, 40));
        assert!(floored.get(&item(1)).is_none() && floored.get(&item(2)).is_some());
        // As the bucket has it before the purge, and after it.
        let there: Vec<Record> = two_less
            .records()
            .chain(floored.get(&RecordName::Floor))
            .cloned()
            .collect();
        for purged in [false, true] {
            let left = there
                .iter()
                .filter(|r| !purged || r.name != item(1))
                .cloned();
            let read = OwnerSet::empty(OWNER).apply(&keyring, left).expect("whole");
            assert_eq!(
                (read.digest(), read.floor().get()),
                (floored.digest(), 20),
                "purged: {purged}"
            );
            // Written upon, it is vouched for like any other; and the item may come back.
            for n in [1, 3] {
                let next = write(&keys, &read, 50, &[n]);
                let all: Vec<Record> = there
                    .iter()
                    .filter(|r| !purged || r.name != item(1))
                    .cloned()
                    .chain(next)
                    .collect();
                let again = OwnerSet::empty(OWNER).apply(&keyring, all).expect("whole");
                assert_eq!(again.version().get(), 51);
            }
        }
        // Another floor takes the place of the first.
        let higher = apply(&floored, floor(&keyring, &keys, &floored, 60, 30));
        assert!(higher.get(&item(2)).is_none() && higher.floor().get() == 30);
    }

    #[test]
    fn a_copy_that_is_older_than_the_floor_is_noticed() {
        let (keyring, states) = history(&[vec![1], vec![2]]);
        let keys = keyring.new_owner_keys();
        let old = &states[2];
        let less = old
            .apply(&keyring, [deletion(&keys, old, 20, 1)])
            .expect("made upon this set");
        let more = less
            .apply(&keyring, write(&keys, &less, 29, &[3]))
            .expect("made upon this set");
        let floored = floor(&keyring, &keys, &more, 40, 20);
        // The deletion was purged: what came after the old copy tells nothing of it.
        let newer = more
            .records()
            .filter(|r| r.version > old.version() && r.name != item(1))
            .cloned();
        let newer: Vec<Record> = newer.chain([floored.clone()]).collect();
        assert_eq!(
            old.apply(&keyring, newer)
                .expect_err("item 1 would live on"),
            Broken::BelowFloor
        );
        assert!(more.apply(&keyring, [floored]).is_ok());
    }

    #[test]
    fn half_a_batch_is_noticed() {
        let (keyring, states) = history(&[vec![1], vec![2, 3, 4]]);
        let last = states.last().expect("never empty");
        let half = last
            .records()
            .filter(|r| r.name != item(4))
            .cloned()
            .collect::<Vec<_>>();
        let half_of_a_first = half.clone();
        assert!(
            OwnerSet::empty(OWNER).apply(&keyring, half).is_ok(),
            "the digest is that of before the batch"
        );
        let keys = keyring.new_owner_keys();
        let after = write(&keys, last, 40, &[1]);
        let missing = half_of_a_first.into_iter().chain(after).collect::<Vec<_>>();
        assert_eq!(
            OwnerSet::empty(OWNER)
                .apply(&keyring, missing)
                .expect_err("lost"),
            Broken::Digest
        );
    }

    #[test]
    fn two_writes_upon_one_state_are_a_fork() {
        let (keyring, states) = history(&[vec![1], vec![2]]);
        let keys = keyring.new_owner_keys();
        let base = &states[1];
        let fork = write(&keys, base, 9, &[3]);
        assert_eq!(
            states[2]
                .apply(&keyring, fork)
                .expect_err("upon an older version"),
            Broken::RolledBack
        );
        let both = states[2]
            .records()
            .cloned()
            .chain(write(&keys, base, 9, &[3]))
            .collect::<Vec<_>>();
        assert_eq!(
            OwnerSet::empty(OWNER)
                .apply(&keyring, both)
                .expect_err("fork"),
            Broken::Fork
        );
        let other = write(&keys, &states[0], 9, &[3]);
        let both = states[1]
            .records()
            .cloned()
            .chain(write(&keys, &states[1], 11, &[2]))
            .chain(other);
        let both = both.filter(|r| r.name != item(2)).collect::<Vec<_>>();
        assert_eq!(
            OwnerSet::empty(OWNER)
                .apply(&keyring, both)
                .expect_err("fork"),
            Broken::Fork
        );
    }

    #[test]
    fn nothing_of_the_content_is_printed() {
        let (_, states) = history(&[vec![1]]);
        assert_eq!(format!("{:?}", states[1]), "OwnerSet(1 records at 1)");
        let record = states[1].records().next().expect("one");
        assert!(format!("{record:?}").starts_with("Record("));
        assert_eq!(format!("{:?}", Digest::from_bytes([0; 16])), "0".repeat(32));
        assert_eq!(states[1].owner(), &OWNER);
    }
}
