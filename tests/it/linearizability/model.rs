//! What one owner's items are allowed to do, one operation after the other: the specification that histories are checked
//! against.
//!
//! A version is whatever the bucket gives, so it is part of an answer and not foretold: a write's has to be above the
//! owner's before. Two hints keep the search short, and forbid no order that could be right: versions rise, so a write is
//! not tried before all that tells of a lower one; and of reads of one state the first to end is taken first.

use stateright::semantics::SequentialSpec;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// One item put, with a text that no other write has, or deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub item: u8,
    /// No text deletes it.
    pub text: Option<u32>,
    pub if_version: Option<u64>,
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    Get {
        item: u8,
    },
    /// All of the changes, or none.
    Write {
        changes: Vec<Change>,
        if_owner_version: Option<u64>,
    },
}

/// What is answered; `owner` is the owner's version that the answer takes into account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    Found {
        owner: u64,
        version: u64,
        text: u32,
    },
    /// To a get, or to the change of that place.
    NotFound {
        owner: u64,
        at: usize,
    },
    /// To the change of that place; or to all of a batch, whose owner is at another version.
    Conflict {
        owner: u64,
        at: Option<usize>,
        item: Option<(u64, u32)>,
    },
    /// The version of each change.
    Written {
        versions: Vec<u64>,
    },
    /// Nothing: it is not known whether it was done.
    Nothing,
}

/// An answer, and its place among the answers that tell of the same owner's version and changed nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ret {
    pub told: Told,
    pub rank: usize,
}

/// What a history tells of versions.
#[derive(Debug, Default)]
pub struct Hints {
    /// The owner's version after each acknowledged write.
    pub writes: BTreeSet<u64>,
    /// How many answers that changed nothing tell of each version.
    pub reads: BTreeMap<u64, usize>,
}

/// A version that is known, or that was given to a write without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    Exactly(u64),
    AtLeast(u64),
}

/// One owner: a version, and the living items.
#[derive(Clone, Debug)]
pub struct Owner {
    pub version: Seen,
    pub items: BTreeMap<u8, (Seen, u32)>,
    /// Answers that told of the present version so far.
    ranks: usize,
    /// Nothing fits any more: an unanswered write cannot have been done here.
    dead: bool,
    hints: Arc<Hints>,
}

impl Told {
    /// The owner's version that it tells of.
    pub fn owner(&self) -> Option<u64> {
        match self {
            Self::Found { owner, .. }
            | Self::NotFound { owner, .. }
            | Self::Conflict { owner, .. } => Some(*owner),
            Self::Written { versions } => versions.last().copied(),
            Self::Nothing => None,
        }
    }
}

impl Seen {
    /// Whether it can be that version; from then on it is.
    fn is(&mut self, version: u64) -> bool {
        let fits = match *self {
            Self::Exactly(known) => known == version,
            Self::AtLeast(least) => version >= least,
        };
        if fits {
            *self = Self::Exactly(version);
        }
        fits
    }

    fn may_be(mut self, version: u64) -> bool {
        self.is(version)
    }

    /// The lowest version that a later write can have.
    fn after(self) -> u64 {
        match self {
            Self::Exactly(known) => known + 1,
            Self::AtLeast(least) => least + 1,
        }
    }

    /// The lowest version that nobody has accounted for.
    fn unseen(self) -> u64 {
        match self {
            Self::Exactly(known) => known + 1,
            Self::AtLeast(least) => least,
        }
    }
}

impl Owner {
    /// Who has nothing yet.
    pub fn new(hints: Hints) -> Self {
        let version = Seen::Exactly(0);
        Self {
            version,
            items: BTreeMap::new(),
            ranks: 0,
            dead: false,
            hints: Arc::new(hints),
        }
    }

    /// Whether all that tells of the present version, and of those up to `next`, was accounted for.
    fn may_leave_for(&self, next: u64) -> bool {
        let complete = match self.version {
            Seen::Exactly(known) => {
                self.ranks == self.hints.reads.get(&known).copied().unwrap_or_default()
            }
            Seen::AtLeast(_) => true,
        };
        let between = self.version.unseen()..next.max(self.version.unseen());
        complete
            && self.hints.writes.range(between.clone()).next().is_none()
            && self.hints.reads.range(between).next().is_none()
    }

    /// Whether an answer that changed nothing can tell of that version of the owner now.
    fn tells(&mut self, owner: u64, rank: usize) -> bool {
        if let Seen::AtLeast(least) = self.version
            && (owner < least || self.hints.writes.contains(&owner) || !self.may_leave_for(owner))
        {
            return false;
        }
        let fits = self.version.is(owner) && self.ranks == rank;
        self.ranks += 1;
        fits
    }

