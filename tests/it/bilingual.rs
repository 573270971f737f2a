//! Compares a page with its translation: headings, fenced blocks, tables and links.

use crate::markdown::{Heading, Page};
use std::path::{Component, Path};

/// The page that may end with a section of terms, which the English page does not have.
const WITH_TERMS: &str = "docs/ru/README.md";

/// How headings begin that are names in both languages: the program and its alerts.
const NAME: &str = "GoFavorites";

/// A page in one language.
struct Side {
    path: String,
    /// What the link under the title is called.
    other: &'static str,
    page: Page,
    /// The first line under the title that is not empty, and its number.
    under_title: (usize, String),
}

/// A page in both languages.
pub(crate) struct Pair {
    english: Side,
    russian: Side,
}

/// Something that both pages have in the same order.
struct Item {
    line: usize,
    /// What must be the same.
    key: String,
    /// What a message shows.
    shown: String,
}

impl Side {
    fn read(path: &str, text: &str, other: &'static str) -> Self {
        let text = match text.split_once("\n## Термины\n") {
            Some((before, terms)) if path == WITH_TERMS && !terms.contains("\n## ") => before,
            _ => text,
        };
        let mut lines = (1..).zip(text.lines()).skip(1);
        let (line, under_title) = lines.find(|(_, line)| !line.is_empty()).unwrap_or_default();

        Self {
            path: path.to_owned(),
            other,
            page: Page::read(text),
            under_title: (line, under_title.to_owned()),
        }
    }

    fn headings(&self) -> Vec<Item> {
        let item = |heading: &Heading| Item {
            line: heading.line,
            key: "#".repeat(heading.level),
            shown: format!("`{} {}`", "#".repeat(heading.level), heading.text),
        };

        self.page.headings.iter().map(item).collect()
    }

    /// Returns the lines of the fenced blocks, the fences included.
    fn block_lines(&self) -> Vec<Item> {
        let mut items = Vec::new();

        for block in &self.page.blocks {
            let first = format!("```{}", block.language);
            let lines = [first.as_str()].into_iter().chain(block.text.lines());
            for (index, line) in lines.chain(["```"]).enumerate() {
                items.push(Item {
                    line: block.line + index,
                    key: line.to_owned(),
                    shown: format!("`{line}`"),
                });
            }
        }

        items
    }

    /// Returns the rows of the tables.
    fn rows(&self) -> Vec<Item> {
        let mut items = Vec::new();

        for (number, table) in (1..).zip(&self.page.tables) {
            for row in table {
                let shown = format!("a row of table {number}, {:?}", row.code);
                items.push(Item {
                    line: row.line,
                    key: shown.clone(),
                    shown,
                });
            }
        }

        items
    }

    /// Returns the path that a link leads to, and its anchor; `None` for an address.
    fn resolve<'a>(&self, target: &'a str) -> Option<(String, Option<&'a str>)> {
        if target.contains("://") {
            return None;
        }

        let (file, anchor) = match target.split_once('#') {
            Some((file, anchor)) => (file, Some(anchor)),
            None => (target, None),
        };
        let path = match file {
            "" => self.path.clone(),
            file => join(&self.path, file),
        };

        Some((path, anchor))
    }
}

/// Returns the path of a file as a page names it.
fn join(page: &str, file: &str) -> String {
    let directory = Path::new(page).parent().expect("a directory");
    let mut parts: Vec<String> = Vec::new();

    for part in directory.join(file).components() {
        match part {
            Component::ParentDir => drop(parts.pop()),
            part => parts.push(part.as_os_str().to_string_lossy().into_owned()),
        }
    }

    parts.join("/")
}

impl Pair {
    pub(crate) fn read(paths: [&str; 2], texts: [&str; 2]) -> Self {
        Self {
            english: Side::read(paths[0], texts[0], "По-русски"),
            russian: Side::read(paths[1], texts[1], "English"),
        }
    }

    /// Returns the first difference of two lists.
    fn compare(&self, english: &[Item], russian: &[Item]) -> Option<String> {
        let count = english.len().max(russian.len());
        let at = (0..count).find(|&at| {
            let key = |items: &[Item]| items.get(at).map(|item| item.key.clone());
            key(english) != key(russian)
        })?;

        let show = |side: &Side, items: &[Item]| match items.get(at) {
            Some(item) => format!("{}:{} has {}", side.path, item.line, item.shown),
            None => format!("{} has nothing more", side.path),
        };
        let (english, russian) = (show(&self.english, english), show(&self.russian, russian));
        Some(format!("{english}, {russian}"))
    }

