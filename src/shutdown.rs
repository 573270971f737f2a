//! The signals to the process: SIGTERM and SIGINT stop it, SIGHUP asks it to read its settings
//! again.

use tokio::signal::unix::{Signal, SignalKind, signal};

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

/// Receives SIGHUP.
pub struct Hangup(Signal);

impl Hangup {
    /// Begins. From now on the signal does not end the process.
    pub fn listen() -> std::io::Result<Self> {
        Ok(Self(signal(SignalKind::hangup())?))
    }

    /// Waits for the next signal. Several that came meanwhile count as one.
    pub async fn received(&mut self) {
        if self.0.recv().await.is_none() {
            // The runtime ends, and no signal comes any more.
            std::future::pending().await
        }
    }
}
