//! The whole screen.

use super::area::{below, put, top};
use super::details::draw_details;
use super::facts::{name, state};
use super::frame::{footer, header, rule};
use super::help::keys;
use super::scene::View;
use super::shards::shard_rows;
use super::table::{Row, Table};
use super::workers::worker_rows;
use crate::cli::top::columns::{ColumnId, SHARDS, WORKERS};
use crate::cli::top::controls::{Order, Page, Shown};
use crate::cli::top::model::Subject;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::Line;
use unicode_width::UnicodeWidthStr as _;

/// How many lines of the overview what is selected has at least.
const DETAILS_LINES_MIN: u16 = 9;

/// Rows that can be selected, and what they stand for.
type Rows = Vec<(Subject, Row)>;

impl View<'_> {
    /// Draws the screen.
    pub fn draw(&self, buffer: &mut Buffer) -> Shown {
        let area = buffer.area;
        let width = usize::from(area.width);
        let used = put(&header(self, width), area, buffer);
        let end = below(area, area.height.saturating_sub(1).max(used));
        put(&[footer(self, width)], end, buffer);
        let rest = below(area, used);
        let body = top(rest, rest.height.saturating_sub(end.height));

        if self.controls.shows_help {
            let title = rule("keys", None, width, self.theme);
            put(&[title], below(body, 1), buffer);
            put(&keys(self.theme), below(body, 3), buffer);
            return Shown::default();
        }
        let (shards, workers) = self.rows();
        match self.controls.page {
            Page::Overview => self.draw_overview(shards, workers, body, buffer),
            Page::Workers => self.draw_workers(workers, body, buffer),
            Page::Details => {
                let rows = subjects(&shards).chain(subjects(&workers)).collect();
                self.draw_selected(below(body, 1), buffer);
                Shown {
                    rows,
                    ..Shown::default()
                }
            }
        }
    }

    fn rows(&self) -> (Rows, Rows) {
        let shards = shard_rows(self.model, self.controls, self.now, self.theme);
        let workers = worker_rows(self.model, self.controls, self.clock, self.theme);

        (shards, workers)
    }

    /// Shards, workers, and what is selected. Tables with many rows leave room for what is below.
    fn draw_overview(&self, shards: Rows, workers: Rows, body: Rect, buffer: &mut Buffer) -> Shown {
        let lines = |rows: &Rows| {
            u16::try_from(rows.len())
                .unwrap_or(u16::MAX)
                .saturating_add(1)
        };
        let details = DETAILS_LINES_MIN.min(body.height / 2);
        // A free line stands above each part.
        let tables = body.height.saturating_sub(details + 3);
        let shard_lines =
            lines(&shards).min((tables / 3).max(tables.saturating_sub(lines(&workers))));
        let worker_lines = lines(&workers).min(tables - shard_lines);

        let selectable = subjects(&shards).chain(subjects(&workers)).collect();
        let shards = table_of(&SHARDS, self.controls.shards, shards);
        let shard_columns = self.draw_table(&shards, top(body, shard_lines + 1), buffer);
        let rest = below(body, shard_lines + 1);
        let workers = table_of(&WORKERS, self.controls.workers, workers);
        let worker_columns = self.draw_table(&workers, top(rest, worker_lines + 1), buffer);
        self.draw_selected(below(rest, worker_lines + 2), buffer);

        Shown {
            rows: selectable,
            shard_columns,
            worker_columns,
        }
    }

    fn draw_workers(&self, workers: Rows, body: Rect, buffer: &mut Buffer) -> Shown {
        let rows = subjects(&workers).collect();
        let workers = table_of(&WORKERS, self.controls.workers, workers);

        Shown {
            rows,
            shard_columns: Vec::new(),
            worker_columns: self.draw_table(&workers, body, buffer),
        }
    }

    /// Draws a table below a line that is free, except that it says which rows these are, if they
    /// are not all. Returns the columns.
    fn draw_table(&self, table: &Table, area: Rect, buffer: &mut Buffer) -> Vec<ColumnId> {
        let part = below(area, 1);
        let (width, height) = (usize::from(part.width), usize::from(part.height));
        let listing = table.lines(width, height, self.theme);

        if let Some(place) = listing.place.filter(|_| height > 1) {
            let place = format!("{place:>0$} ", width.saturating_sub(1));
            let line = Line::styled(place, self.theme.accent());
            put(&[line], top(area, 1), buffer);
        }
        put(&listing.lines, part, buffer);
        listing.columns
    }

    fn draw_selected(&self, area: Rect, buffer: &mut Buffer) {
        let subject = match self.model.has(&self.controls.selected) {
            true => &self.controls.selected,
            false => &Subject::All,
        };
        let (state, severity) = state(self.model, subject, self.now);
        let width = usize::from(area.width);

        let title = rule(&name(subject), Some((&state, severity)), width, self.theme);
        let used = put(&[title], area, buffer);
        // A margin at both sides.
        let inner = Rect {
            x: area.x + 2.min(area.width),
            width: area.width.saturating_sub(4),
            ..below(area, used)
        };
        draw_details(self, subject, inner, buffer);
    }

    /// Returns the screen as plain text, with all rows, in lines of that width.
    pub fn text(&self, width: u16) -> String {
        let (shards, workers) = self.rows();
        let operations = self.model.traffic(&Subject::All).operations.len();
        let lines = shards.len() + workers.len() + operations.max(20) + 30;
        let height = u16::try_from(lines).unwrap_or(u16::MAX);
        let mut buffer = Buffer::empty(Rect::new(0, 0, width, height));

        self.draw(&mut buffer);

        // The last line is about keys.
        let lines = (0..height.saturating_sub(1)).map(|y| line_of(&buffer, y) + "\n");
        let text: String = lines.collect();
        text.trim_end().to_owned() + "\n"
    }
}

/// Returns a line as text.
fn line_of(buffer: &Buffer, y: u16) -> String {
    let mut line = String::new();
    let mut x = 0;
    while x < buffer.area.width {
        let symbol = buffer[(x, y)].symbol();
        line += symbol;
        // A wide character takes the cell after it too.
        x += u16::try_from(symbol.width().max(1)).unwrap_or(1);
    }

    line.trim_end().to_owned()
}

/// Returns the table of these rows.
fn table_of(columns: &'static [ColumnId], order: Order, rows: Rows) -> Table<'static> {
    let mut table = Table::new(columns, order, true);
    table.rows.extend(rows.into_iter().map(|(_, row)| row));

    table
}

fn subjects(rows: &Rows) -> impl Iterator<Item = Subject> {
    rows.iter().map(|(subject, _)| subject.clone())
}