    /// Returns what is wrong with the links to each other under the titles.
    fn check_cross_links(&self) -> Vec<String> {
        let mut wrong = Vec::new();

        for (from, to) in [
            (&self.english, &self.russian),
            (&self.russian, &self.english),
        ] {
            let target = from
                .under_title
                .1
                .strip_prefix(&format!("[{}](", from.other))
                .and_then(|rest| rest.strip_suffix(')'));
            if target.and_then(|target| from.resolve(target)) != Some((to.path.clone(), None)) {
                let (path, name, to) = (&from.path, from.other, &to.path);
                wrong.push(format!("{path}: under the title is no [{name}](…) to {to}"));
            }
        }

        wrong
    }

    /// Returns the headings that are still in English.
    fn untranslated(&self) -> impl Iterator<Item = String> {
        let is_russian = |text: &str| text.chars().any(|letter| ('а'..='я').contains(&letter));
        let is_name = |text: &str| text.starts_with(NAME) && !text.contains(' ');
        let headings = self.russian.page.headings.iter();

        headings
            .filter(move |heading| !is_russian(&heading.text.to_lowercase()))
            .filter(move |heading| !is_name(&heading.text))
            .map(|heading| {
                let (path, line, text) = (&self.russian.path, heading.line, &heading.text);
                format!("{path}:{line}: the heading `{text}` is not in Russian")
            })
    }

    /// Returns the links that only one of the two pages has.
    fn compare_links(&self, pairs: &[Self]) -> Vec<String> {
        let places = |side: &Side| -> Vec<(usize, String)> {
            let links = side.page.links.iter();
            links
                .filter(|link| link.line != side.under_title.0)
                .map(|link| (link.line, place(pairs, side, &link.target)))
                .collect()
        };
        let (english, mut russian) = (places(&self.english), places(&self.russian));
        let mut wrong = Vec::new();

        // The order of a sentence is another one in another language.
        for (line, place) in english {
            match russian.iter().position(|(_, other)| *other == place) {
                Some(at) => drop(russian.swap_remove(at)),
                None => {
                    let (path, other) = (&self.english.path, &self.russian.path);
                    wrong.push(format!("{path}:{line} links to {place}, {other} does not"));
                }
            }
        }
        for (line, place) in russian {
            let (path, other) = (&self.russian.path, &self.english.path);
            wrong.push(format!("{path}:{line} links to {place}, {other} does not"));
        }

        wrong
    }
}

/// Returns where a link of a page leads, as the Russian page should name it: to the Russian page if
/// there is one, and there to the heading at the same position.
fn place(pairs: &[Pair], from: &Side, target: &str) -> String {
    let Some((path, anchor)) = from.resolve(target) else {
        return target.to_owned();
    };
    let is_english = pairs.iter().any(|pair| pair.english.path == from.path);
    let to = pairs.iter().find_map(|pair| match &path {
        path if is_english && *path == pair.english.path => Some((&pair.english, &pair.russian)),
        path if *path == pair.russian.path => Some((&pair.russian, &pair.russian)),
        _ => None,
    });

    match (to, anchor) {
        (None, None) => path,
        (None, Some(anchor)) => format!("{path}#{anchor}"),
        (Some((_, russian)), None) => russian.path.clone(),
        (Some((to, russian)), Some(anchor)) => {
            let mut headings = to.page.headings.iter();
            match headings.position(|heading| heading.anchor == anchor) {
                Some(at) => format!("{}, heading {}", russian.path, at + 1),
                None => format!("{}, no heading", russian.path),
            }
        }
    }
}

/// Returns what differs between the pages in the two languages, beside the language.
pub(crate) fn differences(pairs: &[Pair]) -> Vec<String> {
    let headings = |pair: &Pair| pair.compare(&pair.english.headings(), &pair.russian.headings());
    let mut found: Vec<String> = pairs.iter().filter_map(headings).collect();
    // A link leads to the heading at a position, which means something if the headings are the same.
    if found.is_empty() {
        found.extend(pairs.iter().flat_map(|pair| pair.compare_links(pairs)));
    }

    for pair in pairs {
        let (english, russian) = (&pair.english, &pair.russian);

        found.extend(pair.check_cross_links());
        found.extend(pair.untranslated());
        found.extend(pair.compare(&english.block_lines(), &russian.block_lines()));
        found.extend(pair.compare(&english.rows(), &russian.rows()));
    }

    found
}
