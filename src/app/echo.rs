//! Checks that the callers' connection carries messages, also while no caller sends a request. A
//! message to the worker's own inbox has to come back.

use crate::front::{Front, HeaderBlock, InvalidSubject, Subscription};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};
use uuid::Uuid;

/// The pause between two messages.
const ECHO_INTERVAL: Duration = Duration::from_secs(2);

/// The longest time until a message has to come back.
const ECHO_TIMEOUT: Duration = Duration::from_secs(2);

/// Whether the callers' connection carries messages.
#[derive(Clone, Default)]
pub(super) struct Echo {
    is_silent: Arc<AtomicBool>,
    /// How many messages have come back.
    arrived: watch::Sender<u64>,
}

impl Echo {
    /// Returns whether the last message did not come back, although there is a connection.
    pub fn is_silent(&self) -> bool {
        self.is_silent.load(Ordering::Relaxed)
    }

    /// Waits until a message has come back.
    pub async fn arrived(&self) {
        // This cannot fail: the sender lives as long as `self`.
        let _ = self.arrived.subscribe().wait_for(|count| *count > 0).await;
    }

    /// Subscribes to an inbox below `prefix`. The returned future sends messages to the inbox as
    /// long as it is polled.
    pub fn start(
        self,
        front: Front,
        prefix: &str,
    ) -> Result<impl Future<Output = ()> + Send + use<>, InvalidSubject> {
        let inbox = format!("{prefix}.{}", Uuid::now_v7());
        let mut messages = front.subscribe(&inbox, None)?;

        Ok(async move {
            // A message may overtake a subscription that was made before it. The first one must not:
            // it would not come back.
            let _ = timeout(ECHO_TIMEOUT, front.flush()).await;

            loop {
                let connections = front.state().borrow().connections;
                let has_arrived = send_and_receive(&front, &inbox, &mut messages).await;

                // A message that was lost with its connection shows nothing about the next one.
                let is_same = front.state().borrow().connections == connections;
                if has_arrived {
                    self.arrived.send_modify(|count| *count += 1);
                }
                if has_arrived || is_same {
                    self.record(!has_arrived && front.is_connected());
                }

                sleep(ECHO_INTERVAL).await;
            }
        })
    }

    fn record(&self, is_silent: bool) {
        let was_silent = self.is_silent.swap(is_silent, Ordering::Relaxed);
        match (was_silent, is_silent) {
            (false, true) => warn!("the callers' connection carries no messages"),
            (true, false) => info!("the callers' connection carries messages again"),
            _ => {}
        }
    }
}

/// Sends a message to the inbox, and returns whether it comes back in time.
async fn send_and_receive(front: &Front, inbox: &str, messages: &mut Subscription) -> bool {
    let id = Uuid::now_v7();
    let echo = async {
        let headers = HeaderBlock::new();
        if let Err(error) = front.publish(inbox, &headers, id.as_bytes()).await {
            warn!(%error, "cannot send a message to an own inbox");
            return false;
        }

        // An earlier message may come late.
        while let Some(message) = messages.next().await {
            if message.payload == id.as_bytes()[..] {
                return true;
            }
        }
        false
    };

    timeout(ECHO_TIMEOUT, echo).await.unwrap_or(false)
}
