//! Tables whose columns stand below one another, whatever the script.
//!
//! On a terminal, a table that is too wide loses text of its free-text columns. In a pipe nothing
//! is cut.

use super::screen::Screen;
use super::style::{HEADING, painted};
use super::times::moment;
use anstyle::Style;
use std::fmt;
use unicode_width::UnicodeWidthStr as _;

/// What separates two columns.
const GAP: &str = "  ";
/// The smallest width to which a column is cut, in cells.
const CUT_WIDTH_MIN: usize = 8;
/// The widest that free text makes its column in a pipe, in cells. Longer text is not cut: its row
/// alone is longer.
const PIPE_WIDTH_MAX: usize = 60;

/// The width of the name of a field by itself, in cells.
const NAME_WIDTH: usize = 12;

/// A column: its heading, and what stands in it.
pub(in crate::cli) struct Column {
    heading: &'static str,
    content: Content,
    width_min: usize,
}

/// What stands in a column.
#[derive(Clone, Copy, PartialEq)]
enum Content {
    /// Words, which are never cut.
    Words,
    /// Text, which is cut on a terminal if the table is too wide.
    FreeText,
    /// Numbers, which stand to the right.
    Numbers,
    /// Times in RFC 3339.
    Times,
}

/// What stands in one row of one column.
pub(in crate::cli) struct Cell {
    text: String,
    style: Style,
}

/// Rows below a heading.
pub(in crate::cli) struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<Cell>>,
}

impl Column {
    /// A column of words, which are never cut.
    pub const fn words(heading: &'static str) -> Self {
        Self::new(heading, Content::Words)
    }

    /// A column of text, which is cut on a terminal if the table is too wide.
    pub const fn free_text(heading: &'static str) -> Self {
        Self::new(heading, Content::FreeText)
    }

    /// A column of numbers.
    pub const fn numbers(heading: &'static str) -> Self {
        Self::new(heading, Content::Numbers)
    }

    /// A column of times in RFC 3339.
    pub const fn times(heading: &'static str) -> Self {
        Self::new(heading, Content::Times)
    }

    const fn new(heading: &'static str, content: Content) -> Self {
        Self {
            heading,
            content,
            width_min: 0,
        }
    }

    /// Returns the column with at least that width, in cells.
    #[must_use]
    pub const fn at_least(self, cells: usize) -> Self {
        Self {
            width_min: cells,
            ..self
        }
    }
}

impl Cell {
    /// A cell with its text in that style.
    pub fn styled(text: impl Into<String>, style: Style) -> Self {
        Self {
            text: text.into(),
            style,
        }
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::styled(text, Style::new())
    }
}

impl Table {
    /// Creates a table without rows.
    pub fn new(columns: impl Into<Vec<Column>>) -> Self {
        Self {
            columns: columns.into(),
            rows: Vec::new(),
        }
    }

    /// Adds rows, each with a cell for each column.
    #[must_use]
    pub fn with_rows(mut self, rows: impl IntoIterator<Item = Vec<Cell>>) -> Self {
        self.rows.extend(rows);

        self
    }

    /// Returns the table as text, with a heading and a line for each row.
    pub fn format(mut self, screen: &Screen) -> String {
        self.show_times(screen);

        self.format_heading(screen) + &self.format_rows(screen)
    }

    /// Returns the heading alone.
    pub fn format_heading(&self, screen: &Screen) -> String {
        let heading = self.columns.iter();
        let heading = heading.map(|column| Cell::styled(column.heading, HEADING));

        self.format_row(&heading.collect::<Vec<_>>(), &self.widths(screen), screen)
    }

    /// Returns the rows alone.
    pub fn format_rows(&self, screen: &Screen) -> String {
        let widths = self.widths(screen);
        let rows = self.rows.iter();

        rows.map(|row| self.format_row(row, &widths, screen))
            .collect()
    }

    fn show_times(&mut self, screen: &Screen) {
        for row in &mut self.rows {
            for (cell, column) in row.iter_mut().zip(&self.columns) {
                if column.content == Content::Times {
                    cell.text = moment(&cell.text, screen);
                }
            }
        }
    }

