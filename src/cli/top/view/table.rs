//! Tables that show as many of their columns, and rows, as there is room for.

use super::theme::Theme;
use crate::cli::output::cut;
use crate::cli::top::columns::ColumnId;
use crate::cli::top::controls::Order;
use ratatui::style::Style;
use ratatui::text::{Line, Span};
use unicode_width::UnicodeWidthStr as _;

/// What separates two columns.
const GAP: &str = "  ";

/// What stands in one row of one column.
#[derive(Clone, Debug, Default)]
pub(super) struct Cell {
    text: String,
    style: Style,
    /// By what the rows are sorted; without it, by the text.
    value: Option<f64>,
}

/// A row. Its cells are in the order of the table's columns.
#[derive(Clone, Debug, Default)]
pub(super) struct Row {
    pub cells: Vec<Cell>,
    pub is_selected: bool,
}

/// The part of a table that is shown.
pub(super) struct Listing {
    pub lines: Vec<Line<'static>>,
    pub columns: Vec<ColumnId>,
    /// Which rows these are, if they are not all.
    pub place: Option<String>,
}

/// Rows below a heading.
pub(super) struct Table<'c> {
    columns: &'c [ColumnId],
    pub rows: Vec<Row>,
    order: Order,
    /// Whether one of the rows may be selected, so that each has room for a mark.
    has_marks: bool,
}

impl Cell {
    /// A cell with this text in that style.
    pub fn new(text: impl Into<String>, style: Style) -> Self {
        Self {
            text: text.into(),
            style,
            value: None,
        }
    }

    /// A cell with a number, which is quiet if there is nothing to see.
    pub fn number(text: String, value: Option<f64>, theme: Theme) -> Self {
        let is_something = value.is_some_and(|value| value != 0.0);
        let style = if is_something {
            Style::new()
        } else {
            theme.quiet()
        };

        Self { text, style, value }
    }

    /// Returns the cell in another style.
    pub fn styled(self, style: Style) -> Self {
        Self { style, ..self }
    }
}

impl<'c> Table<'c> {
    /// Creates a table without rows.
    pub fn new(columns: &'c [ColumnId], order: Order, has_marks: bool) -> Self {
        Self {
            columns,
            rows: Vec::new(),
            order,
            has_marks,
        }
    }

    /// Returns the heading and as many rows as there is room for, the selected one among them.
    pub fn lines(&self, width: usize, height: usize, theme: Theme) -> Listing {
        let widths = self.widths(width);
        let room = height.saturating_sub(1);
        let selected = self.rows.iter().position(|row| row.is_selected);
        let first = selected.map_or(0, |place| (place + 1).saturating_sub(room));
        let rows = self.rows.iter().skip(first).take(room);

        let mut lines = vec![self.heading(&widths, theme)];
        lines.extend(rows.map(|row| self.row(row, &widths, theme)));
        let last = (first + room).min(self.rows.len());
        let all = self.rows.len();

        Listing {
            lines,
            columns: widths
                .iter()
                .map(|(place, _)| self.columns[*place])
                .collect(),
            place: (all > room).then(|| format!("{} to {last} of {all}", first + 1)),
        }
    }

    /// Returns the places of the columns that fit, and how wide they are.
    fn widths(&self, width: usize) -> Vec<(usize, usize)> {
        let mark = if self.has_marks { 2 } else { 0 };
        let natural = |place: usize| {
            let column = self.columns[place];
            let cells = self.rows.iter().map(|row| row.cells[place].text.width());
            let arrow = usize::from(self.order.column == Some(column));
            let heading = column.heading().len() + arrow;
            cells
                .max()
                .unwrap_or_default()
                .max(heading)
                .max(column.width_min())
        };

        let mut by_rank: Vec<usize> = (0..self.columns.len()).collect();
        by_rank.sort_by_key(|place| self.columns[*place].rank());

        let mut left = width.saturating_sub(mark);
        let mut widths = Vec::new();
        for place in by_rank {
            let natural = natural(place);
            let least = self.columns[place]
                .cut_width()
                .unwrap_or(natural)
                .min(natural);
            let gap = if widths.is_empty() { 0 } else { GAP.len() };
            if least + gap > left && !widths.is_empty() {
                break;
            }
            left = left.saturating_sub(least + gap);
            widths.push((place, least, natural - least));
        }

        // What was cut gets the room that is left, the most important column first.
        let mut widths: Vec<(usize, usize)> = widths
            .into_iter()
            .map(|(place, least, missing)| {
                let more = missing.min(left);
                left -= more;
                (place, least + more)
            })
            .collect();
        widths.sort_unstable();
        widths
    }

    fn heading(&self, widths: &[(usize, usize)], theme: Theme) -> Line<'static> {
        let mut spans = self.mark(false, theme);
        for (index, (place, width)) in widths.iter().enumerate() {
            let column = self.columns[*place];
            let is_sorted = self.order.column == Some(column);
            let arrow = if is_sorted {
                theme.order(self.order.is_reversed)
            } else {
                ""
            };

            let text = format!("{}{arrow}", column.heading());
            let style = if is_sorted {
                theme.title()
            } else {
                theme.quiet()
            };
            let is_last = index + 1 == widths.len();
            spans.push(padded(
                &text,
                *width,
                column.is_number(),
                is_last,
                style,
                theme,
            ));
        }

