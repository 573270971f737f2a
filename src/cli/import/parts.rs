//! Whether an export of Google Authenticator is complete. A large one is split over several QR
//! codes.

use super::parsed::Part;
use std::collections::{BTreeMap, BTreeSet};

/// What is missing of an export.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Missing {
    /// The file with the first part that is there.
    pub file: usize,
    /// Where it stands in that file.
    pub place: String,
    pub reason: String,
}

/// An export: the file and the place of its first part, and which parts are there.
struct Export<'p> {
    file: usize,
    place: &'p str,
    indices: BTreeSet<u64>,
}

/// Returns the parts that are missing of the exports to which these parts belong. Each part comes
/// with its file.
pub(super) fn find_missing<'p>(parts: impl Iterator<Item = (usize, &'p Part)>) -> Vec<Missing> {
    let mut exports: BTreeMap<(u64, u64), Export<'p>> = BTreeMap::new();
    for (file, part) in parts {
        let export = exports
            .entry((part.batch, part.size))
            .or_insert_with(|| Export {
                file,
                place: &part.place,
                indices: BTreeSet::new(),
            });
        export.indices.insert(part.index);
    }

    let missing = exports.into_iter().flat_map(|((_, size), export)| {
        let missing: Vec<u64> = (0..size)
            .filter(|index| !export.indices.contains(index))
            .collect();

        missing.into_iter().map(move |index| Missing {
            file: export.file,
            place: export.place.to_owned(),
            reason: format!(
                "part {} of {size} of this export is missing: import all of its QR codes together",
                index + 1
            ),
        })
    });
    missing.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(batch: u64, size: u64, index: u64) -> Part {
        Part {
            place: format!("line {index}"),
            batch,
            size,
            index,
        }
    }

    #[test]
    fn a_missing_part_is_named_once() {
        let parts = [
            (0, part(7, 3, 1)),
            (1, part(7, 3, 1)),
            (1, part(8, 2, 0)),
            (2, part(8, 2, 1)),
            (2, part(0, 1, 0)),
            (2, part(0, 0, 0)),
        ];

        let missing = find_missing(parts.iter().map(|(file, part)| (*file, part)));

        let found: Vec<(usize, &str, bool)> = missing
            .iter()
            .map(|missing| {
                let is_of_three = missing.reason.contains("of 3");
                (missing.file, missing.place.as_str(), is_of_three)
            })
            .collect();
        assert_eq!(found, [(0, "line 1", true), (0, "line 1", true)]);
        assert!(missing[0].reason.starts_with("part 1 of 3"));
        assert!(missing[1].reason.starts_with("part 3 of 3"));
    }
}
