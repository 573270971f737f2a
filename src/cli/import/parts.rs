//! Whether an export of Google Authenticator is complete. A large one is split over several QR
//! codes.

use super::parsed::Part;
use std::collections::{BTreeMap, BTreeSet};

/// Which parts of an export are missing.
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

/// Returns what is missing of the exports to which these parts belong, once for each export. Each
/// part comes with its file.
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

    let missing = exports.into_iter().filter_map(|((_, size), export)| {
        Some(Missing {
            file: export.file,
            place: export.place.to_owned(),
            reason: describe(&export.indices, size)?,
        })
    });
    missing.collect()
}

/// Returns which parts are missing beside those with these indices, if any. People count parts
/// from 1.
fn describe(indices: &BTreeSet<u64>, size: u64) -> Option<String> {
    let mut gaps = Vec::new();
    let mut next = 0;
    for index in indices.iter().copied().chain([size]) {
        match index.saturating_sub(next) {
            0 => {}
            1 => gaps.push(index.to_string()),
            _ => gaps.push(format!("{} to {index}", next + 1)),
        }
        next = index + 1;
    }

    let (part, is) = match &gaps[..] {
        [] => return None,
        [gap] if !gap.contains(' ') => ("part", "is"),
        _ => ("parts", "are"),
    };
    Some(format!(
        "{part} {} of {size} of this export {is} missing: import all of its QR codes together",
        gaps.join(", ")
    ))
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
    fn missing_parts_are_named_once() {
        let parts = [
            (0, part(7, 3, 1)),
            (1, part(7, 3, 1)),
            (1, part(8, 2, 0)),
            (2, part(8, 2, 1)),
            (2, part(0, 1, 0)),
            (2, part(0, 0, 0)),
        ];

        let missing = find_missing(parts.iter().map(|(file, part)| (*file, part)));

        let [missing] = &missing[..] else {
            panic!("one export is incomplete")
        };
        assert_eq!((missing.file, missing.place.as_str()), (0, "line 1"));
        let expected = "parts 1, 3 of 3 of this export are missing: ";
        assert!(missing.reason.starts_with(expected), "{}", missing.reason);
    }

    #[test]
    fn many_missing_parts_are_one_entry() {
        let parts: Vec<Part> = (0..5_000).map(|batch| part(batch, 1_000, 0)).collect();

        let missing = find_missing(parts.iter().map(|part| (0, part)));

        assert_eq!(missing.len(), 5_000);
        for missing in missing {
            let expected = "parts 2 to 1000 of 1000 of this export are missing: ";
            assert!(missing.reason.starts_with(expected), "{}", missing.reason);
        }
    }

    #[test]
    fn gaps_are_described() {
        let describe = |indices: &[u64]| {
            let described = describe(&indices.iter().copied().collect(), 6);
            described.map(|text| text.split(" of this").next().expect("a text").to_owned())
        };

        assert_eq!(describe(&[0, 1, 2, 3, 4, 5]), None);
        assert_eq!(describe(&[1, 2, 3, 4, 5]).as_deref(), Some("part 1 of 6"));
        assert_eq!(describe(&[0, 1, 2, 3, 4]).as_deref(), Some("part 6 of 6"));
        assert_eq!(
            describe(&[0, 3]).as_deref(),
            Some("parts 2 to 3, 5 to 6 of 6")
        );
    }
}
