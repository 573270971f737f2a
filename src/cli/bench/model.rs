//! What a run knows of one owner, and whether a reply agrees with it.
//!
//! The run writes each item under a number, which stands in the item's text, and keeps the versions that
//! the service acknowledged. So it can tell for each item of a reply whose it is, which write it comes
//! from, and whether it is older than what was acknowledged before the request was sent.

use super::random::Random;
use super::reply::Shown;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What the ids of a run's items begin with.
pub(super) const ID_PREFIX: &str = "gofavorites-bench-";
/// The tag of a run's items. With the id it shows that an item may be replaced and removed.
pub(super) const TAG: &str = "gofavorites-bench";
/// The kind of a run's items.
pub(super) const KIND: &str = "text";
/// How many acknowledged writes of an item are remembered. More than are under way at once.
const WRITES_KEPT: usize = 64;

/// In which way a reply is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Wrong {
    /// An item, or the owner, has an older version than was acknowledged, or another one than its
    /// content was written at.
    Version,
    /// An item is missing.
    Missing,
    /// An item is another owner's, or this run did not write it.
    Foreign,
    /// The reply cannot be read, or is not about what was asked.
    Form,
}

impl Wrong {
    /// The name in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Version => "wrong_version",
            Self::Missing => "missing_item",
            Self::Foreign => "foreign_item",
            Self::Form => "unreadable_reply",
        }
    }
}

/// One owner of a run.
pub(super) struct OwnerModel {
    /// The run's own name. It stands in each text.
    run: String,
    /// The owner's number in the run.
    number: usize,
    /// The bytes of a text.
    bytes: usize,
    /// The newest version of the owner that a reply had.
    seen: AtomicU64,
    items: Mutex<Vec<ItemModel>>,
}

/// What is known of one item.
#[derive(Default)]
struct ItemModel {
    newest: Acknowledged,
    /// The last writes that were acknowledged, with their versions.
    acknowledged: VecDeque<(Write, u64)>,
    /// The writes that are under way, and those of which nobody knows what became of them.
    open: Vec<Write>,
    writes: u64,
}

#[derive(Clone, Copy, Default)]
struct Acknowledged {
    version: u64,
    deleted: bool,
}

/// A write of an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Write {
    number: u64,
    deletes: bool,
}

/// How a write ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WriteEnd {
    /// It is stored under that version.
    Acknowledged(u64),
    /// Nothing was written.
    Refused,
    /// It may be written, now or later.
    InDoubt,
}

/// What was known of an item when a request was sent.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Floor {
    version: u64,
    may_be_gone: bool,
}

impl ItemModel {
    fn floor(&self) -> Floor {
        Floor {
            version: self.newest.version,
            may_be_gone: self.newest.deleted || self.is_open(true),
        }
    }

    fn is_open(&self, deletes: bool) -> bool {
        self.open.iter().any(|write| write.deletes == deletes)
    }

    fn is_living(&self) -> bool {
        !self.newest.deleted && !self.is_open(true)
    }

    /// Checks which write a version comes from.
    fn check_write(&self, write: Write, version: u64) -> Result<(), Wrong> {
        let mut acknowledged = self.acknowledged.iter();
        match acknowledged.find(|(known, _)| *known == write) {
            Some((_, known)) if *known == version => Ok(()),
            Some(_) => Err(Wrong::Version),
            None if self.open.contains(&write) => Ok(()),
            // It was forgotten since: more than WRITES_KEPT came after it.
            None if write.number > 0 && write.number + WRITES_KEPT as u64 <= self.writes => Ok(()),
            None => Err(Wrong::Foreign),
        }
    }

    /// Checks that some deletion of this run has that version, or may have it.
    fn check_deletion(&self, version: u64) -> Result<(), Wrong> {
        let is_known = |(write, known): &(Write, u64)| write.deletes && *known == version;
        let is_forgotten = self.acknowledged.len() == WRITES_KEPT
            && self.acknowledged.iter().all(|(_, known)| *known > version);

        if self.acknowledged.iter().any(is_known) || self.is_open(true) || is_forgotten {
            Ok(())
        } else {
            Err(Wrong::Foreign)
        }
    }
}

