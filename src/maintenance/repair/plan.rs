//! The plan of a repair: which records have to be written again. Each plan is played on paper before
//! it is returned.

use super::compose::{Piece, Writer, stored};
use super::evidence::{Evidence, NoRepair};
use super::merge::{Losses, Merged};
use super::report::Work;
use crate::domain::Version;
use crate::owners::OwnersError;
use crate::seal::{AssumedSet, Broken, OwnerSet, Record, RecordName, SealError};
use std::collections::{BTreeMap, BTreeSet};

/// How often records are added that a copy could not take.
const ROUNDS_MAX: usize = 4;

/// What a repair writes.
pub(super) struct Plan {
    /// The set that the first write is based on.
    pub set: AssumedSet,
    /// The writes, in their order. After each of them the next run of the command can go on.
    pub writes: Vec<Vec<Piece>>,
    pub losses: Losses,
    /// The items with codes that are deleted, because nobody can tell which codes were used.
    pub deleted: usize,
}

/// Why there is no plan.
#[derive(Debug, thiserror::Error)]
pub(super) enum PlanError {
    #[error(transparent)]
    NoRepair(#[from] NoRepair),
    #[error(transparent)]
    Seal(#[from] SealError),
    #[error("a repair would not be complete: {0}")]
    Broken(#[from] Broken),
}

impl From<PlanError> for OwnersError {
    fn from(error: PlanError) -> Self {
        match error {
            PlanError::Seal(error) => error.into(),
            PlanError::NoRepair(_) | PlanError::Broken(_) => SealError::Malformed.into(),
        }
    }
}

impl Plan {
    /// Plans the writes. `barrier` is a sequence of the bucket that is newer than all evidence.
    pub fn of(
        writer: &Writer<'_>,
        evidence: &Evidence,
        barrier: Version,
    ) -> Result<Self, PlanError> {
        // The first write is based on the bucket's version at least, as the compare-and-set demands.
        let mut merged = Merged::of(writer.keyring, evidence, evidence.bucket_version)?;
        if merged.losses.are_possible() {
            // No caller may go on from a version before the repair.
            merged = Merged::of(writer.keyring, evidence, barrier)?;
        }

        let mut names = needed(evidence, &merged);
        for _ in 0..ROUNDS_MAX {
            let writes = writes(evidence, &merged, &names)?;
            let result = play(writer, evidence, &merged.set, &writes, barrier)?;
            let in_the_way = in_the_way(evidence, &result);
            let more: BTreeSet<_> = in_the_way.difference(&names).copied().collect();
            if more.is_empty() {
                return Ok(Self {
                    writes,
                    losses: merged.losses,
                    deleted: merged.uncertain.len(),
                    set: merged.set,
                });
            }
            names.extend(more);
        }

        Err(PlanError::Broken(Broken::Fork))
    }

    /// What it would do.
    pub fn work(&self) -> Work {
        Work {
            records: self.writes.iter().map(Vec::len).sum(),
            losses: self.losses,
            deleted: self.deleted,
        }
    }
}

/// Returns the names of the records that the bucket lacks, or has differently.
fn needed(evidence: &Evidence, merged: &Merged) -> BTreeSet<RecordName> {
    let is_there = |record: &Record| {
        let stored = evidence.stored.get(&record.name);
        stored
            .and_then(|stored| stored.genuine.as_ref())
            .is_some_and(|there| there.version == record.version && there.value == record.value)
    };

    let lacking = merged.set.records().filter(|record| !is_there(record));
    lacking
        .map(|record| record.name)
        .chain(merged.uncertain.iter().copied())
        .collect()
}

/// Returns the names of the records that keep a copy from taking the set as its successor.
fn in_the_way(evidence: &Evidence, result: &OwnerSet) -> BTreeSet<RecordName> {
    let copies = evidence.copies.iter();

    copies
        .flat_map(|copy| copy.records_in_the_way(result))
        .collect()
}

/// Returns the writes of these names, and of what the losses demand.
fn writes(
    evidence: &Evidence,
    merged: &Merged,
    names: &BTreeSet<RecordName>,
) -> Result<Vec<Vec<Piece>>, NoRepair> {
    let is_unknown = |name: &&RecordName| matches!(name, RecordName::Unknown(_));
    match names.iter().filter(is_unknown).count() {
        0 => {}
        count => return Err(NoRepair::NewerRelease(count)),
    }

    let raises_floor = merged.losses.are_possible();
    let is_item = |record: &&Record| matches!(record.name, RecordName::Item(_));
    // A floor that is raised ends the deletions that the bucket lacks.
    let is_ended = |record: &Record| {
        raises_floor && record.is_deletion() && !evidence.stored.contains_key(&record.name)
    };
    let mut items: Vec<&Record> = merged
        .set
        .records()
        .filter(is_item)
        .filter(|record| names.contains(&record.name) && !is_ended(record))
        .collect();
    items.sort_unstable_by_key(|record| record.version);
    let mut items: Vec<Piece> = items.into_iter().map(|one| piece(merged, one)).collect();
    items.extend(merged.surplus.iter().cloned().map(Piece::Deletion));

    let key = merged.set.get(&RecordName::Key);
    let key = key.filter(|_| names.contains(&RecordName::Key));
    let mut writes = Vec::new();
    if let Some(key) = key {
        let other = merged.set.records().find(is_item);
        let with = if items.is_empty() {
            other.map(|record| piece(merged, record))
        } else {
            Some(items.remove(0))
        };
        writes.push(
            [Some(Piece::Key(key.clone())), with]
                .into_iter()
                .flatten()
                .collect(),
        );
    }

    let floor = match merged.set.get(&RecordName::Floor).and_then(Record::floor) {
        _ if raises_floor => Some(merged.set.version()),
        // The write of a key alone would count as half a write.
        floor if names.contains(&RecordName::Floor) || key.is_some() => floor,
        _ => None,
    };
    writes.extend(floor.map(|floor| vec![Piece::Floor(floor)]));
    writes.extend(items.into_iter().map(|item| vec![item]));
    Ok(writes)
}

fn piece(merged: &Merged, record: &Record) -> Piece {
    if merged.uncertain.contains(&record.name) {
        Piece::Deletion(record.clone())
    } else {
        Piece::Item(record.clone())
    }
}

/// Plays the writes as if the bucket stored them after `barrier`. Returns what a reader of the bucket
/// finds then, checked as every reader checks it.
fn play(
    writer: &Writer<'_>,
    evidence: &Evidence,
    set: &AssumedSet,
    writes: &[Vec<Piece>],
    barrier: Version,
) -> Result<OwnerSet, PlanError> {
    let stored_records = evidence.stored.iter().filter_map(|(name, stored)| {
        let record = stored.record.clone()?;
        Some((*name, record))
    });
    let mut found: BTreeMap<RecordName, Record> = stored_records.collect();
    let mut unreadable: BTreeSet<RecordName> = evidence
        .stored
        .iter()
        .filter(|(_, stored)| stored.record.is_none())
        .map(|(name, _)| *name)
        .collect();

    let mut set = set.clone();
    let mut last = barrier.get();
    for pieces in writes {
        let records = writer.seal(&set, pieces)?;
        last += records.len() as u64;
        let version = Version::new(last).ok_or(SealError::Malformed)?;
        for record in stored(&records, version)? {
            unreadable.remove(&record.name);
            set = set.with(writer.keyring, record.clone());
            found.insert(record.name, record);
        }
    }

    if !unreadable.is_empty() {
        return Err(NoRepair::Unopenable(unreadable.len()).into());
    }
    let result = OwnerSet::empty(evidence.owner).apply(writer.keyring, found.into_values())?;
    if !result.newest_write_is_whole(Some(&evidence.keys)) {
        return Err(Broken::Torn.into());
    }
    Ok(result)
}
