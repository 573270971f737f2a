//! The set that a repair brings back: of each name the newest record that is genuine, in the bucket
//! or in a complete copy.

use super::evidence::{Evidence, NoRepair};
use crate::domain::{Data, Version};
use crate::seal::{AssumedSet, Body, Content, Keyring, OwnerSet, Record, RecordName};
use std::collections::{BTreeMap, BTreeSet};

/// What the repaired set will lack, as far as that can be told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Losses {
    /// Records whose newest version nobody can open. An older version takes its place.
    pub superseded: usize,
    /// Items of an old copy that may have been deleted since, because deletions are forgotten. They
    /// are left out.
    pub left_out: usize,
    /// Items that were changed in two ways, and whose used codes may differ.
    pub diverged: usize,
    /// Whether no write vouches for the set: records may be missing that nobody has.
    pub unproven: bool,
}

impl Losses {
    /// Returns whether something is lost, or may be.
    pub fn are_possible(&self) -> bool {
        *self != Self::default()
    }
}

/// The set that a repair brings back.
pub(super) struct Merged {
    pub set: AssumedSet,
    pub losses: Losses,
    /// A record of each item that the bucket has and should not: its deletion is forgotten.
    pub surplus: Vec<Record>,
    /// Items that give out each code once, and of which newer uses may be lost.
    pub uncertain: BTreeSet<RecordName>,
}

/// The newest genuine record of a name, and the newest version that is known of it.
struct Candidate {
    record: Record,
    known: Version,
    /// The version at which a source last had the record: a copy's own version.
    seen_at: Version,
    in_bucket: bool,
}

impl Merged {
    /// Puts the set together. `least` is the version that it has at least.
    pub fn of(keyring: &Keyring, evidence: &Evidence, least: Version) -> Result<Self, NoRepair> {
        let mut candidates = candidates(evidence)?;
        let mut losses = Losses {
            diverged: count_diverged(evidence, &candidates),
            ..Losses::default()
        };
        let gone = take_gone(evidence, &mut candidates);
        let forgotten = take_forgotten(&mut candidates);

        // The newest write tells which of these it was based on. What does not open was most likely
        // written by nobody who may write.
        let set = |with_forgotten: bool, with_unopened: bool| {
            let more = forgotten.values().filter(|_| with_forgotten);
            let records = candidates.values().chain(more);
            let records = records.map(|one| one.as_of(with_unopened));
            AssumedSet::of(keyring, evidence.owner, records, least)
        };
        let guesses = [(false, false), (true, false), (false, true), (true, true)];
        let proven = guesses.into_iter().find(|(forgotten, unopened)| {
            is_proven(keyring, evidence, &set(*forgotten, *unopened))
        });
        let (with_forgotten, with_unopened) = proven.unwrap_or((false, true));

        losses.unproven = proven.is_none() && !bucket_is_complete(keyring, evidence);
        if losses.unproven {
            losses.left_out = forgotten.len();
        }
        if with_unopened {
            losses.superseded = candidates.values().filter(|one| one.is_older()).count();
        }

        let set = set(with_forgotten, with_unopened);
        let floor = if losses.are_possible() {
            set.version()
        } else {
            set.floor()
        };
        let left_out = gone.iter().chain(&forgotten);
        let left_out = left_out.map(|(name, one)| (*name, one.record.clone()));
        let uncertain = if losses.are_possible() {
            uncertain_items(evidence, &set)
        } else {
            BTreeSet::new()
        };
        Ok(Self {
            surplus: surplus(evidence, &set, floor, &left_out.collect())?,
            set,
            losses,
            uncertain,
        })
    }
}

impl Candidate {
    /// Returns whether there is a newer version that does not open.
    fn is_older(&self) -> bool {
        self.record.version < self.known
    }

    /// Returns the record; with `unopened` under the newest version that is known of it.
    fn as_of(&self, unopened: bool) -> Record {
        let version = if unopened {
            self.known
        } else {
            self.record.version
        };

        Record {
            version,
            ..self.record.clone()
        }
    }
}

/// Returns the newest genuine record of each name.
fn candidates(evidence: &Evidence) -> Result<BTreeMap<RecordName, Candidate>, NoRepair> {
    let mut found: BTreeMap<RecordName, Candidate> = BTreeMap::new();
    for copy in &evidence.copies {
        for record in copy.records() {
            note(&mut found, record, copy.version(), false);
        }
    }

    let mut unopenable = 0;
    for (name, stored) in &evidence.stored {
        if let Some(best) = &stored.best {
            note(&mut found, best, best.version, true);
        }
        match (found.get_mut(name), &stored.repeated) {
            (Some(candidate), _) => candidate.known = candidate.known.max(stored.known),
            // The item was there at that time at least.
            (None, Some(repeated)) => note(&mut found, repeated, repeated.envelope.prev, true),
            (None, None) => unopenable += 1,
        }
    }

    if unopenable > 0 {
        return Err(NoRepair::Unopenable(unopenable));
    }
    Ok(found)
}

fn note(
    found: &mut BTreeMap<RecordName, Candidate>,
    record: &Record,
    seen_at: Version,
    in_bucket: bool,
) {
    let candidate = found.entry(record.name).or_insert_with(|| Candidate {
        record: record.clone(),
        known: record.version,
        seen_at,
        in_bucket,
    });

    if candidate.record.version < record.version {
        candidate.record = record.clone();
    }
    candidate.known = candidate.known.max(record.version);
    candidate.seen_at = candidate.seen_at.max(seen_at);
    candidate.in_bucket |= in_bucket;
}

