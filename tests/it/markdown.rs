//! What a document is made of: headings, fenced blocks, tables and links, each with its line.

use std::collections::BTreeMap;
use std::ops::Range;

/// A heading, and the anchor by which a link leads to it.
pub(crate) struct Heading {
    pub line: usize,
    pub level: usize,
    pub text: String,
    pub anchor: String,
}

/// A fenced block. One within a list is indented, and so is its text.
pub(crate) struct Block {
    pub line: usize,
    pub language: String,
    pub text: String,
}

/// A row of a table, its head included: the code spans in its first cell.
pub(crate) struct Row {
    pub line: usize,
    pub code: Vec<String>,
}

/// A link: what stands between its parentheses.
pub(crate) struct Link {
    pub line: usize,
    pub target: String,
}

/// A document, read.
#[derive(Default)]
pub(crate) struct Page {
    pub headings: Vec<Heading>,
    pub blocks: Vec<Block>,
    pub tables: Vec<Vec<Row>>,
    pub links: Vec<Link>,
}

impl Page {
    pub(crate) fn read(text: &str) -> Self {
        let (blocks, prose) = blocks_and_prose(text);

        Self {
            headings: headings(&prose),
            tables: tables(&prose),
            links: links(&prose),
            blocks,
        }
    }

    pub(crate) fn has_anchor(&self, anchor: &str) -> bool {
        self.headings.iter().any(|heading| heading.anchor == anchor)
    }
}

/// Returns the fenced blocks, and the lines with empty ones in the place of the blocks.
fn blocks_and_prose(text: &str) -> (Vec<Block>, Vec<&str>) {
    let mut blocks: Vec<Block> = Vec::new();
    let mut prose = Vec::new();
    let mut within = false;

    for (index, line) in text.lines().enumerate() {
        match line.trim_start().strip_prefix("```") {
            Some(_) if within => within = false,
            Some(language) => {
                within = true;
                blocks.push(Block {
                    line: index + 1,
                    language: language.to_owned(),
                    text: String::new(),
                });
            }
            None if within => {
                let block = blocks.last_mut().expect("a block has begun");
                block.text.push_str(line);
                block.text.push('\n');
            }
            None => {
                prose.push(line);
                continue;
            }
        }
        prose.push("");
    }

    (blocks, prose)
}

fn headings(prose: &[&str]) -> Vec<Heading> {
    let mut earlier: BTreeMap<String, usize> = BTreeMap::new();
    let mut headings = Vec::new();

    for (index, line) in prose.iter().enumerate() {
        let text = line.trim_start_matches('#');
        let level = line.len() - text.len();
        let Some(text) = text.strip_prefix(' ').filter(|_| level > 0) else {
            continue;
        };

        let name = anchor_name(text);
        let count = earlier.entry(name.clone()).or_default();
        let anchor = match *count {
            0 => name,
            count => format!("{name}-{count}"),
        };
        *count += 1;

        headings.push(Heading {
            line: index + 1,
            level,
            text: text.trim().to_owned(),
            anchor,
        });
    }

    headings
}

/// Returns the anchor that GitHub gives to the first heading of that text: letters and digits of
/// any script in lower case, and hyphens for spaces. A heading of ours holds no link.
fn anchor_name(heading: &str) -> String {
    heading
        .trim()
        .to_lowercase()
        .chars()
        .filter(|letter| letter.is_alphanumeric() || matches!(letter, ' ' | '-' | '_'))
        .map(|letter| if letter == ' ' { '-' } else { letter })
        .collect()
}

fn tables(prose: &[&str]) -> Vec<Vec<Row>> {
    let mut tables: Vec<Vec<Row>> = Vec::new();
    let mut within = false;

    for (index, line) in prose.iter().enumerate() {
        let Some(row) = line.trim_start().strip_prefix('|') else {
            within = false;
            continue;
        };
        if !within {
            tables.push(Vec::new());
            within = true;
        }

        let code = code_spans(first_cell(row));
        let row = Row {
            line: index + 1,
            code: code.map(|(_, code)| code.to_owned()).collect(),
        };
        tables.last_mut().expect("a table has begun").push(row);
    }

    tables
}

