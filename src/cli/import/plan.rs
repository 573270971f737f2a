//! What an import would write: each entry of the files compared with the item that is there.

use super::new_item::NewItem;
use super::parsed::Found;
use super::service::Service;
use crate::cli::progress::Progress;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::collections::hash_map::Entry as MapEntry;

/// What becomes of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Added,
    Replaced,
    /// There is an item with all that the entry gives.
    AlreadyThere,
    /// There is an item of that id with other content, and it is left alone.
    Differs,
    Failed(String),
}

/// An entry of a file.
pub(super) struct Entry {
    /// The number of its file.
    pub file: usize,
    /// Where it stands in the file; empty for the file itself.
    pub place: String,
    /// The item, if there is one.
    pub item: Option<NewItem>,
    /// The number of an earlier entry that gives the same: it is stored for both.
    pub repeats: Option<usize>,
    pub outcome: Outcome,
}

/// A write that is to be done.
#[derive(Debug)]
pub(super) struct PlannedWrite {
    /// The number of its entry.
    pub entry: usize,
    /// The operation of a batch.
    pub operation: Value,
}

impl Entry {
    /// Returns the entry that was found in that file.
    pub fn new(file: usize, found: Found) -> Self {
        let (item, outcome) = match found.item {
            Ok(item) => (Some(item), Outcome::Added),
            Err(reason) => (None, Outcome::Failed(reason)),
        };

        Self {
            file,
            place: found.place,
            item,
            repeats: None,
            outcome,
        }
    }
}

/// Decides what becomes of each entry, and returns what is to be written for it.
pub(super) async fn plan(
    service: &mut Service,
    entries: &mut [Entry],
    replace: bool,
) -> anyhow::Result<Vec<PlannedWrite>> {
    let is_to_compare = |entry: &Entry| entry.outcome == Outcome::Added && entry.repeats.is_none();
    let numbers: Vec<usize> = (0..entries.len())
        .filter(|number| is_to_compare(&entries[*number]))
        .collect();
    let mut progress = (numbers.len() > service.batch).then(|| Progress::new("entries compared"));
    let mut writes = Vec::new();
    let mut done = 0;
    for chunk in numbers.chunks(service.batch) {
        let keys: Vec<Value> = chunk.iter().filter_map(|at| key(&entries[*at])).collect();
        let stored = service.look_up(&keys).await?;

        for ((number, key), stored) in chunk.iter().zip(&keys).zip(stored) {
            let stored = match key["kind"].as_str() {
                Some("otp") if !stored.is_null() => service.reveal(key).await?,
                _ => stored,
            };
            let entry = &mut entries[*number];
            if let Some(operation) = decide(entry, &stored, replace) {
                writes.push(PlannedWrite {
                    entry: *number,
                    operation,
                });
            }

            done += 1;
            if let Some(progress) = &mut progress {
                progress.step(done, numbers.len() as u64);
            }
        }
    }

    if let Some(progress) = progress {
        progress.end();
    }
    Ok(writes)
}

fn key(entry: &Entry) -> Option<Value> {
    let item = entry.item.as_ref()?;

    Some(json!({"kind": item.kind(), "id": item.id}))
}

