//! Shows that the callers' connection carries messages, while no caller asks anything: a message to
//! the worker's own inbox has to come back.

use crate::front::{Front, HeaderBlock, InvalidSubject};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};
use uuid::Uuid;

/// The pause between two messages.
const ECHO_INTERVAL: Duration = Duration::from_secs(2);
/// How long a message may take.
const ECHO_TIMEOUT: Duration = Duration::from_secs(2);

/// Whether the callers' connection carries messages.
#[derive(Clone, Default)]
pub(super) struct Echo(Arc<AtomicBool>);

impl Echo {
    /// Returns whether the last message did not come back, although there is a connection.
    pub fn is_silent(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Subscribes to an inbox below `prefix`. The returned future sends messages to it, for as long
    /// as it is polled.
    pub fn start(
        self,
        front: Front,
        prefix: &str,
    ) -> Result<impl Future<Output = ()> + Send + use<>, InvalidSubject> {
        let inbox = format!("{prefix}.{}", Uuid::now_v7());
        let mut messages = front.subscribe(&inbox, None)?;

        Ok(async move {
            let headers = HeaderBlock::new();
            loop {
                let echo = async {
                    front.publish(&inbox, &headers, b"").await.ok()?;
                    messages.next().await
                };
                let connections = front.state().borrow().connections;
                let has_come = timeout(ECHO_TIMEOUT, echo).await.is_ok();

                // A message that was lost with its connection shows nothing about the next one.
                let is_same = front.state().borrow().connections == connections;
                if has_come || is_same {
                    self.record(!has_come && front.is_connected());
                }

                sleep(ECHO_INTERVAL).await;
            }
        })
    }

    fn record(&self, is_silent: bool) {
        let was_silent = self.0.swap(is_silent, Ordering::Relaxed);
        match (was_silent, is_silent) {
            (false, true) => warn!("the callers' connection carries no messages"),
            (true, false) => info!("the callers' connection carries messages again"),
            _ => {}
        }
    }
}
