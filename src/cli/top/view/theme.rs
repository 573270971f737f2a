//! Colours, weights and characters.

use crate::cli::top::shard::Severity;
use ratatui::style::{Color, Modifier, Style};

/// How the screen looks. Without colours, words and weights say the same.
#[derive(Clone, Copy, Debug)]
pub(in crate::cli::top) struct Theme {
    pub colour: bool,
    /// Whether the terminal's characters are UTF-8.
    pub utf8: bool,
}

impl Theme {
    fn coloured(self, colour: Color) -> Style {
        if self.colour {
            Style::new().fg(colour)
        } else {
            Style::new()
        }
    }

    /// What one looks for first, and the charts.
    pub fn accent(self) -> Style {
        self.coloured(Color::Cyan)
    }

    /// The name of a part.
    pub fn title(self) -> Style {
        self.accent().add_modifier(Modifier::BOLD)
    }

    /// What is there for those who need it.
    pub fn quiet(self) -> Style {
        Style::new().add_modifier(Modifier::DIM)
    }

    /// What is selected.
    pub fn strong(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    /// What is as it should be, needs attention, or is wrong.
    pub fn severity(self, severity: Severity) -> Style {
        match severity {
            Severity::Good => self.coloured(Color::Green),
            Severity::Doubtful => self.coloured(Color::Yellow),
            Severity::Bad => self.coloured(Color::Red),
        }
    }

    /// The same for all that stands beside it: what is good needs no colour there.
    pub fn severity_beside(self, severity: Severity) -> Style {
        match severity {
            Severity::Good => Style::new(),
            _ => self.severity(severity),
        }
    }

    /// Returns the first of two characters, or the second one where there is only ASCII.
    const fn pick(self, utf8: &'static str, ascii: &'static str) -> &'static str {
        if self.utf8 { utf8 } else { ascii }
    }

    /// What stands for a value that is not known.
    pub const fn unknown(self) -> &'static str {
        self.pick("–", "-")
    }

    /// What stands for text that was cut.
    pub const fn ellipsis(self) -> &'static str {
        self.pick("…", "...")
    }

    /// What stands beside the row that is selected.
    pub const fn marker(self) -> &'static str {
        self.pick("▸ ", "> ")
    }

    /// What stands between facts.
    pub const fn between(self) -> &'static str {
        self.pick(" · ", ", ")
    }

    /// A piece of a line across the screen.
    pub const fn rule(self) -> &'static str {
        self.pick("─", "-")
    }

    /// What stands behind the heading of the column that decides on the order.
    pub const fn order(self, is_reversed: bool) -> &'static str {
        match is_reversed {
            true => self.pick("▾", "v"),
            false => self.pick("▴", "^"),
        }
    }

    /// Where the next character of a typed text comes.
    pub const fn cursor(self) -> &'static str {
        self.pick("▏", "_")
    }

    /// The unit of a millionth of a second.
    pub const fn micro(self) -> &'static str {
        self.pick("µs", "us")
    }

    /// The bars of a chart, from nothing to a full cell.
    pub const fn bars(self) -> [&'static str; 9] {
        if self.utf8 {
            [" ", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"]
        } else {
            [" ", "_", ".", "-", ":", "=", "+", "*", "#"]
        }
    }
}