/// Finds each entry that has the id of an earlier one: one write is enough for the same item.
pub(super) fn find_repeated(entries: &mut [Entry]) {
    let mut first: HashMap<(&'static str, String), (usize, NewItem)> = HashMap::new();
    for (number, entry) in entries.iter_mut().enumerate() {
        let Some(item) = &entry.item else {
            continue;
        };
        match first.entry((item.kind(), item.id.clone())) {
            MapEntry::Vacant(vacant) => {
                vacant.insert((number, item.clone()));
            }
            MapEntry::Occupied(earlier) => {
                let (earlier, stored) = earlier.get();
                if stored.with(item) == *stored {
                    entry.repeats = Some(*earlier);
                } else {
                    let reason = "an earlier entry has the same id and other content";
                    entry.outcome = Outcome::Failed(reason.to_owned());
                }
            }
        }
    }
}

/// Gives each entry that repeats an earlier one the outcome of that one. What was stored for the
/// earlier entry is there for this one.
pub(super) fn settle_repeated(entries: &mut [Entry]) {
    for number in 0..entries.len() {
        let Some(earlier) = entries[number].repeats else {
            continue;
        };

        entries[number].outcome = match &entries[earlier].outcome {
            Outcome::Added | Outcome::Replaced => Outcome::AlreadyThere,
            settled => settled.clone(),
        };
    }
}

/// Compares an entry with the item that is there, sets its outcome, and returns the operation that
/// stores it, if it is to be stored.
fn decide(entry: &mut Entry, stored: &Value, replace: bool) -> Option<Value> {
    let item = entry.item.as_ref()?;
    if stored.is_null() {
        return Some(item.operation(0));
    }

    let (Some(present), Some(version)) = (NewItem::stored(stored), stored["version"].as_u64())
    else {
        let reason = "the item that is there cannot be read by this version of the program";
        entry.outcome = Outcome::Failed(reason.to_owned());
        return None;
    };
    let merged = present.with(item);
    if merged == present {
        entry.outcome = Outcome::AlreadyThere;
        return None;
    }
    if !replace {
        entry.outcome = Outcome::Differs;
        return None;
    }
    entry.outcome = Outcome::Replaced;
    Some(merged.operation(version))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::import::new_item::InstrumentFields;
    use crate::domain::ItemLimits;

    fn entry(name: &str) -> Entry {
        let fields = InstrumentFields {
            isin: "US0378331005",
            name,
            ..InstrumentFields::default()
        };
        let item = NewItem::instrument(&fields, &ItemLimits::default());

        Entry::new(
            0,
            Found {
                place: "line 2".to_owned(),
                item,
            },
        )
    }

    /// Returns the outcome and the operation.
    fn decided(name: &str, stored: &Value, replace: bool) -> (Outcome, Option<Value>) {
        let mut entry = entry(name);
        let operation = decide(&mut entry, stored, replace);

        (entry.outcome, operation)
    }

    #[test]
    fn an_entry_is_compared_with_what_is_there() {
        let stored = json!({
            "kind": "instrument", "id": "US0378331005", "version": 7,
            "data": {"isin": "US0378331005", "type": "stock", "name": "Apple"},
            "meta": {}, "tags": ["tech"],
        });

        let (outcome, operation) = decided("Apple", &Value::Null, false);
        assert_eq!(outcome, Outcome::Added);
        assert_eq!(operation.expect("a write")["if_version"], 0);

        for replace in [false, true] {
            let same = decided("Apple", &stored, replace);
            assert_eq!(same, (Outcome::AlreadyThere, None));
        }

        let other = decided("Apple Inc.", &stored, false);
        assert_eq!(other, (Outcome::Differs, None));

        let (outcome, operation) = decided("Apple Inc.", &stored, true);
        let operation = operation.expect("a write");
        assert_eq!(outcome, Outcome::Replaced);
        assert_eq!(operation["if_version"], 7);
        assert_eq!(operation["tags"], json!(["tech"]));
        assert_eq!(operation["data"]["type"], "stock");

        let (outcome, operation) = decided("Apple", &json!({"unknown": true}), true);
        assert!(matches!(outcome, Outcome::Failed(_)));
        assert_eq!(operation, None);
    }

    #[test]
    fn of_two_entries_with_one_id_the_first_counts() {
        let mut entries = [entry("Apple"), entry(""), entry("Apple Inc.")];

        find_repeated(&mut entries);
        settle_repeated(&mut entries);

        assert_eq!(entries[0].outcome, Outcome::Added);
        assert_eq!(entries[1].outcome, Outcome::AlreadyThere);
        assert!(matches!(entries[2].outcome, Outcome::Failed(_)));
    }

    #[test]
    fn an_entry_that_repeats_another_shares_its_outcome() {
        let refused = Outcome::Failed("refused".to_owned());

        for (first, expected) in [
            (Outcome::Added, Outcome::AlreadyThere),
            (Outcome::Replaced, Outcome::AlreadyThere),
            (Outcome::AlreadyThere, Outcome::AlreadyThere),
            (Outcome::Differs, Outcome::Differs),
            (refused.clone(), refused),
        ] {
            let mut entries = [entry("Apple"), entry("Apple"), entry("")];
            find_repeated(&mut entries);
            entries[0].outcome = first;

            settle_repeated(&mut entries);

            assert_eq!(entries[1].outcome, expected);
            assert_eq!(entries[2].outcome, expected);
        }
    }
}
