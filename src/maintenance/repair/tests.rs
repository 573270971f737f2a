//! The rules of a repair, on histories in memory that are drawn at random and then damaged.

use super::compose::{Piece, Writer, stored};
use super::evidence::{Evidence, NoRepair};
use super::plan::{Plan, PlanError};
use crate::domain::Item;
use crate::domain::{
    Data, Hidden, ItemId, ItemLimits, Kind, Meta, Otp, Place, Tags, Text, Timestamp, Version,
};
use crate::seal::{
    Body, Content, Format, ItemKey, Keyring, Links, OwnerKey, OwnerKeys, OwnerSet, Part, Record,
    RecordName, Tail, UserId,
};
use crate::truth::StoredMessage;
use proptest::prelude::*;
use std::collections::BTreeMap;
use uuid::Uuid;

const OWNER: OwnerKey = OwnerKey::from_bytes([7; 16]);
const SECRET: &str = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ";
/// The number of the item that has a counter. All others are texts.
const COUNTER: u8 = 0;

/// One step of an owner's history.
#[derive(Clone, Debug)]
enum Step {
    Put(u8),
    Delete(u8),
    /// Forgets all deletions, and purges them.
    Forget,
    /// A shard's copy has come as far as this.
    Copy,
}

/// One damage to the bucket, to the item of that number.
#[derive(Clone, Debug)]
enum Damage {
    /// All messages of it are gone.
    Lose(u8),
    /// The newest message of it is gone.
    RollBack(u8),
    /// Its oldest message is there again, as the newest.
    Repeat(u8),
    /// The first message that there ever was of it is there again, and no other.
    Revive(u8),
    /// Something else is there, as the newest.
    Garble(u8),
    /// The owner's key is gone.
    LoseKey,
}

/// An owner: the true state, and what the bucket and the shards have of it.
struct Owner {
    keyring: Keyring,
    keys: OwnerKeys,
    set: OwnerSet,
    messages: Vec<StoredMessage>,
    /// All messages that there ever were.
    ever: Vec<StoredMessage>,
    copies: Vec<OwnerSet>,
    sequence: u64,
}

fn name_of(item: u8) -> RecordName {
    RecordName::Item(ItemKey::from_bytes([item; 16]))
}

fn version(number: u64) -> Version {
    Version::new(number).expect("in range")
}

fn body(content: Content) -> Body {
    Body {
        operation: Uuid::from_u128(5),
        shard: "a".into(),
        born: Version::NONE,
        born_request: None,
        part: Part::WHOLE,
        content,
    }
}

impl Owner {
    fn new() -> Self {
        let key = |digit: &str| format!("{}=", digit.repeat(43));
        let keyring = Keyring::from_base64(&key("A"), &key("E")).expect("keys");

        Self {
            keys: keyring.new_owner_keys(),
            keyring,
            set: OwnerSet::empty(OWNER),
            messages: Vec::new(),
            ever: Vec::new(),
            copies: Vec::new(),
            sequence: 1,
        }
    }

    fn links(&self, name: &RecordName, deleted: bool) -> Links {
        let current = self.set.get(name).map(|record| record.version);

        Links {
            format: Format::Two,
            prev: self.set.version(),
            item_prev: current.unwrap_or_default(),
            before: self.set.check(&self.keyring, Format::Two),
            request: None,
            deleted,
        }
    }

    /// Returns the content of an item whose value is that number.
    fn content(item: u8, number: u64) -> (Content, Option<Hidden>) {
        let limits = ItemLimits::default();
        let (kind, data, hidden) = if item == COUNTER {
            let uri = format!("otpauth://hotp/a?secret={SECRET}&counter={number}");
            let otp = Otp::parse(&uri).expect("valid");
            let hidden = Hidden::Otp(otp.hidden().clone());
            (Kind::Otp, Data::Otp(otp.facts().clone()), Some(hidden))
        } else {
            let text = Text::parse(&number.to_string(), &limits).expect("valid");
            (Kind::Text, Data::Text(text), None)
        };

        let content = Content::Living(Item {
            kind: kind.into(),
            id: ItemId::parse(kind, &format!("item-{item}"), &limits).expect("valid"),
            data: Some(data),
            meta: Meta::default(),
            tags: Tags::default(),
            place: Place::of_creation(number, 0),
            created_at: Timestamp::from_millis(1),
            updated_at: Timestamp::from_millis(2),
        });
        (content, hidden)
    }

