//! The keys.

use super::theme::Theme;
use ratatui::text::{Line, Span};

const KEYS: [(&str, &str); 13] = [
    (
        "up, down, k, j",
        "select a shard or a worker, or all of them",
    ),
    ("page up, page down", "go ten rows up or down"),
    ("home, end", "go to the first row or to the last one"),
    ("Tab, 1, 2, 3", "the next page: overview, workers, details"),
    ("Enter", "the details of what is selected"),
    ("s", "sort by the next column"),
    ("r", "reverse the order"),
    (
        "/",
        "show only what has this text in its shard, id or state",
    ),
    ("p", "pause, and go on"),
    ("+, -", "ask the workers less often, or more often"),
    ("Ctrl-Z", "stop the program until fg continues it"),
    ("?", "show or hide the keys"),
    ("q, Esc, Ctrl-C", "leave"),
];

/// Returns the keys, and what they do.
pub(super) fn keys(theme: Theme) -> Vec<Line<'static>> {
    let line = |(key, effect): &(&'static str, &'static str)| {
        Line::from(vec![
            Span::styled(format!("  {key:20}"), theme.title()),
            Span::raw(*effect),
        ])
    };

    KEYS.iter().map(line).collect()
}
