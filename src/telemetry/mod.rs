//! The log: one line an event, one span a request. It never holds a token, a body or a user id. And
//! the text of an error with its causes.
//!
//! A process that runs until it is stopped, such as a worker, writes its log from a thread of its
//! own (`writer.rs`): a reader of the log that stops does not stop the worker. A command that ends by
//! itself writes at once and waits for its reader, such as a pager. So none of its few lines is lost,
//! and they stand between what else it says.

mod json;
mod writer;

use crate::config::{LogFormat, LogSettings};
use anyhow::Context as _;
use json::{JsonLine, JsonMembers};
use std::io::{self, IsTerminal as _, Write as _};
use std::sync::OnceLock;
use std::time::Duration;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::writer::BoxMakeWriter;
use tracing_subscriber::reload::{self, Handle};
use writer::{Capacity, LineWriter};

/// Puts another filter in force.
type Replace = Box<dyn Fn(EnvFilter) -> Result<(), reload::Error> + Send + Sync>;

/// Replaces the filter of the log that [`start`] has started in this process.
static REPLACE: OnceLock<Replace> = OnceLock::new();

/// How much of the log waits in memory for its reader: some ten thousand lines.
const CAPACITY: Capacity = Capacity {
    bytes_max: 4 << 20,
    lines_max: 65_536,
};

/// How long the end of the process waits for the reader of the log.
const LAST_LINES_TIMEOUT: Duration = Duration::from_secs(1);

/// Writes to the standard error stream, if the log of this process has a thread.
static WRITER: OnceLock<LineWriter> = OnceLock::new();

/// The target of what a server refuses to a user. A command ends with it, and does not log it too.
pub const REFUSALS: &str = "gofavorites::refusals";

/// What a command logs that ends by itself. What the NATS client reports is in the command's error.
const COMMAND_FILTER: &str = "warn,async_nats=off,gofavorites::refusals=off";

/// From now on, a thread of its own writes what this process says on the standard error stream. For
/// a process that runs until it is stopped.
pub fn write_in_background() -> anyhow::Result<()> {
    if WRITER.get().is_none() {
        let writer = LineWriter::start(CAPACITY, io::stderr(), report_dropped)
            .context("cannot start the thread of the log")?;
        let _ = WRITER.set(writer);
    }

    Ok(())
}

fn report_dropped(dropped: u64) {
    tracing::warn!(
        dropped,
        "lines of the log were dropped, because nobody read them in time"
    );
}

/// Returns how many lines of this process's log were dropped.
pub fn dropped_lines() -> u64 {
    WRITER.get().map_or(0, LineWriter::dropped)
}

/// Writes a line to the standard error stream, after the lines of the log before it. A process does
/// not fail because nobody reads this.
pub fn print_line(text: &str) {
    let line = format!("{text}\n");

    match WRITER.get() {
        Some(writer) => writer.push(line.as_bytes()),
        None => {
            let _ = io::stderr().write_all(line.as_bytes());
        }
    }
}

/// When it is dropped, the last lines are written, if their reader takes them within a second.
/// `main` keeps one to the end, so that they are written also if it ends by a panic.
pub struct LastLines;

impl Drop for LastLines {
    fn drop(&mut self) {
        if let Some(writer) = WRITER.get() {
            writer.wait_until_written(LAST_LINES_TIMEOUT);
        }
    }
}

/// Sends the log to the standard error stream, in the format that the settings name, from a thread
/// of its own. Only the first call in a process has an effect.
pub fn start(settings: &LogSettings) -> anyhow::Result<()> {
    write_in_background()?;
    start_with(parse_filter(&settings.filter)?, settings.format, true)
}

/// Does the same for a command that ends by itself: it logs warnings and errors only, and what
/// `log.filter` names if it is `verbose`. On a terminal it logs for people.
pub fn start_command(settings: &LogSettings, verbose: bool) -> anyhow::Result<()> {
    let configured = parse_filter(&settings.filter)?;
    let filter = if verbose {
        configured
    } else {
        parse_filter(COMMAND_FILTER)?
    };

    if io::stderr().is_terminal() {
        start_with(filter, LogFormat::Human, false)
    } else {
        start_with(filter, settings.format, true)
    }
}