    fn seal(&self, item: u8, records: u16, content: Content, hidden: Option<&Hidden>) -> Vec<u8> {
        let deleted = matches!(content, Content::Deleted { .. });
        let mut body = body(content);
        body.part.records = Some(records);
        let tail = hidden.map_or(Tail::Shown, Tail::Hidden);
        let plain = body.encode(Format::Two, &tail).expect("encodable");
        let name = name_of(item);

        self.keys
            .seal(&OWNER, name, &self.links(&name, deleted), plain)
    }

    /// Stores a write, as the bucket does.
    fn store(&mut self, records: Vec<(RecordName, Vec<u8>)>) {
        // Other owners write too.
        self.sequence += 1;
        let mut written = Vec::new();
        for (name, value) in records {
            self.sequence += 1;
            let message = StoredMessage {
                name: Some(name),
                version: version(self.sequence),
                at: Timestamp::from_millis(0),
                value: value.into(),
            };
            written.push(message.record().expect("well formed"));
            self.messages.push(message.clone());
            self.ever.push(message);
        }

        let set = self.set.apply(&self.keyring, written);
        self.set = set.expect("based on this set");
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Put(item) => {
                let (content, hidden) = Self::content(*item, self.sequence);
                let first = self.set.version().is_none();
                let mut records = Vec::new();
                if first {
                    let user = UserId::new("issuer", "somebody");
                    let links = self.links(&RecordName::Key, false);
                    let value = self.keys.wrap(&self.keyring, &OWNER, &user, &links);
                    records.push((RecordName::Key, value));
                }
                let count = 1 + u16::from(first);
                let value = self.seal(*item, count, content, hidden.as_ref());
                records.push((name_of(*item), value));
                self.store(records);
            }
            Step::Delete(item) => self.delete(*item),
            Step::Forget => self.forget(),
            Step::Copy => self.copies.push(self.set.clone()),
        }
    }

    fn delete(&mut self, item: u8) {
        let living = self
            .set
            .get(&name_of(item))
            .filter(|one| one.is_live_item());
        let Some(record) = living else { return };
        let opened = Body::open(&self.keys, &OWNER, record).expect("genuine");
        let content = Content::Deleted {
            kind: opened.content.kind().clone(),
            id: opened.content.id().clone(),
            updated_at: Timestamp::from_millis(3),
        };

        let value = self.seal(item, 1, content, None);
        self.store(vec![(name_of(item), value)]);
    }

    fn forget(&mut self) {
        let deletions = self.set.records().filter(|record| record.is_deletion());
        let Some(floor) = deletions.map(|record| record.version).max() else {
            return;
        };
        let mut links = self.links(&RecordName::Floor, false);
        links.before = self.set.check_above(&self.keyring, Format::Two, floor);
        let value = self.keys.seal_floor(&OWNER, &links, floor);
        self.store(vec![(RecordName::Floor, value)]);

        let set = self.set.clone();
        self.messages
            .retain(|message| set.get(&message.name.expect("a name")).is_some());
    }

    /// Damages the bucket, except for the newest write, for which no other write vouches.
    fn damage(&mut self, damage: &Damage) {
        let newest = self.set.newest_write().last().map(|record| record.name);
        let item = match damage {
            Damage::Lose(item)
            | Damage::RollBack(item)
            | Damage::Repeat(item)
            | Damage::Revive(item)
            | Damage::Garble(item) => Some(name_of(*item)),
            Damage::LoseKey => Some(RecordName::Key),
        };
        let of_item = |message: &StoredMessage| message.name == item;
        let mut messages = match damage {
            Damage::Revive(_) => self.ever.iter(),
            _ => self.messages.iter(),
        };
        let Some(oldest) = messages.find(|one| of_item(one)).cloned() else {
            return;
        };
        if item == newest {
            return;
        }

        match damage {
            Damage::Lose(_) | Damage::LoseKey => self.messages.retain(|one| !of_item(one)),
            Damage::RollBack(_) => {
                let last = self.messages.iter().rposition(of_item);
                self.messages.remove(last.expect("one at least"));
            }
            Damage::Repeat(_) => self.publish(oldest),
            Damage::Revive(_) => {
                self.messages.retain(|one| !of_item(one));
                self.publish(oldest);
            }
            Damage::Garble(_) => self.publish(StoredMessage {
                value: "no record".into(),
                ..oldest
            }),
        }
    }

    /// Publishes a message as an administrator may.
    fn publish(&mut self, message: StoredMessage) {
        self.sequence += 1;
        self.messages.push(StoredMessage {
            version: version(self.sequence),
            ..message
        });
    }

    fn plan(&self) -> Result<(Evidence, Plan), PlanError> {
        let evidence = Evidence::of(&self.keyring, OWNER, &self.messages, self.copies.clone())?;
        let barrier = version(self.sequence + 1);
        let plan = Plan::of(&self.writer(), &evidence, barrier)?;

        Ok((evidence, plan))
    }

    fn writer(&self) -> Writer<'_> {
        Writer {
            keyring: &self.keyring,
            owner: OWNER,
            keys: &self.keys,
            shard: "a",
            format: Format::Two,
        }
    }

    /// Executes the first `count` writes of the plan.
    fn execute(&mut self, plan: &Plan, count: usize) {
        let mut set = plan.set.clone();
        self.sequence += 1;
        for pieces in plan.writes.iter().take(count) {
            let records = self.writer().seal(&set, pieces).expect("sealed");
            self.sequence += records.len() as u64;
            let written = stored(&records, version(self.sequence)).expect("well formed");
            for record in written {
                self.messages.push(StoredMessage {
                    name: Some(record.name),
                    version: record.version,
                    at: record.at,
                    value: record.value.clone(),
                });
                set = set.with(&self.keyring, record);
            }
        }
    }

    /// Returns what a reader of the bucket finds, checked as a reader checks it.
    fn read(&self) -> OwnerSet {
        let mut current: BTreeMap<RecordName, Record> = BTreeMap::new();
        for message in &self.messages {
            let name = message.name.expect("a name");
            current.remove(&name);
            current.extend(message.record().map(|record| (name, record)));
        }

        let set = OwnerSet::empty(OWNER).apply(&self.keyring, current.into_values());
        let set = set.expect("complete");
        assert!(set.newest_write_is_whole(Some(&self.keys)));
        set
    }

    /// Returns the living items of a set: texts, and the next counter.
    fn contents(&self, set: &OwnerSet) -> BTreeMap<RecordName, String> {
        let living = set.records().filter(|record| record.is_live_item());
        let content = |record: &Record| {
            let body = Body::open(&self.keys, &OWNER, record).expect("genuine");
            match body.content {
                Content::Living(item) => match item.data.expect("known") {
                    Data::Text(text) => text.as_str().to_owned(),
                    Data::Otp(facts) => facts.counter().expect("a counter").to_string(),
                    _ => unreachable!("no other kind is put"),
                },
                Content::Deleted { .. } => unreachable!("it lives"),
            }
        };

        living
            .map(|record| (record.name, content(record)))
            .collect()
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0u8..5).prop_map(Step::Put),
        2 => (0u8..5).prop_map(Step::Delete),
        1 => Just(Step::Forget),
        1 => Just(Step::Copy),
    ];
    proptest::collection::vec(step, 1..24)
}

