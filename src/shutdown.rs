//! When to stop: on SIGTERM or SIGINT.

use tokio::signal::unix::{SignalKind, signal};

/// Ends when the process is told to stop; says by what. From this call on, and not from the first poll, a signal is heard
/// and no longer ends the process by itself.
pub fn told_to_stop() -> std::io::Result<impl Future<Output = &'static str> + Send> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        }
    })
}
