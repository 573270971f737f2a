//! The page of errors: it has a row for each code and for each exit code.

use crate::pages::{section, text};
use gofavorites::wire::Code;
use std::collections::BTreeSet;
use std::process::Command;

/// The page.
const PAGE: &str = "docs/errors.md";

/// Returns the rows of a section's tables that begin with a cell of this form.
fn rows<'p>(page: &'p str, heading: &str, is_first: impl Fn(&str) -> bool) -> Vec<Vec<&'p str>> {
    section(page, heading)
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"))
        .map(|row| row.split(" | ").collect::<Vec<_>>())
        .filter(|cells| is_first(cells[0]))
        .collect()
}

/// Returns the exit codes that the program's help lists.
fn exit_codes() -> BTreeSet<String> {
    let output = Command::new(env!("CARGO_BIN_EXE_gofavorites"))
        .arg("--help")
        .output()
        .expect("the program");
    let help = String::from_utf8(output.stdout).expect("a text");

    help.lines()
        .skip_while(|line| *line != "Exit codes:")
        .skip(1)
        .map_while(|line| line.split_whitespace().next())
        .take_while(|word| word.parse::<u8>().is_ok())
        .map(str::to_owned)
        .collect()
}

#[test]
fn the_page_has_each_code_with_its_status() {
    let page = text(PAGE);
    let codes = Code::ALL.map(|code| (format!("`{}`", code.as_str()), code.status().to_string()));

    let rows = rows(&page, "Codes", |cell| cell.starts_with('`'));
    let shown = rows
        .iter()
        .map(|cells| (cells[0].to_owned(), cells[1].to_owned()));

    assert_eq!(
        shown.collect::<BTreeSet<_>>(),
        BTreeSet::from(codes),
        "each code stands there once, and no other"
    );
    assert_eq!(rows.len(), Code::ALL.len());
}

#[test]
fn the_page_has_each_exit_code() {
    let page = text(PAGE);
    let codes = exit_codes();

    let rows = rows(&page, "Exit codes", |cell| cell.parse::<u8>().is_ok());
    let shown = rows.iter().map(|cells| cells[0].to_owned());

    assert_eq!(shown.collect::<BTreeSet<_>>(), codes);
    assert!(codes.contains("9"), "the help lists them: {codes:?}");
}
