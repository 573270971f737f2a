//! Where the standard output goes, and what can be shown there.

use super::style;
use crate::domain::Timestamp;
use std::io::{self, IsTerminal as _};

/// The width of a terminal that does not tell its own.
const WIDTH: usize = 80;
/// The smallest width for which tables are cut.
const WIDTH_MIN: usize = 20;

/// What the standard output is.
#[derive(Clone, Copy, Debug)]
pub(in crate::cli) struct Screen {
    /// The width of the terminal in cells; `None` if the output goes to a file or a program.
    pub width: Option<usize>,
    /// Whether it shows colours.
    pub colour: bool,
    /// Whether the locale's characters are UTF-8.
    pub utf8: bool,
    /// The present time.
    pub now: Timestamp,
}

impl Screen {
    /// The standard output of this process.
    pub fn new() -> Self {
        let stdout = io::stdout();
        let width = stdout.is_terminal().then(|| {
            let size = terminal_size::terminal_size_of(&stdout);
            // A terminal without a size, for example a serial line, says 0.
            let width = size.map(|(width, _)| usize::from(width.0));
            width
                .filter(|width| *width > 0)
                .unwrap_or(WIDTH)
                .max(WIDTH_MIN)
        });

        Self {
            width,
            colour: style::shows_colour(&stdout),
            utf8: has_utf8(|name| std::env::var(name).ok()),
            now: Timestamp::now(),
        }
    }

    /// Returns whether a person reads it on a terminal.
    pub fn is_terminal(&self) -> bool {
        self.width.is_some()
    }

    /// What stands for text that was cut.
    pub fn ellipsis(&self) -> &'static str {
        if self.utf8 { "…" } else { "..." }
    }

    /// A file or a program, for tests.
    #[cfg(test)]
    pub fn pipe() -> Self {
        Self {
            width: None,
            colour: false,
            utf8: true,
            now: Timestamp::from_millis(1_795_410_000_000),
        }
    }

    /// A terminal of that width, for tests.
    #[cfg(test)]
    pub fn terminal(width: usize) -> Self {
        Self {
            width: Some(width),
            ..Self::pipe()
        }
    }
}

/// Returns whether the locale of these variables has UTF-8. The first one that is set decides.
fn has_utf8(variable: impl Fn(&str) -> Option<String>) -> bool {
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"]
        .into_iter()
        .filter_map(variable)
        .find(|value| !value.is_empty());

    locale.is_some_and(|locale| {
        let locale = locale.to_ascii_lowercase();
        locale.contains("utf-8") || locale.contains("utf8")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_variable_that_is_set_names_the_locale() {
        for (variables, expected) in [
            (&[("LANG", "en_GB.UTF-8")][..], true),
            (&[("LC_ALL", ""), ("LC_CTYPE", "C.utf8")], true),
            (&[("LC_ALL", "C"), ("LANG", "en_GB.UTF-8")], false),
            (&[], false),
        ] {
            let variable = |name: &str| {
                let found = variables.iter().find(|(other, _)| *other == name);
                found.map(|(_, value)| (*value).to_owned())
            };

            assert_eq!(has_utf8(variable), expected, "{variables:?}");
        }
    }
}
