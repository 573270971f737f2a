//! What is opened how often.

use super::*;
use crate::domain::{ItemId, ItemLimits, Kind, Timestamp};
use crate::seal::{Format, Keyring, Links, OwnerKey, OwnerKeys, Part};
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use uuid::Uuid;

const OWNER: OwnerKey = OwnerKey::from_bytes([7; 16]);

/// An owner's sets, each with one write more than the one before.
struct Sets {
    keyring: Keyring,
    keys: OwnerKeys,
    newest: OwnerSet,
}

impl Sets {
    fn empty() -> Self {
        let key = |digit: &str| format!("{}=", digit.repeat(43));
        let keyring = Keyring::from_base64(&key("A"), &key("E")).expect("keys");

        Self {
            keys: keyring.new_owner_keys(),
            keyring,
            newest: OwnerSet::empty(OWNER),
        }
    }

    /// Writes the item of that number, with so many bytes of content.
    fn write(&mut self, item: u8, bytes: usize) -> OwnerSet {
        let set = &self.newest;
        let name = RecordName::Item(ItemKey::from_bytes([item; 16]));
        let links = Links {
            format: Format::Two,
            prev: set.version(),
            item_prev: set.get(&name).map(|one| one.version).unwrap_or_default(),
            before: set.check(&self.keyring, Format::Two),
            request: None,
            deleted: false,
        };

        let value = self.keys.seal(&OWNER, name, &links, vec![0; bytes]);
        let version = Version::new(set.version().get() + 1).expect("in range");
        let record = Record::parse(name, version, Timestamp::from_millis(0), value.into());
        let written = set.apply(&self.keyring, [record.expect("well formed")]);
        self.newest = written.expect("based on this set");
        self.newest.clone()
    }
}

/// Opens records, and counts them.
#[derive(Default)]
struct Opener(AtomicUsize);

impl Opener {
    fn open(&self, record: &Record) -> Result<OpenedItem, SealError> {
        self.0.fetch_add(1, Ordering::Relaxed);
        let RecordName::Item(key) = record.name else {
            return Err(SealError::Malformed);
        };
        let content = Content::Deleted {
            kind: Kind::Text.into(),
            id: ItemId::parse(Kind::Text, "x", &ItemLimits::default()).expect("an id"),
            updated_at: Timestamp::from_millis(0),
        };

        Ok(OpenedItem {
            key,
            version: record.version,
            body: Body {
                operation: Uuid::nil(),
                shard: "a".into(),
                born: record.version,
                born_request: None,
                part: Part::WHOLE,
                content,
            },
            record: record.clone(),
        })
    }

    fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

#[test]
fn a_newer_version_opens_only_what_changed() {
    let mut sets = Sets::empty();
    let opener = Opener::default();
    let open = |record: &Record| opener.open(record);
    for item in 1..=3 {
        sets.write(item, 40_000);
    }
    let set = sets.newest.clone();
    let items = OpenedItems::none_of(&set);
    assert!(items.are_heavy());
    assert_eq!(items.all(&set, open).expect("opened").len(), 3);

    // The version in between is never used.
    let between = items.following(&sets.write(2, 40_000));
    let set = sets.write(4, 10);
    let next = between.following(&set);

    assert!(!next.are_heavy(), "40,010 bytes are new");
    let all = next.all(&set, open).expect("opened");
    let versions: Vec<u64> = all.iter().map(|item| item.version.get()).collect();
    assert_eq!(versions, [1, 4, 3, 5], "in the order of the names");
    assert_eq!(opener.count(), 5, "three items, and the two that changed");
}

#[test]
fn an_equal_record_from_elsewhere_is_opened_again() {
    let mut sets = Sets::empty();
    let opener = Opener::default();
    let set = sets.write(1, 10);
    let items = OpenedItems::none_of(&set);
    items
        .all(&set, |record| opener.open(record))
        .expect("opened");

    let mut copy = set.records().next().expect("one record").clone();
    let open = |record: &Record| opener.open(record);
    items.one(&copy, open).expect("opened");
    assert_eq!(opener.count(), 1);
    copy.value = copy.value.to_vec().into();

    items.one(&copy, open).expect("opened");
    assert_eq!(opener.count(), 2, "nobody has verified its seal");
}

#[test]
fn an_item_that_was_opened_by_itself_stays_open() {
    let mut sets = Sets::empty();
    let opener = Opener::default();
    let open = |record: &Record| opener.open(record);
    let record_of = |set: &OwnerSet, item| {
        let name = RecordName::Item(ItemKey::from_bytes([item; 16]));
        set.get(&name).expect("written").clone()
    };
    for item in 1..=3 {
        sets.write(item, 10);
    }
    let set = sets.newest.clone();
    let items = OpenedItems::none_of(&set);
    let unopened = items.weight();

    for item in [1, 2, 1] {
        items.one(&record_of(&set, item), open).expect("opened");
    }
    assert_eq!(opener.count(), 2);
    assert!(items.weight() >= unopened + 2 * OPENED_ITEM_BYTES);

    let set = sets.write(2, 10);
    let next = items.following(&set);
    next.one(&record_of(&set, 1), open).expect("opened");
    assert_eq!(opener.count(), 2, "the first is the same");
    next.one(&record_of(&set, 2), open).expect("opened");
    assert_eq!(opener.count(), 3);

    assert_eq!(next.all(&set, open).expect("opened").len(), 3);
    assert_eq!(opener.count(), 4, "only the third was not open");
}

#[test]
fn of_many_requests_at_once_one_opens_the_set() {
    const REQUESTS: usize = 8;
    let mut sets = Sets::empty();
    for item in 1..=9 {
        sets.write(item, 10);
    }
    let set = sets.newest;
    let items = OpenedItems::none_of(&set);
    let opener = Opener::default();
    let start = Barrier::new(REQUESTS);

    thread::scope(|scope| {
        for _ in 0..REQUESTS {
            scope.spawn(|| {
                start.wait();
                let all = items.all(&set, |record| opener.open(record));
                assert_eq!(all.expect("opened").len(), 9);
            });
        }
    });

    assert_eq!(opener.count(), 9);
}