fn damages() -> impl Strategy<Value = Vec<Damage>> {
    let damage = prop_oneof![
        3 => (0u8..5).prop_map(Damage::Lose),
        3 => (0u8..5).prop_map(Damage::RollBack),
        2 => (0u8..5).prop_map(Damage::Repeat),
        2 => (0u8..5).prop_map(Damage::Revive),
        1 => (0u8..5).prop_map(Damage::Garble),
        1 => Just(Damage::LoseKey),
    ];
    proptest::collection::vec(damage, 0..5)
}

/// Returns an owner after these steps, of whose bucket nothing is damaged yet.
fn owner_after(steps: &[Step]) -> Owner {
    let mut owner = Owner::new();
    owner.step(&Step::Put(4));
    for step in steps {
        owner.step(step);
    }
    owner
}

proptest! {
    #[test]
    fn with_a_copy_of_the_last_state_nothing_is_lost(
        steps in steps(),
        damages in damages(),
        killed_after in 0usize..6,
    ) {
        let mut owner = owner_after(&steps);
        owner.step(&Step::Copy);
        for damage in &damages {
            owner.damage(damage);
        }
        let expected = owner.contents(&owner.set);
        let floor = owner.set.floor();

        let (_, plan) = owner.plan().expect("a plan");
        prop_assert!(!plan.losses.are_possible(), "{:?}", plan.losses);
        owner.execute(&plan, killed_after);
        let (_, rest) = owner.plan().expect("a plan");
        prop_assert!(!rest.losses.are_possible(), "{:?}", rest.losses);
        owner.execute(&rest, usize::MAX);

        let repaired = owner.read();
        prop_assert_eq!(owner.contents(&repaired), expected);
        prop_assert_eq!(repaired.floor(), floor);
        for copy in &owner.copies {
            prop_assert!(copy.can_become(&repaired));
        }
        let (_, done) = owner.plan().expect("a plan");
        prop_assert!(done.writes.is_empty());
    }

    #[test]
    fn nothing_is_lost_in_silence(steps in steps(), damages in damages()) {
        let mut owner = owner_after(&steps);
        for damage in &damages {
            owner.damage(damage);
        }
        let expected = owner.contents(&owner.set);
        let is_complete = |owner: &Owner, plan: &Plan| {
            let repaired = owner.read();
            let keeps_the_counter = owner.contents(&repaired).contains_key(&name_of(COUNTER));
            let raises_the_floor = repaired.floor() >= owner.set.version();
            !plan.losses.are_possible() || raises_the_floor && !keeps_the_counter
        };

        match owner.plan() {
            Ok((_, plan)) => {
                owner.execute(&plan, usize::MAX);
                prop_assert!(is_complete(&owner, &plan), "{:?}", plan.losses);
                let found = owner.contents(&owner.read());
                if !plan.losses.are_possible() {
                    prop_assert_eq!(found, expected);
                }
            }
            Err(PlanError::NoRepair(NoRepair::NoKey | NoRepair::Unopenable(_))) => {}
            Err(error) => prop_assert!(false, "{error}"),
        }
    }
}

