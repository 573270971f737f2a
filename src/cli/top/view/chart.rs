//! Small charts of bars.

use super::figures::{micros, number, rate, size};
use super::theme::Theme;
use crate::cli::top::history::{History, Measure};
use ratatui::text::{Line, Span};
use std::time::Duration;
use unicode_width::UnicodeWidthStr as _;

/// The charts, with what stands beside them.
const CHARTS: [(Measure, &str); 4] = [
    (Measure::RequestsPerSecond, "requests/s"),
    (Measure::P99Us, "p99"),
    (Measure::Lag, "lag"),
    (Measure::BucketBytes, "bucket"),
];
/// The widths of a name and of a value beside a chart, in cells.
const NAME_CELLS: usize = 11;
const VALUE_CELLS: usize = 9;

/// Returns the charts of the last minutes, in so many lines and cells.
///
/// With one line for each, a chart stands beside its name; with more, below it.
pub(super) fn charts(
    history: &History,
    now: Duration,
    (width, height): (usize, usize),
    theme: Theme,
) -> Vec<Line<'static>> {
    let lines_each = (height / CHARTS.len()).min(6);
    let mut lines = Vec::new();

    for (measure, name) in CHARTS {
        let latest = figure(history.latest(measure), measure, theme);
        if lines_each < 2 {
            let cells = width.saturating_sub(NAME_CELLS + VALUE_CELLS + 1);
            let values = history.chart(measure, cells, now);
            let mut line = beside(name, &latest, theme);
            line.extend(bars(&values, measure, 1, theme).remove(0));
            lines.push(Line::from(line));
            continue;
        }

        let values = history.chart(measure, width, now);
        let highest = values.iter().flatten().copied().reduce(f64::max);
        let highest = format!("max {}", figure(highest, measure, theme));
        lines.push(above(name, &latest, &highest, width, theme));
        // The last line of a tall chart is left free.
        let rows = if lines_each > 2 { lines_each - 2 } else { 1 };
        lines.extend(
            bars(&values, measure, rows, theme)
                .into_iter()
                .map(Line::from),
        );
        if lines_each > 2 {
            lines.push(Line::default());
        }
    }

    lines
}

fn beside(name: &str, latest: &str, theme: Theme) -> Vec<Span<'static>> {
    let space = VALUE_CELLS.saturating_sub(latest.width());

    vec![
        Span::styled(format!("{name:NAME_CELLS$}"), theme.quiet()),
        Span::raw(format!("{}{latest} ", " ".repeat(space))),
    ]
}

fn above(name: &str, latest: &str, highest: &str, width: usize, theme: Theme) -> Line<'static> {
    let used = NAME_CELLS + latest.width() + highest.width();
    let mut spans = vec![
        Span::styled(format!("{name:NAME_CELLS$}"), theme.quiet()),
        Span::styled(latest.to_owned(), theme.strong()),
    ];

    if let Some(space) = width.checked_sub(used).filter(|space| *space > 0) {
        spans.push(Span::raw(" ".repeat(space)));
        spans.push(Span::styled(highest.to_owned(), theme.quiet()));
    }
    Line::from(spans)
}

fn figure(value: Option<f64>, measure: Measure, theme: Theme) -> String {
    let whole = value.map(|value| value as u64);

    match measure {
        Measure::RequestsPerSecond => rate(value, theme),
        Measure::P99Us => micros(whole, theme),
        Measure::Lag => number(whole, theme),
        Measure::BucketBytes => size(whole, theme),
    }
}

/// Returns the bars in so many rows, from above. The highest value fills them.
fn bars(
    values: &[Option<f64>],
    measure: Measure,
    rows: usize,
    theme: Theme,
) -> Vec<Vec<Span<'static>>> {
    let highest = values.iter().flatten().copied().reduce(f64::max);
    // A lag of a few records, or a request now and then, is no mountain.
    let floor = match measure {
        Measure::RequestsPerSecond => 1.0,
        Measure::P99Us => 1_000.0,
        Measure::Lag => 10.0,
        Measure::BucketBytes => 1_024.0,
    };
    let scale = highest.unwrap_or_default().max(floor);
    let steps = theme.bars().len() - 1;
    let eighths = |value: &Option<f64>| match value {
        None => 0,
        // What is known has a line at the bottom.
        Some(value) => ((value / scale * (rows * steps) as f64).round() as usize).max(1),
    };

    let row = |row: usize| {
        let bar = |value| theme.bars()[eighths(value).saturating_sub(row * steps).min(steps)];
        let text: String = values.iter().map(bar).collect();
        vec![Span::styled(text, theme.accent())]
    };
    (0..rows).rev().map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const THEME: Theme = Theme {
        colour: false,
        utf8: true,
    };

    fn history() -> History {
        let mut history = History::default();
        for (at, rate) in [(60, 0.0), (120, 40.0), (180, 80.0), (240, 20.0)] {
            let at = Duration::from_secs(at);
            history.add(at, [Some(rate), None, Some(3.0), None]);
        }

        history
    }

    fn drawn(size: (usize, usize)) -> Vec<String> {
        let now = Duration::from_secs(250);
        let lines = charts(&history(), now, size, THEME);

        lines.iter().map(Line::to_string).collect()
    }

    #[test]
    fn in_few_lines_a_chart_is_beside_its_name() {
        assert_eq!(
            drawn((25, 4)),
            [
                "requests/s        20 ▁▄█▂",
                "p99                –     ",
                "lag                3 ▂▂▂▂",
                "bucket             –     ",
            ]
        );
    }

    #[test]
    fn with_more_lines_a_chart_is_tall() {
        let lines = drawn((25, 16));

        assert_eq!(lines.len(), 16);
        assert_eq!(lines[0], "requests/s 20      max 80");
        assert_eq!(lines[1].trim_end().chars().last(), Some('█'));
        assert!(lines[2].trim_end().ends_with('▄'));
        assert_eq!(lines[3], "");
    }
}