/// Returns whether a person wants colours: on a terminal, if the variable `NO_COLOR` is not set.
fn is_coloured() -> bool {
    let without_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());

    io::stderr().is_terminal() && !without_colour
}

/// Returns where the log goes: to the thread if there is one.
fn output() -> BoxMakeWriter {
    match WRITER.get() {
        Some(writer) => {
            let writer = writer.clone();
            BoxMakeWriter::new(move || writer.clone())
        }
        None => BoxMakeWriter::new(io::stderr),
    }
}

/// Starts the log. Without `details`, a line for people has neither time nor module.
fn start_with(filter: EnvFilter, format: LogFormat, details: bool) -> anyhow::Result<()> {
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(is_coloured())
        // It would print them itself, and wait for the reader.
        .log_internal_errors(false)
        .with_writer(output());

    let started = match format {
        LogFormat::Json => {
            let builder = builder
                .fmt_fields(JsonMembers)
                .event_format(JsonLine)
                .with_filter_reloading();
            let handle = builder.reload_handle();
            builder.try_init().map(|()| replace_with(handle))
        }
        LogFormat::Human if details => {
            let builder = builder.with_filter_reloading();
            let handle = builder.reload_handle();
            builder.try_init().map(|()| replace_with(handle))
        }
        LogFormat::Human => {
            let builder = builder.without_time().with_target(false);
            builder
                .try_init()
                .map(|()| -> Replace { Box::new(|_| Ok(())) })
        }
    };

    // In a process with several workers, as in tests, the first one has started the log.
    if let Ok(replace) = started {
        let _ = REPLACE.set(replace);
        std::panic::set_hook(Box::new(|panic| {
            // The place and not the message, because a message could hold a caller's value.
            let place = panic
                .location()
                .map(ToString::to_string)
                .unwrap_or_default();
            tracing::error!(place, "a task panicked");
        }));
    }

    Ok(())
}

/// Puts another filter in force, if [`start`] has started the log of this process. In a test,
/// another worker may have started it, and the filter stays as it is.
pub fn set_filter(filter: &str) -> anyhow::Result<()> {
    let filter = parse_filter(filter)?;

    match REPLACE.get() {
        Some(replace) => Ok(replace(filter)?),
        None => Ok(()),
    }
}

/// Checks that a filter can be used.
pub fn check_filter(filter: &str) -> anyhow::Result<()> {
    parse_filter(filter).map(drop)
}

fn parse_filter(filter: &str) -> anyhow::Result<EnvFilter> {
    let wrong = || {
        anyhow::anyhow!(
            "log.filter: a list such as info,sqlx=debug, of the levels error, warn, info, debug, off"
        )
    };
    if names_trace(filter) {
        return Err(wrong());
    }

    EnvFilter::try_new(filter).map_err(|_| wrong())
}

/// Returns whether a part of the filter names the level that is not compiled in. The library would
/// print a warning of its own about it, past the log.
fn names_trace(filter: &str) -> bool {
    filter.split(',').any(|part| {
        let level = part.rsplit('=').next().unwrap_or_default().trim();

        level.eq_ignore_ascii_case("trace") || level == "5"
    })
}

fn replace_with<S: 'static>(handle: Handle<EnvFilter, S>) -> Replace {
    Box::new(move |filter| handle.reload(filter))
}

/// Returns the error with its chain of causes. A cause that the text already ends with is not
/// repeated.
pub fn error_chain(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.ends_with(&cause) {
            text = format!("{text}: {cause}");
        }
    }

    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_that_cannot_be_used_is_named() {
        let error = check_filter("gofavorites=loud").expect_err("no level");

        assert!(error.to_string().starts_with("log.filter: "), "{error}");
        assert!(check_filter("info,sqlx=TRACE").is_err());
        assert!(check_filter(&LogSettings::default().filter).is_ok());
    }

    #[test]
    fn without_a_log_of_its_own_the_process_takes_any_usable_filter() {
        assert!(set_filter("debug").is_ok());
        assert!(set_filter("gofavorites=loud").is_err());
    }

    #[test]
    fn a_cause_is_printed_once() {
        let error = anyhow::anyhow!("no answer in time")
            .context("the bucket is unavailable: no answer in time")
            .context("no round");

        let text = error_chain(&error);

        assert_eq!(
            text,
            "no round: the bucket is unavailable: no answer in time"
        );
    }
}