/// Returns the row up to the first bar that is not escaped.
fn first_cell(row: &str) -> &str {
    let end = row
        .match_indices('|')
        .map(|(at, _)| at)
        .find(|&at| !row[..at].ends_with('\\'));

    &row[..end.unwrap_or(row.len())]
}

fn links(prose: &[&str]) -> Vec<Link> {
    let mut links = Vec::new();
    let mut line = 1;

    // A code span ends in its paragraph, and so does a link.
    for paragraph in prose.split(|line| line.is_empty()) {
        let text = without_code(&paragraph.join("\n"));

        for (at, _) in text.match_indices("](") {
            let rest = &text[at + 2..];
            let target = rest.split(')').next().expect("one part at least");
            links.push(Link {
                line: line + text[..at].matches('\n').count(),
                target: target.to_owned(),
            });
        }

        line += paragraph.len() + 1;
    }

    links
}

/// Returns the text with each code span blanked, so that no link is found there.
fn without_code(text: &str) -> String {
    let mut blanked = text.to_owned();

    for (range, code) in code_spans(text) {
        let blank = |letter| if letter == '\n' { '\n' } else { ' ' };
        let blanks: String = code
            .chars()
            .flat_map(|letter| std::iter::repeat_n(blank(letter), letter.len_utf8()))
            .collect();
        blanked.replace_range(range, &blanks);
    }

    blanked
}

/// Returns the code spans of a paragraph. As many backticks as begin one also end it.
fn code_spans(text: &str) -> impl Iterator<Item = (Range<usize>, &str)> {
    let mut from = 0;

    std::iter::from_fn(move || {
        loop {
            let begin = from + text[from..].find('`')?;
            let ticks = text[begin..].len() - text[begin..].trim_start_matches('`').len();
            let start = begin + ticks;
            from = start;

            if let Some(length) = closing(&text[start..], ticks) {
                from = start + length + ticks;
                return Some((start..start + length, &text[start..start + length]));
            }
        }
    })
}

/// Returns where a run of exactly so many backticks begins.
fn closing(text: &str, ticks: usize) -> Option<usize> {
    let mut from = 0;

    loop {
        let begin = from + text[from..].find('`')?;
        let run = text[begin..].len() - text[begin..].trim_start_matches('`').len();
        if run == ticks {
            return Some(begin);
        }
        from = begin + run;
    }
}

#[test]
fn an_anchor_is_made_as_github_makes_it() {
    let text = "# One: `codes.add`, it's\n\n## Связь и TLS\n\n### Связь и TLS\n\n## _a_b - c\n";

    let page = Page::read(text);

    let anchors: Vec<&str> = page
        .headings
        .iter()
        .map(|heading| heading.anchor.as_str())
        .collect();
    assert_eq!(
        anchors,
        [
            "one-codesadd-its",
            "связь-и-tls",
            "связь-и-tls-1",
            "_a_b---c"
        ]
    );
}

#[test]
fn code_holds_no_heading_table_or_link() {
    let text =
        "`[a](b)` and ``[c`](d)``\n[e](f), `[g\nh](i)` [j](k)\n\n```sh\n# no\n| [l](m) |\n```\n";

    let page = Page::read(text);

    let links: Vec<(usize, &str)> = page
        .links
        .iter()
        .map(|link| (link.line, link.target.as_str()))
        .collect();
    assert_eq!(links, [(2, "f"), (3, "k")]);
    assert!(page.headings.is_empty());
    assert!(page.tables.is_empty());
    assert_eq!(page.blocks[0].line, 5);
    assert_eq!(page.blocks[0].language, "sh");
    assert_eq!(page.blocks[0].text, "# no\n| [l](m) |\n");
}

#[test]
fn a_table_is_read_by_the_code_of_its_first_column() {
    let text = "| a | b |\n|---|---|\n| `x`, `y \\| z` | `w` |\n| none | |\n\n| `c` |\n|---|\n";

    let page = Page::read(text);

    let rows: Vec<&Row> = page.tables.iter().flatten().collect();
    assert_eq!(page.tables.len(), 2);
    assert_eq!(page.tables[0].len(), 4);
    assert_eq!(rows[2].code, ["x", "y \\| z"]);
    assert_eq!(rows[4].code, ["c"]);
    assert_eq!(rows[4].line, 6);
}
