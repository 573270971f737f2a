//! The log: one line an event, one span a request. It never holds a token, a body or a user id. And
//! the text of an error with its causes.

use crate::config::{LogFormat, LogSettings};
use std::io::{self, IsTerminal as _};
use std::sync::OnceLock;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::reload::{self, Handle};

/// Puts another filter in force.
type Replace = Box<dyn Fn(EnvFilter) -> Result<(), reload::Error> + Send + Sync>;

/// Replaces the filter of the log that [`start`] has started in this process.
static REPLACE: OnceLock<Replace> = OnceLock::new();

/// The target of what a server refuses to a user. A command ends with it, and does not log it too.
pub const REFUSALS: &str = "gofavorites::refusals";

/// What a command logs that ends by itself. What the NATS client reports is in the command's error.
const COMMAND_FILTER: &str = "warn,async_nats=off,gofavorites::refusals=off";

/// Sends the log to the standard error stream, in the format that the settings name. Only the first
/// call in a process has an effect.
pub fn start(settings: &LogSettings) -> anyhow::Result<()> {
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

/// Starts the log. Without `details`, a line for people has neither time nor module.
fn start_with(filter: EnvFilter, format: LogFormat, details: bool) -> anyhow::Result<()> {
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(is_coloured())
        .with_writer(io::stderr);

    let started = match format {
        LogFormat::Json => {
            let builder = builder
                .json()
                .flatten_event(true)
                .with_current_span(true)
                .with_span_list(false)
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
    EnvFilter::try_new(filter).map_err(|error| anyhow::anyhow!("log.filter: {error}"))
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
