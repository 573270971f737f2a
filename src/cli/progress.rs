//! The progress of a long command: a bar on a terminal, plain lines elsewhere.

use std::io::{self, IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

/// The width of the bar, in characters.
const BAR_WIDTH: u64 = 30;
/// The least time between two updates of the bar.
const BAR_INTERVAL: Duration = Duration::from_millis(100);
/// The least time between two lines.
const LINE_INTERVAL: Duration = Duration::from_secs(5);

/// Prints to the standard error stream how much is done.
pub(super) struct Progress {
    name: &'static str,
    terminal: bool,
    printed_at: Option<Instant>,
}

impl Progress {
    /// Starts with nothing printed. `name` says what is counted.
    pub fn new(name: &'static str) -> Self {
        Self {
            name,
            terminal: io::stderr().is_terminal(),
            printed_at: None,
        }
    }

    /// Reports that `done` of `total` are done. Prints at most once an interval, and at the end. What is
    /// all done the first time needs no progress.
    pub fn step(&mut self, done: u64, total: u64) {
        if done >= total && self.printed_at.is_none() {
            return;
        }

        let interval = if self.terminal {
            BAR_INTERVAL
        } else {
            LINE_INTERVAL
        };
        if done < total && self.printed_at.is_some_and(|at| at.elapsed() < interval) {
            return;
        }

        self.printed_at = Some(Instant::now());
        let text = format_progress(self.name, done, total, self.terminal);
        // A command does not fail because its progress cannot be printed.
        let _ = io::stderr().write_all(text.as_bytes());
    }

    /// Ends the bar, so that further output starts on a new line.
    pub fn end(self) {
        if self.terminal && self.printed_at.is_some() {
            let _ = io::stderr().write_all(b"\n");
        }
    }
}

fn format_progress(name: &str, done: u64, total: u64, terminal: bool) -> String {
    if !terminal {
        return format!("{name}: {done} of {total}\n");
    }

    let share = |of: u64| (done.min(total) * of).checked_div(total).unwrap_or(of);
    let filled = share(BAR_WIDTH) as usize;
    let empty = BAR_WIDTH as usize - filled;
    let bar = "#".repeat(filled) + &".".repeat(empty);

    format!("\r\x1b[K{name} [{bar}] {}% {done} of {total}", share(100))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_the_count_and_the_total() {
        assert_eq!(format_progress("owners", 5, 20, false), "owners: 5 of 20\n");
    }

    #[test]
    fn a_bar_is_filled_by_the_share_that_is_done() {
        let bar = format_progress("owners", 5, 20, true);

        assert!(
            bar.ends_with("owners [#######.......................] 25% 5 of 20"),
            "{bar}"
        );
    }

    #[test]
    fn nothing_of_nothing_is_all() {
        assert!(format_progress("owners", 0, 0, true).contains("100%"));
    }
}
