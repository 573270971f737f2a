//! What stands above and below: which service this is, how it is, and what keys do.

use super::scene::View;
use super::theme::Theme;
use crate::cli::output::{ago, count, cut, span};
use crate::cli::top::controls::Page;
use crate::cli::top::model::Subject;
use crate::cli::top::shard::Severity;
use ratatui::style::Style;
use ratatui::text::{Line, Span};
use std::time::Duration;
use unicode_width::UnicodeWidthStr as _;

/// The keys of which the last line reminds, with what they do.
const HINTS: [(&str, &str); 5] = [
    ("s", "sort"),
    ("/", "filter"),
    ("p", "pause"),
    ("?", "keys"),
    ("q", "quit"),
];

/// Returns the two lines above everything.
pub(super) fn header(view: &View, width: usize) -> Vec<Line<'static>> {
    vec![service(view, width), workers(view, width)]
}

/// Which service this is, and whether it is asked.
fn service(view: &View, width: usize) -> Line<'static> {
    let theme = view.theme;
    let interval = view.controls.interval;
    let status = if let Some(since) = view.model.lost_since {
        let lost = span(view.now.saturating_sub(since));
        let text = format!("NATS is lost for {lost}, trying again");
        Span::styled(text, theme.severity(Severity::Bad).patch(theme.strong()))
    } else if view.controls.is_paused {
        let style = theme.severity(Severity::Doubtful);
        Span::styled("paused", style.patch(theme.strong()))
    } else {
        Span::styled(format!("every {}", exact(interval)), theme.quiet())
    };

    let name = format!(" {}", view.place.service);
    let room = width.saturating_sub(name.width() + status.width() + 5);
    let address = cut(&view.place.servers, room, theme.ellipsis());
    let left = vec![
        Span::styled(name, theme.title()),
        Span::styled(format!("  {address}"), theme.quiet()),
    ];
    ends(left, status, width)
}

/// How many workers there are, and when one answered.
fn workers(view: &View, width: usize) -> Line<'static> {
    let theme = view.theme;
    let summary = view.model.summary(&Subject::All, view.now);
    let mut left = vec![Span::raw(format!(" {}", count(summary.workers, "worker")))];
    for (number, state) in [
        (summary.healthy, "healthy"),
        (summary.degraded, "degraded"),
        (summary.unhealthy, "unhealthy"),
        (summary.gone, "gone"),
    ] {
        if number > 0 {
            let style = theme.severity(Severity::of_state(state));
            left.push(Span::raw("  "));
            left.push(Span::styled(format!("{number} {state}"), style));
        }
    }

    let silence = view.model.answered_at.map(|at| view.now.saturating_sub(at));
    let is_late = silence.is_some_and(|time| time > view.controls.interval * 3);
    let style = match is_late && !view.controls.is_paused {
        true => theme.severity(Severity::Doubtful),
        false => theme.quiet(),
    };
    let answered = match silence {
        None => "no answer yet".to_owned(),
        Some(silence) => format!("answered {}", ago(silence)),
    };
    ends(left, Span::styled(answered, style), width)
}

/// Returns a line across the screen with a title in it, and what stands at its end.
pub(super) fn rule(
    title: &str,
    end: Option<(&str, Severity)>,
    width: usize,
    theme: Theme,
) -> Line<'static> {
    let end_width = end.map_or(0, |(text, _)| text.width() + 3);
    let title = cut(title, width.saturating_sub(end_width + 4), theme.ellipsis());
    let rest = width.saturating_sub(title.width() + 3 + end_width);

    let mut spans = vec![
        Span::styled(theme.rule(), theme.quiet()),
        Span::styled(format!(" {title} "), theme.title()),
        Span::styled(theme.rule().repeat(rest), theme.quiet()),
    ];
    if let Some((text, severity)) = end {
        spans.push(Span::styled(format!(" {text} "), theme.severity(severity)));
        spans.push(Span::styled(theme.rule(), theme.quiet()));
    }
    Line::from(spans)
}

/// Returns the last line: the filter while it is typed, or else the pages and some keys.
pub(super) fn footer(view: &View, width: usize) -> Line<'static> {
    let theme = view.theme;
    let controls = view.controls;
    if controls.is_typing {
        let left = vec![
            Span::styled(" filter: ", theme.title()),
            Span::raw(format!("{}{}", controls.filter, theme.cursor())),
        ];
        let keys = format!("Enter keep{}Esc clear", theme.between());
        return ends(left, Span::styled(keys, theme.quiet()), width);
    }

    let mut left = Vec::new();
    for (number, (page, name)) in Page::ALL.into_iter().enumerate() {
        let text = format!("{} {name}", number + 1);
        let (text, style) = match page == controls.page {
            true => (format!("[{text}]"), theme.title()),
            false => (format!(" {text} "), theme.quiet()),
        };
        left.push(Span::styled(text, style));
    }
    if !controls.filter.is_empty() {
        let text = format!("  filter: {}", controls.filter);
        left.push(Span::styled(text, theme.severity(Severity::Doubtful)));
    }

    let hints = HINTS.map(|(key, effect)| format!("{key} {effect}"));
    ends(left, Span::styled(hints.join("  "), theme.quiet()), width)
}

/// Returns a line with something at both ends; what is at the right goes first if there is no room.
fn ends(mut left: Vec<Span<'static>>, right: Span<'static>, width: usize) -> Line<'static> {
    let used: usize = left.iter().map(Span::width).sum();

    if let Some(space) = width
        .checked_sub(used + right.width() + 1)
        .filter(|space| *space > 0)
    {
        left.push(Span::styled(" ".repeat(space), Style::new()));
        left.push(right);
    }
    Line::from(left)
}

/// Returns an interval with its unit: `500 ms`, `2 s`, `1 min`.
fn exact(interval: Duration) -> String {
    match u64::try_from(interval.as_millis()).unwrap_or(u64::MAX) {
        ms if ms.is_multiple_of(60_000) => format!("{} min", ms / 60_000),
        ms if ms.is_multiple_of(1_000) => format!("{} s", ms / 1_000),
        ms => format!("{ms} ms"),
    }
}