        Line::from(spans)
    }

    fn row(&self, row: &Row, widths: &[(usize, usize)], theme: Theme) -> Line<'static> {
        let mut spans = self.mark(row.is_selected, theme);
        for (index, (place, width)) in widths.iter().enumerate() {
            let cell = &row.cells[*place];
            let style = match row.is_selected {
                true => Style::new().patch(cell.style).patch(theme.strong()),
                false => cell.style,
            };

            let is_number = self.columns[*place].is_number();
            let is_last = index + 1 == widths.len();
            spans.push(padded(&cell.text, *width, is_number, is_last, style, theme));
        }

        Line::from(spans)
    }

    fn mark(&self, is_selected: bool, theme: Theme) -> Vec<Span<'static>> {
        match (self.has_marks, is_selected) {
            (false, _) => Vec::new(),
            (true, false) => vec![Span::raw("  ")],
            (true, true) => vec![Span::styled(theme.marker(), theme.title())],
        }
    }
}

/// Returns a text in its column, with the gap to the next one.
fn padded(
    text: &str,
    width: usize,
    is_right: bool,
    is_last: bool,
    style: Style,
    theme: Theme,
) -> Span<'static> {
    let text = cut(text, width, theme.ellipsis());
    let space = " ".repeat(width.saturating_sub(text.width()));
    let gap = if is_last { "" } else { GAP };

    let text = match is_right {
        true => format!("{space}{text}{gap}"),
        false => format!("{text}{space}{gap}"),
    };
    Span::styled(text, style)
}

/// Sorts rows as the person wants them. What is not known comes last.
pub(super) fn sort<T>(rows: &mut [(T, Row)], columns: &[ColumnId], order: Order) {
    let column = order.column;
    let place = column.and_then(|column| columns.iter().position(|other| *other == column));

    if let Some(place) = place {
        let is_number = columns[place].is_number();
        rows.sort_by(|(_, one), (_, other)| {
            let [one, other] = [one, other].map(|row| &row.cells[place]);
            let [before, after] = match order.is_reversed {
                true => [other, one],
                false => [one, other],
            };
            match (one.value, other.value) {
                (Some(_), None) => std::cmp::Ordering::Less,
                (None, Some(_)) => std::cmp::Ordering::Greater,
                (Some(_), Some(_)) => before
                    .value
                    .unwrap_or_default()
                    .total_cmp(&after.value.unwrap_or_default()),
                (None, None) if is_number => std::cmp::Ordering::Equal,
                (None, None) => before.text.cmp(&after.text),
            }
        });
    } else if order.is_reversed {
        rows.reverse();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: [ColumnId; 3] = [ColumnId::Worker, ColumnId::State, ColumnId::Lag];
    const THEME: Theme = Theme {
        colour: false,
        utf8: true,
    };

    fn row(id: &str, lag: Option<f64>) -> Row {
        let text = lag.map_or("–".to_owned(), |lag| lag.to_string());
        Row {
            cells: vec![
                Cell::new(id, Style::new()),
                Cell::new("healthy", Style::new()),
                Cell::number(text, lag, THEME),
            ],
            is_selected: id.ends_with('!'),
        }
    }

    fn texts(rows: Vec<Row>, width: usize, height: usize) -> Vec<String> {
        let table = Table {
            rows,
            ..Table::new(&COLUMNS, Order::default(), true)
        };

        let lines = table.lines(width, height, THEME).lines;
        lines.iter().map(Line::to_string).collect()
    }

    #[test]
    fn columns_come_by_importance_and_ids_are_cut() {
        let rows = || vec![row("worker-0123456789!", Some(7.0))];

        assert_eq!(
            texts(rows(), 40, 2),
            [
                "  WORKER              STATE         LAG",
                "▸ worker-0123456789!  healthy         7",
            ]
        );
        assert_eq!(
            texts(rows(), 33, 2),
            [
                "  WORKER        STATE         LAG",
                "▸ worker-0123…  healthy         7",
            ]
        );
        assert_eq!(texts(rows(), 30, 2)[0], "  WORKER            STATE     ");
        assert_eq!(texts(rows(), 20, 2)[0], "  WORKER            ");
        assert_eq!(texts(rows(), 5, 2).len(), 2);
    }

    #[test]
    fn the_selected_row_is_always_seen() {
        let rows = (0..10).map(|n| row(&format!("w{n}{}", if n == 6 { "!" } else { "" }), None));

        let table = Table {
            rows: rows.collect(),
            ..Table::new(&COLUMNS, Order::default(), true)
        };
        let listing = table.lines(60, 4, THEME);

        assert_eq!(listing.lines.len(), 4);
        assert_eq!(listing.place.as_deref(), Some("5 to 7 of 10"));
        assert!(listing.lines[3].to_string().starts_with("▸ w6!"));
        assert_eq!(table.lines(60, 11, THEME).place, None);
    }

    #[test]
    fn rows_are_sorted_and_what_is_unknown_comes_last() {
        let mut rows =
            [("a", Some(1.0)), ("b", None), ("c", Some(3.0))].map(|(id, lag)| (id, row(id, lag)));
        for (column, is_reversed, expected) in [
            (Some(ColumnId::Lag), true, ["c", "a", "b"]),
            (Some(ColumnId::Lag), false, ["a", "c", "b"]),
            (Some(ColumnId::Worker), true, ["c", "b", "a"]),
            (Some(ColumnId::Worker), false, ["a", "b", "c"]),
            (None, true, ["c", "b", "a"]),
        ] {
            sort(
                &mut rows,
                &COLUMNS,
                Order {
                    column,
                    is_reversed,
                },
            );

            assert_eq!(rows.clone().map(|(id, _)| id), expected);
        }
    }
}
