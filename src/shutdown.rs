//! When to stop: on SIGTERM or SIGINT.

use tokio::signal::unix::{SignalKind, signal};

/// Ends when the process is told to stop; says by what.
pub async fn told_to_stop() -> std::io::Result<&'static str> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    })
}
