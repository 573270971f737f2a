//! How far something long has come: a bar at a terminal, plain lines elsewhere.

use std::io::{self, IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

/// Cells of the bar.
const WIDTH: u64 = 30;
/// How often a terminal is told, and who reads lines.
const TERMINAL: Duration = Duration::from_millis(100);
const LINES: Duration = Duration::from_secs(5);

/// Tells on the standard error stream how far it has come.
pub(super) struct Progress {
    what: &'static str,
    terminal: bool,
    told: Option<Instant>,
}

impl Progress {
    /// Of what is named so.
    pub fn new(what: &'static str) -> Self {
        Self {
            what,
            terminal: io::stderr().is_terminal(),
            told: None,
        }
    }

    /// So many of so many are done. Told now and then, and in the end.
    pub fn step(&mut self, done: u64, total: u64) {
        let pause = if self.terminal { TERMINAL } else { LINES };
        if done < total && self.told.is_some_and(|told| told.elapsed() < pause) {
            return;
        }
        self.told = Some(Instant::now());
        // Nobody has to read it.
        let _ = io::stderr().write_all(line(self.what, done, total, self.terminal).as_bytes());
    }

    /// Ends the bar, so that what follows stands on a line of its own.
    pub fn end(self) {
        if self.terminal && self.told.is_some() {
            let _ = io::stderr().write_all(b"\n");
        }
    }
}

fn line(what: &str, done: u64, total: u64, terminal: bool) -> String {
    let share = |of: u64| (done.min(total) * of).checked_div(total).unwrap_or(of);
    if !terminal {
        return format!("{what}: {done} of {total}\n");
    }
    let full = share(WIDTH) as usize;
    let (full, empty) = ("#".repeat(full), ".".repeat(WIDTH as usize - full));
    format!(
        "\r\x1b[K{what} [{full}{empty}] {}% {done} of {total}",
        share(100)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_tells_how_far_it_has_come() {
        assert_eq!(line("owners", 5, 20, false), "owners: 5 of 20\n");
        let bar = line("owners", 5, 20, true);
        assert!(
            bar.ends_with("owners [#######.......................] 25% 5 of 20"),
            "{bar}"
        );
        assert!(line("owners", 0, 0, true).contains("100%"));
    }
}