    /// Returns the width of each column, in cells.
    fn widths(&self, screen: &Screen) -> Vec<usize> {
        let widest = |index: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(index));
            cells
                .map(|cell| cell.text.width())
                .max()
                .unwrap_or_default()
        };
        let columns = self.columns.iter().enumerate();
        let mut widths: Vec<usize> = columns
            .map(|(index, column)| {
                let heading = column.heading.width();
                heading.max(widest(index)).max(column.width_min)
            })
            .collect();

        let is_free = |index: usize| self.columns[index].content == Content::FreeText;
        let Some(room) = screen.width else {
            for (index, width) in widths.iter_mut().enumerate() {
                if is_free(index) {
                    *width = (*width).min(PIPE_WIDTH_MAX);
                }
            }
            return widths;
        };

        let gaps = GAP.len() * widths.len().saturating_sub(1);
        let mut excess = (widths.iter().sum::<usize>() + gaps).saturating_sub(room);
        // The widest column loses first, so that short texts stay complete.
        while excess > 0 {
            let widest = (0..widths.len())
                .filter(|index| is_free(*index) && widths[*index] > CUT_WIDTH_MIN)
                .max_by_key(|index| widths[*index]);
            let Some(widest) = widest else {
                break;
            };
            widths[widest] -= 1;
            excess -= 1;
        }
        widths
    }

    fn format_row(&self, row: &[Cell], widths: &[usize], screen: &Screen) -> String {
        let mut out = String::new();
        let mut padding = 0;

        for ((cell, column), width) in row.iter().zip(&self.columns).zip(widths) {
            let is_cut = screen.is_terminal() && column.content == Content::FreeText;
            let text = if is_cut {
                cut(&cell.text, *width, screen.ellipsis())
            } else {
                cell.text.clone()
            };
            let missing = width.saturating_sub(text.width());
            let is_number = column.content == Content::Numbers;
            let before = if is_number { missing } else { 0 };

            // Nothing pads the end of a line.
            if !text.is_empty() {
                out += &" ".repeat(padding + before);
                out += &painted(&text, cell.style, screen.colour);
                padding = 0;
            } else {
                padding += before;
            }
            padding += missing - before + GAP.len();
        }

        out + "\n"
    }
}

/// Returns the line of a field by itself: its name and its value.
pub(in crate::cli) fn labelled(name: &str, value: &str, screen: &Screen) -> String {
    let padding = " ".repeat(NAME_WIDTH.saturating_sub(name.width()));
    let name = painted(name, HEADING, screen.colour);
    let line = format!("{name}{padding} {value}");

    line.trim_end().to_owned() + "\n"
}

/// Returns the text, cut to so many cells.
pub(in crate::cli) fn cut(text: &str, cells: usize, ellipsis: &str) -> String {
    if text.width() <= cells {
        return text.to_owned();
    }

    let room = cells.saturating_sub(ellipsis.width());
    // A mark that is combined with the character before it takes no cell, and so stays with it.
    let end = text
        .char_indices()
        .map(|(start, c)| start + c.len_utf8())
        .take_while(|end| text[..*end].width() <= room)
        .last()
        .unwrap_or_default();
    format!("{}{ellipsis}", text[..end].trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::output::style::GOOD;

    fn table(rows: &[[&str; 3]]) -> Table {
        let columns = [
            Column::words("ID"),
            Column::free_text("WHAT"),
            Column::numbers("VERSION"),
        ];
        let rows = rows.iter().map(|row| row.map(Cell::from).into());

        Table::new(columns).with_rows(rows)
    }

    #[test]
    fn numbers_stand_to_the_right_and_no_line_ends_with_spaces() {
        let table = table(&[["one", "milk", "9"], ["longer", "", "1000"]]);

        assert_eq!(
            table.format(&Screen::pipe()),
            "ID      WHAT  VERSION\none     milk        9\nlonger           1000\n"
        );
    }

    #[test]
    fn columns_are_counted_in_cells() {
        let texts = ["漢字", "e\u{301}é", "😀", "ünïcödé", "ab"];
        let rows = texts.map(|text| [text, "x", "1"]);

        let table = table(&rows).format(&Screen::terminal(80));

        for line in table.lines().skip(1) {
            let (before, _) = line.split_once('x').expect("the second column");
            assert_eq!(before.width(), 9, "{table}");
        }
    }

    #[test]
    fn only_free_text_is_cut_and_only_on_a_terminal() {
        let text = "日本 ".repeat(30);
        let id = "i".repeat(40);
        let rows = [[id.as_str(), text.trim(), "7"]];

        let on_terminal = table(&rows).format(&Screen::terminal(80));
        let in_pipe = table(&rows).format(&Screen::pipe());
        let without_utf8 = Screen {
            utf8: false,
            ..Screen::terminal(80)
        };
        let ascii = table(&rows).format(&without_utf8);

        for line in on_terminal.lines().chain(ascii.lines()) {
            assert!(line.width() <= 80, "{line}");
        }
        assert!(on_terminal.contains(&id) && on_terminal.contains('…'));
        assert!(ascii.contains("...") && !ascii.contains('…'));
        assert!(in_pipe.contains(text.trim()));
    }

    #[test]
    fn a_text_is_cut_between_characters() {
        for (text, cells, expected) in [
            ("milk", 4, "milk"),
            ("milk and bread", 6, "milk…"),
            ("漢字漢字", 5, "漢字…"),
            ("漢字漢字", 4, "漢…"),
            ("e\u{301}e\u{301}e\u{301}", 2, "e\u{301}…"),
        ] {
            assert_eq!(cut(text, cells, "…"), expected);
        }
    }

    #[test]
    fn colours_change_no_width() {
        let screen = Screen {
            colour: true,
            ..Screen::terminal(80)
        };
        let rows = [vec![Cell::styled("up", GOOD), "x".into(), "1".into()]];

        let text = table(&[]).with_rows(rows).format(&screen);

        assert!(text.contains("\u{1b}[1mID\u{1b}[0m  "), "{text:?}");
        assert!(text.contains("\u{1b}[32mup\u{1b}[0m  x"), "{text:?}");
    }
}
