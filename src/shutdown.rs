//! The signals to the process: SIGTERM and SIGINT stop it, SIGHUP asks it to read its settings
//! again.

use std::sync::Arc;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;

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

/// Returns what is notified at each SIGHUP. From this call on, the signal does not end the process.
/// Several signals that come before the notification is seen count as one.
pub fn hangup_signals() -> std::io::Result<Arc<Notify>> {
    let mut hangup = signal(SignalKind::hangup())?;
    let notify = Arc::new(Notify::new());

    let notified = notify.clone();
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            notified.notify_one();
        }
    });

    Ok(notify)
}
