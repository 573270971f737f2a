//! Says when the connection to NATS is lost, and when it is back.

use super::output::{note, warn};
use async_nats::Event;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::Notify;

/// What happens to a connection. A clone is of the same connection.
#[derive(Clone, Default)]
pub(super) struct ConnectionEvents {
    is_lost: Arc<AtomicBool>,
    is_back: Arc<Notify>,
}

impl ConnectionEvents {
    /// Takes an event of the connection, and says what a person should know on the standard error
    /// stream.
    pub fn take(&self, event: &Event) {
        match event {
            Event::Disconnected if !self.is_lost.swap(true, Ordering::Relaxed) => {
                warn("the connection to NATS is lost; trying again");
            }
            Event::Connected if self.is_lost.swap(false, Ordering::Relaxed) => {
                note("connected to NATS again");
                self.is_back.notify_one();
            }
            _ => {}
        }
    }

    /// Waits until the connection that was lost is back.
    pub async fn wait_until_back(&self) {
        self.is_back.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt as _;

    #[tokio::test]
    async fn only_after_a_loss_a_connection_is_back() {
        let events = ConnectionEvents::default();

        events.take(&Event::Connected);
        assert!(events.wait_until_back().now_or_never().is_none());
        events.take(&Event::Disconnected);
        assert!(events.wait_until_back().now_or_never().is_none());
        events.take(&Event::Connected);
        assert!(events.wait_until_back().now_or_never().is_some());
    }
}