    /// Whether the condition may be true; it is made so where that was open.
    fn has_version(&mut self, item: u8, wanted: u64) -> bool {
        match self.items.get_mut(&item) {
            Some((version, _)) => version.is(wanted),
            None => wanted == 0,
        }
    }

    fn shows(&mut self, item: u8, shown: Option<(u64, u32)>) -> bool {
        match (self.items.get_mut(&item), shown) {
            (Some((version, text)), Some((told, told_text))) => {
                *text == told_text && version.is(told)
            }
            (None, None) => true,
            _ => false,
        }
    }

    /// Whether nothing speaks against the write.
    fn takes(&mut self, changes: &[Change], if_owner_version: Option<u64>) -> bool {
        let living =
            |change: &Change| change.text.is_some() || self.items.contains_key(&change.item);
        changes.iter().all(living)
            && if_owner_version.is_none_or(|wanted| self.version.may_be(wanted))
            && changes.iter().all(|change| {
                change
                    .if_version
                    .is_none_or(|wanted| self.has_version(change.item, wanted))
            })
    }

    fn apply(&mut self, changes: &[Change], versions: impl Iterator<Item = Seen>) {
        for (change, version) in changes.iter().zip(versions) {
            match change.text {
                Some(text) => self.items.insert(change.item, (version, text)),
                None => self.items.remove(&change.item),
            };
            self.version = version;
        }
        self.ranks = 0;
    }

    /// Makes a write that was acknowledged.
    pub fn write(&mut self, changes: &[Change], versions: &[u64]) {
        self.apply(changes, versions.iter().copied().map(Seen::Exactly));
    }

    fn is_refused(
        &mut self,
        changes: &[Change],
        if_owner_version: Option<u64>,
        told: &Told,
    ) -> bool {
        match told {
            Told::NotFound { at, .. } => changes.get(*at).is_some_and(|change| {
                change.text.is_none() && !self.items.contains_key(&change.item)
            }),
            Told::Conflict { owner, at, item } => {
                let owner_differs = if_owner_version.is_some_and(|wanted| wanted != *owner);
                let Some(at) = at else { return owner_differs };
                let Some(change) = changes.get(*at) else {
                    return false;
                };
                let differs = change
                    .if_version
                    .is_some_and(|wanted| wanted != item.map_or(0, |(version, _)| version));
                (differs || owner_differs && changes.len() == 1) && self.shows(change.item, *item)
            }
            _ => false,
        }
    }
}

impl SequentialSpec for Owner {
    type Op = Op;
    type Ret = Ret;

    /// Does what got no answer.
    fn invoke(&mut self, op: &Op) -> Ret {
        if let Op::Write {
            changes,
            if_owner_version,
        } = op
        {
            self.dead |= !self.may_leave_for(0) || !self.takes(changes, *if_owner_version);
            let first = self.version.after();
            self.apply(changes, (first..).map(Seen::AtLeast));
        }
        Ret {
            told: Told::Nothing,
            rank: 0,
        }
    }

    fn is_valid_step(&mut self, op: &Op, ret: &Ret) -> bool {
        if self.dead {
            return false;
        }
        match (op, &ret.told) {
            (
                Op::Get { item },
                Told::Found {
                    owner,
                    version,
                    text,
                },
            ) => self.tells(*owner, ret.rank) && self.shows(*item, Some((*version, *text))),
            (Op::Get { item }, Told::NotFound { owner, .. }) => {
                self.tells(*owner, ret.rank) && self.shows(*item, None)
            }
            (
                Op::Write {
                    changes,
                    if_owner_version,
                },
                Told::Written { versions },
            ) => {
                let (Some(first), Some(last)) = (versions.first(), versions.last()) else {
                    return false;
                };
                let in_one_go = versions.len() == changes.len()
                    && versions.windows(2).all(|two| two[0] + 1 == two[1]);
                let fits = in_one_go
                    && *first >= self.version.after()
                    && self.may_leave_for(*last)
                    && self.takes(changes, *if_owner_version);
                self.write(changes, versions);
                fits
            }
            (
                Op::Write {
                    changes,
                    if_owner_version,
                },
                told,
            ) => {
                told.owner()
                    .is_some_and(|owner| self.tells(owner, ret.rank))
                    && self.is_refused(changes, *if_owner_version, told)
            }
            _ => false,
        }
    }
}
