//! The terminal while the screen is on it. However the program ends, the terminal is as it was.

use crossterm::cursor::{Hide, Show};
use crossterm::execute;
use crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use nix::sys::signal::{Signal, raise};
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::buffer::Buffer;
use std::io::{self, Stdout, stdout};
use std::panic;

/// The terminal with the screen on it.
pub(super) struct FullScreen {
    terminal: Terminal<CrosstermBackend<Stdout>>,
}

impl FullScreen {
    /// Puts the screen on the terminal, until this is dropped or the program panics.
    pub fn open() -> io::Result<Self> {
        // What was decided on colours is in the styles: nobody else decides.
        crossterm::style::force_color_output(true);
        let report = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            leave();
            report(info);
        }));

        // From here on, an error leaves the terminal as it was too.
        let screen = Self {
            terminal: Terminal::new(CrosstermBackend::new(stdout()))?,
        };
        enter()?;
        Ok(screen)
    }

    /// Draws the screen, at the size that the terminal has now.
    pub fn draw<T>(&mut self, draw: impl FnOnce(&mut Buffer) -> T) -> io::Result<Option<T>> {
        let mut drawn = None;
        self.terminal
            .draw(|frame| drawn = Some(draw(frame.buffer_mut())))?;

        Ok(drawn)
    }

    /// Stops the program as Ctrl-Z does elsewhere, until the shell continues it.
    pub fn suspend(&mut self) -> io::Result<()> {
        leave();
        raise(Signal::SIGTSTP)?;

        enter()?;
        self.terminal.clear()
    }
}

impl Drop for FullScreen {
    fn drop(&mut self) {
        leave();
    }
}

fn enter() -> io::Result<()> {
    enable_raw_mode()?;
    execute!(stdout(), EnterAlternateScreen, Hide)
}

/// Gives the terminal back. If it is gone, there is nothing to give back.
fn leave() {
    let _ = execute!(stdout(), LeaveAlternateScreen, Show);
    let _ = disable_raw_mode();
}
