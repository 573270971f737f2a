//! The rows of workers.

use super::figures::{micros, number, percent, rate, size};
use super::table::{Cell, Row, sort};
use super::theme::Theme;
use crate::cli::output::span;
use crate::cli::top::columns::{ColumnId, WORKERS};
use crate::cli::top::controls::Controls;
use crate::cli::top::model::{Model, Subject};
use crate::cli::top::sample::Sample;
use crate::cli::top::shard::Severity;
use crate::cli::top::traffic::Traffic;
use crate::cli::top::worker::{Key, Worker};
use crate::domain::Timestamp;
use ratatui::style::Style;
use std::time::Duration;

/// How many digits of a commit name it to people.
const COMMIT_DIGITS: usize = 7;

/// Returns the rows of the workers that the filter lets through, in the order that was chosen.
pub(super) fn worker_rows(
    model: &Model,
    controls: &Controls,
    clock: Timestamp,
    theme: Theme,
) -> Vec<(Subject, Row)> {
    let workers = model
        .workers()
        .filter(|(key, worker)| passes(key, worker, &controls.filter));
    let mut rows: Vec<(Subject, Row)> = workers
        .map(|(key, worker)| {
            let subject = Subject::Worker(key.clone());
            let row = Row {
                cells: cells(worker, clock, theme),
                is_selected: subject == controls.selected,
            };
            (subject, row)
        })
        .collect();

    sort(&mut rows, &WORKERS, controls.workers);
    rows
}

/// Returns whether each word of the filter is in the worker's shard, id or state.
pub(super) fn passes(key: &Key, worker: &Worker, filter: &str) -> bool {
    let text = format!("{} {} {}", key.shard, key.id, worker.state()).to_lowercase();

    let filter = filter.to_lowercase();
    filter.split_whitespace().all(|word| text.contains(word))
}

fn cells(worker: &Worker, clock: Timestamp, theme: Theme) -> Vec<Cell> {
    let severity = Severity::of_state(worker.state());
    let traffic = Traffic::of([worker]);

    let cell = |column: &ColumnId| {
        let cell = cell(*column, worker, &traffic, clock, theme);
        match column {
            ColumnId::State => cell.styled(theme.severity(severity)),
            _ if worker.is_gone() => cell.styled(theme.severity(severity)),
            ColumnId::Worker => cell.styled(theme.severity_beside(severity)),
            _ => cell,
        }
    };
    WORKERS.iter().map(cell).collect()
}

fn cell(
    column: ColumnId,
    worker: &Worker,
    traffic: &Traffic,
    clock: Timestamp,
    theme: Theme,
) -> Cell {
    let sample = &worker.sample;
    let here = !worker.is_gone();
    let count = |value: Option<u64>| {
        let value = value.filter(|_| here);
        Cell::number(number(value, theme), value.map(|value| value as f64), theme)
    };
    let bytes = |value: Option<u64>| {
        let value = value.filter(|_| here);
        Cell::number(size(value, theme), value.map(|value| value as f64), theme)
    };
    let per_s = |value: Option<f64>| Cell::number(rate(value, theme), value, theme);
    let quantile = |share: f64| {
        let us = traffic.quantile(share);
        Cell::number(micros(us, theme), us.map(|us| us as f64), theme)
    };
    let text = |text: String| Cell::new(text, Style::new());

    match column {
        ColumnId::Worker => text(sample.id.clone()),
        ColumnId::Shard => text(sample.shard.clone()),
        ColumnId::State => text(worker.state().to_owned()),
        ColumnId::Requests => per_s(traffic.requests_per_s),
        ColumnId::Refusals => per_s(traffic.refusals_per_s),
        ColumnId::P50 => quantile(0.5),
        ColumnId::P99 => quantile(0.99),
        ColumnId::InFlight => count(sample.in_flight),
        ColumnId::Lag => count(sample.lag()),
        ColumnId::Cpu => {
            let share = worker.rates.as_ref().and_then(|rates| rates.cpu);
            Cell::number(percent(share, theme), share, theme)
        }
        ColumnId::Memory => bytes(sample.process.memory_bytes),
        ColumnId::Files => count(sample.process.open_files),
        ColumnId::Uptime => {
            let up = uptime(sample, clock).filter(|_| here);
            let text = up.map_or_else(|| theme.unknown().to_owned(), span);
            Cell::number(text, up.map(|up| up.as_secs_f64()), theme)
        }
        ColumnId::Projects => match sample.projects.filter(|_| here) {
            Some(true) => text("yes".to_owned()),
            Some(false) => Cell::new("no", theme.quiet()),
            None => Cell::new(theme.unknown(), theme.quiet()),
        },
        ColumnId::Build => Cell::new(build(sample), theme.quiet()),
        _ => Cell::default(),
    }
}

/// How long a worker has been running.
pub(super) fn uptime(sample: &Sample, clock: Timestamp) -> Option<Duration> {
    let millis = clock.millis().saturating_sub(sample.started?.millis());

    Some(Duration::from_millis(millis.try_into().unwrap_or_default()))
}

/// A worker's version and commit.
pub(super) fn build(sample: &Sample) -> String {
    let commit: String = sample.commit.chars().take(COMMIT_DIGITS).collect();

    format!("{} {commit}", sample.version).trim_end().to_owned()
}