/// Takes out the items that a complete copy had deleted and forgotten.
fn take_gone(
    evidence: &Evidence,
    candidates: &mut BTreeMap<RecordName, Candidate>,
) -> BTreeMap<RecordName, Candidate> {
    let is_gone = |name: &RecordName, candidate: &mut Candidate| {
        let mut copies = evidence.copies.iter();
        let forgot = |copy: &OwnerSet| copy.get(name).is_none() && copy.floor() > candidate.seen_at;
        candidate.record.is_live_item() && copies.any(forgot)
    };

    candidates.extract_if(.., is_gone).collect()
}

/// Returns a record of each item that the bucket has and the set does not, and that a reader would
/// count: it is no deletion up to the floor.
fn surplus(
    evidence: &Evidence,
    set: &AssumedSet,
    floor: Version,
    left_out: &BTreeMap<RecordName, Record>,
) -> Result<Vec<Record>, NoRepair> {
    let is_counted = |record: &Record| !record.is_deletion() || record.version > floor;
    let counted = evidence
        .stored
        .iter()
        .filter(|(name, _)| set.get(name).is_none())
        .filter(|(_, stored)| stored.record.as_ref().is_none_or(is_counted));

    let mut unopenable = 0;
    let mut surplus = Vec::new();
    for (name, stored) in counted {
        let opened = left_out.get(name).or(stored.best.as_ref());
        match opened.or(stored.repeated.as_ref()) {
            Some(record) => surplus.push(record.clone()),
            None => unopenable += 1,
        }
    }

    if unopenable > 0 {
        return Err(NoRepair::Unopenable(unopenable));
    }
    Ok(surplus)
}

/// Takes out the items that only copies from before the floor have: they may have been deleted since.
fn take_forgotten(
    candidates: &mut BTreeMap<RecordName, Candidate>,
) -> BTreeMap<RecordName, Candidate> {
    let floors = candidates.values().filter_map(|one| one.record.floor());
    let floor = floors.max().unwrap_or_default();
    let may_be_gone = |_: &RecordName, candidate: &mut Candidate| {
        candidate.record.is_live_item() && !candidate.in_bucket && candidate.seen_at < floor
    };

    candidates.extract_if(.., may_be_gone).collect()
}

/// Returns whether the newest write of the set vouches for all of it.
fn is_proven(keyring: &Keyring, evidence: &Evidence, set: &AssumedSet) -> bool {
    set.vouched_for(keyring)
        .is_ok_and(|set| set.newest_write_is_whole(Some(&evidence.keys)))
}

/// Returns whether the bucket's own records are complete. Then nothing is missing but what a copy
/// has: the bucket lost its newest records, and went on without them.
fn bucket_is_complete(keyring: &Keyring, evidence: &Evidence) -> bool {
    let mut records = Vec::new();
    for stored in evidence.stored.values() {
        let Some(record) = &stored.genuine else {
            return false;
        };
        records.push(record.clone());
    }

    OwnerSet::empty(evidence.owner)
        .apply(keyring, records)
        .is_ok_and(|set| set.newest_write_is_whole(Some(&evidence.keys)))
}

/// Counts the items that give out each code once, and of which a source has a version that the
/// newest one does not follow.
fn count_diverged(evidence: &Evidence, candidates: &BTreeMap<RecordName, Candidate>) -> usize {
    let floors = candidates.values().filter_map(|one| one.record.floor());
    let floor = floors.max().unwrap_or_default();
    let follows = |newest: &Record, older: &Record| {
        let item_prev = newest.envelope.item_prev;
        item_prev >= older.version || item_prev.is_none() && floor >= older.version
    };

    let older_of = |name: &RecordName, newest: &Record| {
        let in_bucket = evidence.stored.get(name).and_then(|one| one.best.as_ref());
        let in_copies = evidence.copies.iter().filter_map(|copy| copy.get(name));
        in_copies
            .chain(in_bucket)
            .filter(|older| older.version < newest.version)
            .any(|older| !follows(newest, older))
    };

    candidates
        .iter()
        .filter(|(name, one)| {
            older_of(name, &one.record) && gives_codes_once(evidence, &one.record)
        })
        .count()
}

fn uncertain_items(evidence: &Evidence, set: &AssumedSet) -> BTreeSet<RecordName> {
    set.records()
        .filter(|record| gives_codes_once(evidence, record))
        .map(|record| record.name)
        .collect()
}

/// Returns whether the record is a living item that gives out each of its codes once: one with a
/// counter, or a list of codes. The codes of the other kinds end by themselves.
fn gives_codes_once(evidence: &Evidence, record: &Record) -> bool {
    if !record.is_live_item() {
        return false;
    }

    let body = Body::open(&evidence.keys, &evidence.owner, record);
    let Ok(Content::Living(item)) = body.map(|body| body.content) else {
        return false;
    };
    match item.data {
        Some(Data::Otp(facts)) => facts.counter().is_some(),
        Some(Data::Codes(_)) => true,
        // A newer release knows what this kind is.
        None => true,
        Some(_) => false,
    }
}
