//! The Russian pages have what the English ones have: the same headings, blocks, tables and links.

use crate::bilingual::{Pair, differences};
use std::fs;
use std::path::Path;

/// The pages that are in both languages.
const PAGES: [[&str; 2]; 3] = [
    ["README.md", "docs/ru/README.md"],
    ["docs/tour.md", "docs/ru/tour.md"],
    ["docs/operations.md", "docs/ru/operations.md"],
];

const ENGLISH: &str = "# Tour

[По-русски](ru/tour.md)

- [Steps](#steps) and the [contract](contract.md#errors), see the [README](../README.md)

## Steps

```sh
make run
make test
```

| command | meaning |
|---|---|
| `run`, `test` | first |
| `help` | then |

## End
";

const RUSSIAN: &str = "# Тур

[English](../tour.md)

- [README](README.md), [контракт](../contract.md#errors) и [шаги](#шаги)

## Шаги

```sh
make run
make test
```

| команда | что значит |
|---|---|
| `run`, `test` | сначала |
| `help` | потом |

## Конец
";

/// Returns the differences after a change of the Russian page.
fn after(old: &str, new: &str) -> Vec<String> {
    assert!(RUSSIAN.contains(old), "{old}");
    let russian = RUSSIAN.replacen(old, new, 1);
    let readme = Pair::read(
        PAGES[0],
        [
            "# GoFavorites\n\n[По-русски](docs/ru/README.md)\n",
            "# GoFavorites\n\n[English](../../README.md)\n\n## Термины\n\n[a](none.md)\n",
        ],
    );

    differences(&[readme, Pair::read(PAGES[1], [ENGLISH, &russian])])
}

#[test]
fn the_russian_pages_have_what_the_english_ones_have() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = |path| fs::read_to_string(root.join(path)).expect("a document");
    let pairs = PAGES.map(|paths| {
        let [english, russian] = paths.map(text);
        Pair::read(paths, [&english, &russian])
    });

    let found = differences(&pairs);

    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn a_faithful_translation_has_no_difference() {
    let found = after("Тур", "Тур");

    assert_eq!(found, [""; 0]);
}

#[test]
fn a_translation_links_to_its_original_under_the_title() {
    let found = after("[English](../tour.md)", "[English](../operations.md)");

    assert_eq!(
        found,
        ["docs/ru/tour.md: under the title is no [English](…) to docs/tour.md"]
    );
}

#[test]
fn a_translation_has_the_headings_of_its_original() {
    let other_level = after("## Конец", "### Конец");
    let one_more = after("## Конец", "## Конец\n\n## Термины");
    let one_less = after("## Конец", "");

    assert_eq!(
        other_level,
        ["docs/tour.md:19 has `## End`, docs/ru/tour.md:19 has `### Конец`"]
    );
    assert_eq!(
        one_more,
        ["docs/tour.md has nothing more, docs/ru/tour.md:21 has `## Термины`"]
    );
    assert_eq!(
        one_less,
        ["docs/tour.md:19 has `## End`, docs/ru/tour.md has nothing more"]
    );
}

#[test]
fn a_translation_has_no_heading_in_english() {
    let found = after("## Конец", "## End");

    assert_eq!(
        found,
        ["docs/ru/tour.md:19: the heading `End` is not in Russian"]
    );
}

#[test]
fn a_translation_has_the_blocks_of_its_original() {
    let other_line = after("make test", "make  test");
    let other_language = after("```sh", "```text");

    assert_eq!(
        other_line,
        ["docs/tour.md:11 has `make test`, docs/ru/tour.md:11 has `make  test`"]
    );
    assert_eq!(
        other_language,
        ["docs/tour.md:9 has ````sh`, docs/ru/tour.md:9 has ````text`"]
    );
}

#[test]
fn a_translation_has_the_rows_of_its_original() {
    let other_code = after("`help`", "`помощь`");
    let one_less = after("| `help` | потом |\n", "");

    assert_eq!(
        other_code,
        ["docs/tour.md:17 has a row of table 1, [\"help\"], \
          docs/ru/tour.md:17 has a row of table 1, [\"помощь\"]"]
    );
    assert_eq!(
        one_less,
        ["docs/tour.md:17 has a row of table 1, [\"help\"], docs/ru/tour.md has nothing more"]
    );
}

#[test]
fn a_translation_has_the_links_of_its_original() {
    let other_section = after("(#шаги)", "(#конец)");
    let english_page = after("[README](README.md)", "[README](../../README.md)");

    assert_eq!(
        other_section,
        [
            "docs/tour.md:5 links to docs/ru/tour.md, heading 2, docs/ru/tour.md does not",
            "docs/ru/tour.md:5 links to docs/ru/tour.md, heading 3, docs/tour.md does not",
        ]
    );
    assert_eq!(
        english_page,
        [
            "docs/tour.md:5 links to docs/ru/README.md, docs/ru/tour.md does not",
            "docs/ru/tour.md:5 links to README.md, docs/tour.md does not",
        ]
    );
}
