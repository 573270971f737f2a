//! An owner that `dev fill` writes: the keys, and the records that are sealed with them.

use crate::domain::{
    Data, Item, ItemId, ItemLimits, Kind, Meta, Place, Tags, Text, Timestamp, Version,
};
use crate::seal::{
    Body, Content, Format, Keyring, Links, OwnerKeys, OwnerSet, Part, Record, RecordName, Tail,
    UserId,
};
use crate::truth::{NewRecord, OwnerWrite};
use anyhow::Context as _;
use std::collections::BTreeMap;
use uuid::Uuid;

/// An owner whose records are written, write by write.
pub(super) struct FilledOwner {
    user: UserId,
    keys: OwnerKeys,
    /// What the bucket has of the owner.
    set: OwnerSet,
    /// The next write.
    sealed: Vec<NewRecord>,
    /// How many records were written.
    pub(super) records: u64,
}

impl FilledOwner {
    /// Creates the owner of that user, who has no records yet.
    pub(super) fn new(keyring: &Keyring, user: UserId) -> Self {
        Self {
            keys: keyring.new_owner_keys(),
            set: OwnerSet::empty(keyring.owner(&user)),
            user,
            sealed: Vec::new(),
            records: 0,
        }
    }

    /// Returns the next write.
    pub(super) fn write(&self) -> OwnerWrite<'_> {
        OwnerWrite {
            owner: self.set.owner(),
            expected: self.set.version(),
            records: &self.sealed,
        }
    }

    /// Adds the next write to what the bucket has, as the records up to the version `last`. Returns the
    /// version before the first of them.
    pub(super) fn note_written(&mut self, keyring: &Keyring, last: u64) -> anyhow::Result<u64> {
        let count = self.sealed.len() as u64;
        let before = last
            .checked_sub(count)
            .context("a version under the first")?;

        let mut stored = Vec::with_capacity(self.sealed.len());
        for (version, record) in (before + 1..).zip(self.sealed.drain(..)) {
            let version = Version::new(version).context("a version above the largest")?;
            let record = Record::parse(record.name, version, Timestamp::now(), record.value)?;
            stored.push(record);
        }

        self.set = self.set.apply(keyring, stored)?;
        self.records += count;
        Ok(before)
    }

    /// Seals the next write: an item with the text for each of those numbers, and before them the
    /// owner's key if the owner has no records yet.
    pub(super) fn seal(
        &mut self,
        keyring: &Keyring,
        format: Format,
        text: &Text,
        numbers: &[u16],
    ) -> anyhow::Result<()> {
        let Self {
            user, keys, set, ..
        } = &*self;
        let owner = set.owner();
        let links = Links {
            format,
            prev: set.version(),
            item_prev: Version::NONE,
            before: set.check(keyring, format),
            request: None,
            deleted: false,
        };

        let mut records = Vec::with_capacity(numbers.len() + 1);
        if set.version().is_none() {
            records.push(NewRecord {
                name: RecordName::Key,
                value: keys.wrap(keyring, owner, user, &links).into(),
            });
        }

        let operation = Uuid::now_v7();
        let count = u16::try_from(records.len() + numbers.len())?;
        for (place, number) in numbers.iter().enumerate() {
            let part = Part {
                records: Some(count),
                of: numbers.len() as u16,
                followed_by: (numbers.len() - 1 - place) as u16,
                refused: BTreeMap::new(),
            };
            let body = Body {
                operation,
                shard: "fill".to_owned(),
                born: Version::NONE,
                born_request: None,
                part,
                content: Content::Living(item(text, set.version(), place, *number)?),
            };
            let name = keys.item(body.content.kind().as_str(), body.content.id().as_str());
            let name = RecordName::Item(name);
            let plain = body.encode(format, &Tail::Shown)?;
            records.push(NewRecord {
                name,
                value: keys.seal(owner, name, &links, plain).into(),
            });
        }

        self.sealed = records;
        Ok(())
    }
}

fn item(text: &Text, version: Version, place: usize, number: u16) -> anyhow::Result<Item> {
    let limits = ItemLimits::default();
    let now = Timestamp::now();

    Ok(Item {
        kind: Kind::Text.into(),
        id: ItemId::parse(Kind::Text, &format!("{number}"), &limits)?,
        data: Some(Data::Text(text.clone())),
        meta: Meta::default(),
        tags: Tags::default(),
        place: Place::of_creation(version.get(), place),
        created_at: now,
        updated_at: now,
    })
}
