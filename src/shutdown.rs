//! The signals that stop the process: SIGTERM and SIGINT.

use tokio::signal::unix::{SignalKind, signal};

/// Waits for a signal to stop, and returns its name. From this call on, and not from the first
/// poll, the process receives the signals, and they no longer end it by themselves.
pub fn shutdown_signal() -> std::io::Result<impl Future<Output = &'static str> + Send> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;

    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        }
    })
}
