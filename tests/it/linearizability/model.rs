//! The specification that histories are checked against: what one owner's items may do, one
//! operation after the other.
//!
//! The bucket chooses versions, so the model does not predict them. They are part of an answer, and
//! a write's version must be above the owner's version before it. Two hints keep the search short.
//! They exclude no order that could be right:
//!
//! - Versions rise. So a write is tried only after every answer with a lower version.
//! - Of several reads of the same state, the one that ended first is taken first.

use stateright::semantics::SequentialSpec;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The item that is a list of one-time codes. Its text is the number of codes that were taken.
pub const LIST: u8 = 4;

/// A put or a deletion of one item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub item: u8,
    /// A text that no other write has; 0 for a new list. A change without text deletes the item.
    pub text: Option<u32>,
    pub if_version: Option<u64>,
}

/// An operation.
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
    /// Takes the next code of the list.
    Take,
}

/// The answer to an operation. `owner` is the owner's version that the answer takes into account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Found {
        owner: u64,
        version: u64,
        text: u32,
    },
    /// To a get, or to the change with that index.
    NotFound {
        owner: u64,
        index: usize,
    },
    /// To the change with that index. Without an index it is the answer to a batch whose owner is
    /// at another version.
    Conflict {
        owner: u64,
        index: Option<usize>,
        item: Option<(u64, u32)>,
    },
    /// The version of each change.
    Written {
        versions: Vec<u64>,
    },
    /// The list's version, and which of its codes was given out.
    Taken {
        version: u64,
        code: u32,
    },
    /// There was no answer. It is unknown whether the operation was executed.
    Missing,
}

/// An answer, and its rank among the answers that changed nothing and have the same owner's
/// version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ret {
    pub answer: Answer,
    pub rank: usize,
}

/// The versions in a history's answers.
#[derive(Debug, Default)]
pub struct Hints {
    /// The owner's version after each acknowledged write.
    pub writes: BTreeSet<u64>,
    /// How many answers that changed nothing have each version.
    pub reads: BTreeMap<u64, usize>,
}

/// What is known about a version. That of a write without an answer is not known exactly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VersionBound {
    Exactly(u64),
    AtLeast(u64),
}

/// One owner: a version, and the live items.
#[derive(Clone, Debug)]
pub struct Owner {
    pub version: VersionBound,
    pub items: BTreeMap<u8, (VersionBound, u32)>,
    /// The answers so far that changed nothing and have the present version.
    answers_taken: usize,
    /// Whether a write without an answer was tried where it cannot have been executed. Then no
    /// further step is valid.
    is_impossible: bool,
    hints: Arc<Hints>,
}

impl Op {
    /// Returns whether it reads or writes the list of codes alone.
    pub fn is_about_list(&self) -> bool {
        match self {
            Self::Get { item } => *item == LIST,
            Self::Write { changes, .. } => changes.iter().all(|change| change.item == LIST),
            Self::Take => true,
        }
    }
}

impl Answer {
    /// Returns whether it is the answer to a write that was executed.
    pub fn is_write(&self) -> bool {
        matches!(self, Self::Written { .. } | Self::Taken { .. })
    }

    /// The owner's version that the answer takes into account.
    pub fn owner(&self) -> Option<u64> {
        match self {
            Self::Found { owner, .. }
            | Self::NotFound { owner, .. }
            | Self::Conflict { owner, .. } => Some(*owner),
            Self::Written { versions } => versions.last().copied(),
            Self::Taken { version, .. } => Some(*version),
            Self::Missing => None,
        }
    }
}

impl VersionBound {
    /// Returns whether it can be that version. If so, it is exactly that version from now on.
    fn narrow_to(&mut self, version: u64) -> bool {
        let fits = match *self {
            Self::Exactly(exact) => exact == version,
            Self::AtLeast(min) => version >= min,
        };

        if fits {
            *self = Self::Exactly(version);
        }

        fits
    }

    fn can_be(mut self, version: u64) -> bool {
        self.narrow_to(version)
    }

