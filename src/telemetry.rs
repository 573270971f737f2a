//! The log: one line an event, one span a request; never a token, a body or a user id.

use crate::config::{LogFormat, LogSettings};
use tracing_subscriber::EnvFilter;

/// Sends the log to the standard error stream in the form that the settings say. The first call in a process counts.
pub fn start(settings: &LogSettings) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&settings.filter)
        .map_err(|error| anyhow::anyhow!("log.filter: {error}"))?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    let started = match settings.format {
        LogFormat::Json => builder
            .json()
            .flatten_event(true)
            .with_current_span(true)
            .with_span_list(false)
            .try_init(),
        LogFormat::Human => builder.try_init(),
    };
    // In one process with several workers, as in tests, the first has started it.
    if started.is_ok() {
        std::panic::set_hook(Box::new(|panic| {
            // Where, and not what: a message could hold a value.
            let place = panic
                .location()
                .map(ToString::to_string)
                .unwrap_or_default();
            tracing::error!(place, "a part of the program panicked");
        }));
    }
    Ok(())
}