impl OwnerModel {
    /// Creates the model of an owner who has no items yet.
    pub fn new(run: &str, number: usize, items: usize, bytes: usize) -> Self {
        let models = std::iter::repeat_with(ItemModel::default).take(items);

        Self {
            run: run.to_owned(),
            number,
            bytes,
            seen: AtomicU64::new(0),
            items: Mutex::new(models.collect()),
        }
    }

    /// How many items the owner has, deleted ones included.
    pub fn len(&self) -> usize {
        self.items().len()
    }

    /// The newest version of the owner that a reply had.
    pub fn seen(&self) -> u64 {
        self.seen.load(Ordering::Relaxed)
    }

    /// Takes note of the owner's version in a reply. `seen` is what was known when the request was sent.
    pub fn note_seen(&self, version: u64, seen: u64) -> Result<(), Wrong> {
        self.seen.fetch_max(version, Ordering::Relaxed);

        if version < seen {
            Err(Wrong::Version)
        } else {
            Ok(())
        }
    }

    /// Chooses an item that there is; if there is none, any.
    pub fn choose_living(&self, random: &mut Random) -> usize {
        self.choose(random, ItemModel::is_living)
    }

    /// Chooses an item to put: one that is deleted, if there is one.
    pub fn choose_put(&self, random: &mut Random) -> usize {
        self.choose(random, |item| item.newest.deleted && item.open.is_empty())
    }

    /// Chooses an item to delete. `None` if there is none.
    pub fn choose_deletion(&self, random: &mut Random) -> Option<usize> {
        let chosen = self.choose_living(random);

        self.items()[chosen].is_living().then_some(chosen)
    }

    fn choose(&self, random: &mut Random, fits: impl Fn(&ItemModel) -> bool) -> usize {
        let items = self.items();
        let first = random.below(items.len());
        let mut from_first = (first..items.len()).chain(0..first);

        from_first
            .find(|index| fits(&items[*index]))
            .unwrap_or(first)
    }

    /// Returns the version of an item, as far as it is acknowledged.
    pub fn version_of(&self, item: usize) -> u64 {
        self.items()[item].newest.version
    }

    /// Returns what is known of an item before a request is sent.
    pub fn floor(&self, item: usize) -> Floor {
        self.items()[item].floor()
    }

    /// Returns the same of all items.
    pub fn floors(&self) -> Vec<Floor> {
        self.items().iter().map(ItemModel::floor).collect()
    }

    /// Begins a write of an item.
    pub fn begin_write(&self, item: usize, deletes: bool) -> Write {
        let mut items = self.items();
        let item = &mut items[item];
        item.writes += 1;
        let write = Write {
            number: item.writes,
            deletes,
        };
        item.open.push(write);

        write
    }

    /// Takes note of how a write ended.
    pub fn end_write(&self, item: usize, write: Write, end: WriteEnd) {
        let mut items = self.items();
        let item = &mut items[item];
        if end == WriteEnd::InDoubt {
            return;
        }
        item.open.retain(|open| *open != write);

        if let WriteEnd::Acknowledged(version) = end {
            if item.acknowledged.len() == WRITES_KEPT {
                item.acknowledged.pop_front();
            }
            item.acknowledged.push_back((write, version));
            if version > item.newest.version {
                item.newest = Acknowledged {
                    version,
                    deleted: write.deletes,
                };
            }
        }
    }

    /// Checks the item in the reply to a write.
    pub fn check_written(
        &self,
        item: usize,
        write: Write,
        floor: Floor,
        shown: &Shown,
    ) -> Result<(), Wrong> {
        if shown.id != id(item) || shown.kind != KIND || shown.deleted != write.deletes {
            return Err(Wrong::Form);
        }
        if !write.deletes && self.write_in(&shown.data.text, item) != Some(write.number) {
            return Err(Wrong::Foreign);
        }

        if shown.version <= floor.version {
            return Err(Wrong::Version);
        }
        Ok(())
    }

