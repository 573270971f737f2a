//! What a repair finds, and what it did: counts and versions, and nothing that the owner wrote.

use super::evidence::{Evidence, NoRepair};
use super::merge::{Losses, Merged};
use crate::seal::{OwnerKey, Record, RecordName};
use serde::Serialize;

/// What a repair finds of one owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepairReport {
    /// The owner.
    pub owner: OwnerKey,
    /// The owner's version in the bucket.
    pub bucket_version: u64,
    /// How many records the bucket has of the owner, earlier versions not counted.
    pub bucket_records: usize,
    /// What is wrong with them.
    pub damage: Damage,
    /// What each shard has.
    pub copies: Vec<CopyReport>,
    /// What can be done.
    pub verdict: Verdict,
}

/// What a shard has of the owner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CopyReport {
    /// The shard.
    pub shard: String,
    /// The version of its copy; `None` if it has none.
    pub version: Option<u64>,
    /// The number of records in it.
    pub records: usize,
    /// Whether it is complete, and every record of it opens. No other copy is used.
    pub complete: bool,
    /// How many of its records the bucket lacks, or has in an older version only.
    pub ahead: usize,
}

/// What is wrong with the bucket's records of an owner, as far as what is known shows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Damage {
    /// Records that are not there.
    pub missing: usize,
    /// Records of which only an older version is there.
    pub older: usize,
    /// Records that do not open, or that are an older one again.
    pub altered: usize,
    /// Messages that are no records.
    pub unreadable: usize,
    /// Items that are there although their deletion is forgotten.
    pub surplus: usize,
    /// Whether the owner's key is among them.
    pub key: bool,
    /// Whether the owner's floor is among them.
    pub floor: bool,
}

/// What a repair would do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Work {
    /// How many records have to be written.
    pub records: usize,
    /// What is lost, or may be.
    pub losses: Losses,
    /// The items with codes that are deleted, because newer uses of them may be lost.
    pub deleted: usize,
}

/// What can be done for an owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The bucket lacks nothing.
    Sound,
    /// Something can be put back.
    Repairable(Work),
    /// The records are not complete, and no shard has a complete copy. What can be done with what is
    /// left, if anything can.
    NoCopy(Option<Work>),
    /// Nothing can be put together.
    Impossible(NoRepair),
}

/// What a repair did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepairOutcome {
    /// What it found first.
    pub found: RepairReport,
    /// The owner's version after the repair; `None` if it wrote nothing.
    pub version: Option<u64>,
    /// The shards whose copies do not equal the bucket yet.
    pub behind: Vec<String>,
}

impl Verdict {
    /// What a repair would do.
    pub fn work(&self) -> Option<Work> {
        match self {
            Self::Repairable(work) => Some(*work),
            Self::NoCopy(work) => *work,
            Self::Sound | Self::Impossible(_) => None,
        }
    }

    /// Returns whether something is lost, or may be.
    pub fn loses(&self) -> bool {
        self.work().is_some_and(|work| work.losses.are_possible())
    }
}

impl Damage {
    /// Compares what the bucket stores with the set that is brought back.
    pub(super) fn of(evidence: &Evidence, merged: &Merged) -> Self {
        let mut damage = Self {
            surplus: merged.surplus.len(),
            ..Self::default()
        };
        for record in merged.set.records() {
            damage.count(evidence, record);
        }
        damage
    }

    fn count(&mut self, evidence: &Evidence, record: &Record) {
        let count = match evidence.stored.get(&record.name) {
            None => &mut self.missing,
            Some(stored) if stored.record.is_none() => &mut self.unreadable,
            Some(stored) => match &stored.genuine {
                None => &mut self.altered,
                Some(there) if there.version < record.version => &mut self.older,
                Some(there) if there.value != record.value => &mut self.altered,
                Some(_) => return,
            },
        };

        *count += 1;
        self.key |= record.name == RecordName::Key;
        self.floor |= record.name == RecordName::Floor;
    }

    /// Returns whether there is none.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}
