//! The tests that a document names as its proof: each of them exists.

use crate::pages::text;
use std::path::Path;

/// The documents that name tests, as `` `file::test` ``.
const DOCUMENTS: [&str; 2] = ["docs/security-model.md", "docs/compatibility.md"];

/// Returns the names of tests in a document: the file and the function.
fn named(document: &str) -> Vec<(&str, &str)> {
    document
        .split('`')
        .skip(1)
        .step_by(2)
        .filter_map(|code| code.split_once("::"))
        .filter(|(file, test)| !test.is_empty() && !file.contains(' '))
        .collect()
}

/// Returns the text of a file of tests, or of the first file of its directory.
fn source(file: &str) -> Option<String> {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it");
    let paths = [format!("{file}.rs"), format!("{file}/mod.rs")];

    paths
        .iter()
        .find_map(|path| std::fs::read_to_string(tests.join(path)).ok())
}

#[test]
fn each_test_that_a_document_names_exists() {
    for document in DOCUMENTS {
        let page = text(document);
        let names = named(&page);

        assert!(names.len() > 5, "{document} names tests");
        for (file, test) in names {
            let function = format!("fn {test}() {{");
            let is_there = source(file).is_some_and(|source| source.contains(&function));

            assert!(is_there, "{document}: {file}::{test}");
        }
    }
}
