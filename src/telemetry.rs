//! The log: one line an event, one span a request. It never holds a token, a body or a user id.

use crate::config::{LogFormat, LogSettings};
use tracing_subscriber::EnvFilter;

/// Sends the log to the standard error stream, in the format that the settings name. Only the first
/// call in a process has an effect.
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

    // In a process with several workers, as in tests, the first one has started the log.
    if started.is_ok() {
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
