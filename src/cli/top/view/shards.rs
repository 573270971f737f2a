//! The rows of shards, below one for all of them together.

use super::figures::{fill, micros, number, percent, rate, size};
use super::table::{Cell, Row, sort};
use super::theme::Theme;
use super::workers::passes;
use crate::cli::output::span;
use crate::cli::top::columns::{ColumnId, SHARDS};
use crate::cli::top::controls::Controls;
use crate::cli::top::model::{Model, Subject};
use crate::cli::top::shard::{Severity, Summary};
use crate::cli::top::traffic::Traffic;
use ratatui::style::Style;
use std::collections::BTreeSet;
use std::time::Duration;

/// The share of the bucket's limit from which its fill needs attention.
const FULL_SHARE: f64 = 0.9;

/// Returns the row of all workers, and those of the shards with a worker that the filter lets
/// through, in the order that was chosen.
pub(super) fn shard_rows(
    model: &Model,
    controls: &Controls,
    now: Duration,
    theme: Theme,
) -> Vec<(Subject, Row)> {
    let seen: BTreeSet<&str> = model
        .workers()
        .filter(|(key, worker)| passes(key, worker, &controls.filter))
        .map(|(key, _)| key.shard.as_str())
        .collect();

    let row = |subject: Subject, name: &str| {
        let summary = model.summary(&subject, now);
        let traffic = model.traffic(&subject);
        let row = Row {
            cells: cells(name, &summary, &traffic, theme),
            is_selected: subject == controls.selected,
        };
        (subject, row)
    };
    let shards = seen.into_iter();
    let mut shards: Vec<(Subject, Row)> = shards
        .map(|shard| row(Subject::Shard(shard.to_owned()), shard))
        .collect();
    sort(&mut shards, &SHARDS, controls.shards);

    let mut rows = vec![row(Subject::All, "all")];
    rows.extend(shards);
    rows
}

fn cells(name: &str, summary: &Summary, traffic: &Traffic, theme: Theme) -> Vec<Cell> {
    let (state, severity) = summary.state();
    let count = |value: Option<u64>| {
        Cell::number(number(value, theme), value.map(|value| value as f64), theme)
    };
    let per_s = |value: Option<f64>| Cell::number(rate(value, theme), value, theme);

    let cell = |column: &ColumnId| match column {
        ColumnId::Shard => Cell::new(name, theme.severity_beside(severity)),
        ColumnId::State => Cell::new(state.as_str(), theme.severity(severity)),
        ColumnId::Workers => count(u64::try_from(summary.workers).ok()),
        ColumnId::Requests => per_s(traffic.requests_per_s),
        ColumnId::Refusals => per_s(traffic.refusals_per_s),
        ColumnId::P99 => {
            let us = traffic.quantile(0.99);
            Cell::number(micros(us, theme), us.map(|us| us as f64), theme)
        }
        ColumnId::Lag => count(summary.lag),
        ColumnId::Bucket => bucket(summary, theme),
        ColumnId::Newest => {
            let age = summary.newest_age;
            let text = age.map_or_else(|| theme.unknown().to_owned(), span);
            Cell::number(text, age.map(|age| age.as_secs_f64()), theme).styled(Style::new())
        }
        ColumnId::Hosted => count(summary.hosted),
        ColumnId::Cache => {
            let bytes = summary.cache_bytes;
            Cell::number(size(bytes, theme), bytes.map(|bytes| bytes as f64), theme)
        }
        ColumnId::Hits => Cell::number(percent(summary.hit_rate, theme), summary.hit_rate, theme),
        _ => Cell::default(),
    };
    SHARDS.iter().map(cell).collect()
}

/// How much the bucket holds, of how much it may hold.
fn bucket(summary: &Summary, theme: Theme) -> Cell {
    let used = summary.bucket_bytes;
    let text = fill(used, summary.bucket_bytes_max, theme);
    let cell = Cell::number(text, used.map(|used| used as f64), theme);

    if is_nearly_full(summary) {
        return cell.styled(theme.severity(Severity::Doubtful));
    }
    cell
}

/// Returns whether the bucket will soon take no more.
fn is_nearly_full(summary: &Summary) -> bool {
    let fill = summary.bucket_bytes.zip(summary.bucket_bytes_max);

    fill.is_some_and(|(used, max)| used as f64 >= max as f64 * FULL_SHARE)
}
