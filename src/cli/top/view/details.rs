//! What is selected, in detail: its reasons, its operations, its refusals and its charts.

use super::area::{below, put, split};
use super::chart::charts;
use super::facts::{facts, reasons};
use super::figures::{micros, number, rate};
use super::scene::View;
use super::table::{Cell, Row, Table};
use super::theme::Theme;
use crate::cli::top::columns::{ColumnId, OPERATIONS, REFUSALS};
use crate::cli::top::controls::{Order, Page};
use crate::cli::top::model::Subject;
use crate::cli::top::traffic::{OperationTraffic, Traffic};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::Line;

/// From which width on refusals stand beside the operations, in cells.
const WIDE_CELLS: u16 = 130;
/// The widths of the parts, in cells.
const OPERATIONS_CELLS: u16 = 46;
const WIDE_OPERATIONS_CELLS: u16 = 62;
const REFUSALS_CELLS: u16 = 40;
/// What separates two parts.
const GAP_CELLS: u16 = 3;
/// How many lines the charts have at most.
const CHART_LINES_MAX: u16 = 24;

/// Draws what is selected.
pub(super) fn draw_details(view: &View, subject: &Subject, area: Rect, buffer: &mut Buffer) {
    let theme = view.theme;
    let width = usize::from(area.width);
    let times = (view.now, view.clock);

    let mut lines = reasons(view.model, subject, view.now, width, theme);
    let room = usize::from(area.height);
    // Where reasons would take the place of the figures, the page of details has them in full.
    if view.controls.page != Page::Details && lines.len() > room / 2 {
        lines.truncate((room / 2).max(1));
        let more = format!("{} more: press 3", theme.ellipsis());
        if let Some(last) = lines.last_mut() {
            *last = Line::styled(more, theme.quiet());
        }
    }
    lines.extend(facts(view.model, subject, times, width, theme));
    lines.push(Line::default());
    let used = put(&lines, area, buffer);

    draw_figures(view, subject, below(area, used), buffer);
}

fn draw_figures(view: &View, subject: &Subject, area: Rect, buffer: &mut Buffer) {
    let theme = view.theme;
    let traffic = view.model.traffic(subject);
    let is_wide = area.width >= WIDE_CELLS;
    let operations_cells = if is_wide {
        WIDE_OPERATIONS_CELLS
    } else {
        OPERATIONS_CELLS
    };

    let (left, rest) = split(area, operations_cells, GAP_CELLS);
    let used = put(&operations(&traffic, left, theme), left, buffer);
    // Beside the operations, or below them.
    let (middle, right) = if is_wide {
        split(rest, REFUSALS_CELLS, GAP_CELLS)
    } else {
        (below(left, used + 1), rest)
    };
    put(&refusals(&traffic, middle, theme), middle, buffer);

    if let Some(history) = view.model.history(subject) {
        let height = right.height.min(CHART_LINES_MAX);
        let size = (usize::from(right.width), usize::from(height));
        put(&charts(history, view.now, size, theme), right, buffer);
    }
}

/// Returns a table in an area, if there is room for more than its heading.
fn listing(table: &Table, area: Rect, theme: Theme) -> Vec<Line<'static>> {
    if area.height < 2 {
        return Vec::new();
    }

    let listing = table.lines(usize::from(area.width), usize::from(area.height), theme);
    listing.lines
}

/// The operations that were used, in the order of the contract; the most frequent ones, where there
/// is no room for all.
fn operations(traffic: &Traffic, area: Rect, theme: Theme) -> Vec<Line<'static>> {
    let room = usize::from(area.height.saturating_sub(1));
    let mut used: Vec<&(String, OperationTraffic)> = traffic.operations.iter().collect();
    used.retain(|(_, operation)| operation.total > 0);
    let mut totals: Vec<u64> = used.iter().map(|(_, operation)| operation.total).collect();
    totals.sort_unstable_by(|one, other| other.cmp(one));
    let least = totals.get(room.saturating_sub(1)).copied().unwrap_or(1);
    used.retain(|(_, operation)| operation.total >= least);

    let mut table = Table::new(&OPERATIONS, Order::default(), false);
    let row = |(name, operation): &(String, OperationTraffic)| {
        let time = |share: f64| {
            let us = operation
                .times
                .as_ref()
                .and_then(|times| times.quantile(share));
            Cell::number(micros(us, theme), us.map(|us| us as f64), theme)
        };
        let cell = |column: &ColumnId| match column {
            ColumnId::Operation => Cell::new(name.replace('-', "."), Style::new()),
            ColumnId::Requests => {
                Cell::number(rate(operation.per_s, theme), operation.per_s, theme)
            }
            ColumnId::P50 => time(0.5),
            ColumnId::P90 => time(0.9),
            ColumnId::P99 => time(0.99),
            _ => count(operation.total, theme),
        };
        Row {
            cells: OPERATIONS.iter().map(cell).collect(),
            is_selected: false,
        }
    };
    table.rows.extend(used.into_iter().map(row));

    listing(&table, area, theme)
}

/// The refusals by code, the most frequent one first.
fn refusals(traffic: &Traffic, area: Rect, theme: Theme) -> Vec<Line<'static>> {
    let mut refusals: Vec<_> = traffic.refusals.iter().collect();
    refusals.sort_by_key(|(_, refusals)| std::cmp::Reverse(refusals.total));
    if refusals.is_empty() {
        return vec![Line::styled("no refusals", theme.quiet())];
    }

    let mut table = Table::new(&REFUSALS, Order::default(), false);
    table
        .rows
        .extend(refusals.into_iter().map(|(code, refusals)| Row {
            cells: vec![
                Cell::new(code.as_str(), Style::new()),
                Cell::number(rate(refusals.per_s, theme), refusals.per_s, theme),
                count(refusals.total, theme),
            ],
            is_selected: false,
        }));
    listing(&table, area, theme)
}

fn count(total: u64, theme: Theme) -> Cell {
    Cell::number(number(Some(total), theme), Some(total as f64), theme)
}