    /// The lowest version that a later write can have.
    fn next_min(self) -> u64 {
        match self {
            Self::Exactly(exact) => exact + 1,
            Self::AtLeast(min) => min + 1,
        }
    }

    /// The lowest version whose answers are not all taken.
    fn first_open(self) -> u64 {
        match self {
            Self::Exactly(exact) => exact + 1,
            Self::AtLeast(min) => min,
        }
    }
}

impl Owner {
    /// An owner without items.
    pub fn new(hints: Hints) -> Self {
        Self {
            version: VersionBound::Exactly(0),
            items: BTreeMap::new(),
            answers_taken: 0,
            is_impossible: false,
            hints: Arc::new(hints),
        }
    }

    /// Returns whether all answers with the present version, and with those below `next`, are
    /// taken.
    fn can_leave_for(&self, next: u64) -> bool {
        let all_taken = match self.version {
            VersionBound::Exactly(exact) => {
                let answers = self.hints.reads.get(&exact).copied();

                self.answers_taken == answers.unwrap_or_default()
            }
            VersionBound::AtLeast(_) => true,
        };

        let first = self.version.first_open();
        let between = first..next.max(first);

        all_taken
            && self.hints.writes.range(between.clone()).next().is_none()
            && self.hints.reads.range(between).next().is_none()
    }

    /// Takes an answer that changed nothing. Returns whether it can have that owner's version and
    /// that rank now.
    fn take_answer(&mut self, owner: u64, rank: usize) -> bool {
        if let VersionBound::AtLeast(min) = self.version {
            let is_excluded =
                owner < min || self.hints.writes.contains(&owner) || !self.can_leave_for(owner);

            if is_excluded {
                return false;
            }
        }

        let fits = self.version.narrow_to(owner) && self.answers_taken == rank;
        self.answers_taken += 1;

        fits
    }

    /// Returns whether an item can have that version. If that was open, the item has it from now
    /// on. Version 0 is that of no item.
    fn narrow_item(&mut self, item: u8, wanted: u64) -> bool {
        match self.items.get_mut(&item) {
            Some((version, _)) => version.narrow_to(wanted),
            None => wanted == 0,
        }
    }

    /// Returns whether an answer can show an item so.
    fn can_show(&mut self, item: u8, shown: Option<(u64, u32)>) -> bool {
        match (self.items.get_mut(&item), shown) {
            (Some((version, text)), Some((shown_version, shown_text))) => {
                *text == shown_text && version.narrow_to(shown_version)
            }
            (None, None) => true,
            _ => false,
        }
    }

    /// Returns whether a write can be executed.
    fn can_execute(&mut self, changes: &[Change], if_owner_version: Option<u64>) -> bool {
        let deletes_only_live_items = changes
            .iter()
            .all(|change| change.text.is_some() || self.items.contains_key(&change.item));

        deletes_only_live_items
            && if_owner_version.is_none_or(|wanted| self.version.can_be(wanted))
            && changes.iter().all(|change| {
                change
                    .if_version
                    .is_none_or(|wanted| self.narrow_item(change.item, wanted))
            })
    }

    fn apply(&mut self, changes: &[Change], versions: impl Iterator<Item = VersionBound>) {
        for (change, version) in changes.iter().zip(versions) {
            match change.text {
                Some(text) => self.items.insert(change.item, (version, text)),
                None => self.items.remove(&change.item),
            };

            self.version = version;
        }

        self.answers_taken = 0;
    }

    /// Executes a write that was acknowledged.
    pub fn write(&mut self, changes: &[Change], versions: &[u64]) {
        self.apply(changes, versions.iter().copied().map(VersionBound::Exactly));
    }

    /// Returns whether a write can have been acknowledged with these versions, and executes it.
    fn take_write(
        &mut self,
        changes: &[Change],
        if_owner_version: Option<u64>,
        versions: &[u64],
    ) -> bool {
        let (Some(first), Some(last)) = (versions.first(), versions.last()) else {
            return false;
        };

        let is_consecutive = versions.windows(2).all(|pair| pair[0] + 1 == pair[1]);

        let fits = versions.len() == changes.len()
            && is_consecutive
            && *first >= self.version.next_min()
            && self.can_leave_for(*last)
            && self.can_execute(changes, if_owner_version);

        self.write(changes, versions);

        fits
    }

