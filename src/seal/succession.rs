//! Whether one complete set of an owner's records can have become another by ordinary writes.
//!
//! If not, the other set comes from a history that lacks something of the first: a bucket that was
//! restored, or that lost a record and took writes after that. The versions alone do not tell, for
//! such a bucket moves on.

use super::{OwnerSet, Record, RecordName};

impl OwnerSet {
    /// Returns whether `later` has, or has superseded, everything that this set has. Both sets are
    /// complete, and of the same owner.
    ///
    /// A deletion that is forgotten leaves no trace. So an item that `later` does not have counts as
    /// deleted, but only if a floor of `later` is above this set.
    pub fn can_become(&self, later: &Self) -> bool {
        let is_kept =
            |ours: &Record| later.get(&ours.name).is_some() || later.may_have_forgotten(ours, self);

        later.version() >= self.version()
            && self.records().all(is_kept)
            && later.records().all(|record| later.can_follow(record, self))
    }

    /// Returns the names of the records of `later` that it cannot have if this set was earlier. Both
    /// sets are complete, and of the same owner.
    pub fn records_in_the_way(&self, later: &Self) -> Vec<RecordName> {
        later
            .records()
            .filter(|record| !later.can_follow(record, self))
            .map(|record| record.name)
            .collect()
    }

    /// Returns whether this set may have the record, if an earlier state of the owner was `earlier`.
    fn can_follow(&self, record: &Record, earlier: &Self) -> bool {
        let before = earlier.get(&record.name);
        if record.version <= earlier.version() {
            return before.is_some_and(|before| {
                before.version == record.version && before.value == record.value
            });
        }

        let links = &record.envelope;
        links.prev >= earlier.version()
            && before.is_none_or(|before| {
                links.item_prev >= before.version
                    || links.item_prev.is_none() && self.may_have_forgotten(before, earlier)
            })
    }

    /// Returns whether this set may lack the record of `earlier`, because its deletion is forgotten.
    fn may_have_forgotten(&self, record: &Record, earlier: &Self) -> bool {
        if record.is_deletion() {
            self.floor() >= record.version
        } else {
            record.is_live_item() && self.floor() > earlier.version()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::keyring::test_keyring;
    use super::super::{Format, ItemKey, Keyring, Links, OwnerKey, OwnerKeys};
    use super::*;
    use crate::domain::{Timestamp, Version};

    const OWNER: OwnerKey = OwnerKey::from_bytes([7; 16]);

    /// Writes of one owner, at sequences that the tests choose.
    struct Writer {
        keyring: Keyring,
        keys: OwnerKeys,
    }

    impl Writer {
        fn new() -> Self {
            let keyring = test_keyring();
            let keys = keyring.new_owner_keys();
            Self { keyring, keys }
        }

        fn links(&self, set: &OwnerSet, name: &RecordName, deleted: bool) -> Links {
            let old = set.get(name).map(|record| record.version);
            Links {
                format: Format::Two,
                prev: set.version(),
                item_prev: old.unwrap_or_default(),
                before: set.check(&self.keyring, Format::Two),
                request: None,
                deleted,
            }
        }

        fn apply(&self, set: &OwnerSet, name: RecordName, at: u64, value: Vec<u8>) -> OwnerSet {
            let version = Version::new(at).expect("in range");
            let at = Timestamp::from_millis(0);
            let record = Record::parse(name, version, at, value.into()).expect("well formed");

            set.apply(&self.keyring, [record]).expect("complete")
        }

        fn put(&self, set: &OwnerSet, at: u64, item: u8) -> OwnerSet {
            self.write(set, at, item, false)
        }

        fn delete(&self, set: &OwnerSet, at: u64, item: u8) -> OwnerSet {
            self.write(set, at, item, true)
        }

        fn write(&self, set: &OwnerSet, at: u64, item: u8, deleted: bool) -> OwnerSet {
            let name = RecordName::Item(ItemKey::from_bytes([item; 16]));
            let links = self.links(set, &name, deleted);
            let value = self.keys.seal(&OWNER, name, &links, vec![item]);

            self.apply(set, name, at, value)
        }

        fn floor(&self, set: &OwnerSet, at: u64, floor: u64) -> OwnerSet {
            let floor = Version::new(floor).expect("in range");
            let links = Links {
                before: set.check_above(&self.keyring, Format::Two, floor),
                ..self.links(set, &RecordName::Floor, false)
            };
            let value = self.keys.seal_floor(&OWNER, &links, floor);

            self.apply(set, RecordName::Floor, at, value)
        }
    }

    #[test]
    fn every_state_can_become_any_later_one() {
        let writer = Writer::new();
        let mut states = vec![OwnerSet::empty(OWNER)];
        let mut step = |next: OwnerSet| {
            states.push(next.clone());
            next
        };
        let set = step(writer.put(&OwnerSet::empty(OWNER), 1, 1));
        let set = step(writer.put(&set, 3, 2));
        let set = step(writer.put(&set, 5, 3));
        let set = step(writer.delete(&set, 7, 1));
        let set = step(writer.put(&set, 9, 2));
        let set = step(writer.delete(&set, 11, 3));
        let set = step(writer.floor(&set, 13, 7));
        let set = step(writer.put(&set, 15, 1));
        let set = step(writer.floor(&set, 17, 11));
        step(writer.put(&set, 19, 3));

        for (at, earlier) in states.iter().enumerate() {
            for later in &states[at..] {
                assert!(earlier.can_become(later), "{earlier:?} {later:?}");
            }
            for before in &states[..at] {
                assert!(!earlier.can_become(before), "{earlier:?} {before:?}");
            }
        }
    }

    #[test]
    fn a_lost_write_shows_however_far_the_other_history_is() {
        let writer = Writer::new();
        let common = writer.put(&writer.put(&OwnerSet::empty(OWNER), 1, 1), 2, 2);

        for (what, copy) in [
            ("a new item", writer.put(&common, 10, 3)),
            ("a changed item", writer.put(&common, 10, 1)),
            ("a deletion", writer.delete(&common, 10, 1)),
            ("a floor", writer.floor(&common, 10, 1)),
        ] {
            let next = writer.put(&common, 20, 2);
            let much_later = writer.put(&next, 30, 2);

            for truth in [&common, &next, &much_later] {
                assert!(!copy.can_become(truth), "{what}: {truth:?}");
            }
        }
    }

    #[test]
    fn a_lost_change_shows_once_its_item_is_written_again() {
        let writer = Writer::new();
        let common = writer.put(&writer.put(&OwnerSet::empty(OWNER), 1, 1), 2, 2);
        let copy = writer.put(&common, 10, 1);

        let truth = writer.put(&writer.put(&common, 20, 2), 30, 1);
        let truth = writer.put(&truth, 31, 2);

        assert!(!copy.can_become(&truth));
    }

    #[test]
    fn the_same_version_with_another_content_is_another_history() {
        let writer = Writer::new();
        let common = writer.put(&OwnerSet::empty(OWNER), 1, 1);

        let copy = writer.put(&common, 10, 2);
        let truth = writer.put(&common, 10, 3);

        assert!(!copy.can_become(&truth));
    }
}