    /// Checks an item that a reply shows.
    pub fn check_shown(&self, floor: Floor, shown: &Shown) -> Result<(), Wrong> {
        let item = self.index_of(shown).ok_or(Wrong::Foreign)?;
        let number = self.write_in(&shown.data.text, item);
        let items = self.items();
        let known = &items[item];

        match number {
            _ if shown.version < floor.version => Err(Wrong::Version),
            _ if shown.deleted => known.check_deletion(shown.version),
            None => Err(Wrong::Foreign),
            Some(number) => {
                let write = Write {
                    number,
                    deletes: false,
                };
                known.check_write(write, shown.version)
            }
        }
    }

    /// Checks that an item may be missing that a reply does not show.
    pub fn check_missing(&self, item: usize, floor: Floor) -> Result<(), Wrong> {
        let items = self.items();
        let known = &items[item];
        let was_deleted =
            |(write, version): &(Write, u64)| write.deletes && *version > floor.version;

        let may_be_gone = floor.may_be_gone
            || known.floor().may_be_gone
            || known.acknowledged.iter().any(was_deleted);
        if may_be_gone {
            Ok(())
        } else {
            Err(Wrong::Missing)
        }
    }

    /// Checks a page that should show all items.
    pub fn check_list(
        &self,
        floors: &[Floor],
        shown: &[Shown],
        is_complete: bool,
    ) -> Result<(), Wrong> {
        let mut is_shown = vec![false; floors.len()];
        for one in shown {
            let item = self.index_of(one).ok_or(Wrong::Foreign)?;
            let floor = floors.get(item).ok_or(Wrong::Foreign)?;
            self.check_shown(*floor, one)?;
            if std::mem::replace(&mut is_shown[item], true) {
                return Err(Wrong::Form);
            }
        }

        for (item, floor) in floors.iter().enumerate() {
            if is_complete && !is_shown[item] {
                self.check_missing(item, *floor)?;
            }
        }
        Ok(())
    }

    /// Checks what changed since a version.
    pub fn check_changes(&self, since: u64, shown: &[Shown]) -> Result<(), Wrong> {
        let mut last = since;
        for one in shown {
            if one.version <= last {
                return Err(Wrong::Version);
            }
            last = one.version;
            self.check_shown(Floor::default(), one)?;
        }

        Ok(())
    }

    /// Returns the text of a write, as long as the run's texts are.
    pub fn text(&self, item: usize, write: Write) -> String {
        let Self { run, number, .. } = self;
        let mut text = format!("{run} {number} {item} {} ", write.number);
        let missing = self.bytes.saturating_sub(text.len());
        text.extend("bench ".chars().cycle().take(missing));

        text
    }

    /// Returns the number of the write in the text of an item of this run; `None` if the text is another
    /// one.
    fn write_in(&self, text: &str, item: usize) -> Option<u64> {
        let mut words = text.split(' ');
        let is_own = words.next() == Some(self.run.as_str())
            && words.next()?.parse() == Ok(self.number)
            && words.next()?.parse() == Ok(item);

        words.next()?.parse().ok().filter(|_| is_own)
    }

    /// Returns which item of the run that is.
    fn index_of(&self, shown: &Shown) -> Option<usize> {
        let number = shown.id.strip_prefix(ID_PREFIX)?.parse().ok()?;

        (shown.kind == KIND && number < self.len()).then_some(number)
    }

    fn items(&self) -> MutexGuard<'_, Vec<ItemModel>> {
        self.items.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the id of an item.
pub(super) fn id(item: usize) -> String {
    format!("{ID_PREFIX}{item}")
}

#[cfg(test)]
#[path = "model_tests.rs"]
mod tests;