    /// Gives out the list's next code.
    pub fn give_out_code(&mut self, list: VersionBound) {
        if let Some((version, taken)) = self.items.get_mut(&LIST) {
            *version = list;
            *taken += 1;
        }

        self.version = list;
        self.answers_taken = 0;
    }

    /// Returns whether that code can have been given out, and gives it out.
    fn take_code(&mut self, version: u64, code: u32) -> bool {
        let next = self.items.get(&LIST).map(|(_, taken)| *taken);
        let fits =
            next == Some(code) && version >= self.version.next_min() && self.can_leave_for(version);

        self.give_out_code(VersionBound::Exactly(version));

        fits
    }

    /// Returns whether a refusal of a write is right.
    fn can_refuse(
        &mut self,
        changes: &[Change],
        if_owner_version: Option<u64>,
        answer: &Answer,
    ) -> bool {
        match answer {
            Answer::NotFound { index, .. } => changes.get(*index).is_some_and(|change| {
                change.text.is_none() && !self.items.contains_key(&change.item)
            }),
            Answer::Conflict { owner, index, item } => {
                let owner_differs = if_owner_version.is_some_and(|wanted| wanted != *owner);

                let Some(index) = index else {
                    return owner_differs;
                };

                let Some(change) = changes.get(*index) else {
                    return false;
                };

                let shown_version = item.map_or(0, |(version, _)| version);
                let item_differs = change
                    .if_version
                    .is_some_and(|wanted| wanted != shown_version);
                let is_single = changes.len() == 1;

                (item_differs || owner_differs && is_single) && self.can_show(change.item, *item)
            }
            _ => false,
        }
    }
}

impl SequentialSpec for Owner {
    type Op = Op;
    type Ret = Ret;

    /// Executes a write that got no answer.
    fn invoke(&mut self, op: &Op) -> Ret {
        let first = self.version.next_min();
        match op {
            Op::Get { .. } => {}
            Op::Write {
                changes,
                if_owner_version,
            } => {
                let is_possible =
                    self.can_leave_for(0) && self.can_execute(changes, *if_owner_version);
                self.is_impossible |= !is_possible;

                self.apply(changes, (first..).map(VersionBound::AtLeast));
            }
            Op::Take => {
                let is_possible = self.can_leave_for(0) && self.items.contains_key(&LIST);
                self.is_impossible |= !is_possible;

                self.give_out_code(VersionBound::AtLeast(first));
            }
        }

        Ret {
            answer: Answer::Missing,
            rank: 0,
        }
    }

    fn is_valid_step(&mut self, op: &Op, ret: &Ret) -> bool {
        if self.is_impossible {
            return false;
        }

        match (op, &ret.answer) {
            (
                Op::Get { item },
                Answer::Found {
                    owner,
                    version,
                    text,
                },
            ) => {
                self.take_answer(*owner, ret.rank) && self.can_show(*item, Some((*version, *text)))
            }
            (Op::Get { item }, Answer::NotFound { owner, .. }) => {
                self.take_answer(*owner, ret.rank) && self.can_show(*item, None)
            }
            (Op::Take, Answer::Taken { version, code }) => self.take_code(*version, *code),
            (Op::Take, Answer::NotFound { owner, .. }) => {
                self.take_answer(*owner, ret.rank) && self.can_show(LIST, None)
            }
            (Op::Get { .. } | Op::Take, _) => false,
            (
                Op::Write {
                    changes,
                    if_owner_version,
                },
                Answer::Written { versions },
            ) => self.take_write(changes, *if_owner_version, versions),
            (
                Op::Write {
                    changes,
                    if_owner_version,
                },
                refusal,
            ) => {
                refusal
                    .owner()
                    .is_some_and(|owner| self.take_answer(owner, ret.rank))
                    && self.can_refuse(changes, *if_owner_version, refusal)
            }
        }
    }
}