/// Goal: the newer of two states stays, wherever it is; what only an older copy has comes back.
#[test]
fn newer_records_of_the_bucket_stay_on_an_older_copy() {
    let mut owner = owner_after(&[Step::Put(1), Step::Put(COUNTER), Step::Copy]);
    owner.step(&Step::Put(COUNTER));
    owner.step(&Step::Put(2));
    let expected = owner.contents(&owner.set);
    owner.damage(&Damage::Lose(1));

    let (_, plan) = owner.plan().expect("a plan");
    assert!(!plan.losses.are_possible());
    assert!(matches!(&plan.writes[..], [write] if matches!(&write[..], [Piece::Item(_)])));
    owner.execute(&plan, usize::MAX);

    assert_eq!(owner.contents(&owner.read()), expected);
}

/// Goal: an owner that began again with another key is left alone.
#[test]
fn a_second_life_of_an_owner_is_not_joined_with_the_first() {
    let mut owner = owner_after(&[Step::Put(1), Step::Copy]);
    let copies = owner.copies.clone();
    let sequence = owner.sequence;

    owner = Owner::new();
    owner.sequence = sequence;
    owner.step(&Step::Put(2));
    owner.copies = copies;

    let error = owner.plan().err().expect("no plan");
    assert!(
        matches!(error, PlanError::NoRepair(NoRepair::TwoKeys)),
        "{error}"
    );
}
